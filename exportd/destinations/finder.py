"""Finds the destinations there are: those of the configuration, and those that were made through the API."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from exportd.database.connector import Connector
from exportd.database.migrator import pending
from exportd.destinations.declaration import settings_of
from exportd.destinations.table import DestinationTable
from exportd.model.errors import ExportdError
from exportd.model.schedule import Origin, Pause
from exportd.settings.destination_schema import DestinationSettings
from exportd.settings.schema import Settings


@dataclass(frozen=True, slots=True)
class KnownDestination:
    """A destination, who made it, and since when it is paused, if it is and the database could be asked."""

    settings: DestinationSettings
    origin: Origin
    pause: Pause | None = None


@dataclass(frozen=True, slots=True)
class KnownDestinations:
    """``problems`` says of which ones nothing could be learnt, and why."""

    found: Sequence[KnownDestination]
    problems: Sequence[str] = ()


async def find_destinations(settings: Settings, database: Connector) -> KnownDestinations:
    """All of them, as far as the database can be asked."""
    found = [KnownDestination(each, Origin.CONFIGURATION) for each in settings.destination]
    problems = []
    declared = {(each.organization, each.code) for each in settings.destination}
    try:
        async with database.connection("destinations") as connection:
            if await pending(connection):
                return KnownDestinations(found)
        async with database.pool(1) as pool:
            table = DestinationTable(pool)
            records, pauses = await table.all(), await table.pauses()
    except ExportdError as error:
        return KnownDestinations(found, [f"Destinations made through the API are not known: {error.sentence}"])
    found = [replace(each, pause=pauses.get((each.settings.organization, each.settings.code))) for each in found]
    for record in records:
        declaration = record.declaration
        if record.origin is Origin.CONFIGURATION or (declaration.organization, declaration.code) in declared:
            continue
        try:
            pause = pauses.get((declaration.organization, declaration.code))
            found.append(KnownDestination(settings_of(declaration), record.origin, pause))
        except ExportdError as error:
            problems.append(f"destination {declaration.code} of {declaration.organization}: {error.sentence}")
    return KnownDestinations(found, problems)
