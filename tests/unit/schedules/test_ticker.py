"""The ticker over schedules in memory, with a clock that the test moves."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import anyio
import pytest
from structlog.testing import capture_logs

from exportd.model.errors import PermanentError, Reason, TransientError
from exportd.model.schedule import Cron, Interval, Schedule, Unit
from exportd.schedules.ticker import FIRED_TOGETHER, Ticker
from tests.fixtures.fake_clock import FakeClock
from tests.unit.schedules.memory_table import MemoryTable, schedule

LOST = TransientError("The database went away.", reason=Reason.DATABASE_CONNECTION_LOST)
REFUSED = PermanentError("Grant INSERT on exportd.job.", reason=Reason.PRIVILEGE_MISSING)
HOURLY = Interval(Unit.HOUR, 1)
POLL_S = 30.0


def at(day: int, hour: int = 0, minute: int = 0, second: int = 0) -> datetime:
    return datetime(2026, 1, day, hour, minute, second, tzinfo=UTC)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(at(1))


@pytest.fixture
def table() -> MemoryTable:
    return MemoryTable()


@pytest.fixture
def ticker(table: MemoryTable, clock: FakeClock) -> Ticker:
    return Ticker(table, clock, poll_interval_s=POLL_S)


@asynccontextmanager
async def running(ticker: Ticker) -> AsyncIterator[None]:
    async with anyio.create_task_group() as group:
        await group.start(ticker.run)
        yield
        group.cancel_scope.cancel()


class TestTicking:
    """``run``: when it looks, and what it fires."""

    async def test_a_week_of_schedules_fires_each_at_its_due_times(self, table: MemoryTable, clock: FakeClock) -> None:
        table.put(
            schedule("hourly", HOURLY, next_due_at=at(1)),
            schedule("working-days", Cron("0 9 * * 1-5"), next_due_at=at(1)),
        )
        async with running(Ticker(table, clock, poll_interval_s=600)):
            await clock.advance(timedelta(days=7))
        fired = [due_at for code, due_at in table.fired if code == "working-days"]
        assert fired == [at(1), *(at(day, 9) for day in (1, 2, 5, 6, 7))]
        assert sum(code == "hourly" for code, _ in table.fired) == 7 * 24 + 1

    async def test_fires_to_the_second_between_two_polls(
        self, ticker: Ticker, table: MemoryTable, clock: FakeClock
    ) -> None:
        table.put(schedule("soon", HOURLY, next_due_at=at(1, 0, 0, 17)))
        async with running(ticker):
            await clock.advance(16.9)
            assert table.fired == []
            await clock.advance(0.1)
            assert table.fired == [("soon", at(1, 0, 0, 17))]
            assert table.readings == 1

    async def test_a_due_time_with_microseconds_fires_at_that_very_instant(
        self, ticker: Ticker, table: MemoryTable
    ) -> None:
        due_at = at(1, 0, 0, 5) + timedelta(microseconds=123_456)
        table.put(schedule("fine", HOURLY, next_due_at=due_at))
        assert await ticker.run_once(due_at - timedelta(milliseconds=1)) == 0
        assert await ticker.run_once(due_at) == 1
        assert table.fired == [("fine", due_at)]

    async def test_wakes_for_a_schedule_that_is_due_before_the_others(
        self, ticker: Ticker, table: MemoryTable, clock: FakeClock
    ) -> None:
        async with running(ticker):
            await clock.advance(1)
            table.put(schedule("new", HOURLY, next_due_at=clock.now()))
            await clock.advance(1)
            assert table.fired == []
            ticker.wake()
            await clock.advance(0)
            assert table.fired == [("new", at(1, 0, 0, 1))]

    async def test_finds_at_the_next_poll_what_no_event_named(
        self, ticker: Ticker, table: MemoryTable, clock: FakeClock
    ) -> None:
        async with running(ticker):
            table.put(schedule("silent", HOURLY, next_due_at=at(1)))
            await clock.advance(POLL_S)
            assert table.fired == [("silent", at(1))]

    async def test_waking_during_a_tick_is_not_lost(
        self, ticker: Ticker, table: MemoryTable, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        late = schedule("late", HOURLY, next_due_at=at(1))

        async def all_but_what_comes_meanwhile() -> list[Schedule]:
            monkeypatch.undo()
            table.put(late)
            ticker.wake()
            return []

        monkeypatch.setattr(table, "all", all_but_what_comes_meanwhile)
        async with running(ticker):
            await clock.advance(0)
            assert table.fired == [("late", at(1))]

    async def test_a_schedule_that_is_gone_or_put_off_does_not_fire(
        self, ticker: Ticker, table: MemoryTable, clock: FakeClock
    ) -> None:
        gone = schedule("gone", HOURLY, next_due_at=at(1, 1))
        later = schedule("later", HOURLY, next_due_at=at(1, 1))
        table.put(gone, later)
        async with running(ticker):
            del table.schedules[gone.id]
            table.put(replace(later, next_due_at=at(1, 2)))
            ticker.wake()
            await clock.advance(timedelta(hours=1, minutes=59))
            assert table.fired == []
            await clock.advance(timedelta(minutes=1))
            assert table.fired == [("later", at(1, 2))]


class TestLookingAtOne:
    """``look_at``: with thousands of schedules, what happens to one costs a look at one."""

    async def test_fires_it_when_its_job_has_ended(self, ticker: Ticker, table: MemoryTable, clock: FakeClock) -> None:
        slow = schedule("slow", HOURLY, next_due_at=at(1))
        table.put(slow, schedule("other", HOURLY, next_due_at=at(1, 6)))
        table.busy.add("slow")
        async with running(ticker):
            await clock.advance(5)
            table.busy.clear()
            ticker.look_at(slow.id)
            await clock.advance(0)
            assert table.fired == [("slow", at(1))]
            assert (table.readings, table.looks) == (1, 1)

    async def test_follows_every_change_of_it(self, ticker: Ticker, table: MemoryTable, clock: FakeClock) -> None:
        sooner, later, gone, new = (
            schedule(code, HOURLY, next_due_at=at(1, 0, 0, 10)) for code in ("sooner", "later", "gone", "new")
        )
        table.put(sooner, later, gone)
        async with running(ticker):
            table.put(
                replace(sooner, next_due_at=at(1, 0, 0, 5)), replace(later, next_due_at=at(1, 0, 0, 15), version=2), new
            )
            del table.schedules[gone.id]
            for changed in (sooner, later, gone, new):
                ticker.look_at(changed.id)
            await clock.advance(20)
            assert table.fired == [
                ("sooner", at(1, 0, 0, 5)),
                ("new", at(1, 0, 0, 10)),
                ("later", at(1, 0, 0, 15)),
            ]
            assert (table.readings, table.looks) == (1, 1)

    async def test_that_fails_becomes_a_reading_of_all(
        self, ticker: Ticker, table: MemoryTable, clock: FakeClock
    ) -> None:
        new = schedule("new", HOURLY, next_due_at=at(1))
        async with running(ticker):
            table.put(new)
            table.failures.append(LOST)
            ticker.look_at(new.id)
            await clock.advance(1)
            assert (table.readings, table.looks) == (2, 1)
            assert table.fired == [("new", at(1))]


class TestMissedFirings:
    """They coalesce."""

    async def test_become_one_run_due_when_the_last_was(
        self, ticker: Ticker, table: MemoryTable, clock: FakeClock
    ) -> None:
        table.put(schedule("hourly", HOURLY, next_due_at=at(1), last_due_at=at(1) - timedelta(hours=1)))
        assert await ticker.run_once(at(3, 5, 30)) == 1
        assert table.fired == [("hourly", at(3, 5))]
        (stored,) = table.schedules.values()
        assert stored.next_due_at == at(3, 6)

    async def test_wait_for_the_unfinished_job_and_fire_when_it_ends(
        self, ticker: Ticker, table: MemoryTable, clock: FakeClock
    ) -> None:
        table.put(schedule("slow", HOURLY, next_due_at=at(1, 1)))
        table.busy.add("slow")
        async with running(ticker):
            await clock.advance(timedelta(hours=3, minutes=20))
            assert table.fired == []
            table.busy.clear()
            ticker.wake()
            await clock.advance(0)
            assert table.fired == [("slow", at(1, 3))]
            await clock.advance(timedelta(minutes=40))
            assert table.fired[1:] == [("slow", at(1, 4))]

    async def test_are_fired_by_one_of_two_tickers(self, table: MemoryTable, clock: FakeClock) -> None:
        table.put(schedule("shared", HOURLY, next_due_at=at(1)))
        async with running(Ticker(table, clock)), running(Ticker(table, clock)):
            await clock.advance(timedelta(hours=5))
        assert table.fired == [("shared", at(1, hour)) for hour in range(6)]


class TestClockSteps:
    """The wall clock moves and the monotonic one does not."""

    async def test_forward_is_noticed_at_the_next_poll_and_what_was_passed_coalesces(
        self, ticker: Ticker, table: MemoryTable, clock: FakeClock
    ) -> None:
        table.put(schedule("hourly", HOURLY, next_due_at=at(1)))
        async with running(ticker):
            clock.step(timedelta(hours=8, minutes=20))
            with capture_logs() as logs:
                await clock.advance(POLL_S)
            assert table.fired == [("hourly", at(1)), ("hourly", at(1, 8))]
            assert [log["seconds"] for log in logs if "wall clock" in log["event"]] == [30_000]

    async def test_back_fires_nothing_twice_and_goes_on_when_time_has_caught_up(
        self, ticker: Ticker, table: MemoryTable, clock: FakeClock
    ) -> None:
        table.put(schedule("hourly", HOURLY, next_due_at=at(1)))
        async with running(ticker):
            await clock.advance(timedelta(hours=3))
            clock.step(timedelta(hours=-2))
            await clock.advance(timedelta(hours=3) - timedelta(seconds=1))
            assert table.fired == [("hourly", at(1, hour)) for hour in range(4)]
            await clock.advance(1)
            assert table.fired[4:] == [("hourly", at(1, 4))]

    async def test_back_lets_new_schedules_be_due_at_the_new_time(
        self, ticker: Ticker, table: MemoryTable, clock: FakeClock
    ) -> None:
        async with running(ticker):
            await clock.advance(timedelta(hours=3))
            clock.step(timedelta(hours=-2))
            table.put(schedule("new", HOURLY, next_due_at=at(1, 1, 30)))
            await clock.advance(timedelta(minutes=30))
            assert table.fired == [("new", at(1, 1, 30))]

    async def test_back_from_far_ahead_does_not_silence_a_schedule(
        self, ticker: Ticker, table: MemoryTable, clock: FakeClock
    ) -> None:
        table.put(schedule("hourly", HOURLY, next_due_at=at(1)))
        async with running(ticker):
            clock.step(timedelta(days=3650))
            await clock.advance(POLL_S)
            clock.step(timedelta(days=-3650))
            await clock.advance(POLL_S)
            set_right_at = clock.now()
            await clock.advance(timedelta(hours=1))
        assert [due_at for _, due_at in table.fired[2:]] == [set_right_at, set_right_at + timedelta(hours=1)]

    async def test_of_less_than_two_seconds_is_no_step(
        self, ticker: Ticker, table: MemoryTable, clock: FakeClock
    ) -> None:
        table.put(schedule("hourly", HOURLY, next_due_at=at(1)))
        async with running(ticker):
            clock.step(-1.5)
            with capture_logs() as logs:
                await clock.advance(timedelta(hours=2))
            assert not [log for log in logs if "wall clock" in log["event"]]
            assert table.fired == [("hourly", at(1)), ("hourly", at(1, 1))]


class TestFailures:
    """Whatever the database raises, the ticker goes on."""

    async def test_of_the_database_are_tried_again_with_growing_pauses(
        self, ticker: Ticker, table: MemoryTable, clock: FakeClock
    ) -> None:
        table.put(schedule("hourly", HOURLY, next_due_at=at(1)))
        table.failures += [LOST] * 8
        with capture_logs() as logs:
            async with running(ticker):
                await clock.advance(timedelta(minutes=3))
        pauses = [log["retry_in_s"] for log in logs if log["log_level"] == "warning"]
        assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]
        assert {log["reason"] for log in logs if log["log_level"] == "warning"} == {LOST.reason}
        assert table.fired == [("hourly", at(1))]

    async def test_between_two_schedules_lose_neither(
        self, ticker: Ticker, table: MemoryTable, clock: FakeClock
    ) -> None:
        first = schedule("first", HOURLY, next_due_at=at(1, 1))
        table.put(first, schedule("second", HOURLY, next_due_at=at(1, 1, 0, 0) + timedelta(milliseconds=0.5)))
        async with running(ticker):
            await clock.advance(timedelta(minutes=59, seconds=59.9))
            table.failures.append(LOST)
            await clock.advance(2)
        assert [code for code, _ in table.fired] == ["first", "second"]

    async def test_of_one_schedule_do_not_keep_the_others_from_firing(
        self, ticker: Ticker, table: MemoryTable, clock: FakeClock
    ) -> None:
        table.put(schedule("bad", HOURLY, next_due_at=at(1)), schedule("good", HOURLY, next_due_at=at(1)))
        table.refused["bad"] = REFUSED
        with capture_logs() as logs:
            assert await ticker.run_once(at(1)) == 1
        assert table.fired == [("good", at(1))]
        (entry,) = [log for log in logs if log["log_level"] == "error"]
        assert (entry["schedule"], entry["reason"]) == ("bad", REFUSED.reason)
        table.refused.clear()
        assert await ticker.run_once(at(1)) == 1

    async def test_of_one_of_many_let_each_of_its_group_fire_alone(self, ticker: Ticker, table: MemoryTable) -> None:
        codes = [f"s{number}" for number in range(2 * FIRED_TOGETHER + 5)]
        table.put(*(schedule(code, HOURLY, next_due_at=at(1)) for code in codes))
        assert await ticker.run_once(at(1)) == len(codes)
        assert table.firings == [FIRED_TOGETHER, FIRED_TOGETHER, 5]
        table.firings.clear()
        table.refused["s7"] = REFUSED
        assert await ticker.run_once(at(1, 1)) == len(codes) - 1
        assert sorted(table.firings, reverse=True) == [FIRED_TOGETHER, FIRED_TOGETHER, 5, *[1] * FIRED_TOGETHER]
        assert {code for code, due_at in table.fired if due_at == at(1, 1)} == {*codes} - {"s7"}
