"""Runs small jobs with the exportd that it can import, in the server whose DSN it is given: see ``small_jobs``.

A process of its own, so that the tree of another commit can be measured too. It reads a line with the kind of a round
("changed", "empty", "counted") and prints one with the round's figures as JSON. Its arguments: DSN, catalog, log of the
server, how many organizations there are, and over how many entities each exports.
"""

import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from statistics import quantiles
from typing import Any

import anyio
import anyio.to_thread
import asyncpg

from exportd.catalog import document
from exportd.daemon.assembly import Components, assembled
from exportd.daemon.current import Configuration
from exportd.database.connector import Connection, Connector
from exportd.database.migrator import migrate
from exportd.demo.generator import create_tables, fill, organization_ids
from exportd.model.entity import EntityCode
from exportd.model.schedule import DestinationCode, ExportFormat, Interval, ScheduleDeclaration, Unit
from exportd.settings.schema import Settings
from exportd.telemetry import logging

_ROWS_OF_AN_ORGANIZATION = 100
_CHANGED = (
    "ACCOUNTS",
    "ACCOUNT_PLANS",
    "AGGREGATIONS",
    "BALANCES",
    "BILLS",
    "BILL_LINE_ITEMS",
    "METERS",
    "PRODUCTS",
)
"""An organization has a row of each entity at least; one of each of these is updated."""

_CHANGE = """
UPDATE {table} SET version = version + 1
WHERE id IN (SELECT DISTINCT ON (organization_id) id FROM {table} ORDER BY organization_id, id)
"""
_DUE = "UPDATE exportd.schedule SET next_due_at = date_trunc('second', clock_timestamp())"
_PROGRESS = """
SELECT count(*) FILTER (WHERE state = 'SUCCEEDED') AS succeeded, count(*) FILTER (WHERE state = 'FAILED') AS failed
FROM exportd.job WHERE created_at >= $1
"""
_ROWS = """
SELECT coalesce(sum(rows), 0)::bigint FROM exportd.part JOIN exportd.job ON job.id = part.job_id
WHERE job.created_at >= $1
"""
_LOOK_AGAIN_S = 0.25
_SAMPLE_S = 0.01


class _Tree:
    def __init__(self, components: Components, connection: Connection, organizations: int, log: Path) -> None:
        self._components = components
        self._connection = connection
        self._organizations = organizations
        self._log = log
        self._catalog = components.current.catalog()
        self._fsyncs = 0
        self._fsync = os.fsync
        os.fsync = self._counted_fsync  # type: ignore[assignment]

    async def round(self, kind: str) -> dict[str, Any]:
        """The figures of one round of jobs, all due together."""
        if kind == "changed":
            for code in _CHANGED:
                table = self._catalog.entities[EntityCode(code)].table
                await self._connection.execute(_CHANGE.format(table=f'"{table.schema}"."{table.name}"'))
        start = await self._connection.fetchval("SELECT clock_timestamp()")
        await self._log_statements(kind == "counted")
        server_s, self._fsyncs, logged = _server_s(self._log), 0, self._log.stat().st_size
        wall_s, process_s = time.perf_counter(), time.process_time()
        await self._connection.execute(_DUE)
        self._components.ticker.wake()
        delays_s: list[float] = []
        async with anyio.create_task_group() as watching:
            watching.start_soon(_note_delays, delays_s)
            await self._drained(start)
            watching.cancel_scope.cancel()
        process_s = time.process_time() - process_s
        return {
            "jobs": self._organizations,
            "seconds": time.perf_counter() - wall_s,
            "process_s": process_s,
            "server_s": _server_s(self._log) - server_s,
            "fsyncs": self._fsyncs,
            "loop_p99_s": quantiles(delays_s, n=100)[-1],
            "peak_kb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
            "rows": await self._connection.fetchval(_ROWS, start),
            "statements": _statements(self._log, logged) if kind == "counted" else None,
        }

    async def _drained(self, start: object) -> None:
        while True:
            row = await self._connection.fetchrow(_PROGRESS, start)
            assert row is not None
            if row["failed"]:
                raise AssertionError(f"{row['failed']} jobs failed")
            if row["succeeded"] >= self._organizations:
                return
            await anyio.sleep(_LOOK_AGAIN_S)

    async def _log_statements(self, wanted: bool) -> None:
        await self._connection.execute(f"ALTER SYSTEM SET log_statement = '{'all' if wanted else 'none'}'")
        await self._connection.execute("ALTER SYSTEM SET log_line_prefix = '%a|'")
        await self._connection.execute("SELECT pg_reload_conf()")

    def _counted_fsync(self, descriptor: int) -> None:
        self._fsyncs += 1
        self._fsync(descriptor)


async def _note_delays(delays_s: list[float]) -> None:
    """How late the event loop comes back to a task that sleeps, as the daemon's own metric has it."""
    while True:
        due_s = time.perf_counter() + _SAMPLE_S
        await anyio.sleep(_SAMPLE_S)
        delays_s.append(max(0.0, time.perf_counter() - due_s))


def _statements(log: Path, offset: int) -> dict[str, int]:
    """How many statements the log has from ``offset`` on, by what opened the session; the benchmark's own excluded."""
    counted: dict[str, int] = {}
    with log.open("rb") as file:
        file.seek(offset)
        for line in file.read().decode(errors="replace").splitlines():
            session, _, message = line.partition("|")
            if session.startswith("exportd") and message.startswith(("LOG:  execute", "LOG:  statement")):
                counted[session] = counted.get(session, 0) + 1
    return counted


def _server_s(log: Path) -> float:
    """The CPU seconds of the server whose data folder has the log, sessions that have ended included."""
    parent = int(next(log.parent.rglob("postmaster.pid")).read_text().split()[0])
    ticks = sum(map(int, _stat(parent)[11:15]))
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and int(folder.name) != parent:
            try:
                fields = _stat(int(folder.name))
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has just ended
            if int(fields[1]) == parent:
                ticks += sum(map(int, fields[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _stat(process: int) -> list[str]:
    """The fields of /proc/<pid>/stat from the state on."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()


def _settings(dsn: str, folder: Path, organizations: int) -> Settings:
    lake = folder / "lake"
    lake.mkdir()
    destinations = [
        {"code": "lake", "organization": organization, "type": "DIRECTORY", "directory": lake}
        for organization in organization_ids(organizations)
    ]
    return Settings.model_validate(
        {"database": {"dsn": dsn}, "spool": {"directory": folder / "spool"}, "destination": destinations}
    )


async def _serve(dsn: str, catalog_file: Path, log: Path, organizations: int, entities: int) -> None:
    catalog = document.load(catalog_file)
    connection = await asyncpg.connect(dsn)
    await migrate(connection)
    await create_tables(connection)
    await fill(connection, rows=_ROWS_OF_AN_ORGANIZATION * organizations, organizations=organizations)
    await connection.execute("VACUUM (ANALYZE)")
    with tempfile.TemporaryDirectory(prefix="exportd-bench-") as name:
        configuration = Configuration(_settings(dsn, Path(name), organizations), catalog, catalog)
        async with assembled(configuration, Connector(dsn)) as components, anyio.create_task_group() as services:
            declarations = [
                ScheduleDeclaration(
                    organization,
                    "everything",
                    "",
                    tuple(catalog.entities)[:entities],
                    ExportFormat.CSV,
                    (DestinationCode("lake"),),
                    Interval(Unit.HOUR, 1),
                )
                for organization in organization_ids(organizations)
            ]
            await components.schedules.reconcile(declarations, now=components.clock.now())
            for service in (components.listener, components.dispatcher, components.ticker):
                services.start_soon(service.run)
            tree = _Tree(components, connection, organizations, log)
            while kind := (await anyio.to_thread.run_sync(sys.stdin.readline)).strip():
                print(json.dumps(await tree.round(kind)), flush=True)
            services.cancel_scope.cancel()
    await connection.close()


if __name__ == "__main__":
    logging.configure(level="warning", line_format="auto")
    anyio.run(
        _serve,
        sys.argv[1],
        Path(sys.argv[2]),
        Path(sys.argv[3]),
        int(sys.argv[4]),
        int(sys.argv[5]),
        backend_options={"use_uvloop": True},
    )
