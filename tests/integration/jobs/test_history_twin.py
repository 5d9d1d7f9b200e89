"""What consumers get is the same whether old rows are deleted or not.

Random histories happen in two databases at once. In one of them everything that has ended is old at once, and the
history pruner sweeps between any two steps.
"""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import TypeVar

import pytest

from exportd.database.connector import Connector, Pool
from exportd.database.migrator import migrate
from exportd.jobs.history_pruner import HistoryKind, HistoryPruner
from exportd.model.clock import SystemClock
from exportd.model.errors import Reason
from exportd.model.job import JobPhase
from exportd.model.schedule import DestinationCode
from exportd.spool.spool import Spool
from tests.fixtures.postgres import Database
from tests.fixtures.settings import live_settings
from tests.integration.jobs.history_twin import Twin
from tests.integration.jobs.postgres_jobs import OTHER_SPOOL, SPOOL

T = TypeVar("T")

_ENTITIES = ("ACCOUNTS", "PLANS")
_DESTINATIONS = ("lake", "pond", "sea")
_SEEDS = range(5)
_STEPS = 45


@pytest.fixture
async def pools(database: Database, empty_database: Database) -> AsyncIterator[tuple[Pool, Pool]]:
    """Two databases: old rows are deleted in the first one."""
    async with AsyncExitStack() as stack:
        await migrate(await empty_database.connect())
        pools = [await stack.enter_async_context(Connector(one.dsn).pool(2)) for one in (database, empty_database)]
        yield pools[0], pools[1]


class History:
    """A random history of one schedule, twice. ``seen`` counts what happened."""

    def __init__(self, pruner: HistoryPruner, pools: tuple[Pool, Pool], seed: int, seen: Counter[str]) -> None:
        self._pruner = pruner
        self._random = Random(seed)
        self._seen = seen
        self.pruned, self.whole = (Twin(pool, f"schedule-{seed}") for pool in pools)
        self._number = 1

    async def happen(self) -> None:
        """Steps at random, and what is left to do at the end."""
        await self._edit()
        for _ in range(_STEPS):
            await self._choose(self._deeds())()
            await self._sweep()
        while self.whole.lease is not None or await self._queued():
            await self._choose(self._deeds(quiet=True))()
            await self._sweep()
        await self._both(lambda twin: twin.settle(found=False))
        await self._both(lambda twin: twin.let_go())
        await self._both(lambda twin: twin.delete())

    def _deeds(self, *, quiet: bool = False) -> list[Callable[[], Awaitable[None]]]:
        working: list[Callable[[], Awaitable[None]]] = [self._attempt] * 12
        return working if quiet else [*working, *self._others()]

    def _others(self) -> list[Callable[[], Awaitable[None]]]:
        return [
            *[self._backfill] * 8,
            self._edit,
            self._let_go,
            self._expire,
            self._refresh,
            self._settle,
            self._settle,
        ]

    async def _attempt(self) -> None:
        """Fire if nothing waits, and bring the job one attempt further."""
        if not await self._queued():
            await self._both(lambda twin: twin.fire())
            return
        spool = self._choose([SPOOL, SPOOL, SPOOL, OTHER_SPOOL])
        phase = await self._both(lambda twin: twin.begin(spool))
        if self._random.random() < 0.05:
            await self._both(lambda twin: twin.end(succeeds=False))
            return
        readable = [place for place in _DESTINATIONS if self._random.random() < 0.6]
        if phase == JobPhase.EXTRACTING:
            await self._disturb()
            self._number += 1
            number, taken_at = self._number, datetime.now(UTC)
            told = await self._both(lambda twin: twin.seal(number, taken_at, readable, spool))
            assert isinstance(told, list)
            assert told[0] == [], "a place remembers what the database has forgotten"
        await self._disturb()
        await self._both(lambda twin: twin.record(readable))
        away = self._random.random() < 0.35
        for destination in self.whole.held.job.destinations:
            if not away or self._random.random() < 0.5:
                await self._publish(destination, delivers=not away or self._random.random() < 0.5)
        await self._disturb()
        await self._end()

    async def _publish(self, destination: DestinationCode, *, delivers: bool) -> None:
        deliveries = await self.whole.table.deliveries(self.whole.held.job.id)
        if destination in {delivery.destination for delivery in deliveries}:
            return
        told = await self._both(lambda twin: twin.publish(destination, delivers=delivers))
        assert isinstance(told, list)
        self._seen["redelivered"] += len(told[1])
        self._seen["chained"] += told[0] is not None

    async def _end(self) -> None:
        if await self.whole.delivered():
            await self._both(lambda twin: twin.end(succeeds=True))
        elif self._random.random() < 0.7:
            await self._both(lambda twin: twin.end(succeeds=False))
        else:
            await self._both(lambda twin: twin.put_back())

    async def _disturb(self) -> None:
        """While a job runs, others go on."""
        await self._sweep()
        if self._random.random() < 0.3:
            await self._choose(self._others())()
            await self._sweep()

    async def _edit(self) -> None:
        entities = self._random.sample(_ENTITIES, self._random.choice([1, 2, 2, 2, 2]))
        destinations = self._random.sample(_DESTINATIONS, self._random.choice([1, 2, 2, 3]))
        await self._both(lambda twin: twin.declare(sorted(entities), sorted(destinations)))

    async def _let_go(self) -> None:
        await self._both(lambda twin: twin.let_go())

    async def _expire(self) -> None:
        query = self._choose(["expire_positions", "expire_backfill_requests"])
        await self._both(lambda twin: twin.expire(query))

    async def _refresh(self) -> None:
        schedule = await self.whole.pool.fetchrow(
            "SELECT entities FROM exportd.schedule WHERE id = $1", self.whole.schedule
        )
        assert schedule is not None
        entity = self._choose(schedule["entities"])
        await self._both(lambda twin: twin.refresh(entity))

    async def _settle(self) -> None:
        found = self._random.random() < 0.5
        await self._both(lambda twin: twin.settle(found))

    async def _backfill(self) -> None:
        """To a job that is there in both, and otherwise to one that could only be a complete run."""
        rows = await self.whole.pool.fetch("SELECT id FROM exportd.job WHERE schedule_id = $1", self.whole.schedule)
        numbers = sorted(self.whole.jobs.index(row["id"]) for row in rows)
        if not numbers:
            return
        number = self._choose(numbers[-4:])
        if await self.pruned.table.get(self.pruned.jobs[number]) is None:
            assert not await self.whole.can_go_back(number)
            assert await self.pruned.backfill(number) == Reason.NOT_FOUND
            self._seen["back-fill from a deleted job"] += 1
            return
        if not await self.whole.can_go_back(number) and self._random.random() < 0.9:
            return  # it makes everything complete, and so does the next one
        begins = await self._both(lambda twin: twin.backfill(number))
        if isinstance(begins, list):
            incremental = any(request["snapshot"] for request in begins)
            self._seen["back-fill"] += incremental
            if incremental and self._random.random() < 0.6:  # from here on the request alone holds what it needs
                await self._let_go()
                await self._pruner.run_once()

    async def _queued(self) -> bool:
        rows = await self.whole.pool.fetch("SELECT FROM exportd.job WHERE state IN ('PENDING', 'RUNNING')")
        return bool(rows)

    async def _sweep(self) -> None:
        if self._random.random() < 0.5:
            self._seen["deleted"] += (await self._pruner.run_once())[HistoryKind.JOBS]

    async def _both(self, happen: Callable[[Twin], Awaitable[object]]) -> object:
        whole, pruned = await happen(self.whole), await happen(self.pruned)
        assert pruned == whole
        return whole

    def _choose(self, among: Sequence[T]) -> T:
        return self._random.choice(among)


async def test_consumers_get_the_same(pools: tuple[Pool, Pool], tmp_path: Path) -> None:
    seen: Counter[str] = Counter()
    async with Spool(live_settings(spool={"directory": tmp_path / "spool"})) as spool:
        pruner = HistoryPruner(pools[0], spool, settings=live_settings(retention={"jobs": 0.0}), clock=SystemClock())
        for seed in _SEEDS:
            await History(pruner, pools, seed, seen).happen()
        await pruner.run_once()
    for table in ("job", "schedule"):  # all schedules are deleted, so nothing is needed any more
        assert await pools[0].fetchval(f"SELECT count(*) FROM exportd.{table}") == 0
    assert seen["deleted"] > 0.5 * await pools[1].fetchval("SELECT count(*) FROM exportd.job")
    assert min(seen["redelivered"], seen["chained"], seen["back-fill"], seen["back-fill from a deleted job"]) > 3
