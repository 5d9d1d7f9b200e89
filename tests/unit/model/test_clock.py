"""The real clock, the fake one, and waiting with either."""

from datetime import UTC, datetime, timedelta

import anyio
import pytest

from exportd.model.clock import Clock, SystemClock
from tests.fixtures.fake_clock import START, FakeClock


def test_the_system_clock_is_in_utc_and_monotonic() -> None:
    clock: Clock = SystemClock()
    assert clock.now().tzinfo is UTC
    assert abs(clock.now() - datetime.now(UTC)) < timedelta(minutes=1)
    assert clock.monotonic() <= clock.monotonic()


@pytest.mark.parametrize("ahead_s", [-1, 0, 0.01])
async def test_the_system_clock_sleeps_until_the_deadline(ahead_s: float) -> None:
    clock = SystemClock()
    deadline = clock.monotonic() + ahead_s
    await clock.sleep_until(deadline)
    assert clock.monotonic() > deadline - 0.001


@pytest.mark.parametrize("ahead_s", [-1, 0, 0.01])
async def test_the_system_clock_waits_for_an_event_until_the_deadline(ahead_s: float) -> None:
    clock, event = SystemClock(), anyio.Event()
    deadline = clock.monotonic() + ahead_s
    assert not await clock.wait_for(event, deadline)
    assert clock.monotonic() > deadline - 0.001
    event.set()
    assert await clock.wait_for(event, clock.monotonic() + ahead_s), "it is set already"


async def test_the_system_clock_waits_no_longer_than_for_the_event() -> None:
    clock, event, outcomes = SystemClock(), anyio.Event(), list[bool]()

    async def wait() -> None:
        outcomes.append(await clock.wait_for(event, clock.monotonic() + 3600))

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            assert outcomes == []
            event.set()
    assert outcomes == [True]


async def test_waiting_ends_with_the_event_or_the_deadline() -> None:
    clock = FakeClock()
    event = anyio.Event()
    outcomes: list[bool] = []

    async def wait() -> None:
        outcomes.append(await clock.wait_for(event, clock.monotonic() + 5))

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await clock.advance(5)
        assert outcomes == [False]
        group.start_soon(wait)
        await clock.advance(4)
        assert (outcomes, clock.sleepers) == ([False], 1)
        event.set()
        await clock.advance(0)
        assert (outcomes, clock.sleepers) == ([False, True], 0)
        group.start_soon(wait)
    assert outcomes == [False, True, True]


async def test_each_sleeper_of_the_fake_clock_wakes_at_its_own_moment() -> None:
    clock = FakeClock()
    woken: list[float] = []

    async def sleep_thrice() -> None:
        for _ in range(3):
            await clock.sleep_until(clock.monotonic() + 2)
            woken.append(clock.monotonic())

    async with anyio.create_task_group() as group:
        group.start_soon(sleep_thrice)
        await clock.advance(timedelta(seconds=5))
        assert woken == [2, 4]
        assert clock.now() == START + timedelta(seconds=5)
        await clock.advance(1)
    assert woken == [2, 4, 6]


async def test_stepping_the_fake_wall_clock_wakes_no_sleeper() -> None:
    clock = FakeClock()
    async with anyio.create_task_group() as group:
        group.start_soon(clock.sleep_until, 60.0)
        await clock.advance(0)
        clock.step(timedelta(days=1))
        await clock.advance(59)
        assert clock.sleepers == 1
        assert clock.now() == START + timedelta(days=1, seconds=59)
        group.cancel_scope.cancel()
    assert clock.sleepers == 0
