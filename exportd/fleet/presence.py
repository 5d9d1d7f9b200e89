"""Keeps this daemon known to the others of its database, and itself informed of them.

What the configuration declares is put into effect here, at the start and by a reload; and again whenever another daemon
comes, declares something else, or is gone for good, for then other things may stay or go. Where daemons disagree, each
says so: once, and again when something about it has changed.
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
from exportd.fleet.disagreement import Disagreement, disagreements
from exportd.fleet.record import DaemonIdentity, DaemonRecord
from exportd.fleet.table import HEARTBEAT_S, DaemonTable
from exportd.model.clock import Clock, wait_until
from exportd.model.errors import ExportdError
from exportd.model.schedule import Schedule
from exportd.schedules.firing_table import ReconcileResult, ScheduleTable
from exportd.settings.difference import agreed
from exportd.settings.loader import declarations
from exportd.settings.schema import Settings

_GOODBYE_S = 2.0
"""How long a daemon that leaves waits to say so. Silence says the same, a little later."""

_MAX_NAMED = 20
"""So many schedules stand in the log one by one."""

_logger = structlog.get_logger()


class PresenceKeeper:
    """A service: ``run`` until cancelled. ``daemons`` are all that are reckoned with, this one too, as last seen."""

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

    def wake(self) -> None:
        """Look soon: another daemon has changed."""
        self._woken.set()

    async def declare(self, settings: Settings, catalog: Catalog) -> None:
        """Make the rows of destinations and schedules those that a configuration declares, and tell the others.

        When it fails, what was declared before counts: the next look puts it into effect again, as far as need be.
        """
        async with self._one_at_a_time:
            self._seen = None
            await self._declare(settings, catalog)
            self._configuration = settings, catalog

    async def run(self) -> None:
        """Look when woken, and often enough to be known, for ever."""
        while True:
            try:
                await self.look()
            except ExportdError as error:
                _logger.warning("other daemons not looked for", reason=error.reason, error=error.sentence)
            await wait_until(self._woken, self._clock.monotonic() + HEARTBEAT_S, clock=self._clock)
            self._woken = anyio.Event()

    async def look(self) -> None:
        """Be seen, see the others, and go by what they declare. Before the first ``declare`` there is nothing to do."""
        async with self._one_at_a_time:
            if self._configuration is None:
                return
            if not await self._table.beat(self._identity.spool_id):
                await self._declare(*self._configuration)
                return
            self.daemons = await self._table.all()
            if self._others() != self._seen:
                seen = self._others()
                _report_deleted((await self._reconcile(*self._configuration)).deleted)
                await self._compare()
                self._seen = seen

    async def leave(self) -> None:
        """Say that this daemon goes. What it declares stays for when it comes back."""
        with anyio.move_on_after(_GOODBYE_S, shield=True):
            try:
                await self._table.stop(self._identity.spool_id)
            except ExportdError as error:
                _logger.info("left without a word to the other daemons", error=error.sentence)

    async def _declare(self, settings: Settings, catalog: Catalog) -> None:
        if self._configuration is None or not await self._table.beat(self._identity.spool_id):
            await self._table.register(self._identity)
        # Before: one that declares something meanwhile has to be looked at again.
        self.daemons = await self._table.all()
        seen = self._others()
        await self._reconcile(settings, catalog)
        await self._table.announce(
            self._identity.spool_id,
            settings=agreed(settings),
            entities={code: fingerprint(dataclasses.asdict(entity)) for code, entity in catalog.entities.items()},
        )
        await self._compare()
        self._seen = seen

    async def _reconcile(self, settings: Settings, catalog: Catalog) -> ReconcileResult:
        now, spool_id = self._clock.now(), self._identity.spool_id
        # In threads: there may be thousands.
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
        """What has to be the same of the others for nothing to have changed."""
        return frozenset(
            (daemon.spool_id, daemon.declared_at, daemon.running)
            for daemon in self.daemons
            if daemon.spool_id != self._identity.spool_id
        )


def _report_deleted(schedules: Sequence[Schedule]) -> None:
    """Nobody has asked this daemon for it, so nobody would know."""
    for schedule in schedules[:_MAX_NAMED]:
        _logger.info(
            "schedule deleted, no daemon declares it any more",
            organization=schedule.declaration.organization,
            schedule=schedule.declaration.code,
        )
    if len(schedules) > _MAX_NAMED:
        _logger.info("schedules deleted, no daemon declares them any more", more=len(schedules) - _MAX_NAMED)


def _report(before: Sequence[Disagreement], now: Sequence[Disagreement]) -> None:
    for each in now:
        if each not in before:
            _logger.warning("daemons disagree", host=each.host, about=each.subject.value, sentence=each.sentence)
    lasting = {(each.spool_id, each.subject) for each in now}
    for each in before:
        if (each.spool_id, each.subject) not in lasting:
            _logger.info("disagreement ended", host=each.host, about=each.subject.value)
