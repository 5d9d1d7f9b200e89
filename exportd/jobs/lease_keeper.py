"""Keeps a job's lease alive while the job runs, and notices when it cannot.

A request to cancel the job stands in its row. The keeper finds it when it extends the lease, at once after ``look``.

While the database is out of reach the keeper tries again and again, but gives up with a quarter of the lease left, so
that the job is stopped before another daemon may take it.
"""

from typing import Protocol

import anyio
import structlog

from exportd.jobs.job_record import progress_mark
from exportd.model.clock import Clock
from exportd.model.errors import ExportdError
from exportd.model.job import TRUSTED_SHARE, JobProgress, Lease, LeaseState

MAX_PAUSE_S = 1.0
"""How fresh the progress in the job's row is."""

MAX_PAUSE_TOGETHER_S = 3.0
"""The same of jobs that are read together, of which there are many, and which are short."""

_logger = structlog.stdlib.get_logger()


class LeaseExtender(Protocol):
    """What the keeper needs of the job table."""

    async def heartbeat(self, lease: Lease, progress: JobProgress | None, *, lease_s: float) -> LeaseState: ...


class LeaseKeeper:
    """Extends one lease every third of its length, or as soon as the progress has changed.

    ``claimed_at`` is the monotonic time before the claim was sent: the lease ends ``lease_s`` after that or later.
    """

    def __init__(
        self,
        table: LeaseExtender,
        lease: Lease,
        progress: JobProgress,
        *,
        lease_s: float,
        claimed_at: float,
        clock: Clock,
    ) -> None:
        self._table = table
        self._lease = lease
        self._progress = progress
        self._lease_s = lease_s
        self._extended_at = claimed_at
        self._clock = clock
        self._written = progress_mark(progress)
        self._woken = anyio.Event()

    def look(self) -> None:
        """Extend the lease now: the job may have been cancelled."""
        self._woken.set()

    async def run(self) -> LeaseState:
        """Keep the lease; returns when the job must stop: CANCELLED, or LOST also when it can no longer be trusted."""
        pause_s = min(MAX_PAUSE_TOGETHER_S if self._lease.shares_snapshot else MAX_PAUSE_S, self._lease_s / 6)
        while (state := await self.run_once()) is LeaseState.HELD:
            await self._clock.wait_for(self._woken, self._clock.monotonic() + pause_s)
        return state

    async def run_once(self) -> LeaseState:
        """Extend the lease if it is time to."""
        woken, self._woken = self._woken.is_set(), anyio.Event()
        now = self._clock.monotonic()
        mark = progress_mark(self._progress)
        changed = mark != self._written
        if not changed and not woken and now < self._extended_at + self._lease_s / 3:
            return LeaseState.HELD
        trusted_s = self._extended_at + self._lease_s * TRUSTED_SHARE - now
        if trusted_s <= 0:
            _logger.warning("lease not extended in time", fence=self._lease.fence)
            return LeaseState.LOST
        try:
            with anyio.fail_after(trusted_s):
                state = await self._table.heartbeat(
                    self._lease, self._progress if changed else None, lease_s=self._lease_s
                )
        except ExportdError as error:
            _logger.warning("heartbeat failed", reason=error.reason, error=error.sentence)
            return LeaseState.HELD
        except TimeoutError:
            _logger.warning("lease not extended in time", fence=self._lease.fence)
            return LeaseState.LOST
        if state is LeaseState.LOST:
            _logger.warning("lease lost", fence=self._lease.fence)
            return state
        self._extended_at = now
        self._written = mark
        return state
