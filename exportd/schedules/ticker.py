"""Fires schedules when they are due.

The due times are in a timer wheel. The ticker sleeps until the wheel's next tick and is woken when something may be due
earlier: a schedule was changed, a job ended. It then reads that schedule again (``look_at``), or all of them
(``wake``). It also polls all of them, for a wake-up may have been lost.

Sleeping follows the monotonic clock, due times follow the wall clock. When the two have moved apart (NTP, a person, a
suspended machine), the next poll at the latest notices it, and all schedules are read again. Several missed firings
become one run. Nothing is fired twice, because the due times are in the database.

A schedule that is due but has an unfinished job is tried again when that job ends, and at each poll.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

import anyio
import anyio.lowlevel
import structlog
from anyio.abc import TaskStatus

from exportd.model.clock import Clock
from exportd.model.errors import ExportdError, PermanentError
from exportd.model.job import JobId
from exportd.model.schedule import Schedule, ScheduleId
from exportd.schedules import calendar
from exportd.schedules.firing_table import Firing
from exportd.schedules.wheel import Timer, TimerWheel

_logger = structlog.stdlib.get_logger()

POLL_INTERVAL_S = 30.0
FIRST_DELAY_S = 1.0
"""How long to wait after a first failure; twice as long after each further one, up to the poll interval."""

NOTICED_STEP_S = 2.0
"""A wall clock that moved apart from the monotonic one by more than this was set, not slewed."""

_ARMED_AT_ONCE = 500
"""How many schedules are put into the wheel at once, in a few milliseconds, before other tasks get their turn."""

FIRED_TOGETHER = 200
"""How many schedules fire in one transaction. So ten thousand that are due together take seconds, not half a minute."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class FiringTable(Protocol):
    """The part of ``ScheduleTable`` that the ticker needs."""

    async def all(self) -> list[Schedule]: ...

    async def some(self, schedule_ids: Collection[ScheduleId]) -> list[Schedule]: ...

    async def fire(self, firings: Sequence[Firing], *, now: datetime) -> Mapping[ScheduleId, JobId]: ...


class Ticker:
    """Fires the schedules of a table. Several daemons may do that with the same table."""

    def __init__(self, table: FiringTable, clock: Clock, *, poll_interval_s: float = POLL_INTERVAL_S) -> None:
        self._table = table
        self._clock = clock
        self._poll_interval_s = poll_interval_s
        self._wheel: TimerWheel[Schedule] = TimerWheel(_in_ms(clock.now()))
        self._timers: dict[ScheduleId, Timer[Schedule]] = {}
        self._woken = anyio.Event()
        self._all_changed = True
        self._changed: set[ScheduleId] = set()
        self._read_by = clock.monotonic()
        self._lead_s = _lead_s(clock)
        self._failures = 0

    def wake(self) -> None:
        """Read all schedules again soon, and fire what is due. Call it when any of them may have changed."""
        self._all_changed = True
        self._woken.set()

    def look_at(self, schedule_id: ScheduleId) -> None:
        """The same for one schedule. Call it when it has changed, or a job of it."""
        self._changed.add(schedule_id)
        self._woken.set()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Tick until cancelled. An error of the database is logged, and tried again later."""
        pause_s = await self._tick_or_log()
        task_status.started()
        while True:
            await self._clock.wait_for(self._woken, self._clock.monotonic() + pause_s)
            pause_s = await self._tick_or_log()

    async def run_once(self, now: datetime) -> int:
        """Read the schedules and fire what is due at ``now``; returns how many were fired."""
        await self._arm_all(await self._table.all(), now)
        return await self._fire_due(now)

    async def _tick_or_log(self) -> float:
        """Tick, and return the seconds until the next one."""
        # Cleared before the tick, because events during the tick must wake the ticker again.
        self._woken = anyio.Event()
        reading, self._all_changed = self._all_changed, False
        changed, self._changed = self._changed, set()
        try:
            await self._tick(changed, reading=reading)
        except ExportdError as error:
            self._failures += 1
            self._all_changed = True
            pause_s = min(self._poll_interval_s, FIRST_DELAY_S * 2.0 ** min(self._failures - 1, 30))
            _log_failure("schedules could not be fired", error, retry_in_s=pause_s)
            return pause_s
        self._failures = 0
        return self._until_next_tick_s()

    async def _tick(self, changed: Collection[ScheduleId], *, reading: bool) -> None:
        now = self._clock.now()
        if self._clock_was_set() or reading or self._clock.monotonic() >= self._read_by:
            await self.run_once(now)
            self._read_by = self._clock.monotonic() + self._poll_interval_s
            return
        if changed:
            await self._arm_these(changed, await self._table.some(changed), now)
        await self._fire_due(now)

    def _clock_was_set(self) -> bool:
        lead_s = _lead_s(self._clock)
        step_s, self._lead_s = lead_s - self._lead_s, lead_s
        if abs(step_s) <= NOTICED_STEP_S:
            return False
        _logger.warning("the wall clock was set or the machine was suspended", seconds=round(step_s, 3))
        return True

    def _until_next_tick_s(self) -> float:
        pause_s = self._read_by - self._clock.monotonic()
        tick_ms = self._wheel.next_tick()
        if tick_ms is not None:
            due = _EPOCH + tick_ms * _MILLISECOND
            pause_s = min(pause_s, (due - self._clock.now()).total_seconds())
        return max(0.0, pause_s)

    # The wheel

    async def _arm_all(self, schedules: Iterable[Schedule], now: datetime) -> None:
        """Put exactly these schedules into the wheel. Those that were taken out and not fired are due again."""
        if _in_ms(now) < self._wheel.now_ms:
            # Time in a wheel does not go back.
            self._wheel = TimerWheel(_in_ms(now))
            self._timers.clear()
        await self._arm_these(list(self._timers), schedules, now)

    async def _arm_these(self, looked_for: Iterable[ScheduleId], found: Iterable[Schedule], now: datetime) -> None:
        """Put the schedules that were found into the wheel, and take the others out of it."""
        gone = set(looked_for) & set(self._timers)
        for number, schedule in enumerate(found, 1):
            gone.discard(schedule.id)
            self._arm(schedule, now)
            if number % _ARMED_AT_ONCE == 0:
                await anyio.lowlevel.checkpoint()
        for schedule_id in gone:
            self._wheel.cancel(self._timers.pop(schedule_id))

    def _arm(self, schedule: Schedule, now: datetime) -> None:
        timer = self._timers.get(schedule.id)
        due = now if _is_out_of_reach(schedule, now) else schedule.next_due_at
        if timer is not None:
            if timer.item == schedule and timer.due_ms == _in_ms(due):
                return
            self._wheel.cancel(timer)
        self._timers[schedule.id] = self._wheel.insert(_in_ms(due), schedule)

    # Firing

    async def _fire_due(self, now: datetime) -> int:
        due = self._wheel.advance(_in_ms(now))
        for schedule in due:
            del self._timers[schedule.id]
        fired = 0
        for begin in range(0, len(due), FIRED_TOGETHER):
            firings = [_firing(schedule, now) for schedule in due[begin : begin + FIRED_TOGETHER]]
            fired += await self._fire(firings, now)
        return fired

    async def _fire(self, firings: Sequence[Firing], now: datetime) -> int:
        try:
            jobs = await self._table.fire(firings, now=now)
        except PermanentError as error:
            if len(firings) > 1:
                # An error in one schedule must not keep the others from being fired.
                return sum([await self._fire([firing], now) for firing in firings])
            _log_failure("a schedule could not be fired", error, **_names(firings[0]))
            return 0
        for firing in firings:
            job_id = jobs.get(firing.schedule.id)
            if job_id is None:
                waits = "a schedule waits for its job, or was fired elsewhere"
                _logger.debug(waits, due_at=firing.due_at, **_names(firing))
                continue
            times = {"due_at": firing.due_at, "next_due_at": firing.next_due_at}
            _logger.info("schedule fired", job_id=job_id, **times, **_names(firing))
            self._arm(replace(firing.schedule, last_due_at=firing.due_at, next_due_at=firing.next_due_at), now)
        return len(jobs)


def _firing(schedule: Schedule, now: datetime) -> Firing:
    """The firing of a schedule that is due."""
    rule = schedule.declaration.rule
    if _is_out_of_reach(schedule, now):
        due_at = now
    else:
        # The wheel counts whole milliseconds, so it can be early by a fraction of one.
        passed = max(now, schedule.next_due_at)
        due_at = calendar.latest_due(rule, due=schedule.next_due_at, now=passed)
    return Firing(schedule, due_at, calendar.next_due(rule, last_due=due_at))


def _names(firing: Firing) -> dict[str, str]:
    declaration = firing.schedule.declaration
    return {"organization": declaration.organization, "schedule": declaration.code}


def _is_out_of_reach(schedule: Schedule, now: datetime) -> bool:
    return calendar.is_out_of_reach(schedule.declaration.rule, due=schedule.next_due_at, now=now)


def _log_failure(event: str, error: ExportdError, **values: object) -> None:
    write = _logger.error if isinstance(error, PermanentError) else _logger.warning
    write(event, reason=error.reason, error=error.sentence, **values)


def _lead_s(clock: Clock) -> float:
    """How far the wall clock is ahead of the monotonic one, in seconds."""
    return clock.now().timestamp() - clock.monotonic()


def _in_ms(instant: datetime) -> int:
    """The time of the wheel: whole milliseconds since 1970."""
    return (instant - _EPOCH) // _MILLISECOND
