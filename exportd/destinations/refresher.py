"""Keeps open the destinations that this daemon's configuration declares, and those that were made through the API.

A row of the database that says that it stands in a configuration is not believed: a party that can write rows could
have files written anywhere on this host. What another daemon declares is that daemon's, and so are the jobs that go
there.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import anyio
import structlog

from exportd.destinations.open_destinations import Destination, Destinations
from exportd.destinations.record import DestinationDeclaration, DestinationRecord, check_origin
from exportd.destinations.table import DestinationTable
from exportd.model.clock import Clock, wait_until
from exportd.model.entity import OrganizationId
from exportd.model.errors import ExportdError
from exportd.model.schedule import DestinationCode, Origin

_logger = structlog.get_logger()

POLL_INTERVAL_S = 30.0
IDLE_INTERVAL_S = 300.0
"""Stores that were not used for so long, or up to twice as long, give back their connections."""

_Key = tuple[OrganizationId, DestinationCode]


class DestinationRefresher:
    """``live`` begins with what the configuration declares.

    ``opener`` makes a destination that was made through the API; it raises SettingsError when that cannot be.
    """

    def __init__(
        self,
        table: DestinationTable,
        live: Destinations,
        opener: Callable[[DestinationDeclaration], Destination],
        clock: Clock,
    ) -> None:
        self._table = table
        self._live = live
        self._opener = opener
        self._clock = clock
        self._declared = {(destination.organization, destination.code) for destination in live}
        self._known: dict[_Key, Mapping[str, Any]] = {}
        self._woken = anyio.Event()
        self._one_at_a_time = anyio.Lock()

    def wake(self) -> None:
        """Refresh soon: a destination was edited."""
        self._woken.set()

    def declare(
        self, opened: Iterable[Destination], *, keeping: Collection[tuple[str, str]], reopening: bool = False
    ) -> tuple[Destination, ...]:
        """Add these, or put them in place of those of the same code. ``keeping`` are all that are declared now.

        One that is not declared any more stays open until the next refresh, for the database may have it. Returns those
        that were replaced. With ``reopening`` the next refresh reopens the others, for a setting of all has changed.
        """
        before = {(destination.organization, destination.code): destination for destination in self._live}
        replaced = []
        for destination in opened:
            key = (destination.organization, destination.code)
            replaced += [before[key]] if key in before else []
            self._live.put(destination)
        declared = {(OrganizationId(organization), DestinationCode(code)) for organization, code in keeping}
        self._known.update({gone: {} for gone in self._declared - declared})
        for key in declared:
            self._known.pop(key, None)
        self._declared = declared
        if reopening:
            self._known = {key: {} for key in self._known}
        return tuple(replaced)

    def check(self, declaration: DestinationDeclaration) -> None:
        """Raises SettingsError when the destination, made through the API, could not be opened."""
        self._opener(declaration)

    async def run(self) -> None:
        """Refresh when woken and at each poll, until cancelled."""
        look_for_idle_at = self._clock.monotonic() + IDLE_INTERVAL_S
        while True:
            try:
                await self.refresh()
            except ExportdError as error:
                _logger.warning("destinations could not be read", reason=error.reason, error=error.sentence)
            if self._clock.monotonic() >= look_for_idle_at:
                await self._live.close_idle()
                look_for_idle_at = self._clock.monotonic() + IDLE_INTERVAL_S
            await wait_until(self._woken, self._clock.monotonic() + POLL_INTERVAL_S, clock=self._clock)
            self._woken = anyio.Event()

    async def refresh(self) -> None:
        """Open what is new, replace what was edited, take out what is gone; close what is no longer used."""
        async with self._one_at_a_time:
            records = await self._table.all()
            wanted = {
                (record.declaration.organization, record.declaration.code): record
                for record in records
                if record.origin is Origin.API
            }
            for key in self._declared:
                wanted.pop(key, None)
            for key in self._known.keys() - wanted.keys():
                self._live.remove(*key)
                del self._known[key]
            for key, record in wanted.items():
                if self._known.get(key) != record.declaration.settings:
                    self._open(key, record)
            await self._live.close_unused()

    def _open(self, key: _Key, record: DestinationRecord) -> None:
        try:
            check_origin(record)
            destination = self._opener(record.declaration)
        except ExportdError as error:
            organization, code = key
            # What it was until now may be what must not be written any more.
            self._live.remove(organization, code)
            _logger.warning(
                "destination cannot be opened", organization=organization, destination=code, error=error.sentence
            )
            return
        self._live.put(destination)
        self._known[key] = record.declaration.settings
