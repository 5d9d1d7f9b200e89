"""The destinations of the configuration and the API, opened: a store and the layout of keys in it."""

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio

from exportd.destinations.circuit import Circuit
from exportd.model.entity import OrganizationId
from exportd.model.errors import PermanentError
from exportd.model.reason import Reason
from exportd.model.schedule import DestinationCode, DialectName
from exportd.stores.layout import Layout
from exportd.stores.location import Location
from exportd.stores.store import Store

_CLOSING_S = 5.0
"""How long the connections of a destination that is gone may take to close; then they are left to the process's end."""


MAX_IDLE = 100
"""So many destinations that nothing uses keep their connections: a client of S3 takes 1.4 MB, and there may be a
destination for each of thousands of organizations, whose schedules are due together."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where files of an organization go, and by which keys; ``circuit`` remembers its last failures.

    Each run comes with the statements that load it into the databases of ``loader_kit``; they name ``location``.
    Without ``empty_files``, an entity without records has no file there.
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
        """By the identity of a destination, how many use it."""
        self._used: set[int] = set()
        """The identities of those that were used since the last look for idle ones."""
        self._connected: set[int] = set()
        """Those that were used before it, and may have kept their connections."""
        self._idle: dict[int, Destination] = {}
        """Those that were used and are not, by their identity, the one that was used last at the end."""

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
        """Close the stores of those that were replaced or taken out, and that are no longer used."""
        unused = [destination for destination in self._retired if not self._users[id(destination)]]
        self._retired = [destination for destination in self._retired if self._users[id(destination)]]
        for destination in unused:
            del self._users[id(destination)]
        await _close(unused)

    async def close_idle(self) -> None:
        """Close the stores that were used, but not since the last call; they connect again when they are used."""
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
        """Take a destination out. Its store stays open as long as it is used."""
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
