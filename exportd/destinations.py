"""The destinations that the configuration and the API declare, opened: a store and the layout of keys in it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from exportd.loaders.dialect_name import DialectName
from exportd.model.entity import OrganizationId
from exportd.model.errors import PermanentError
from exportd.model.reason import Reason
from exportd.model.schedule import DestinationCode
from exportd.stores.circuit import Circuit
from exportd.stores.layout import Layout
from exportd.stores.location import Location
from exportd.stores.store import Store


@dataclass(frozen=True, slots=True)
class Destination:
    """Where files of an organization go, and by which keys; ``circuit`` remembers how it did lately.

    With each run go the statements that load it, for the databases of ``loader_kit``; they name ``location``.
    """

    organization: OrganizationId
    code: DestinationCode
    store: Store
    layout: Layout
    location: Location | None = None
    loader_kit: tuple[DialectName, ...] = ()
    circuit: Circuit = field(default_factory=Circuit)


class Destinations:
    """Finds a destination by organization and code. One organization never gets another's."""

    def __init__(self, destinations: Iterable[Destination] = ()) -> None:
        self._destinations = {(each.organization, each.code): each for each in destinations}
        self._retired: list[Destination] = []

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

    def put(self, destination: Destination) -> None:
        """Add a destination, or replace the one of its organization and code."""
        self.remove(destination.organization, destination.code)
        self._destinations[destination.organization, destination.code] = destination

    def remove(self, organization: OrganizationId, code: DestinationCode) -> None:
        """Take a destination out. Its store stays open until the end, for a delivery may still be using it."""
        retired = self._destinations.pop((organization, code), None)
        if retired is not None:
            self._retired.append(retired)

    def __iter__(self) -> Iterator[Destination]:
        return iter(self._destinations.values())

    async def aclose(self) -> None:
        """Give the stores' connections back."""
        for each in (*self._destinations.values(), *self._retired):
            await each.store.aclose()
