"""What must not cost more when more waits or is kept: firings, claims, sweeps, reservations. Each at two sizes."""

import gc
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

import anyio

from benchmarks.measurement import Measurement, Options, Say, in_turns, spread
from benchmarks.server import benchmark_server, connection_to
from exportd.database.connector import Connection, Connector, Pool
from exportd.database.migrator import migrate
from exportd.jobs.history_pruner import HistoryKind, HistoryPruner
from exportd.jobs.job_table import JobTable
from exportd.model.clock import SystemClock
from exportd.model.entity import OrganizationId
from exportd.model.errors import Reason
from exportd.model.job import JobId
from exportd.postgres.postgres_server import PostgresServer
from exportd.schedules.firing_table import ScheduleTable
from exportd.schedules.ticker import Ticker
from exportd.spool.retention import RetentionSweeper
from exportd.spool.spool import Spool
from exportd.spool.usage import SpoolUsage
from tests.fixtures.settings import live_settings

WAITING: Final[Mapping[str, int]] = {"few": 100, "many": 10_000}
"""Jobs that wait, each of an organization of its own, and schedules that are due."""
KEPT: Final[Mapping[str, int]] = {"few": 2_400, "many": 50_000}
"""Ended jobs with their rows, and with files in the spool."""
SPOOLED: Final[Mapping[str, int]] = {"few": 2_400, "many": 240_000}
CLAIMS = 100
ROUNDS = 3
_JOBS_TOGETHER = 5
_RESERVATIONS = 1_000
_OLD_JOBS = 50
_KEEPING_SCHEDULES = 10
_LIMIT = 1.5
"""What looks at all of them shows as far more: there is a hundred times as much to look at."""
_LIMIT_OF_JOINING = 4
"""Of many jobs, Postgres plans the statement anew each time, which takes longer than to execute it."""
_LOOK_S = 0.001
_STALL_S = 0.05

_SCHEDULES = """
INSERT INTO exportd.schedule (organization, code, name, entities, format, destinations, rule, next_due_at)
SELECT 'org-' || number, 'hourly', '', '{ACCOUNTS}', 'CSV', '{}', '{"unit": "HOUR", "period": 1, "offset": 0}',
       date_trunc('hour', now())
FROM generate_series(1, $1::integer) AS number
"""
_DUE_AGAIN = """
WITH ended AS (
    UPDATE exportd.job
    SET state = 'FAILED', finished_at = now(), due_at = due_at - make_interval(days => $1::integer + 1)
    WHERE state = 'PENDING'
)
UPDATE exportd.schedule SET next_due_at = date_trunc('hour', now())
"""
_KEPT_JOBS = """
INSERT INTO exportd.job (organization, schedule_id, schedule_code, due_at, entities, format, destinations, state,
                         spool_id, started_at, finished_at, extraction)
SELECT organization, id, code, now() - number * interval '1 second', entities, format, destinations, 'SUCCEEDED', $2,
       now(), now() - number * interval '1 second', '{}'
FROM exportd.schedule, generate_series(1, $1::integer / (SELECT count(*)::integer FROM exportd.schedule)) AS number
"""
_KEPT_PARTS = """
INSERT INTO exportd.part (job_id, entity, number, file_name, rows, content_bytes, size_bytes, sha256)
SELECT id, 'ENTITY' || number, 1, id || '.csv.gz', 8, 1000, 300, repeat('ab', 32)
FROM exportd.job, generate_series(1, 5) AS number
"""
_SOME_BECOME_OLD = """
UPDATE exportd.job SET finished_at = finished_at - interval '400 days', expired_at = now() - interval '399 days'
WHERE id IN (SELECT id FROM exportd.job ORDER BY finished_at LIMIT $1)
RETURNING id
"""


@dataclass(frozen=True, slots=True)
class _Seconds:
    """Of one kind of work, by size."""

    of: dict[str, list[float]]

    @classmethod
    def none(cls) -> "_Seconds":
        return cls({"few": [], "many": []})

    def measurement(
        self, name: str, sizes: Mapping[str, int], *, what: str, limit: float | None = _LIMIT
    ) -> Measurement:
        few, many = (statistics.median(self.of[size]) for size in ("few", "many"))
        detail = "; ".join(f"{sizes[size]:,}: {spread((1000 * s for s in self.of[size]), 3)} ms" for size in sizes)
        return Measurement(f"growth: {name}", many / few, limit, "lower", f"{what}; {detail}")


async def measure(options: Options, say: Say) -> list[Measurement]:
    """The cost at the larger size against the smaller one's."""
    waiting, kept, spooled = (
        {name: options.size(count) for name, count in sizes.items()} for sizes in (WAITING, KEPT, SPOOLED)
    )
    rounds = options.repeats(ROUNDS)
    async with benchmark_server(options) as server:
        return [
            *await _queue(server, waiting, rounds=rounds, claims=options.size(CLAIMS), say=say),
            *await _sweeps(server, kept, rounds=rounds, say=say),
            _reservations(spooled, rounds=rounds),
        ]


# What waits


async def _queue(
    server: PostgresServer, sizes: Mapping[str, int], *, rounds: int, claims: int, say: Say
) -> list[Measurement]:
    firings, claimed, joined, probed = (_Seconds.none() for _ in range(4))
    async with _databases(server, sizes, "queue") as databases:
        for name, (connection, _) in databases.items():
            await connection.execute(_SCHEDULES, sizes[name])
            await _analyze(connection)
        for number in range(rounds):
            for name, (connection, pool) in databases.items():
                say(f"firing {sizes[name]:,} schedules, round {number + 1} of {rounds}")
                await connection.execute(_DUE_AGAIN, number)
                firings.of[name].append(await _fire(pool, sizes[name]) / sizes[name])
        for connection, _ in databases.values():
            await _analyze(connection)
        say(f"claiming, {claims} times")
        for name in in_turns(list(databases), claims):
            await _claim(JobTable(databases[name][1]), claimed.of[name], joined.of[name], probed.of[name])
    return [
        firings.measurement("firing a schedule that is due", sizes, what="together with all others that are due"),
        claimed.measurement("a claim", sizes, what="by how many jobs wait, each of another organization"),
        joined.measurement(
            "looking for jobs that go along with a claimed one", sizes, what="at each claim", limit=_LIMIT_OF_JOINING
        ),
        probed.measurement("looking for jobs to be ended or tried again", sizes, what="at each wake-up"),
    ]


async def _fire(pool: Pool, count: int) -> float:
    clock = SystemClock()
    ticker = Ticker(ScheduleTable(pool), clock)
    started = time.perf_counter()
    fired = await ticker.run_once(clock.now())
    seconds = time.perf_counter() - started
    if fired != count:
        raise AssertionError(f"{fired} of {count} schedules were fired")
    return seconds


async def _claim(jobs: JobTable, claimed: list[float], joined: list[float], probed: list[float]) -> None:
    started = time.perf_counter()
    lease = await jobs.claim(holder="benchmark", lease_s=60, spool_id=UUID(int=1), attempt_limit=5)
    claimed.append(time.perf_counter() - started)
    if lease is None:
        raise AssertionError("a job waits and was not claimed")
    started = time.perf_counter()
    # None of them has had a run that was short, so none is taken.
    if await jobs.claim_together(lease, holder="benchmark", lease_s=60, spool_id=UUID(int=1), limit=_JOBS_TOGETHER):
        raise AssertionError("a job was taken along of which nothing is known")
    joined.append(time.perf_counter() - started)
    started = time.perf_counter()
    await jobs.fail_cancelled()
    await jobs.fail_interrupted(attempt_limit=5)
    await jobs.seconds_to_next_due()
    probed.append(time.perf_counter() - started)
    await jobs.fail(lease, reason=Reason.CANCELLED, message="")


# What is kept


async def _sweeps(server: PostgresServer, sizes: Mapping[str, int], *, rounds: int, say: Say) -> list[Measurement]:
    deleted, stalls, sweeps = _Seconds.none(), _Seconds.none(), _Seconds.none()
    async with _databases(server, sizes, "kept") as databases, AsyncExitStack() as stack:
        spools = {}
        for name, (connection, _) in databases.items():
            say(f"keeping {sizes[name]:,} jobs")
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="exportd-bench-")))
            spools[name] = await stack.enter_async_context(Spool(live_settings(spool={"directory": folder})))
            await _keep(connection, spools[name], sizes[name])
        gc.freeze()  # as the daemon does: what is kept is not looked at again and again
        for name in in_turns(list(sizes), rounds):
            say("sweeping")
            connection, pool = databases[name]
            stall, seconds = await _sweep(pool, spools[name])
            stalls.of[name].append(stall)
            sweeps.of[name].append(seconds / sizes[name])
            deleted.of[name].append(await _delete_old(connection, pool, spools[name]))
        gc.unfreeze()
    whole = "; ".join(f"{sizes[name]:,} kept jobs: {spread(1000 * s for s in stalls.of[name])} ms" for name in sizes)
    return [
        Measurement(
            "growth: the longest time for which a sweep of the spool holds the event loop, of 50 ms",
            statistics.median(stalls.of["many"]) / _STALL_S,
            1.0,
            "lower",
            whole,
        ),
        sweeps.measurement("a sweep of the spool, for each job that it keeps", sizes, what="nothing is over", limit=2),
        deleted.measurement(f"deleting {_OLD_JOBS} old jobs", sizes, what="by how many are kept"),
    ]


async def _keep(connection: Connection, spool: Spool, count: int) -> None:
    await connection.execute(_SCHEDULES, _KEEPING_SCHEDULES)
    await connection.execute(_KEPT_JOBS, count, spool.id)
    await connection.execute(_KEPT_PARTS)
    await _analyze(connection)
    ids = [row["id"] for row in await connection.fetch("SELECT id FROM exportd.job")]
    for job_id in ids:
        spool.job_folder(JobId(job_id)).mkdir()


async def _sweep(pool: Pool, spool: Spool) -> tuple[float, float]:
    """The longest time for which the event loop stood still, and that of the sweep, which finds nothing to drop."""
    jobs = JobTable(pool)
    sweeper = RetentionSweeper(
        stored=spool.jobs,
        over=lambda stored, finished_by: jobs.over_in_spool(stored, spool.id, finished_by),
        remove=spool.remove_job,
        mark_expired=jobs.mark_expired,
        settings=live_settings(),
        clock=SystemClock(),
    )
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            before = time.perf_counter()
            await anyio.sleep(_LOOK_S)
            longest = max(longest, time.perf_counter() - before - _LOOK_S)

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        started = time.perf_counter()
        result = await sweeper.run_once()
        seconds = time.perf_counter() - started
        group.cancel_scope.cancel()
    if result.dropped:
        raise AssertionError(f"{len(result.dropped)} jobs were dropped that are kept")
    return longest, seconds


async def _delete_old(connection: Connection, pool: Pool, spool: Spool) -> float:
    for row in await connection.fetch(_SOME_BECOME_OLD, _OLD_JOBS):
        await spool.remove_job(JobId(row["id"]))
    pruner = HistoryPruner(pool, spool, settings=live_settings(), clock=SystemClock())
    started = time.perf_counter()
    deleted = await pruner.run_once()
    seconds = time.perf_counter() - started
    if deleted[HistoryKind.JOBS] != _OLD_JOBS:
        raise AssertionError(f"{deleted[HistoryKind.JOBS]} of {_OLD_JOBS} old jobs were deleted")
    return seconds


def _reservations(sizes: Mapping[str, int], *, rounds: int) -> Measurement:
    """A block of a job is reserved and written, in a spool that keeps so many other jobs."""
    settings = live_settings()
    seconds = _Seconds.none()
    usages = {name: SpoolUsage(settings) for name in sizes}
    for name, usage in usages.items():
        for number in range(sizes[name]):
            job = JobId(UUID(int=number))
            usage.own(job, OrganizationId(f"org-{number % 100}"))
            usage.settle(job, reserved_bytes=0, used_bytes=100_000)
    for name in in_turns(list(sizes), rounds):
        usage, job = usages[name], JobId(UUID(int=0))
        started = time.perf_counter()
        for _ in range(_RESERVATIONS):
            usage.judge(job, 1000, free_bytes=10**15)
            usage.reserve(job, 1000)
            usage.settle(job, reserved_bytes=1000, used_bytes=0)
        seconds.of[name].append(time.perf_counter() - started)
    return seconds.measurement(f"{_RESERVATIONS:,} reservations in the spool", sizes, what="by how many jobs it keeps")


@asynccontextmanager
async def _databases(
    server: PostgresServer, sizes: Mapping[str, int], purpose: str
) -> AsyncIterator[dict[str, tuple[Connection, Pool]]]:
    """One for each size, with exportd's schema: a connection and a pool of the daemon's kind."""
    few, many = [await server.create_database(f"{purpose}_{name}") for name in sizes]
    async with (
        connection_to(few) as first,
        connection_to(many) as second,
        Connector(few).pool(2) as first_pool,
        Connector(many).pool(2) as second_pool,
    ):
        await migrate(first)
        await migrate(second)
        yield {"few": (first, first_pool), "many": (second, second_pool)}


async def _analyze(connection: Connection) -> None:
    for table in ("schedule", "job", "turn", "part"):
        await connection.execute(f"VACUUM (ANALYZE) exportd.{table}")
