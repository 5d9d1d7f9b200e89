"""Finds all destinations: those of the configuration, and those that were made through the API."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from exportd.database.connector import Connector
from exportd.database.migrator import pending
from exportd.destinations.opener import settings_of
from exportd.destinations.operations import DestinationOperator
from exportd.destinations.record import check_origin
from exportd.destinations.table import DestinationTable
from exportd.model.declared import Key, key_of
from exportd.model.errors import ExportdError
from exportd.model.schedule import Origin, Pause
from exportd.settings.destination_schema import DestinationSettings
from exportd.settings.schema import Settings
from exportd.stores.gcs.identity import require_own_pool


@dataclass(frozen=True, slots=True)
class KnownDestination:
    """A destination, its origin and, if it is paused and the database could be read, its pause."""

    settings: DestinationSettings
    origin: Origin
    pause: Pause | None = None


@dataclass(frozen=True, slots=True)
class KnownDestinations:
    """``problems`` says which destinations could not be read, and why."""

    found: Sequence[KnownDestination]
    problems: Sequence[str] = ()


async def find_destinations(settings: Settings, database: Connector) -> KnownDestinations:
    """All of them, as far as the database can be read."""
    found = [KnownDestination(declared, Origin.CONFIGURATION) for declared in settings.destination]
    problems = []
    configured = {Key(declared.organization, declared.code) for declared in settings.destination}
    try:
        async with database.connection("destinations") as connection:
            if await pending(connection):
                return KnownDestinations(found)
        async with database.pool(1) as pool:
            records = await DestinationTable(pool).all()
            pauses = await DestinationOperator(pool).pauses()
    except ExportdError as error:
        return KnownDestinations(found, [f"Destinations made through the API are not known: {error.sentence}"])
    found = [replace(known, pause=pauses.get(Key(known.settings.organization, known.settings.code))) for known in found]
    for record in records:
        key = key_of(record.declaration)
        if record.origin is Origin.CONFIGURATION or key in configured:
            continue
        try:
            check_origin(record)
            destination = settings_of(record.declaration)
            require_own_pool(destination, settings.gcs)
            found.append(KnownDestination(destination, record.origin, pauses.get(key)))
        except ExportdError as error:
            problems.append(f"destination {key.code} of {key.organization}: {error.sentence}")
    return KnownDestinations(found, problems)
