"""A real daemon for a benchmark: started with a configuration, given exports, and observed from outside."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import anyio
from anyio.abc import Process

from benchmarks.server import connection_to
from exportd.database.connector import Connection, Connector
from exportd.jobs.requests import OwnedJobTable
from exportd.model.entity import EntityCode, OrganizationId
from exportd.model.schedule import ExportFormat

_LOOK_AGAIN_S = 0.02
_DESTINATIONS = "SELECT code, id FROM exportd.destination WHERE organization = $1 AND deleted_at IS NULL"
_ENDED = """
SELECT state::text AS state, message, started_at, finished_at,
       (SELECT sum(size_bytes)::bigint FROM exportd.part WHERE job_id = job.id) AS size_bytes,
       (SELECT json_object_agg(destination, extract(epoch FROM published_at - job.started_at))
        FROM exportd.delivery WHERE job_id = job.id) AS delivered
FROM exportd.job
WHERE id = $1 AND state IN ('SUCCEEDED', 'FAILED')
"""


@dataclass(frozen=True, slots=True)
class Delivered:
    """What an export took, from the claim to the last manifest, and to each destination's manifest; in seconds."""

    seconds: float
    to_destination: Mapping[str, float]
    size_bytes: int


class DaemonProcess:
    """A daemon that runs; exports are queued for it in Postgres."""

    def __init__(self, process: Process, connection: Connection, connector: Connector) -> None:
        self._process = process
        self._connection = connection
        self._connector = connector

    @property
    def peak_bytes(self) -> int:
        """The most memory that it ever had (VmHWM)."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        line = next(entry for entry in status.splitlines() if entry.startswith("VmHWM"))
        return int(line.split()[1]) * 1024

    @property
    def cpu_s(self) -> float:
        """What it has had of the processors."""
        figures = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(figures[11]) + int(figures[12])) / os.sysconf("SC_CLK_TCK")

    async def export(self, organization: OrganizationId, entity: EntityCode, destinations: Sequence[str]) -> Delivered:
        """Export an entity completely to these destinations. Raises RuntimeError when it does not succeed."""
        ids = {row["code"]: row["id"] for row in await self._connection.fetch(_DESTINATIONS, organization)}
        async with self._connector.pool(1) as pool:
            job = await OwnedJobTable(pool).queue(
                organization,
                entities=[entity],
                file_format=ExportFormat.CSV,
                destination_ids=[ids[destination] for destination in destinations],
                actor="benchmark",
            )
        return await self._end_of(job)

    async def _end_of(self, job: UUID) -> Delivered:
        while (row := await self._connection.fetchrow(_ENDED, job)) is None:
            if self._process.returncode is not None:
                raise RuntimeError("the daemon has ended")
            await anyio.sleep(_LOOK_AGAIN_S)
        if row["state"] != "SUCCEEDED":
            raise RuntimeError(row["message"])
        started_at: datetime = row["started_at"]
        return Delivered(
            (row["finished_at"] - started_at).total_seconds(), json.loads(row["delivered"]), row["size_bytes"]
        )


@asynccontextmanager
async def daemon_process(
    dsn: str, folder: Path, configuration: Mapping[str, Any], *, environment: Mapping[str, str]
) -> AsyncIterator[DaemonProcess]:
    """A daemon with its spool, log and socket in ``folder``; ended with the block."""
    config, log = folder / "exportd.toml", folder / "exportd.log"
    await write_configuration(folder, configuration)
    with log.open("wb") as output:
        process = await anyio.open_process(
            [sys.executable, "-m", "exportd", "run", "--config", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **environment},
        )
    try:
        while b"daemon ready" not in await anyio.Path(log).read_bytes():
            if process.returncode is not None:
                raise RuntimeError(await anyio.Path(log).read_text())
            await anyio.sleep(_LOOK_AGAIN_S)
        async with connection_to(dsn) as connection:
            yield DaemonProcess(process, connection, Connector(dsn))
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()


async def write_configuration(folder: Path, configuration: Mapping[str, Any]) -> None:
    """For the daemon of the folder, which reads it when it starts and at a reload."""
    await anyio.Path(folder, "exportd.toml").write_text(_toml(configuration), encoding="utf-8")


def _toml(configuration: Mapping[str, Any]) -> str:
    lines: list[str] = []
    for name, section in configuration.items():
        for table in section if isinstance(section, list) else [section]:
            lines.append(f"[[{name}]]" if isinstance(section, list) else f"[{name}]")
            lines += [f"{key} = {json.dumps(value)}" for key, value in table.items()]
    return "\n".join(lines) + "\n"
