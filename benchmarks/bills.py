"""The table that most benchmarks read: bills of the demo's billing system, 36 fields, some 470 bytes of CSV a row."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from uuid import uuid4

import anyio

from benchmarks.server import connection_to
from exportd.capture.installer import CaptureInstaller, capture_is_intact
from exportd.catalog import document
from exportd.database.connector import Connection, Connector
from exportd.database.migrator import migrate
from exportd.demo.generator import create_tables, insert, organization_ids
from exportd.extraction.snapshot_opener import SnapshotOpener
from exportd.extraction.snapshot_reader import Reader
from exportd.model.entity import Entity, EntityCode, OrganizationId
from exportd.model.job import Job, JobId
from exportd.model.schedule import ExportFormat, ScheduleId
from exportd.postgres.postgres_server import PostgresServer

CATALOG: Final = Path(__file__).parents[1] / "config" / "entities.toml"
BILLS: Final = EntityCode("BILLS")
ORGANIZATION: Final[OrganizationId] = organization_ids(1)[0]
_BILLS_PER_ACCOUNT = 24


def bills() -> Entity:
    """The entity, as the demo's catalog has it."""
    return document.load(CATALOG).get(BILLS)


def job_of_bills(file_format: ExportFormat) -> Job:
    """A schedule's job that exports the bills."""
    return Job(
        JobId(uuid4()),
        ORGANIZATION,
        ScheduleId(uuid4()),
        "often",
        datetime.now(UTC),
        (BILLS,),
        file_format,
        destinations=(),
    )


async def fill_bills(connection: Connection, *, rows: int, organizations: int = 1) -> dict[EntityCode, int]:
    """Add so many bills to the demo's tables, and the accounts that they need (one for every 24).

    The tables may hold what the demo's ``fill`` made.
    """
    plan = {}
    for place, organization in enumerate(organization_ids(organizations)):
        count = rows // organizations + (place < rows % organizations)
        plan[organization] = {EntityCode("ACCOUNTS"): count // _BILLS_PER_ACCOUNT + 1, BILLS: count}
    return await insert(connection, plan, seed="bills-1")


async def create_bills(server: PostgresServer, *, rows: int) -> str:
    """The DSN of a new database with that many bills, their changes captured, vacuumed and on the disk."""
    dsn = await server.create_database(f"bills_{rows}")
    async with connection_to(dsn) as connection:
        await migrate(connection)
        await create_tables(connection)
        await fill_bills(connection, rows=rows)
        await connection.execute("VACUUM (ANALYZE) public.bills")
        await CaptureInstaller(Connector(dsn), pause=anyio.sleep).install([bills()])
        await connection.execute("CHECKPOINT")
    return dsn


async def full_query(dsn: str, file_format: ExportFormat) -> str:
    """The very query that COPY runs in a full export of the bills by one stream, on one line."""
    opener = SnapshotOpener(Connector(dsn), is_intact=capture_is_intact, pause=anyio.sleep)
    async with opener.open(Reader(job_of_bills(file_format), [bills()])) as snapshot:
        return " ".join(snapshot.statements[BILLS].full().split("\n"))
