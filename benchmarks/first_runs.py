"""What the first runs of many tenants cost the server, when they are due together and no index leads to their rows.

Each of them has a small part of a table. Together they read the table once; by themselves, each reads all of it.
"""

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from benchmarks.bills import BILLS, fill_bills
from benchmarks.daemon_process import daemon_process
from benchmarks.draining import drained
from benchmarks.many_schedules import configured
from benchmarks.measurement import Measurement, Options, Say
from benchmarks.server import benchmark_server, connection_to
from benchmarks.server_cpu import server_cpu_s
from exportd.database.connector import Connector
from exportd.database.migrator import migrate
from exportd.demo.generator import create_tables, organization_ids
from exportd.model.schedule import DestinationCode, ExportFormat, Interval, ScheduleDeclaration, Unit
from exportd.postgres.postgres_server import PostgresServer
from exportd.schedules.firing_table import ScheduleTable

TENANTS: Final = 300
ROWS: Final = 300_000
TOGETHER: Final = 50
"""The default of ``limits.jobs_together``."""

_LIMIT = 1 / 4
_LOOK_AGAIN_S = 0.25
_DUE = "UPDATE exportd.schedule SET next_due_at = clock_timestamp()"


async def measure(options: Options, say: Say) -> list[Measurement]:
    """CPU of the server for all first runs, together against each by itself."""
    tenants, rows = options.size(TENANTS), options.size(ROWS)
    seconds = {}
    async with benchmark_server(options) as server:
        for together in (TOGETHER, 1):
            say(f"making {rows:,} bills of {tenants} tenants, to be read {together} at a time")
            seconds[together] = await _first_runs_s(server, tenants, rows, together, say)
    detail = ", ".join(f"{together} at a time {cpu_s:.2f} s" for together, cpu_s in seconds.items())
    return [
        Measurement(
            f"first runs of {tenants} tenants due together over {rows:,} bills: the server's CPU, {TOGETHER} at a time "
            "against each by itself",
            seconds[TOGETHER] / seconds[1],
            _LIMIT,
            "lower",
            detail,
        )
    ]


async def _first_runs_s(server: PostgresServer, tenants: int, rows: int, together: int, say: Say) -> float:
    """CPU seconds of the server from when all are due until the last has succeeded."""
    dsn = await server.create_database(f"first_runs_{together}")
    declarations = [
        ScheduleDeclaration(
            organization=organization,
            code="bills",
            name="Bills",
            entities=(BILLS,),
            file_format=ExportFormat.CSV,
            destinations=(DestinationCode("lake"),),
            rule=Interval(Unit.DAY, 1),
        )
        for organization in organization_ids(tenants)
    ]
    with tempfile.TemporaryDirectory(prefix="exportd-bench-") as name:
        folder = Path(name)
        async with connection_to(dsn) as connection:
            await migrate(connection)
            await create_tables(connection)
            await fill_bills(connection, rows=rows, organizations=tenants)
            await connection.execute("VACUUM (ANALYZE)")
            async with Connector(dsn).pool(1) as pool:
                await ScheduleTable(pool).reconcile(declarations, now=datetime.now(UTC))
            configuration: dict[str, Any] = configured(declarations, dsn, folder)
            configuration["limits"] = {"jobs_together": together}
            start = await connection.fetchval("SELECT clock_timestamp()")
            # Due before the daemon begins: it claims them all at once.
            await connection.execute(_DUE)
            before_s = server_cpu_s(server.log)
            async with daemon_process(dsn, folder, configuration, environment={}):
                await drained(connection, start, tenants, look_again_s=_LOOK_AGAIN_S, say=say)
            return server_cpu_s(server.log) - before_s
