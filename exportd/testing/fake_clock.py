"""A clock that moves when the test says so: a week of schedules runs in milliseconds."""

import heapq
import itertools
from datetime import UTC, datetime, timedelta

import anyio

START = datetime(2026, 1, 1, tzinfo=UTC)

_TURNS = 12
"""Turns of the event loop after which tasks that only compute have finished or wait."""


class FakeClock:
    """A ``model.clock.Clock`` whose wall clock and monotonic clock can be moved apart, as on a real machine."""

    def __init__(self, now: datetime = START) -> None:
        self._now = now
        self._monotonic = 0.0
        self._numbers = itertools.count()
        self._sleepers: list[tuple[float, int, anyio.Event]] = []

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    async def sleep_until(self, deadline: float) -> None:
        if deadline <= self._monotonic:
            await anyio.lowlevel.checkpoint()
            return
        sleeper = (deadline, next(self._numbers), anyio.Event())
        heapq.heappush(self._sleepers, sleeper)
        try:
            await sleeper[2].wait()
        finally:
            if sleeper in self._sleepers:
                self._sleepers.remove(sleeper)
                heapq.heapify(self._sleepers)

    async def wait_for(self, event: anyio.Event, deadline: float) -> bool:
        async def end_with_the_event() -> None:
            await event.wait()
            group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(end_with_the_event, name="wait for the event")
            await self.sleep_until(deadline)
            group.cancel_scope.cancel()
        return event.is_set()

    async def advance(self, duration: timedelta | float) -> None:
        """Let time pass (a timedelta, or seconds).

        Each sleeper wakes at its own moment and works until every task waits again, so that it may sleep and
        wake several times.
        """
        until = self._monotonic + _seconds(duration)
        await _settled()
        while self._sleepers and self._sleepers[0][0] <= until:
            deadline, _, event = heapq.heappop(self._sleepers)
            self._move(max(0.0, deadline - self._monotonic))
            event.set()
            await _settled()
        self._move(until - self._monotonic)
        await _settled()

    def step(self, duration: timedelta | float) -> None:
        """Set the wall clock forward, or back when negative.

        The monotonic clock stays, as when NTP corrects the time or a machine was suspended.
        """
        self._now += timedelta(seconds=_seconds(duration))

    @property
    def sleepers(self) -> int:
        """How many tasks are asleep."""
        return len(self._sleepers)

    def _move(self, seconds: float) -> None:
        self._monotonic += seconds
        self._now += timedelta(seconds=seconds)


async def _settled() -> None:
    """Return when every other task waits for something."""
    # wait_all_tasks_blocked pauses for a tenth of a second of real time unless it finds them waiting already.
    for _ in range(_TURNS):
        await anyio.lowlevel.checkpoint()
    await anyio.wait_all_tasks_blocked()


def _seconds(duration: timedelta | float) -> float:
    return duration.total_seconds() if isinstance(duration, timedelta) else float(duration)
