"""Drops the files of jobs whose time is over, from time to time.

It is handed what it needs as callables: the spool's jobs, what the job table knows of them, how to drop a
job's files (its manifest first) and how to note that it was done.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog

from exportd.model.clock import Clock
from exportd.model.errors import ExportdError
from exportd.model.job import JobId
from exportd.spool import policy
from exportd.spool.policy import SpooledJob, Verdict

log = structlog.stdlib.get_logger()


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
        retention: timedelta,
        clock: Clock,
        interval_s: float = 300.0,
    ) -> None:
        self._stored = stored
        self._known = known
        self._remove = remove
        self._mark_expired = mark_expired
        self._retention = retention
        self._interval_s = interval_s
        self._clock = clock
        self._unknown_before: frozenset[JobId] = frozenset()

    def adjust(self, *, retention: timedelta) -> None:
        """Keep files for so long, from the next sweep on."""
        self._retention = retention

    async def run(self) -> None:
        """Sweep now and then again and again. What fails is logged and tried again with the next sweep."""
        while True:
            try:
                await self.run_once()
            except ExportdError as error:
                log.warning("spool not swept", error=error.sentence)
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
        verdicts = policy.decide(stored, known, now=self._clock.now(), retention=self._retention)
        dropped: list[JobId] = []
        failed: list[JobId] = []
        freed_bytes = 0
        for job, verdict in verdicts.items():
            if verdict.drops:
                try:
                    freed_bytes += await self._drop(job, verdict)
                    dropped.append(job)
                except ExportdError as error:
                    log.warning("files not dropped", job_id=str(job), error=error.sentence)
                    failed.append(job)
        unknown = tuple(job for job, verdict in verdicts.items() if verdict is Verdict.KEEP_UNKNOWN)
        self._report_unknown(unknown)
        return SweepResult(tuple(dropped), freed_bytes, tuple(failed), unknown)

    async def _drop(self, job: JobId, verdict: Verdict) -> int:
        if verdict is Verdict.DROP_OLD:
            # First, so that no download is promised while the files are half gone.
            await self._mark_expired(job)
        freed_bytes = await self._remove(job)
        log.info("files dropped", job_id=str(job), why=verdict.value, size_bytes=freed_bytes)
        return freed_bytes

    def _report_unknown(self, unknown: tuple[JobId, ...]) -> None:
        for job in unknown:
            if job not in self._unknown_before:
                log.warning("files of an unknown job are kept", job_id=str(job))
        self._unknown_before = frozenset(unknown)
