"""Which jobs' files the spool may drop. Pure.

A job's files are kept for a while after it is finished, for downloads, also when they were delivered. Files
that were not sealed in this spool (the job failed before, or was finished by another daemon) are of no use
to anybody and go when the job is finished. The files of a job that is not finished are never dropped, nor
those of a job that nobody knows: it may belong to a database that was restored, or to another one.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from exportd.model.job import JobId, JobState


@dataclass(frozen=True, slots=True)
class SpooledJob:
    """What the job table knows of a job that has files in the spool.

    ``sealed_here`` says that the job was sealed and that this spool holds its parts. ``finished_at`` is set when
    it is finished.
    """

    id: JobId
    state: JobState
    sealed_here: bool
    finished_at: datetime | None


class Verdict(Enum):
    """What happens to a job's files."""

    KEEP_UNFINISHED = "the job is not finished"
    KEEP_YOUNG = "they can still be downloaded"
    KEEP_UNKNOWN = "nobody knows the job"
    DROP_USELESS = "the job is finished, but not with these files"
    DROP_OLD = "their time is over"

    @property
    def drops(self) -> bool:
        return self in {Verdict.DROP_USELESS, Verdict.DROP_OLD}


def judge(job: SpooledJob, *, now: datetime, retention: timedelta) -> Verdict:
    """What happens to the files of a known job."""
    if job.state not in {JobState.SUCCEEDED, JobState.FAILED} or job.finished_at is None:
        return Verdict.KEEP_UNFINISHED
    if not job.sealed_here:
        return Verdict.DROP_USELESS
    return Verdict.DROP_OLD if now - job.finished_at >= retention else Verdict.KEEP_YOUNG


def decide(
    stored: Collection[JobId], known: Iterable[SpooledJob], *, now: datetime, retention: timedelta
) -> dict[JobId, Verdict]:
    """A verdict for each job that has files, the longest finished first, so that an interrupted sweep is of
    use.
    """
    jobs = {job.id: job for job in known}
    verdicts = {
        job.id: judge(job, now=now, retention=retention)
        for job in sorted(jobs.values(), key=lambda job: (job.finished_at is None, job.finished_at or now, job.id))
        if job.id in stored
    }
    return verdicts | {job: Verdict.KEEP_UNKNOWN for job in sorted(stored) if job not in jobs}
