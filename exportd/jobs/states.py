"""The states of a job, the transitions between them, and what happens to a job whose attempt raised an error. Pure.

A RUNNING job has a phase, which says how much need not be done again:

    EXTRACTING  nothing is kept when the attempt ends; the next one reads the database again
    SEALED      every part is durable in the spool; the next attempt starts from there
    PUBLISHING  some objects may be visible; the next attempt publishes what is missing, from the spool

A job that is put back keeps its phase. If its parts are in a spool that is gone, a holder with another spool takes it
back to EXTRACTING.

What the error of an attempt leads to:

    AloneError               another attempt at once: this one does not count
    OccupiedError            another attempt a little later, as often as it takes: this one does not count
    TransientError           another attempt, later and later, until the limit of attempts is reached;
                             not before the time that the error names
    PermanentError           FAILED, with the error's reason and sentence
    SettingsError            the same: a person must change something first
    anything else            FAILED with reason BUG

Task groups raise several errors at once, nested: ``leading_error`` finds the one that decides.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from exportd.model.errors import AloneError, ExportdError, OccupiedError, Reason, TransientError
from exportd.model.job import JobState


class Transition(StrEnum):
    """A transition of a job; each is one statement in ``database/queries/jobs.sql``."""

    CLAIM = "claim"
    """A dispatcher takes a job that is due."""
    TAKE_OVER = "take over"
    """A dispatcher takes a job whose holder has let the lease expire."""
    SEAL = "seal"
    """Every part is durable in the spool."""
    PUBLISH = "publish"
    """Objects begin to become visible."""
    PUT_BACK = "put back"
    """The attempt failed and another may help, or the daemon stops."""
    SUCCEED = "succeed"
    """Published everywhere; the schedule's positions move."""
    CANCEL = "cancel"
    """A person wants it to end; one that runs is stopped by its holder first."""
    FAIL = "fail"
    """Another attempt is useless, or the limit of attempts is reached."""


TRANSITIONS: Mapping[tuple[JobState, Transition], JobState] = MappingProxyType(
    {
        (JobState.PENDING, Transition.CLAIM): JobState.RUNNING,
        (JobState.RUNNING, Transition.TAKE_OVER): JobState.RUNNING,
        (JobState.RUNNING, Transition.SEAL): JobState.RUNNING,
        (JobState.RUNNING, Transition.PUBLISH): JobState.RUNNING,
        (JobState.RUNNING, Transition.PUT_BACK): JobState.PENDING,
        (JobState.RUNNING, Transition.SUCCEED): JobState.SUCCEEDED,
        (JobState.RUNNING, Transition.FAIL): JobState.FAILED,
        (JobState.PENDING, Transition.CANCEL): JobState.FAILED,
        (JobState.RUNNING, Transition.CANCEL): JobState.FAILED,
    }
)
"""All allowed pairs of state and transition, each with the state that follows."""

FINISHED = frozenset({JobState.SUCCEEDED, JobState.FAILED})
"""The final states."""

FIRST_DELAY_S = 10.0
DELAY_FACTOR = 4.0
MAX_DELAY_S = 900.0
"""The longest delay before another attempt. It is no longer than the shortest interval between two firings."""

OCCUPIED_DELAY_S = 15.0
"""The delay before another attempt at a job for which there was no room. Such an attempt costs one claim."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Put the job back for ``after_s`` seconds."""

    after_s: float
    reason: Reason
    message: str
    counts_attempt: bool = True


@dataclass(frozen=True, slots=True)
class Fail:
    """End the job."""

    reason: Reason
    message: str


def after(state: JobState, transition: Transition) -> JobState | None:
    """The state in which ``transition`` leaves a job that is in ``state``; None when that cannot happen."""
    return TRANSITIONS.get((state, transition))


def diagram() -> str:
    """The table as a Mermaid state diagram, one line a transition."""
    lines = ["stateDiagram-v2", f"    [*] --> {JobState.PENDING}: fire"]
    lines += [f"    {state} --> {target}: {transition}" for (state, transition), target in TRANSITIONS.items()]
    lines += [f"    {state} --> [*]" for state in JobState if state in FINISHED]
    return "\n".join(lines)


def delay_s(attempt: int, random: float) -> float:
    """Seconds to wait after the failure of ``attempt`` (from 1). They grow fourfold with each attempt, up to a limit.
    ``random`` in [0, 1) takes away up to half, so that jobs that failed together are not retried together.
    """
    exponent = min(attempt - 1, 16)  # far beyond the cap; keeps the power finite for any attempt
    return min(FIRST_DELAY_S * DELAY_FACTOR**exponent, MAX_DELAY_S) * (1 - random / 2)


def decide(error: BaseException, *, attempt: int, limit: int, random: float) -> Retry | Fail:
    """Decide about a job whose attempt number ``attempt`` of at most ``limit`` ended with ``error``.

    Messages are sentences for people. They never quote an unknown error, which may contain a secret.
    """
    leading = leading_error(error)
    if not isinstance(leading, ExportdError):
        return Fail(
            Reason.BUG,
            f"A bug in exportd ended this job ({type(leading).__name__}). The daemon's log has the traceback"
            " under the job's id; please report it.",
        )
    if not isinstance(leading, TransientError):
        return Fail(leading.reason, leading.sentence)
    if isinstance(leading, AloneError):
        return Retry(0.0, leading.reason, leading.sentence, counts_attempt=False)
    if isinstance(leading, OccupiedError):
        after_s = max(OCCUPIED_DELAY_S * (1 - random / 2), min(leading.retry_after_s or 0.0, MAX_DELAY_S))
        return Retry(after_s, leading.reason, leading.sentence, counts_attempt=False)
    if attempt >= limit:
        tries = "the only attempt" if limit == 1 else f"{attempt} attempts"
        return Fail(leading.reason, f"{_closed(leading.sentence)} Gave up after {tries}.")
    after_s = max(delay_s(attempt, random), min(leading.retry_after_s or 0.0, MAX_DELAY_S))
    return Retry(after_s, leading.reason, leading.sentence)


def leading_error(error: BaseException) -> BaseException:
    """The error that decides in a group of errors; ``error`` itself when it is not a group.

    A permanent error comes first, because another attempt is useless. Then a transient one: another error beside a lost
    connection is most likely its consequence, and if it is not, the next attempt shows it alone. Of equal ones, the
    first.
    """
    return min(leaves(error), key=_rank)


def holds_bug(error: BaseException) -> bool:
    """Whether it contains an error that is neither transient nor permanent. A developer then needs the traceback."""
    return any(not isinstance(leaf, ExportdError) for leaf in leaves(error))


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The single errors of a group, in order. For an error that is not a group, the error itself."""
    if isinstance(error, BaseExceptionGroup):
        for exception in error.exceptions:
            yield from leaves(exception)
    else:
        yield error


def _rank(error: BaseException) -> int:
    if not isinstance(error, ExportdError):
        return 2
    return 1 if isinstance(error, TransientError) else 0


def _closed(sentence: str) -> str:
    """The sentence with a full stop, so that another can follow."""
    return sentence if sentence.endswith((".", "!", "?")) else f"{sentence}."
