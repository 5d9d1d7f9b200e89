"""The timer wheel, compared with a sorted list."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from exportd.schedules.wheel import LATEST_MS, Timer, TimerWheel

# Distances of every order of magnitude: uniform ones would nearly all end up in the coarsest ring.
distances = st.integers(0, 47).flatmap(lambda bits: st.integers(0, (1 << bits) - 1))
START_MS = 1_767_225_600_000


class WheelBesideAList(RuleBasedStateMachine):
    """Whatever is done to the wheel is done to a list of (due time, number)."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ms = START_MS
        self.wheel: TimerWheel[int] = TimerWheel(START_MS)
        self.waiting: dict[int, Timer[int]] = {}
        self.number = 0

    @rule(distance_ms=distances, past=st.booleans())
    def insert(self, distance_ms: int, past: bool) -> None:
        due_ms = self.now_ms - distance_ms if past else min(self.now_ms + distance_ms, LATEST_MS)
        self.number += 1
        self.waiting[self.number] = self.wheel.insert(due_ms, self.number)

    @rule(due_ms=st.integers(START_MS, START_MS + 200))
    def insert_near_others(self, due_ms: int) -> None:
        self.number += 1
        self.waiting[self.number] = self.wheel.insert(due_ms, self.number)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        timer = self.waiting.pop(data.draw(st.sampled_from(sorted(self.waiting))))
        assert self.wheel.cancel(timer)
        assert not self.wheel.cancel(timer)

    @rule(distance_ms=distances)
    def advance(self, distance_ms: int) -> None:
        self._advance(min(self.now_ms + distance_ms, LATEST_MS))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def advance_to_a_due_time(self, data: st.DataObject) -> None:
        due_ms = data.draw(st.sampled_from(sorted({timer.due_ms for timer in self.waiting.values()})))
        self._advance(max(self.now_ms, due_ms - data.draw(st.sampled_from([0, 1]))))

    @precondition(lambda self: self.waiting)
    @rule()
    def tick_to_the_next_expiry(self) -> None:
        earliest_ms = min(timer.due_ms for timer in self.waiting.values())
        ticks = 0
        while (tick_ms := self.wheel.next_tick()) is not None:
            ticks += 1
            if self._advance(tick_ms):
                break
        assert self.now_ms == max(earliest_ms, self.now_ms)
        assert ticks <= 8

    @rule(distance_ms=distances.filter(bool))
    def going_back_does_nothing(self, distance_ms: int) -> None:
        assert self.wheel.advance(self.now_ms - distance_ms) == []

    @invariant()
    def both_hold_the_same(self) -> None:
        assert len(self.wheel) == len(self.waiting)
        assert all(timer.waiting for timer in self.waiting.values())
        tick_ms = self.wheel.next_tick()
        if not self.waiting:
            assert tick_ms is None
        else:
            assert tick_ms is not None
            earliest_ms = min(timer.due_ms for timer in self.waiting.values())
            assert self.now_ms <= tick_ms <= max(self.now_ms, earliest_ms)

    def _advance(self, now_ms: int) -> list[int]:
        self.now_ms = now_ms
        due = sorted((timer.due_ms, item) for item, timer in self.waiting.items() if timer.due_ms <= now_ms)
        expired = self.wheel.advance(now_ms)
        assert expired == [item for _, item in due]
        for item in expired:
            assert not self.waiting.pop(item).waiting
        return expired


TestTheWheelBesideAList: Any = WheelBesideAList.TestCase
TestTheWheelBesideAList.settings = settings(max_examples=60, stateful_step_count=40)


@given(st.lists(distances, min_size=1, max_size=50), st.integers(250, 5000))
def test_steps_of_any_length_hand_out_everything_once_and_in_order(dues: list[int], step_ms: int) -> None:
    wheel: TimerWheel[int] = TimerWheel()
    for due_ms in dues:
        wheel.insert(due_ms % 100_000, due_ms % 100_000)
    expired: list[int] = []
    for now_ms in range(0, 100_000 + step_ms, step_ms):
        batch = wheel.advance(now_ms)
        assert all(now_ms - step_ms < due_ms <= now_ms for due_ms in batch)
        expired += batch
    assert expired == sorted(due_ms % 100_000 for due_ms in dues)


def test_timers_of_the_same_millisecond_expire_in_the_order_of_their_insertion() -> None:
    wheel: TimerWheel[str] = TimerWheel()
    for item in "abc":
        wheel.insert(70_000, item)
    wheel.advance(69_990)
    wheel.insert(70_000, "d")
    assert wheel.advance(70_000) == ["a", "b", "c", "d"]


def test_an_empty_wheel_has_no_next_tick_and_jumps_over_years() -> None:
    wheel: TimerWheel[str] = TimerWheel()
    assert wheel.next_tick() is None
    assert wheel.advance(LATEST_MS) == []
    assert wheel.insert(LATEST_MS, "end").waiting
    assert wheel.advance(LATEST_MS) == ["end"]


@pytest.mark.parametrize("too_late_ms", [LATEST_MS + 1, 1 << 60])
def test_times_beyond_its_range_are_refused(too_late_ms: int) -> None:
    wheel: TimerWheel[str] = TimerWheel()
    with pytest.raises(ValueError, match="after"):
        wheel.insert(too_late_ms, "never")
    with pytest.raises(ValueError, match="after"):
        wheel.advance(too_late_ms)
    with pytest.raises(ValueError, match="time"):
        TimerWheel(too_late_ms)
    assert len(wheel) == 0
