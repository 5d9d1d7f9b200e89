"""Ten thousand schedules that are due in the same second, with a real daemon; and what kept jobs cost those that run.

First runs of so many would take an hour. So one schedule is run twice, and each of the others is given what that left:
its second job, its positions, its parts and its delivery. The runs that are measured are then what those of most hours
are: incremental, short, and nothing has changed.
"""

import json
import statistics
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import anyio

from benchmarks.bills import CATALOG
from benchmarks.control import DELAY_S, loop_delay, summary_of
from benchmarks.daemon_process import DaemonProcess, daemon_process
from benchmarks.draining import drained
from benchmarks.loop_delay import LoopDelay
from benchmarks.many_schedules import configured
from benchmarks.measurement import Measurement, Options, Say, in_turns, spread
from benchmarks.server import benchmark_server, connection_to
from benchmarks.server_cpu import server_cpu_s
from exportd.catalog import document
from exportd.database.connector import Connection, Connector
from exportd.database.migrator import migrate
from exportd.demo.generator import create_tables, fill, organization_ids
from exportd.model.schedule import DestinationCode, ExportFormat, Interval, ScheduleDeclaration, Unit
from exportd.postgres.postgres_server import PostgresServer
from exportd.schedules.firing_table import ScheduleTable

TENANTS: Final = 10_000
ENTITIES: Final = 2
KEEPING_TENANTS: Final = 500
KEPT_OF_EACH: Final = 100
"""So 50,000 jobs are kept."""
ROUNDS = 3

_MEMORY_BYTES = 300e6
_MAX_GROWTH = 1.1
_ORGANIZATIONS_WITH_ROWS = 3
_ROWS = 600
_LOOK_AGAIN_S = 0.25
_JOIN_SHARE = 0.9
"""So many of the jobs at least are read together, or something else is measured than what is meant."""

_NOT_YET_DUE = "UPDATE exportd.schedule SET last_due_at = now(), next_due_at = now() + interval '1 day'"
_DUE = """
WITH due AS (
    UPDATE exportd.schedule SET next_due_at = clock_timestamp()
    WHERE $1::text IS NULL OR organization = $1
    RETURNING id
)
SELECT count(*), pg_notify('exportd_events', '{"kind": "schedule_changed"}') FROM due
"""
_TEMPLATE = "SELECT id FROM exportd.job WHERE state = 'SUCCEEDED' ORDER BY created_at DESC LIMIT 1"
_COPIED = """
CREATE TEMPORARY TABLE copied AS
SELECT gen_random_uuid() AS id, schedule.id AS schedule_id, schedule.organization, schedule.code, number
FROM exportd.schedule, generate_series(1, {count}) AS number
"""
_JOBS = """
INSERT INTO exportd.job (
    id, organization, schedule_id, schedule_code, due_at, entities, format, destinations, state, phase, attempt,
    not_before, fence, spool_id, created_at, started_at, sealed_at, finished_at, progress, extraction, objects_visible,
    spool_manifest_sha256)
SELECT
    copied.id, copied.organization, copied.schedule_id, copied.code, due_at - age.age, entities, format, destinations,
    state, phase, attempt, not_before - age.age, fence, spool_id, created_at - age.age, started_at - age.age,
    sealed_at - age.age, finished_at - age.age, progress, extraction, objects_visible, spool_manifest_sha256
FROM exportd.job AS template, copied, LATERAL (SELECT number * interval '1 hour' AS age) AS age
WHERE template.id = '{template}'
"""
_PARTS = """
INSERT INTO exportd.part (job_id, entity, number, file_name, rows, content_bytes, size_bytes, sha256)
SELECT copied.id, entity, part.number, replace(file_name, '{template}', copied.id::text), rows, content_bytes,
       size_bytes, sha256
FROM exportd.part, copied
WHERE job_id = '{template}'
"""
_DELIVERIES = """
INSERT INTO exportd.delivery (job_id, destination, schedule_id, manifest_sha256, published_at)
SELECT copied.id, destination, copied.schedule_id, manifest_sha256, published_at - copied.number * interval '1 hour'
FROM exportd.delivery, copied
WHERE job_id = '{template}'
"""
_POSITIONS = """
INSERT INTO exportd.position (schedule_id, entity, job_id, snapshot, taken_at, guards, destinations)
SELECT copied.schedule_id, entity, copied.id, snapshot, taken_at, guards, destinations
FROM exportd.position, copied
WHERE position.job_id = '{template}' AND copied.number = 1
ON CONFLICT DO NOTHING
"""
_BEHIND_THEM = (_COPIED, _JOBS, _PARTS, _DELIVERIES, _POSITIONS, "DROP TABLE copied")
_VACUUM = ("schedule", "job", "part", "delivery", "position", "turn", "destination")


@dataclass(frozen=True, slots=True)
class _Round:
    """What it took until all jobs had succeeded: ``daemon_s`` and ``server_s`` are CPU."""

    jobs: int
    seconds: float
    daemon_s: float
    server_s: float
    joined: int

    @property
    def job_ms(self) -> float:
        """CPU a job, of both."""
        return 1000 * (self.daemon_s + self.server_s) / self.jobs

    def __str__(self) -> str:
        return (
            f"{self.jobs / self.seconds:.0f} jobs/s, {1000 * self.daemon_s / self.jobs:.1f} ms of CPU a job and "
            f"{1000 * self.server_s / self.jobs:.1f} ms of the server's"
        )


class _Scene:
    """A daemon, its database and its folder."""

    def __init__(self, server: PostgresServer, connection: Connection, daemon: DaemonProcess, folder: Path) -> None:
        self.server = server
        self.connection = connection
        self.daemon = daemon
        self.folder = folder

    async def run_all(self) -> _Round:
        """Every schedule becomes due; returns when the last job has succeeded."""
        joined = self._joined()
        daemon_s, server_s = self.daemon.cpu_s, server_cpu_s(self.server.log)
        started = anyio.current_time()
        jobs = await self.run()
        return _Round(
            jobs,
            anyio.current_time() - started,
            self.daemon.cpu_s - daemon_s,
            server_cpu_s(self.server.log) - server_s,
            self._joined() - joined,
        )

    async def run(self, organization: str | None = None) -> int:
        """Let the organization's schedules become due, or all; returns how many jobs have succeeded."""
        start = await self.connection.fetchval("SELECT clock_timestamp()")
        count: int = await self.connection.fetchval(_DUE, organization)
        await drained(self.connection, start, count, look_again_s=_LOOK_AGAIN_S)
        return count

    async def give_all_a_past(self, jobs_of_each: int) -> None:
        """Give each schedule what the last job left, that many times."""
        template = await self.connection.fetchval(_TEMPLATE)
        async with self.connection.transaction():
            for statement in _BEHIND_THEM:
                await self.connection.execute(statement.format(template=template, count=jobs_of_each))
        for table in _VACUUM:
            await self.connection.execute(f"VACUUM (ANALYZE) exportd.{table}")

    def _joined(self) -> int:
        """How many jobs have been claimed together with others, as the daemon's log says."""
        with (self.folder / "exportd.log").open(encoding="utf-8") as log:
            return sum(json.loads(line)["jobs"] for line in log if "jobs claimed together" in line)


async def measure(options: Options, say: Say) -> list[Measurement]:
    """Memory, the event loop and throughput with ten thousand, and CPU a job with 50,000 kept jobs against few."""
    async with benchmark_server(options) as server:
        return [*await _many(server, options, say), await _kept(server, options, say)]


async def _many(server: PostgresServer, options: Options, say: Say) -> list[Measurement]:
    tenants = options.size(TENANTS)
    say(f"starting a daemon with {tenants:,} schedules")
    async with _scene(server, tenants, kept=1) as scene:
        before = await loop_delay(scene.folder)
        say("all of them are due")
        took = await scene.run_all()
        delay = (await loop_delay(scene.folder)).since(before)
        peak = scene.daemon.peak_bytes
    _require_joined(took)
    return _judged(tenants, took, delay, peak)


def _judged(tenants: int, took: _Round, delay: LoopDelay, peak_bytes: int) -> list[Measurement]:
    name = f"many jobs: {tenants:,} schedules of {ENTITIES} entities due together, nothing changed"
    return [
        Measurement(
            f"{name}: peak of the daemon's memory, of 300 MB",
            peak_bytes / _MEMORY_BYTES,
            1.0,
            "lower",
            f"{peak_bytes / 1e6:.0f} MB",
        ),
        Measurement(
            f"{name}: p99 of its event loop's delay, of 50 ms",
            delay.percentile(0.99) / DELAY_S,
            1.0,
            "lower",
            summary_of(delay),
        ),
        Measurement(f"{name}: jobs a second", took.jobs / took.seconds, None, "higher", str(took)),
    ]


async def _kept(server: PostgresServer, options: Options, say: Say) -> Measurement:
    tenants = options.size(KEEPING_TENANTS)
    kept = {"few": 1, "many": KEPT_OF_EACH}
    rounds: dict[str, list[_Round]] = {name: [] for name in kept}
    async with AsyncExitStack() as stack:
        scenes = {}
        for name, count in kept.items():
            say(f"keeping {tenants * count:,} jobs")
            scenes[name] = await stack.enter_async_context(_scene(server, tenants, kept=count))
            await scenes[name].run_all()
        for name in in_turns(list(kept), options.repeats(ROUNDS)):
            say(f"all of {tenants:,} are due, with {tenants * kept[name]:,} kept jobs")
            rounds[name].append(await scenes[name].run_all())
    for found in rounds.values():
        for took in found:
            _require_joined(took)
    few, many = (statistics.median(took.job_ms for took in rounds[name]) for name in kept)
    return Measurement(
        f"many jobs: CPU a job while {tenants * KEPT_OF_EACH:,} jobs are kept, against {tenants:,}",
        many / few,
        _MAX_GROWTH,
        "lower",
        f"daemon and server: {spread([took.job_ms for took in rounds['many']], 1)} ms, "
        f"{spread([took.job_ms for took in rounds['few']], 1)} ms",
    )


def _require_joined(took: _Round) -> None:
    if took.joined < _JOIN_SHARE * took.jobs:
        raise AssertionError(f"{took.joined} of {took.jobs} jobs were claimed together: others are measured")


@asynccontextmanager
async def _scene(server: PostgresServer, tenants: int, *, kept: int) -> AsyncIterator[_Scene]:
    dsn = await server.create_database(f"tenants_{tenants}_{kept}")
    with tempfile.TemporaryDirectory(prefix="exportd-bench-") as name:
        folder = Path(name)
        declarations = _declared(tenants)
        async with connection_to(dsn) as connection:
            await migrate(connection)
            await create_tables(connection)
            await fill(connection, rows=_ROWS, organizations=_ORGANIZATIONS_WITH_ROWS)
            async with Connector(dsn).pool(1) as pool:
                await ScheduleTable(pool).reconcile(declarations, now=datetime.now(UTC))
            await connection.execute(_NOT_YET_DUE)
            configuration: dict[str, Any] = configured(declarations, dsn, folder)
            async with daemon_process(dsn, folder, configuration, environment={}) as daemon:
                scene = _Scene(server, connection, daemon, folder)
                # The first run is full; the second one is what all others are given.
                await scene.run(declarations[0].organization)
                await scene.run(declarations[0].organization)
                await scene.give_all_a_past(kept)
                yield scene


def _declared(tenants: int) -> Sequence[ScheduleDeclaration]:
    entities = tuple(document.load(CATALOG).entities)[:ENTITIES]
    return [
        ScheduleDeclaration(
            organization=organization,
            code="everything",
            name="Everything",
            entities=entities,
            file_format=ExportFormat.CSV,
            destinations=(DestinationCode("lake"),),
            rule=Interval(Unit.DAY, 1),
        )
        for organization in organization_ids(tenants)
    ]
