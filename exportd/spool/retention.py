"""Decides which jobs' files the spool may remove, and removes them.

A job's files are kept for a while after it is finished, for downloads, also when they were delivered. Files that were
not sealed in this spool (the job failed before, or another daemon finished it) are useless and go when the job is
finished. The files of an unfinished job are never dropped, nor those of a job that is not in the job table: it may
belong to a database that was restored, or to another one.

The sweeper gets what it needs as callables: the jobs in the spool, the job table's answer about those that may have to
go, the removal of a job's files (the manifest first), and the recording of the removal. A spool keeps tens of thousands
of jobs, so the job table is asked only about jobs that may have to go, and about some at a time, so that other tasks
get their turn on the event loop.
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

_ASKED_TOGETHER = 1000

_logger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SpooledJob:
    """What the job table knows of a job that has files in the spool.

    ``state`` is None for a job that the table does not have. ``sealed_here`` says that the job was sealed and that this
    spool holds its parts. ``finished_at`` is set when it is finished.
    """

    id: JobId
    state: JobState | None
    sealed_here: bool
    finished_at: datetime | None


class RetentionVerdict(Enum):
    """What happens to a job's files."""

    KEEP_UNFINISHED = "the job is not finished"
    KEEP_YOUNG = "they can still be downloaded"
    KEEP_UNKNOWN = "the job is not in the job table"
    DROP_USELESS = "the job is finished, but not with these files"
    DROP_OLD = "their time is over"

    @property
    def drops(self) -> bool:
        return self in {RetentionVerdict.DROP_USELESS, RetentionVerdict.DROP_OLD}


def judge(job: SpooledJob, *, now: datetime, retention: timedelta) -> RetentionVerdict:
    """What happens to the files of a job."""
    if job.state is None:
        return RetentionVerdict.KEEP_UNKNOWN
    if job.state not in {JobState.SUCCEEDED, JobState.FAILED} or job.finished_at is None:
        return RetentionVerdict.KEEP_UNFINISHED
    if not job.sealed_here:
        return RetentionVerdict.DROP_USELESS
    return RetentionVerdict.DROP_OLD if now - job.finished_at >= retention else RetentionVerdict.KEEP_YOUNG


def decide(jobs: Iterable[SpooledJob], *, now: datetime, retention: timedelta) -> dict[JobId, RetentionVerdict]:
    """A verdict for each job.

    The longest finished come first, so that an interrupted sweep has dropped the oldest files.
    """
    in_order = sorted(jobs, key=lambda job: (job.finished_at is None, job.finished_at or now, job.id))
    return {job.id: judge(job, now=now, retention=retention) for job in in_order}


@dataclass(frozen=True, slots=True)
class RetentionResult:
    """What one sweep did. ``unknown`` are jobs with files that the job table does not know."""

    dropped: tuple[JobId, ...]
    freed_bytes: int
    failed: tuple[JobId, ...]
    unknown: tuple[JobId, ...]


class RetentionSweeper:
    """A service: ``run`` until cancelled; ``run_once`` is one sweep.

    ``over`` returns what the job table knows of the jobs with files that are unknown to it, that were finished by a
    given time, or that were finished elsewhere.
    """

    def __init__(
        self,
        *,
        stored: Callable[[], Awaitable[Sequence[JobId]]],
        over: Callable[[Collection[JobId], datetime], Awaitable[Sequence[SpooledJob]]],
        remove: Callable[[JobId], Awaitable[int]],
        mark_expired: Callable[[JobId], Awaitable[object]],
        settings: LiveSettings,
        clock: Clock,
        interval_s: float = 300.0,
    ) -> None:
        self._stored = stored
        self._over = over
        self._remove = remove
        self._mark_expired = mark_expired
        self._settings = settings
        self._interval_s = interval_s
        self._clock = clock
        self._unknown_before: frozenset[JobId] = frozenset()

    async def run(self) -> None:
        """Sweep now and every ``interval_s``. A failure is logged and tried again with the next sweep."""
        while True:
            try:
                await self.run_once()
            except ExportdError as error:
                _logger.warning("spool not swept", error=error.sentence)
            await self._clock.sleep_until(self._clock.monotonic() + self._interval_s)

    async def run_once(self) -> RetentionResult:
        """One sweep. A job whose files cannot be dropped does not keep the others from being dropped.

        Raises TransientError or PermanentError when the spool or the job table cannot be read.
        """
        stored = await self._stored()
        if not stored:
            return RetentionResult((), 0, (), ())
        # The job table is read after the spool: a job that begins in between is not judged before the table has it.
        now = self._clock.now()
        retention = timedelta(hours=self._settings().spool.retention_hours)
        over: list[SpooledJob] = []
        for begin in range(0, len(stored), _ASKED_TOGETHER):
            over += await self._over(stored[begin : begin + _ASKED_TOGETHER], now - retention)
        verdicts = decide(over, now=now, retention=retention)
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
        unknown = tuple(job for job, verdict in verdicts.items() if verdict is RetentionVerdict.KEEP_UNKNOWN)
        self._report_unknown(unknown)
        return RetentionResult(tuple(dropped), freed_bytes, tuple(failed), unknown)

    async def _drop(self, job: JobId, verdict: RetentionVerdict) -> int:
        if verdict is RetentionVerdict.DROP_OLD:
            # Recorded first, so that no download is offered while the files are being removed.
            await self._mark_expired(job)
        freed_bytes = await self._remove(job)
        _logger.info("files dropped", job_id=str(job), why=verdict.value, size_bytes=freed_bytes)
        return freed_bytes

    def _report_unknown(self, unknown: tuple[JobId, ...]) -> None:
        for job in unknown:
            if job not in self._unknown_before:
                _logger.warning("files of an unknown job are kept", job_id=str(job))
        self._unknown_before = frozenset(unknown)
