"""The states of a job and what moves it from one to another. Pure.

Within RUNNING a job has a phase, which only says how much need not be done again:

    EXTRACTING  nothing is kept when the attempt ends; the next one reads the database again
    SEALED      every part is durable in the spool; the next attempt starts from there
    PUBLISHING  some objects may be visible; the next attempt publishes what is missing, from the spool

A job that is put back keeps its phase, except when its parts are in a spool that is gone: then a holder with another
spool takes it back to EXTRACTING.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from exportd.model.job import JobState


class Transition(StrEnum):
    """What can happen to a job; each is one statement of ``database/queries/jobs.sql``."""

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
"""Every pair that is possible; any other is refused."""

FINISHED = frozenset({JobState.SUCCEEDED, JobState.FAILED})
"""The final states."""

UNFINISHED = frozenset(JobState) - FINISHED
"""A schedule has at most one job in these; further firings wait for it."""


def after(state: JobState, transition: Transition) -> JobState | None:
    """The state in which ``transition`` leaves a job that is in ``state``; None when that cannot happen."""
    return TRANSITIONS.get((state, transition))


def diagram() -> str:
    """The table as a Mermaid state diagram, one line a transition."""
    lines = ["stateDiagram-v2", f"    [*] --> {JobState.PENDING}: fire"]
    lines += [f"    {state} --> {target}: {transition}" for (state, transition), target in TRANSITIONS.items()]
    lines += [f"    {state} --> [*]" for state in JobState if state in FINISHED]
    return "\n".join(lines)
