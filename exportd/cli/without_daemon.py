"""What commands do when no daemon runs: they read the database, and write requests into it, with the documents of the
API.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from exportd.api.schemas.destination import declared_destination, destination_details
from exportd.api.schemas.entity import entity_documents
from exportd.api.schemas.fields import Answer
from exportd.api.schemas.job import found_job, job_details
from exportd.api.schemas.schedule import schedule_details
from exportd.api.transport.unix_socket import Peer
from exportd.catalog.checker import resolve
from exportd.cli.configuration import connector, load, tables
from exportd.cli.output import print_error
from exportd.cli.socket_client import Document
from exportd.database.connector import Connector
from exportd.database.migrator import pending
from exportd.destinations.opener import DestinationOpener, declared
from exportd.destinations.operations import DestinationOperator
from exportd.destinations.record import DestinationRecord, check_origin
from exportd.destinations.table import DestinationTable
from exportd.jobs.job_record import JobRecord, unknown_job
from exportd.jobs.job_table import JobTable
from exportd.jobs.requests import FoundJob, JobSearch, OwnedJobTable, Place
from exportd.model.declared import Key, key_of
from exportd.model.entity import OrganizationId
from exportd.model.errors import ExportdError, PermanentError, Reason
from exportd.model.job import JobId
from exportd.model.schedule import Origin, Pause, ScheduleId
from exportd.schedules.editing import OwnedScheduleTable
from exportd.schedules.operations import ScheduleOperator, ScheduleStanding
from exportd.settings.destination_schema import DestinationSettings
from exportd.settings.schema import Settings

_PAGE_SIZE = 500
_UNKNOWN = "Destinations made through the API are not known: {}"


def document(answer: Answer) -> Document:
    """A document in the form in which the API sends it."""
    return answer.model_dump(mode="json", by_alias=True)


def own_name() -> str:
    """The name of this process's user for the audit log, as on the daemon's socket."""
    return f"unix:{Peer(os.getpid(), os.getuid(), frozenset()).name}"


async def read_jobs(config: Path, *, organization: str | None, wanted: JobSearch, limit: int) -> list[Document]:
    found: list[FoundJob] = []
    after: Place | None = None
    async with tables(config) as pool:
        while len(found) < limit:
            owner = None if organization is None else OrganizationId(organization)
            page, stopped = await OwnedJobTable(pool).search(owner, wanted, after=after, limit=limit - len(found))
            found += page
            if stopped is None:
                break
            after = stopped
    return [document(found_job(job)) for job in found]


async def read_job(config: Path, job_id: str) -> Document:
    settings, _ = load(config)
    retention = timedelta(hours=settings.spool.retention_hours)
    return document(job_details(await find_job(config, job_id), retention))


async def find_job(config: Path, job_id: str) -> JobRecord:
    """Find a job. Raises PermanentError NOT_FOUND, also for a text that is not an id."""
    async with tables(config) as pool:
        try:
            record = await JobTable(pool).get(JobId(UUID(job_id)))
        except ValueError:
            record = None
    if record is None:
        raise PermanentError(unknown_job(job_id), reason=Reason.NOT_FOUND)
    return record


async def read_schedules(config: Path) -> list[Document]:
    found: list[Document] = []
    async with tables(config) as pool:
        table, operator, after = OwnedScheduleTable(pool), ScheduleOperator(pool), None
        while page := await table.page(None, after=after, limit=_PAGE_SIZE):
            standing = await operator.standing([owned.schedule.id for owned in page])
            found += [
                document(schedule_details(owned, standing.get(owned.schedule.id, ScheduleStanding()))) for owned in page
            ]
            after = page[-1].schedule.created_at, page[-1].schedule.id
    return found


async def run_schedule(config: Path, schedule_id: str) -> Document:
    """Queue another run, as the API does, with the same entry in the audit log."""
    async with tables(config) as pool:
        job_id = await ScheduleOperator(pool).run(ScheduleId(UUID(schedule_id)), actor=own_name())
    return {"jobId": str(job_id)}


async def read_destinations(config: Path) -> list[Document]:
    """The destinations of the configuration and, as far as the database can be read, those of the API."""
    settings, _ = load(config)
    records, pauses = await _stored_destinations(config)
    found = []
    for declaration in declared(settings.destination):
        key = key_of(declaration)
        record = records.pop(key, None)
        if record is None:
            found.append(declared_destination(declaration, pauses.get(key)))
        else:
            in_file = replace(record, declaration=declaration, origin=Origin.CONFIGURATION)
            found.append(destination_details(in_file, pauses.get(key)))
    made = [record for record in records.values() if record.origin is Origin.API]
    found += [destination_details(record, pauses.get(key_of(record.declaration))) for record in made]
    return [document(details) for details in found]


async def _stored_destinations(config: Path) -> tuple[dict[Key, DestinationRecord], dict[Key, Pause]]:
    try:
        async with tables(config) as pool:
            records, pauses = await DestinationTable(pool).all(), await DestinationOperator(pool).pauses()
    except ExportdError as error:
        if error.reason is not Reason.DATABASE_NOT_MIGRATED:
            print_error(_UNKNOWN.format(error.sentence))
        return {}, {}
    return {key_of(record.declaration): record for record in records}, pauses


async def read_entities(config: Path) -> list[Document]:
    settings, catalog = load(config)
    async with connector(settings).connection("entity") as connection:
        resolved = await resolve(catalog, connection)
    entities = resolved.entities.values()
    trouble = {code: resolved.trouble(code) or "" for code in resolved.out_of_order}
    return [document(entity) for entity in entity_documents(entities, entities, trouble)]


@dataclass(frozen=True, slots=True)
class KnownDestinations:
    """``problems`` says which destinations could not be read, and why."""

    found: Sequence[DestinationSettings]
    problems: Sequence[str] = ()


async def find_destinations(settings: Settings, database: Connector) -> KnownDestinations:
    """All of them, as far as the database can be read."""
    found, problems = list(settings.destination), list[str]()
    configured = {Key(destination.organization, destination.code) for destination in found}
    try:
        async with database.connection("destinations") as connection:
            if await pending(connection):
                return KnownDestinations(found)
        async with database.pool(1) as pool:
            records = await DestinationTable(pool).all()
    except ExportdError as error:
        return KnownDestinations(found, [_UNKNOWN.format(error.sentence)])
    opener = DestinationOpener(settings)
    for record in records:
        key = key_of(record.declaration)
        if record.origin is Origin.CONFIGURATION or key in configured:
            continue
        try:
            check_origin(record)
            found.append(opener.settings_made(record.declaration))
        except ExportdError as error:
            problems.append(f"destination {key.code} of {key.organization}: {error.sentence}")
    return KnownDestinations(found, problems)
