"""Gathers the daemon's status: its own, and a few figures from the database.

It makes seven short queries at most once a second, however many clients ask. At most a hundred destinations are read.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import anyio

from exportd.database.quota_table import QuotaTable, QuotaUse
from exportd.destinations.operations import DestinationOperator
from exportd.destinations.record import DestinationHealth
from exportd.jobs.operations import JobOperator, QueueState, RunningJob
from exportd.model.clock import Clock
from exportd.model.entity import EntityCode, OrganizationId
from exportd.model.schedule import DestinationCode, Pause
from exportd.schedules.operations import ScheduleOperator, WheelState

FRESH_S = 1.0
MAX_DESTINATIONS = 100

DestinationCondition = Callable[[OrganizationId, DestinationCode], str | None]
"""Returns this daemon's view of a destination, such as the state of its circuit breaker; None when there is none."""


@dataclass(frozen=True, slots=True)
class SharedStatus:
    """The status in the database, for all daemons. ``read_until`` has, for each entity, the time of the schedule that
    is furthest behind.
    """

    pause: Pause | None
    queue: QueueState
    leases: tuple[RunningJob, ...]
    wheel: WheelState
    read_until: Mapping[EntityCode, datetime]
    destinations: tuple[DestinationHealth, ...]
    quotas: tuple[QuotaUse, ...] = ()


class StatusReader:
    """Reads the status. ``spool_id`` is that of this daemon, by which its leases are found."""

    def __init__(
        self,
        *,
        jobs: JobOperator,
        schedules: ScheduleOperator,
        destinations: DestinationOperator,
        spool_id: UUID,
        clock: Clock,
        quotas: QuotaTable,
    ) -> None:
        self._jobs = jobs
        self._schedules = schedules
        self._destinations = destinations
        self._spool_id = spool_id
        self._clock = clock
        self._quotas = quotas
        self._one_at_a_time = anyio.Lock()
        self._last: tuple[float, SharedStatus] | None = None

    async def read(self) -> SharedStatus:
        """The status, at most a second old. Raises TransientError when the database is out of reach."""
        async with self._one_at_a_time:
            if self._last is None or self._clock.monotonic() - self._last[0] >= FRESH_S:
                self._last = self._clock.monotonic(), await self._read()
            return self._last[1]

    async def _read(self) -> SharedStatus:
        return SharedStatus(
            pause=await self._jobs.paused(),
            queue=await self._jobs.queue_state(),
            leases=tuple(await self._jobs.leases(self._spool_id)),
            wheel=await self._schedules.wheel(),
            read_until=await self._schedules.read_until(),
            destinations=tuple(await self._destinations.health(limit=MAX_DESTINATIONS)),
            quotas=tuple(await self._quotas.near()),
        )
