"""Runs small jobs with the exportd that it can import, in the server whose DSN it is given: see ``small_jobs``.

A process of its own, so that the tree of another commit can be measured too. It reads a line with the kind of a round
("changed", "empty", "counted") and prints one with the round's figures as JSON; from a round "together" on, a hundred
jobs share a snapshot. Its arguments: DSN, catalog, log of the server, how many organizations there are, and the S3 to
which they export as JSON (bucket, endpoint, region, profile), or "" for a directory.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import asyncpg

from benchmarks.draining import drained
from benchmarks.server_cpu import server_cpu_s
from exportd.catalog import document
from exportd.daemon.assembly import Components, assembled
from exportd.daemon.current import Configuration
from exportd.daemon.garbage import freeze
from exportd.database.connector import Connection, Connector
from exportd.database.migrator import migrate
from exportd.demo.generator import create_tables, fill
from exportd.model.entity import EntityCode, OrganizationId
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
_ROWS = """
SELECT coalesce(sum(rows), 0)::bigint FROM exportd.part JOIN exportd.job ON job.id = part.job_id
WHERE job.created_at >= $1
"""
_WAL_FLUSHES = {
    True: "SELECT sum(fsyncs)::bigint FROM pg_stat_io WHERE object = 'wal'",
    False: "SELECT wal_sync FROM pg_stat_wal",
}
"""By whether the server is of version 18 or later."""

_ORGANIZATIONS = "SELECT DISTINCT organization_id::text FROM public.accounts ORDER BY 1"
_LOOK_AGAIN_S = 0.25
_STATISTICS_S = 2.0
"""The server's sessions tell their figures once a second at most."""

_TOGETHER = 100


class _Tree:
    def __init__(
        self, components: Components, connection: Connection, organizations: int, log: Path, folder: Path
    ) -> None:
        self._components = components
        self._connection = connection
        self._organizations = organizations
        self._log = log
        self._spool = f"{folder.resolve() / 'spool'}/"
        self._catalog = components.current.catalog()
        self._synced: list[bool] = []  # for each fsync whether it was one of the spool's
        self._fsync = os.fsync
        os.fsync = self._noted_fsync  # type: ignore[assignment]

    async def round(self, kind: str) -> dict[str, Any]:
        """The figures of one round of jobs, all due together."""
        if kind == "changed":
            for code in _CHANGED:
                table = self._catalog.entities[EntityCode(code)].table
                await self._connection.execute(_CHANGE.format(table=f'"{table.schema}"."{table.name}"'))
        elif kind == "together":
            self._read_together()
        start = await self._connection.fetchval("SELECT clock_timestamp()")
        await self._log_statements(kind == "counted")
        wal_flushes = await self._wal_flushes()
        self._synced.clear()
        logged, server_s = self._log.stat().st_size, server_cpu_s(self._log)
        process_s = time.process_time()
        await self._connection.execute(_DUE)
        self._components.ticker.wake()
        await drained(self._connection, start, self._organizations, look_again_s=_LOOK_AGAIN_S)
        process_s = time.process_time() - process_s
        server_s = server_cpu_s(self._log) - server_s
        return {
            "jobs": self._organizations,
            "process_s": process_s,
            "server_s": server_s,
            "fsyncs": len(self._synced),
            "spool_fsyncs": sum(self._synced),
            "wal_flushes": await self._wal_flushes() - wal_flushes,
            "rows": await self._connection.fetchval(_ROWS, start),
            "statements": _statements(self._log, logged) if kind == "counted" else None,
        }

    def _read_together(self) -> None:
        settings = self._components.current.settings()
        limits = settings.limits.model_copy(update={"jobs_together": _TOGETHER})
        self._components.current.configuration = Configuration(
            settings.model_copy(update={"limits": limits}), self._catalog, self._catalog
        )

    async def _wal_flushes(self) -> int:
        """How often the server's sessions have flushed the WAL."""
        await anyio.sleep(_STATISTICS_S)
        is_new = self._connection.get_server_version().major >= 18
        flushes: int = await self._connection.fetchval(_WAL_FLUSHES[is_new])
        return flushes

    async def _log_statements(self, wanted: bool) -> None:
        await self._connection.execute(f"ALTER SYSTEM SET log_statement = '{'all' if wanted else 'none'}'")
        await self._connection.execute("ALTER SYSTEM SET log_line_prefix = '%a|'")
        await self._connection.execute("SELECT pg_reload_conf()")

    def _noted_fsync(self, descriptor: int) -> None:
        # By paths, this would be a twelfth of what a job costs.
        path = os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115, for speed
        self._synced.append(path.startswith(self._spool))
        self._fsync(descriptor)


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


def _settings(
    dsn: str, folder: Path, organizations: Sequence[OrganizationId], s3: Mapping[str, str] | None
) -> Settings:
    lake = folder / "lake"
    lake.mkdir()
    if s3 is None:
        place: dict[str, Any] = {"type": "DIRECTORY", "directory": lake}
        access = {}
    else:
        place = {"type": "S3", "bucket": s3["bucket"], "endpoint": s3["endpoint"]}
        access = {"s3": {"region": s3["region"], "profile": s3["profile"]}}
    destinations = [{"code": "lake", "organization": organization, **place} for organization in organizations]
    spool = {"directory": folder / "spool"}
    return Settings.model_validate({"database": {"dsn": dsn}, "spool": spool, "destination": destinations, **access})


async def _serve(dsn: str, catalog_file: Path, log: Path, organizations: int, s3: Mapping[str, str] | None) -> None:
    catalog = document.load(catalog_file)
    connection = await asyncpg.connect(dsn)
    await migrate(connection)
    await create_tables(connection)
    await fill(connection, rows=_ROWS_OF_AN_ORGANIZATION * organizations, organizations=organizations)
    await connection.execute("VACUUM (ANALYZE)")
    ids = [OrganizationId(row[0]) for row in await connection.fetch(_ORGANIZATIONS)]
    with tempfile.TemporaryDirectory(prefix="exportd-bench-") as name:
        configuration = Configuration(_settings(dsn, Path(name), ids, s3), catalog, catalog)
        async with assembled(configuration, Connector(dsn)) as components, anyio.create_task_group() as services:
            declarations = [
                ScheduleDeclaration(
                    organization,
                    "everything",
                    "",
                    tuple(catalog.entities),
                    ExportFormat.CSV,
                    (DestinationCode("lake"),),
                    Interval(Unit.HOUR, 1),
                )
                for organization in ids
            ]
            await components.schedules.reconcile(declarations, now=components.clock.now())
            for service in (components.listener, components.dispatcher, components.ticker):
                services.start_soon(service.run)
            tree = _Tree(components, connection, organizations, log, Path(name))
            freeze()  # as the daemon does once it has started
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
        json.loads(sys.argv[5]) if sys.argv[5] else None,
        backend_options={"use_uvloop": True},
    )
