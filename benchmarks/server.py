"""A Postgres of the benchmarks' own, set up as one for production on this machine would be, and its programs."""

import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import asyncpg

from benchmarks.measurement import Options
from exportd.database.connector import Connection
from exportd.postgres.binaries import find_binaries
from exportd.postgres.postgres_server import PostgresServer

_SETTINGS = {
    # fsync and synchronous_commit stay on: capture's price is paid at commit.
    "shared_buffers": "2GB",
    "effective_cache_size": "4GB",
    "maintenance_work_mem": "256MB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "30min",
    "random_page_cost": "1.1",
}

_CLIENT_SETTINGS = "-c jit=off -c client_min_messages=error -c search_path=pg_catalog -c TimeZone=UTC -c DateStyle=ISO"
"""What exports set on their connections too, so that psql is sent the same bytes by the same plan."""


@asynccontextmanager
async def benchmark_server(
    options: Options, *, binaries: Path | None = None, directory: Path | None = None, **settings: str
) -> AsyncIterator[PostgresServer]:
    """A server that is gone at the end, with ``settings`` beside the usual ones.

    If given, it is that of ``binaries``, and has its data in ``directory``, which stays.
    """
    if binaries is None:
        found = find_binaries(options.major)
        if not found:
            raise SystemExit(f"no Postgres {options.major or ''} is on this machine")
        binaries = found[0]
    async with PostgresServer(binaries=binaries, directory=directory, settings={**_SETTINGS, **settings}) as server:
        yield server


@asynccontextmanager
async def connection_to(dsn: str) -> AsyncIterator[Connection]:
    """A connection of the benchmark itself."""
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close(timeout=5)


async def run(command: list[str]) -> str:
    """What a program prints. Raises RuntimeError with its errors when it fails."""
    outcome = await anyio.run_process(
        command, check=False, stderr=subprocess.PIPE, env={**os.environ, "PGOPTIONS": _CLIENT_SETTINGS}
    )
    if outcome.returncode:
        raise RuntimeError(f"{command[0]}: {outcome.stderr.decode(errors='replace').strip()}")
    return outcome.stdout.decode(errors="replace")
