"""Keeps this daemon registered with the others of its database, and reads what they declare.

What the configuration declares is written to the database here: at the start, by a reload, and again when another
daemon registers, declares something else or is gone for good, because what may stay depends on all of them. Each daemon
logs a disagreement once, and again when it changes.
"""

import dataclasses
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import anyio
import anyio.to_thread
import structlog

from exportd.catalog.document import Catalog
from exportd.destinations.opener import declared
from exportd.destinations.table import DestinationTable
from exportd.extraction.guards import fingerprint
from exportd.fleet.disagreement import UNKNOWN, Disagreement, disagreements
from exportd.fleet.table import EPHEMERAL, HEARTBEAT_S, DaemonIdentity, DaemonRecord, DaemonTable
from exportd.model.clock import Clock
from exportd.model.errors import ExportdError
from exportd.model.schedule import Pause, Schedule
from exportd.schedules.firing_table import ReconcileResult, ScheduleTable
from exportd.settings.difference import agreed
from exportd.settings.loader import declarations
from exportd.settings.schema import Settings

_DEREGISTER_TIMEOUT_S = 2.0
"""How long a daemon that ends tries to deregister. If it fails, the others notice later, by missed heartbeats."""

_MAX_NAMED = 20
"""How many deleted schedules the log names."""

_logger = structlog.get_logger()


class PresenceKeeper:
    """A service: ``run`` until cancelled.

    ``daemons`` are all registered ones, this one too, and ``pause`` is that of all of them, as last read.
    """

    def __init__(
        self,
        table: DaemonTable,
        identity: DaemonIdentity,
        destinations: DestinationTable,
        schedules: ScheduleTable,
        clock: Clock,
    ) -> None:
        self._table = table
        self._identity = identity
        self._destinations = destinations
        self._schedules = schedules
        self._clock = clock
        self._configuration: tuple[Settings, Catalog] | None = None
        self._seen: frozenset[tuple[UUID, datetime | None, bool]] | None = None
        self._woken = anyio.Event()
        self._one_at_a_time = anyio.Lock()
        self.daemons: Sequence[DaemonRecord] = ()
        self.disagreements: Sequence[Disagreement] = ()
        self.pause: Pause | None = None

    def wake(self) -> None:
        """Look now: another daemon has changed, or a person has paused all of them."""
        self._woken.set()

    async def declare(self, settings: Settings, catalog: Catalog) -> None:
        """Make the rows of destinations and schedules those that a configuration declares, and notify the others.

        When this fails, the configuration declared before stays in force: the next look writes it again.
        """
        async with self._one_at_a_time:
            self._seen = None
            await self._declare(settings, catalog)
            self._configuration = settings, catalog

    async def run(self) -> None:
        """Look when woken, and often enough to count as running, for ever."""
        while True:
            try:
                await self.look()
            except ExportdError as error:
                _logger.warning("other daemons not read", reason=error.reason, error=error.sentence)
            await self._clock.wait_for(self._woken, self._clock.monotonic() + HEARTBEAT_S)
            self._woken = anyio.Event()

    async def look(self) -> None:
        """Send a heartbeat, read the others, and reconcile when they have changed. Nothing before ``declare``."""
        async with self._one_at_a_time:
            if self._configuration is None:
                return
            self.pause = await self._table.paused()
            if not await self._table.beat(self._identity.spool_id):
                await self._declare(*self._configuration)
                return
            self.daemons = await self._table.all()
            if self._others() != self._seen:
                seen = self._others()
                _report_deleted((await self._reconcile(*self._configuration)).deleted)
                await self._compare()
                self._seen = seen

    async def deregister(self) -> None:
        """Record that this daemon does not run any more.

        What it declares stays in effect for when it comes back, unless its spool goes with it.
        """
        with anyio.move_on_after(_DEREGISTER_TIMEOUT_S, shield=True):
            try:
                if self._configuration is not None and self._configuration[0].spool.ephemeral:
                    await self._table.withdraw(self._identity.spool_id)
                else:
                    await self._table.stop(self._identity.spool_id)
            except ExportdError as error:
                _logger.info("terminated without deregistering", error=error.sentence)

    async def _declare(self, settings: Settings, catalog: Catalog) -> None:
        if self._configuration is None or not await self._table.beat(self._identity.spool_id):
            await self._table.register(self._identity)
        # Read first: a daemon that declares something meanwhile counts as changed at the next look.
        self.daemons = await self._table.all()
        seen = self._others()
        await self._reconcile(settings, catalog)
        await self._table.announce(
            self._identity.spool_id,
            settings={**agreed(settings), **({EPHEMERAL: "true"} if settings.spool.ephemeral else {})},
            entities={
                code: UNKNOWN
                if code in catalog.out_of_order and catalog.is_open(code)
                else fingerprint(dataclasses.asdict(entity))
                for code, entity in catalog.entities.items()
            },
        )
        await self._compare()
        self._seen = seen

    async def _reconcile(self, settings: Settings, catalog: Catalog) -> ReconcileResult:
        now, spool_id = self._clock.now(), self._identity.spool_id
        # In threads, because there may be thousands.
        destinations = await anyio.to_thread.run_sync(declared, settings.destination)
        schedules = await anyio.to_thread.run_sync(declarations, settings, catalog)
        await self._destinations.reconcile(destinations, now=now, daemon=spool_id)
        return await self._schedules.reconcile(schedules, now=now, daemon=spool_id)

    async def _compare(self) -> None:
        self.daemons = await self._table.all()
        differences = await self._table.differences(self._identity.spool_id)
        found = disagreements(self._identity.spool_id, self.daemons, differences)
        _report(self.disagreements, found)
        self.disagreements = found

    def _others(self) -> frozenset[tuple[UUID, datetime | None, bool]]:
        """What of the other daemons decides whether they have changed."""
        return frozenset(
            (daemon.spool_id, daemon.declared_at, daemon.running)
            for daemon in self.daemons
            if daemon.spool_id != self._identity.spool_id
        )


def _report_deleted(schedules: Sequence[Schedule]) -> None:
    """Log the names: this happens without any request, so the log is the only place that tells."""
    for schedule in schedules[:_MAX_NAMED]:
        _logger.info(
            "schedule deleted, no daemon declares it any more",
            organization=schedule.declaration.organization,
            schedule=schedule.declaration.code,
        )
    if len(schedules) > _MAX_NAMED:
        _logger.info("schedules deleted, no daemon declares them any more", more=len(schedules) - _MAX_NAMED)


def _report(before: Sequence[Disagreement], now: Sequence[Disagreement]) -> None:
    for found in now:
        if found not in before:
            _logger.warning("daemons disagree", host=found.host, about=found.subject.value, sentence=found.sentence)
    lasting = {(found.spool_id, found.subject) for found in now}
    for ended in before:
        if (ended.spool_id, ended.subject) not in lasting:
            _logger.info("disagreement ended", host=ended.host, about=ended.subject.value)
