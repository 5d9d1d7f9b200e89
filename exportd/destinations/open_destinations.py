"""Keeps the destinations of the configuration and of the API open: each has a store and the layout of its keys.

The refresher opens those that this daemon's configuration declares, and those that were made through the API. A row of
the database that claims to stand in a configuration is not trusted, because a party that can write rows could then have
files written anywhere on this host. What another daemon declares is opened by that daemon only, and so are the jobs
that deliver there.
"""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import structlog

from exportd.destinations.circuit import Circuit
from exportd.destinations.record import DestinationDeclaration, DestinationRecord, check_origin
from exportd.destinations.table import DestinationTable
from exportd.model.clock import Clock
from exportd.model.entity import OrganizationId
from exportd.model.errors import ExportdError, PermanentError, Reason
from exportd.model.schedule import DestinationCode, DialectName, Origin
from exportd.stores.layout import Layout
from exportd.stores.location import Location
from exportd.stores.store import Store

_logger = structlog.get_logger()

POLL_INTERVAL_S = 30.0
IDLE_INTERVAL_S = 300.0
"""Stores that were not used for this long, or up to twice as long, close their connections."""

_Key = tuple[OrganizationId, DestinationCode]

_CLOSING_S = 5.0
"""How long the connections of a removed destination may take to close. After that they stay open until the process
ends.
"""


MAX_IDLE = 100
"""How many unused destinations keep their connections. With a role of its own, each has an S3 client of half a
megabyte, and there may be thousands whose schedules are due together.
"""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where an organization's files go, and under which keys. ``circuit`` remembers the last failures.

    Each run comes with the statements that load it into the databases of ``loader_kit``; these statements name
    ``location``. Without ``empty_files``, an entity without records has no file.
    """

    organization: OrganizationId
    code: DestinationCode
    store: Store
    layout: Layout
    location: Location | None = None
    loader_kit: tuple[DialectName, ...] = ()
    empty_files: bool = True
    circuit: Circuit = field(default_factory=Circuit)


class Destinations:
    """Finds a destination by organization and code. One organization never gets another's."""

    def __init__(self, destinations: Iterable[Destination] = ()) -> None:
        self._destinations = {(destination.organization, destination.code): destination for destination in destinations}
        self._retired: list[Destination] = []
        self._users: Counter[int] = Counter()
        """How many deliveries use a destination, by its identity."""
        self._used: set[int] = set()
        """The identities of destinations that were used since the last look for idle ones."""
        self._connected: set[int] = set()
        """The identities of those that were used before that, and may still have connections."""
        self._idle: dict[int, Destination] = {}
        """Destinations with connections that are not in use now, by their identity; the one that was used last is at
        the end.
        """

    def get(self, organization: OrganizationId, code: DestinationCode) -> Destination:
        """The destination; PermanentError DESTINATION_MISSING when it is not declared any more."""
        try:
            return self._destinations[organization, code]
        except KeyError:
            raise PermanentError(
                f"There is no destination {code} of organization {organization} in the configuration any more. Declare "
                "it again, or take it out of the schedule.",
                reason=Reason.DESTINATION_MISSING,
            ) from None

    @asynccontextmanager
    async def using(self, organization: OrganizationId, code: DestinationCode) -> AsyncIterator[Destination]:
        """The destination, open until the block ends, even if it is replaced meanwhile. Raises as ``get``."""
        found = self.get(organization, code)
        self._users[id(found)] += 1
        self._used.add(id(found))
        self._idle.pop(id(found), None)
        try:
            yield found
        finally:
            self._users[id(found)] -= 1
            if not self._users[id(found)] and self._destinations.get((organization, code)) is found:
                self._idle[id(found)] = found
            await self.close_unused()
            await _close([self._idle.pop(next(iter(self._idle))) for _ in range(len(self._idle) - MAX_IDLE)])

    async def close_unused(self) -> None:
        """Close the stores of destinations that were replaced or removed and are no longer used."""
        unused = [destination for destination in self._retired if not self._users[id(destination)]]
        self._retired = [destination for destination in self._retired if self._users[id(destination)]]
        for destination in unused:
            del self._users[id(destination)]
        await _close(unused)

    async def close_idle(self) -> None:
        """Close the connections of stores that were not used since the last call. They connect again when they are
        used.
        """
        used = {*self._used, *(one for one, users in self._users.items() if users)}
        idle = [destination for destination in self if id(destination) in self._connected - used]
        self._connected, self._used = used, set()
        await _close(idle)

    def put(self, destination: Destination) -> None:
        """Add a destination, or replace the one of its organization and code."""
        self.remove(destination.organization, destination.code)
        self._retired = [retired for retired in self._retired if retired is not destination]
        self._destinations[destination.organization, destination.code] = destination

    def remove(self, organization: OrganizationId, code: DestinationCode) -> None:
        """Remove a destination. Its store stays open as long as it is used."""
        retired = self._destinations.pop((organization, code), None)
        if retired is not None:
            self._retired.append(retired)

    def __iter__(self) -> Iterator[Destination]:
        return iter(self._destinations.values())

    async def aclose(self) -> None:
        """Close all stores."""
        for destination in (*self._destinations.values(), *self._retired):
            await destination.store.aclose()


async def _close(destinations: Iterable[Destination]) -> None:
    with anyio.move_on_after(_CLOSING_S, shield=True):
        for destination in destinations:
            await destination.store.aclose()


class DestinationRefresher:
    """Keeps ``live`` up to date. It begins with the destinations that the configuration declares.

    ``opener`` opens a destination that was made through the API. It raises SettingsError when that is not possible.
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
        """Add these destinations, or replace those of the same code. ``keeping`` are all that are declared now.

        A destination that is not declared any more stays open until the next refresh, because the database may still
        have it. Returns those that were replaced. With ``reopening`` the next refresh reopens the others too, because a
        setting of all destinations has changed.
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
            await self._clock.wait_for(self._woken, self._clock.monotonic() + POLL_INTERVAL_S)
            self._woken = anyio.Event()

    async def refresh(self) -> None:
        """Open new destinations, replace edited ones, remove deleted ones, and close what is no longer used."""
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
            # The old destination must not be used any more: the edit may have been made to stop writing there.
            self._live.remove(organization, code)
            _logger.warning(
                "destination cannot be opened", organization=organization, destination=code, error=error.sentence
            )
            return
        self._live.put(destination)
        self._known[key] = record.declaration.settings
