"""The sweeper drops files from a real spool and says so."""

from collections.abc import AsyncIterator, Collection, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import anyio
import pytest

from exportd.model.errors import Reason, TransientError
from exportd.model.job import JobId, JobState
from exportd.spool.retention import RetentionSweeper, SpooledJob
from exportd.spool.spool import Spool
from tests.fixtures.fake_clock import FakeClock
from tests.fixtures.settings import live_settings, settings_with

OLD, YOUNG, RUNNING, UNKNOWN, USELESS = (JobId(UUID(int=number)) for number in range(1, 6))


class Table:
    """What the job table answers."""

    def __init__(self, clock: FakeClock) -> None:
        now = clock.now()
        self.jobs = [
            SpooledJob(OLD, JobState.SUCCEEDED, True, now - timedelta(hours=25)),
            SpooledJob(YOUNG, JobState.SUCCEEDED, True, now - timedelta(hours=1)),
            SpooledJob(RUNNING, JobState.RUNNING, True, None),
            SpooledJob(USELESS, JobState.FAILED, False, now - timedelta(hours=1)),
        ]
        self.expired: list[JobId] = []
        self.away = False

    async def over(self, stored: Collection[JobId], finished_by: datetime) -> Sequence[SpooledJob]:
        if self.away:
            raise TransientError("The database is away.", reason=Reason.DATABASE_UNREACHABLE)
        known = {job.id: job for job in self.jobs}
        found = [known.get(job, SpooledJob(job, None, False, None)) for job in stored]
        return [
            job
            for job in found
            if job.state is None or (job.finished_at and (job.finished_at <= finished_by or not job.sealed_here))
        ]

    async def mark_expired(self, job: JobId) -> bool:
        self.expired.append(job)
        return True


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def table(clock: FakeClock) -> Table:
    return Table(clock)


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[Spool]:
    async with Spool(live_settings(spool={"directory": tmp_path, "budget": 10**6, "free_space_floor": 0})) as opened:
        for job in (OLD, YOUNG, RUNNING, UNKNOWN, USELESS):
            folder = await opened.begin_job(job)
            folder.joinpath("part.gz").write_bytes(bytes(100))
            opened.settle(job, reserved_bytes=0, used_bytes=100)
        yield opened


@pytest.fixture
def sweeper(spool: Spool, table: Table, clock: FakeClock) -> RetentionSweeper:
    return RetentionSweeper(
        stored=spool.jobs,
        over=table.over,
        remove=spool.remove_job,
        mark_expired=table.mark_expired,
        settings=live_settings(spool={"retention_hours": 24.0}),
        clock=clock,
        interval_s=60,
    )


async def test_a_sweep_drops_what_is_old_or_useless_and_nothing_else(
    sweeper: RetentionSweeper, spool: Spool, table: Table
) -> None:
    result = await sweeper.run_once()
    assert set(result.dropped) == {OLD, USELESS}
    assert result.freed_bytes == 2 * 4096
    assert result.unknown == (UNKNOWN,)
    assert set(await spool.jobs()) == {YOUNG, RUNNING, UNKNOWN}
    assert spool.usage.used_bytes == 300
    # What was never complete here may be complete in another spool.
    assert table.expired == [OLD]
    assert (await sweeper.run_once()).dropped == ()


async def test_each_sweep_goes_by_the_settings_in_effect(spool: Spool, table: Table, clock: FakeClock) -> None:
    keys = {"retention_hours": 24.0}
    sweeper = RetentionSweeper(
        stored=spool.jobs,
        over=table.over,
        remove=spool.remove_job,
        mark_expired=table.mark_expired,
        settings=lambda: settings_with(spool=keys),
        clock=clock,
    )
    assert YOUNG not in (await sweeper.run_once()).dropped
    keys["retention_hours"] = 0.5
    assert (await sweeper.run_once()).dropped == (YOUNG,)


async def test_a_job_that_cannot_be_dropped_does_not_keep_the_others(
    sweeper: RetentionSweeper, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stray = spool.job_folder(OLD) / "a foreign folder"
    stray.mkdir()
    result = await sweeper.run_once()
    assert result.failed == (OLD,)
    assert result.dropped == (USELESS,)
    stray.rmdir()
    assert (await sweeper.run_once()).dropped == (OLD,)


async def test_it_sweeps_again_and_again_and_survives_a_database_that_is_away(
    sweeper: RetentionSweeper, spool: Spool, table: Table, clock: FakeClock
) -> None:
    table.away = True

    async def jobs_become(expected: set[JobId]) -> None:
        """The sweeps go on, one a minute."""
        while set(await spool.jobs()) != expected:
            await clock.advance(60)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sweeper.run)
        await clock.advance(180)
        assert set(await spool.jobs()) == {OLD, YOUNG, RUNNING, UNKNOWN, USELESS}
        table.away = False
        await jobs_become({YOUNG, RUNNING, UNKNOWN})
        await clock.advance(timedelta(hours=24))
        await jobs_become({RUNNING, UNKNOWN})
        tasks.cancel_scope.cancel()


async def test_the_job_table_is_asked_for_some_of_many_jobs_at_a_time(clock: FakeClock) -> None:
    stored = [JobId(UUID(int=number)) for number in range(1, 2502)]
    asked: list[int] = []
    removed: list[JobId] = []

    async def all_stored() -> Sequence[JobId]:
        return stored

    async def over(some: Collection[JobId], finished_by: datetime) -> Sequence[SpooledJob]:
        asked.append(len(some))
        ends = set(some) & {stored[0], stored[-1]}
        return [SpooledJob(job, JobState.SUCCEEDED, True, finished_by) for job in ends]

    async def remove(job: JobId) -> int:
        removed.append(job)
        return 0

    async def mark_expired(job: JobId) -> None:
        assert job not in removed

    sweeper = RetentionSweeper(
        stored=all_stored, over=over, remove=remove, mark_expired=mark_expired, settings=live_settings(), clock=clock
    )
    await sweeper.run_once()
    assert removed == [stored[0], stored[-1]]
    assert (sum(asked), max(asked)) == (2501, 1000)
