"""How long a short job waits while long ones take all slots: a daemon, two full exports at once, and a small tenant.

The small tenant's schedule becomes due again and again while both long exports read; it waits from then to its claim.
"""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import anyio

from benchmarks.bills import BILLS, CATALOG, fill_bills
from benchmarks.daemon_process import daemon_process
from benchmarks.measurement import Measurement, Options, Say, spread
from benchmarks.server import benchmark_server, connection_to
from exportd.catalog import document
from exportd.database.connector import Connection, Connector
from exportd.database.migrator import migrate
from exportd.demo.generator import create_tables, fill, organization_ids
from exportd.jobs.requests import OwnedJobTable
from exportd.model.schedule import ExportFormat
from exportd.postgres.postgres_server import PostgresServer

ROWS: Final = 1_000_000
"""Bills of both large tenants together. Two exports of them as JSONL at once take twenty seconds and more."""
SHORT_JOBS: Final = 8
MAX_WAIT_S: Final = 1.0

_ROWS_OF_OTHERS = 3_000
_LARGE, _SMALL = organization_ids(3)[:2], organization_ids(3)[2]
_LOOK_AGAIN_S = 0.02
_PAUSE_S = 0.5
"""Between two short jobs."""

_DUE = """
WITH due AS (UPDATE exportd.schedule SET next_due_at = clock_timestamp() WHERE organization = $1 RETURNING next_due_at)
SELECT next_due_at, pg_notify('exportd_events', '{"kind": "schedule_changed"}') FROM due
"""
_SHORT = """
SELECT state::text AS state, message,
       extract(epoch FROM started_at - $2::timestamptz)::float8 AS wait_s,
       extract(epoch FROM finished_at - started_at)::float8 AS seconds
FROM exportd.job
WHERE organization = $1 AND created_at >= $2 AND finished_at IS NOT NULL
"""
_LONG = """
SELECT state::text AS state, message,
       extract(epoch FROM coalesce(finished_at, clock_timestamp()) - started_at)::float8 AS seconds
FROM exportd.job
WHERE id = ANY ($1::uuid[])
"""


@dataclass(frozen=True, slots=True)
class _Short:
    """A short job: how long it waited and how long it took."""

    wait_s: float
    seconds: float


async def measure(options: Options, say: Say) -> list[Measurement]:
    """The longest wait, in seconds."""
    rows = options.size(ROWS)
    async with benchmark_server(options) as server:
        say(f"making {rows:,} bills")
        dsn = await _create(server, rows)
        with tempfile.TemporaryDirectory(prefix="exportd-bench-") as name:
            folder = Path(name)
            async with (
                daemon_process(dsn, folder, _configuration(dsn, folder), environment={}),
                connection_to(dsn) as connection,
            ):
                say("runs of the small tenant by itself")
                # Its first run is at once, and full; the others are what is called short.
                await _end_of_short(connection, datetime.now(UTC) - timedelta(hours=1))
                alone = [await _run_short(connection) for _ in range(options.repeats(SHORT_JOBS))]
                beside, long_s = await _beside_long_jobs(dsn, connection, say)
    return [_judged(alone, beside, long_s, rows)]


async def _beside_long_jobs(dsn: str, connection: Connection, say: Say) -> tuple[list[_Short], list[float]]:
    """The short jobs that began and ended while both long ones ran; and how long these took."""
    beside: list[_Short] = []
    async with _long_jobs(dsn) as long_ids:
        await _wait_for(connection, long_ids, running=len(long_ids))
        say("runs of the small tenant beside the long jobs")
        while len(beside) < SHORT_JOBS:
            short = await _run_short(connection)
            if await _running(connection, long_ids) < len(long_ids):
                break
            beside.append(short)
            await anyio.sleep(_PAUSE_S)
        say("waiting for the long jobs")
        await _wait_for(connection, long_ids, running=0)
        return beside, [row["seconds"] for row in await connection.fetch(_LONG, long_ids)]


def _judged(alone: list[_Short], beside: list[_Short], long_s: list[float], rows: int) -> Measurement:
    if not beside:
        raise AssertionError("the long jobs ended before a short one began beside them")
    return Measurement(
        "short lane: the longest wait of a short job behind two long ones, s",
        max(short.wait_s for short in beside),
        MAX_WAIT_S,
        "lower",
        f"{len(beside)} waits of {spread([short.wait_s for short in beside])} s, jobs of "
        f"{spread([short.seconds for short in beside])} s; nothing beside them: waits of "
        f"{spread([short.wait_s for short in alone])} s, jobs of {spread([short.seconds for short in alone])} s; "
        f"the long ones took {spread(long_s, 0)} s, {rows // 2:,} rows each",
    )


async def _run_short(connection: Connection) -> _Short:
    return await _end_of_short(connection, await connection.fetchval(_DUE, _SMALL))


async def _end_of_short(connection: Connection, due_at: datetime) -> _Short:
    """The small tenant's job of that time, when it has ended."""
    while True:
        row = await connection.fetchrow(_SHORT, _SMALL, due_at)
        if row is not None and row["state"] == "SUCCEEDED":
            return _Short(row["wait_s"], row["seconds"])
        if row is not None:
            raise AssertionError(row["message"])
        await anyio.sleep(_LOOK_AGAIN_S)


async def _wait_for(connection: Connection, jobs: list[UUID], *, running: int) -> None:
    while True:
        if await _running(connection, jobs) == running:
            return
        await anyio.sleep(_LOOK_AGAIN_S)


async def _running(connection: Connection, jobs: list[UUID]) -> int:
    rows = await connection.fetch(_LONG, jobs)
    for row in rows:
        if row["state"] == "FAILED":
            raise AssertionError(row["message"])
    return sum(row["state"] == "RUNNING" for row in rows)


@asynccontextmanager
async def _long_jobs(dsn: str) -> AsyncIterator[list[UUID]]:
    """A full export of the bills of each large tenant, queued at the same time."""
    async with Connector(dsn).pool(1) as pool:
        queue = OwnedJobTable(pool)
        yield [
            await queue.queue(
                organization,
                entities=[BILLS],
                file_format=ExportFormat.JSONL,
                destination_ids=[],
                actor="benchmark",
            )
            for organization in _LARGE
        ]


async def _create(server: PostgresServer, rows: int) -> str:
    dsn = await server.create_database("lane")
    async with connection_to(dsn) as connection:
        await migrate(connection)
        await create_tables(connection)
        await fill(connection, rows=_ROWS_OF_OTHERS, organizations=3)
        await fill_bills(connection, rows=rows, organizations=len(_LARGE))
        await connection.execute("VACUUM (ANALYZE)")
    return dsn


def _configuration(dsn: str, folder: Path) -> dict[str, Any]:
    lake = folder / "lake"
    lake.mkdir()
    return {
        "database": {"dsn": dsn},
        "catalog": {"file": str(CATALOG)},
        "spool": {"directory": str(folder / "spool"), "retention_hours": 0},
        "control": {"socket": str(folder / "control.sock")},
        "limits": {"jobs": 2, "streams": 1},
        "destination": [{"code": "lake", "organization": _SMALL, "directory": str(lake)}],
        "schedule": [
            {
                "code": "everything",
                "organization": _SMALL,
                "entities": list(document.load(CATALOG).entities),
                "destinations": ["lake"],
                "unit": "DAY",
                "period": 1,
            }
        ],
    }
