"""What listeners are sent, and when, without a database."""

from collections.abc import AsyncGenerator, Callable, Collection
from dataclasses import replace
from uuid import UUID

import anyio
import pytest

from exportd.api.job_watcher import HEARTBEAT_S, PERIOD_S, EventStream, JobWatcher
from exportd.jobs.live_job import LiveJob
from exportd.model.errors import Reason, TransientError
from exportd.model.job import JobId, JobPhase, JobProgress, JobState
from tests.fixtures.fake_clock import FakeClock

JOB = JobId(UUID(int=1))
RUNNING = LiveJob(
    JOB, "acme", "often", JobState.RUNNING, JobPhase.EXTRACTING, 1, "host:1", JobProgress(), reason=None, message=None
)
SUCCEEDED = replace(RUNNING, state=JobState.SUCCEEDED)


class Watched:
    """A watcher of one job, whose state a test sets; None is a database that is away."""

    def __init__(self) -> None:
        self.job: LiveJob | None = RUNNING
        self.queries = 0
        self.clock = FakeClock()
        self.watcher = JobWatcher(self._query, self.clock)

    async def _query(self, _others: Collection[JobId]) -> list[LiveJob]:
        self.queries += 1
        if self.job is None:
            raise TransientError("The database is away.", reason=Reason.DATABASE_UNREACHABLE)
        return [self.job]

    async def listen(self, received: list[bytes]) -> None:
        async for event in self.watcher.stream(JOB):
            received += [event]

    async def more(self, received: list[bytes]) -> None:
        before = len(received)
        await self.until(lambda: len(received) > before)

    async def until(self, seen: Callable[[], bool]) -> None:
        """Let time go by, look after look, until something is to be seen."""
        with anyio.fail_after(20):
            while not seen():
                await anyio.wait_all_tasks_blocked()
                await self.clock.advance(PERIOD_S)


async def test_a_quiet_line_has_a_heartbeat_also_while_the_database_is_away() -> None:
    watched, received = Watched(), list[bytes]()
    async with anyio.create_task_group() as group:
        group.start_soon(watched.watcher.run)
        group.start_soon(watched.listen, received)
        await watched.until(lambda: len(received) == 1)
        assert received[0].startswith(b"event: phase\n")
        for job in (RUNNING, None):
            watched.job, before = job, watched.queries
            await watched.more(received)
            assert received[-1].startswith(b":"), "a comment, which no client takes for an event"
            assert received[-1].endswith(b"\n\n")
            assert watched.queries - before == pytest.approx(HEARTBEAT_S / PERIOD_S, abs=1)
        group.cancel_scope.cancel()


async def test_all_who_follow_a_job_get_its_end_by_one_query_a_second() -> None:
    watched, all_received = Watched(), [list[bytes]() for _ in range(30)]
    async with anyio.create_task_group() as services:
        services.start_soon(watched.watcher.run)
        async with anyio.create_task_group() as listeners:
            for received in all_received:
                listeners.start_soon(watched.listen, received)
            await watched.until(lambda: all(all_received))
            watched.job, before = SUCCEEDED, watched.queries
            await watched.until(lambda: all(len(received) == 2 for received in all_received))
        assert watched.queries == before + 1
        assert all(received[1].startswith(b"event: end\n") for received in all_received)
        services.cancel_scope.cancel()


@pytest.mark.parametrize(("last", "words"), [(SUCCEEDED, [b"event: phase", b"event: end"]), (None, [b"event: phase"])])
async def test_draining_reports_what_has_ended_meanwhile(last: LiveJob | None, words: list[bytes]) -> None:
    watched, received = Watched(), list[bytes]()
    async with anyio.create_task_group() as group:
        group.start_soon(watched.watcher.run)
        async with anyio.create_task_group() as listeners:
            listeners.start_soon(watched.listen, received)
            await watched.until(lambda: len(received) == 1)
            watched.job = last
            await watched.watcher.drain()
        assert [event.splitlines()[0] for event in received] == words
        await watched.listen(late := list[bytes]())
        assert late == []
        group.cancel_scope.cancel()


async def test_a_stream_ends_when_its_client_may_follow_no_more() -> None:
    closed = False

    async def events() -> AsyncGenerator[bytes]:
        nonlocal closed
        try:
            for number in range(9):
                yield b"%d" % number
        finally:
            closed = True

    answers = iter([True, True, False])

    async def may_go_on() -> bool:
        return next(answers)

    stream = EventStream(events()).only_while(may_go_on)
    assert [piece async for piece in stream.body_iterator] == [b"0", b"1"]
    assert closed
