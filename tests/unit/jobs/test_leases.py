"""Keeping a lease: when it is extended, and when a holder must stop."""

from datetime import UTC, datetime
from uuid import uuid4

import anyio
import pytest

from exportd.jobs.leases import LeaseKeeper
from exportd.model.entity import EntityCode, OrganizationId
from exportd.model.errors import PermanentError, Reason, TransientError
from exportd.model.job import Job, JobId, JobPhase, JobProgress, Lease, LeaseState
from exportd.model.schedule import ExportFormat
from tests.fixtures.fake_clock import FakeClock

LEASE_S = 60.0
ACCOUNTS = EntityCode("ACCOUNTS")
AWAY = TransientError("The database is away.", reason=Reason.DATABASE_UNREACHABLE)


class Extender:
    """Notes when the lease was extended, and with how many rows of progress; answers what the test sets."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.answer: LeaseState | Exception | None = LeaseState.HELD
        self.beats: list[tuple[float, int | None]] = []

    async def heartbeat(self, lease: Lease, progress: JobProgress | None, *, lease_s: float) -> LeaseState:
        assert lease_s == LEASE_S
        rows = None if progress is None else progress.of(ACCOUNTS).rows
        self.beats.append((self.clock.monotonic(), rows))
        while self.answer is None:
            await anyio.sleep_forever()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    @property
    def moments(self) -> list[float]:
        return [moment for moment, _ in self.beats]


class Bench:
    """A keeper at work, on a clock that the test moves."""

    def __init__(self) -> None:
        job = Job(
            JobId(uuid4()),
            OrganizationId("org-1"),
            None,
            None,
            datetime(2026, 3, 9, tzinfo=UTC),
            (),
            ExportFormat.CSV,
            (),
        )
        self.clock = FakeClock()
        self.extender = Extender(self.clock)
        self.progress = JobProgress()
        self.stopped_at: float | None = None
        self.state: LeaseState | None = None
        self.keeper = LeaseKeeper(
            self.extender,
            Lease(job, 1, 1, JobPhase.EXTRACTING),
            self.progress,
            lease_s=LEASE_S,
            claimed_at=self.clock.monotonic(),
            clock=self.clock,
        )

    async def run(self) -> None:
        self.state = await self.keeper.run()
        self.stopped_at = self.clock.monotonic()


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_an_idle_job_is_extended_every_third_of_the_lease(bench: Bench) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(bench.run)
        await bench.clock.advance(61)
        group.cancel_scope.cancel()
    assert bench.extender.beats == [(20.0, None), (40.0, None), (60.0, None)]


async def test_progress_is_written_within_a_second_and_only_when_it_changed(bench: Bench) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(bench.run)
        await bench.clock.advance(5.5)
        bench.progress.of(ACCOUNTS).rows = 7
        await bench.clock.advance(3)
        bench.progress.of(ACCOUNTS).rows = 8
        await bench.clock.advance(20.5)
        group.cancel_scope.cancel()
    # The third beat is the first one without news: a third of the lease after the last.
    assert bench.extender.beats == [(6.0, 7), (9.0, 8), (29.0, None)]


async def test_a_lost_lease_stops_the_keeper(bench: Bench) -> None:
    bench.extender.answer = LeaseState.LOST
    async with anyio.create_task_group() as group:
        group.start_soon(bench.run)
        await bench.clock.advance(30)
    assert bench.stopped_at == 20.0


async def test_word_that_the_job_is_cancelled_is_found_at_once_when_told_to_look(bench: Bench) -> None:
    bench.extender.answer = LeaseState.CANCELLED
    async with anyio.create_task_group() as group:
        group.start_soon(bench.run)
        await bench.clock.advance(3)
        assert bench.extender.moments == []
        bench.keeper.look()
        await bench.clock.advance(3)
    assert bench.stopped_at == 3.0
    assert bench.state is LeaseState.CANCELLED


@pytest.mark.parametrize("error", [AWAY, PermanentError("No.", reason=Reason.DATABASE_REFUSED)])
async def test_trust_ends_before_the_lease_while_the_database_is_away(bench: Bench, error: Exception) -> None:
    bench.extender.answer = error
    async with anyio.create_task_group() as group:
        group.start_soon(bench.run)
        await bench.clock.advance(LEASE_S)
    assert bench.stopped_at == 45.0
    assert bench.extender.moments == [float(second) for second in range(20, 45)]


async def test_a_database_that_comes_back_in_time_changes_nothing(bench: Bench) -> None:
    bench.extender.answer = AWAY
    async with anyio.create_task_group() as group:
        group.start_soon(bench.run)
        await bench.clock.advance(43.5)
        bench.extender.answer = LeaseState.HELD
        await bench.clock.advance(44)
        assert bench.stopped_at is None
        assert bench.extender.moments[-3:] == [44.0, 64.0, 84.0]
        group.cancel_scope.cancel()


async def test_progress_that_was_not_written_is_written_with_the_next_beat(bench: Bench) -> None:
    bench.extender.answer = AWAY
    bench.progress.of(ACCOUNTS).rows = 3
    async with anyio.create_task_group() as group:
        group.start_soon(bench.run)
        await bench.clock.advance(1)
        bench.extender.answer = LeaseState.HELD
        await bench.clock.advance(4)
        group.cancel_scope.cancel()
    assert bench.extender.beats == [(0.0, 3), (1.0, 3), (2.0, 3)]


async def test_a_database_that_never_answers_ends_the_trust_too() -> None:
    bench = Bench()
    bench.extender.answer = None
    # Real time: what is left of the trust is a moment, because the claim was (almost) three quarters ago.
    await bench.clock.advance(44.99)
    assert await bench.keeper.run_once() is LeaseState.LOST
