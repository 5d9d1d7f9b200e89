"""Finds the destinations there are: those of the configuration, and those that were made through the API."""

from collections.abc import Sequence
from dataclasses import dataclass

from exportd.control.destination_table import DestinationTable
from exportd.daemon.declared_destinations import settings_of
from exportd.database.connector import Connector
from exportd.database.migrator import pending
from exportd.model.errors import ExportdError
from exportd.model.schedule import Origin
from exportd.settings.destination_schema import DestinationSettings
from exportd.settings.schema import Settings


@dataclass(frozen=True, slots=True)
class KnownDestination:
    """A destination and who made it."""

    settings: DestinationSettings
    origin: Origin


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
            records = await DestinationTable(pool).all()
    except ExportdError as error:
        return KnownDestinations(found, [f"Destinations made through the API are not known: {error.sentence}"])
    for each in records:
        declaration = each.declaration
        if each.origin is Origin.CONFIGURATION or (declaration.organization, declaration.code) in declared:
            continue
        try:
            found.append(KnownDestination(settings_of(declaration), each.origin))
        except ExportdError as error:
            problems.append(f"destination {declaration.code} of {declaration.organization}: {error.sentence}")
    return KnownDestinations(found, problems)
