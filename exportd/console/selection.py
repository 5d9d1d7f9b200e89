"""What is to be done with several jobs that were ticked in a list: with which of them, and what that means. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from exportd.api.schemas.job import FoundJobDocument
from exportd.model.bounds import MAX_IDS

MAX_TICKED = MAX_IDS
"""Jobs at once: as many as a page lists."""

JobDeed = Literal["retry", "cancel"]


@dataclass(frozen=True, slots=True)
class TickedJob:
    """A job that was ticked; ``job`` is None where there is none that the visitor sees. ``sentence``: why it is left
    out, or what was done, or why it was refused. ``again`` is the job that does it again.
    """

    id: str
    sentence: str
    job: FoundJobDocument | None = None
    again: str | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """``jobs`` are those that it is done with, the newest first; ``left_out`` has why it is not done with others."""

    deed: JobDeed
    jobs: Sequence[FoundJobDocument]
    left_out: Sequence[TickedJob]

    @classmethod
    def of(cls, deed: JobDeed, ids: Iterable[str], found: Iterable[FoundJobDocument]) -> "Selection":
        """``found`` are the jobs of these ``ids`` that there are, the newest first."""
        known = {job.id: job for job in found}
        chosen: list[FoundJobDocument] = []
        left_out = [
            TickedJob(text, "There is no such job any more.") for text in dict.fromkeys(ids) if text not in known
        ]
        retried: dict[str, FoundJobDocument] = {}
        for job in known.values():
            why_not = _why_not(deed, job, retried.get(job.schedule_id or ""))
            if why_not:
                left_out.append(TickedJob(job.id, why_not, job))
                continue
            chosen.append(job)
            if job.schedule_id is not None:
                retried[job.schedule_id] = job
        return cls(deed, chosen, left_out)

    @property
    def waiting(self) -> int:
        """Jobs that have not begun."""
        return sum(job.status == "PENDING" for job in self.jobs)

    @property
    def running(self) -> Sequence[FoundJobDocument]:
        """Jobs that a daemon runs."""
        return [job for job in self.jobs if job.status == "RUNNING"]

    @property
    def scheduled(self) -> int:
        """Jobs that have a schedule."""
        return sum(job.schedule_id is not None for job in self.jobs)


def _why_not(deed: JobDeed, job: FoundJobDocument, retried: FoundJobDocument | None) -> str:
    """``retried`` is a newer job of the same schedule that is retried."""
    if deed == "cancel":
        ended = job.status not in {"PENDING", "RUNNING"}
        return f"It has ended ({job.status}): there is nothing to cancel." if ended else ""
    if job.status != "FAILED":
        return f"It has not failed ({job.status}): only a failed job can be retried."
    if retried is not None:
        return f"The retry of {retried.id[:8]} does this too: one run holds everything since the last success."
    return ""
