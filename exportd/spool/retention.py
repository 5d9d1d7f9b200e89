"""Drops the files of jobs whose time is over, from time to time.

It is handed what it needs as callables: the spool's jobs, what the job table knows of them, how to drop a
job's files (its manifest first) and how to note that it was done.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

import structlog

from exportd.model.clock import Clock
from exportd.model.errors import ExportdError
from exportd.model.job import JobId, JobState
from exportd.settings.schema import LiveSettings

# MERGED: Which jobs' files the spool may drop. Pure.
# MERGED:
# MERGED: A job's files are kept for a while after it is finished, for downloads, also when they were delivered. Files
# MERGED: that were not sealed in this spool (the job failed before, or was finished by another daemon) are of no use
# MERGED: to anybody and go when the job is finished. The files of a job that is not finished are never dropped, nor
# MERGED: those of a job that nobody knows: it may belong to a database that was restored, or to another one.


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


_logger = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class SweepResult:
    """What one sweep did. ``unknown`` are jobs with files that the job table does not know."""

    dropped: tuple[JobId, ...]
    freed_bytes: int
    failed: tuple[JobId, ...]
    unknown: tuple[JobId, ...]


class RetentionSweeper:
    """A service: ``run`` until cancelled; ``run_once`` is one sweep."""

    def __init__(
        self,
        *,
        stored: Callable[[], Awaitable[Collection[JobId]]],
        known: Callable[[Collection[JobId]], Awaitable[Sequence[SpooledJob]]],
        remove: Callable[[JobId], Awaitable[int]],
        mark_expired: Callable[[JobId], Awaitable[object]],
        settings: LiveSettings,
        clock: Clock,
        interval_s: float = 300.0,
    ) -> None:
        self._stored = stored
        self._known = known
        self._remove = remove
        self._mark_expired = mark_expired
        self._settings = settings
        self._interval_s = interval_s
        self._clock = clock
        self._unknown_before: frozenset[JobId] = frozenset()

    async def run(self) -> None:
        """Sweep now and then again and again. What fails is logged and tried again with the next sweep."""
        while True:
            try:
                await self.run_once()
            except ExportdError as error:
                _logger.warning("spool not swept", error=error.sentence)
            await self._clock.sleep_until(self._clock.monotonic() + self._interval_s)

    async def run_once(self) -> SweepResult:
        """One sweep. A job whose files cannot be dropped does not keep the others from being dropped.

        Raises TransientError or PermanentError when it cannot be known what there is.
        """
        stored = await self._stored()
        if not stored:
            return SweepResult((), 0, (), ())
        # The job table is asked after the spool: a job that begins in between is not judged by what is not
        # known yet.
        known = await self._known(stored)
        retention = timedelta(hours=self._settings().spool.retention_hours)
        verdicts = decide(stored, known, now=self._clock.now(), retention=retention)
        dropped: list[JobId] = []
        failed: list[JobId] = []
        freed_bytes = 0
        for job, verdict in verdicts.items():
            if verdict.drops:
                try:
                    freed_bytes += await self._drop(job, verdict)
                    dropped.append(job)
                except ExportdError as error:
                    _logger.warning("files not dropped", job_id=str(job), error=error.sentence)
                    failed.append(job)
        unknown = tuple(job for job, verdict in verdicts.items() if verdict is Verdict.KEEP_UNKNOWN)
        self._report_unknown(unknown)
        return SweepResult(tuple(dropped), freed_bytes, tuple(failed), unknown)

    async def _drop(self, job: JobId, verdict: Verdict) -> int:
        if verdict is Verdict.DROP_OLD:
            # First, so that no download is promised while the files are half gone.
            await self._mark_expired(job)
        freed_bytes = await self._remove(job)
        _logger.info("files dropped", job_id=str(job), why=verdict.value, size_bytes=freed_bytes)
        return freed_bytes

    def _report_unknown(self, unknown: tuple[JobId, ...]) -> None:
        for job in unknown:
            if job not in self._unknown_before:
                _logger.warning("files of an unknown job are kept", job_id=str(job))
        self._unknown_before = frozenset(unknown)
