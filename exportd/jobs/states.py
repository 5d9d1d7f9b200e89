"""The states of a job and what moves it from one to another. Pure.

Within RUNNING a job has a phase, which only says how much need not be done again:

    EXTRACTING  nothing is kept when the attempt ends; the next one reads the database anew
    SEALED      every part is durable in the spool; the next attempt starts from there
    PUBLISHING  some objects may be visible; the next attempt publishes what is missing, from the spool

A job that is put back keeps its phase, except when its parts are in a spool that has gone away: then a holder
with another spool takes it back to EXTRACTING.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from exportd.model.job import JobState


class Event(StrEnum):
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
    """The attempt failed and another may help, or the daemon leaves."""
    SUCCEED = "succeed"
    """Published everywhere; the schedule's positions move."""
    CANCEL = "cancel"
    """A person wants it to end; one that runs is stopped by its holder first."""
    FAIL = "fail"
    """Another attempt is useless, or the limit of attempts is reached."""


TRANSITIONS: Mapping[tuple[JobState, Event], JobState] = MappingProxyType(
    {
        (JobState.PENDING, Event.CLAIM): JobState.RUNNING,
        (JobState.RUNNING, Event.TAKE_OVER): JobState.RUNNING,
        (JobState.RUNNING, Event.SEAL): JobState.RUNNING,
        (JobState.RUNNING, Event.PUBLISH): JobState.RUNNING,
        (JobState.RUNNING, Event.PUT_BACK): JobState.PENDING,
        (JobState.RUNNING, Event.SUCCEED): JobState.SUCCEEDED,
        (JobState.RUNNING, Event.FAIL): JobState.FAILED,
        (JobState.PENDING, Event.CANCEL): JobState.FAILED,
        (JobState.RUNNING, Event.CANCEL): JobState.FAILED,
    }
)
"""Every transition there is; any other pair is refused."""

FINISHED = frozenset({JobState.SUCCEEDED, JobState.FAILED})
"""The states that nothing leaves."""

UNFINISHED = frozenset(JobState) - FINISHED
"""A schedule has at most one job in these; further firings wait for it."""


def after(state: JobState, event: Event) -> JobState | None:
    """The state in which ``event`` leaves a job that is in ``state``; None when that cannot happen."""
    return TRANSITIONS.get((state, event))


def diagram() -> str:
    """The table as a Mermaid state diagram, one line a transition."""
    lines = ["stateDiagram-v2", f"    [*] --> {JobState.PENDING}: fire"]
    lines += [f"    {state} --> {target}: {event}" for (state, event), target in TRANSITIONS.items()]
    lines += [f"    {state} --> [*]" for state in JobState if state in FINISHED]
    return "\n".join(lines)
