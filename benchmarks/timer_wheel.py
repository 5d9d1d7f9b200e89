"""The timer wheel beside heapq, with a million timers: inserting, cancelling, advancing second by second, memory.

Both do the same work in the same process, in turns; a ratio is the wheel's median divided by the heap's. The heap
cancels as asyncio's does: it marks an entry and drops it when it comes to the top. That is hard to beat when only
the marking is timed, so cancelling is measured with what it leaves behind: half of the timers are cancelled, then
the rest expires. Run it alone: ``python -m benchmarks.timer_wheel``.
"""

import gc
import heapq
import random
import statistics
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from exportd.schedules.wheel import TimerWheel

TIMERS = 1_000_000
SPREAD_S = 3 * 86_400
"""Due times lie within three days, the longest gap of a schedule."""
STEPS = 3_600
ROUNDS = 3


class Timers(Protocol):
    """What both sides can do."""

    def insert(self, due_ms: int, item: int, /) -> Any: ...
    def cancel(self, timer: Any, /) -> object: ...
    def advance(self, now_ms: int, /) -> list[int]: ...


class Heap:
    """Timers in a heapq."""

    def __init__(self) -> None:
        self._entries: list[list[Any]] = []
        self._count = 0

    def insert(self, due_ms: int, item: int) -> list[Any]:
        self._count += 1
        entry = [due_ms, self._count, item, True]
        heapq.heappush(self._entries, entry)
        return entry

    def cancel(self, timer: list[Any]) -> None:
        timer[3] = False

    def advance(self, now_ms: int) -> list[int]:
        expired = []
        while self._entries and self._entries[0][0] <= now_ms:
            _, _, item, waiting = heapq.heappop(self._entries)
            if waiting:
                expired.append(item)
        return expired


SIDES: dict[str, Callable[[], Timers]] = {"wheel": TimerWheel[int], "heapq": Heap}


def measure() -> list[dict[str, Any]]:
    """Ratios wheel to heapq, one entry for each kind of work."""
    due_times = random.Random(7).choices(range(SPREAD_S * 1000), k=TIMERS)
    rounds: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for _ in range(ROUNDS):
        for side, make in SIDES.items():
            rounds[side].append(_round(make(), due_times))
    medians = {
        side: {work: statistics.median(each[work] for each in measured) for work in measured[0]}
        for side, measured in rounds.items()
    }
    memory = {side: _bytes_a_timer(make(), due_times) for side, make in SIDES.items()}

    def microseconds(works: tuple[str, ...], count: int) -> dict[str, float]:
        return {side: 1e6 * sum(each[work] for work in works) / count for side, each in medians.items()}

    return [
        # A heap of random times is hard to beat here: most new entries stay near the bottom.
        _entry("insert", "µs a timer", microseconds(("insert",), TIMERS), limit=6.0),
        _entry("advance", "µs a second", microseconds(("advance",), STEPS), limit=1.0),
        _entry("cancel, drain", "µs a timer", microseconds(("cancel", "drain"), TIMERS), limit=0.6),
        _entry("memory", "bytes a timer", memory, limit=1.0),
    ]


def _round(timers: Timers, due_times: list[int]) -> dict[str, float]:
    """Seconds for each kind of work."""
    seconds: dict[str, float] = {}

    @contextmanager
    def timed(work: str) -> Iterator[None]:
        gc.collect()
        gc.disable()
        start = time.perf_counter()
        yield
        seconds[work] = time.perf_counter() - start
        gc.enable()

    with timed("insert"):
        handles = [timers.insert(due_ms, due_ms) for due_ms in due_times]
    count = 0
    with timed("advance"):
        for second in range(STEPS):
            count += len(timers.advance(second * 1000))
    with timed("cancel"):
        for handle in handles[::2]:
            timers.cancel(handle)
    with timed("drain"):
        for second in range(STEPS, SPREAD_S + 1, 60):
            count += len(timers.advance(second * 1000))
    assert count >= TIMERS // 2
    return seconds


def _bytes_a_timer(timers: Timers, due_times: list[int]) -> float:
    """What a timer costs besides its due time and its item, which both sides are given."""
    gc.collect()
    tracemalloc.start()
    for due_ms in due_times:
        timers.insert(due_ms, due_ms)
    size_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return size_bytes / len(due_times)


def _entry(work: str, unit: str, figures: dict[str, float], *, limit: float) -> dict[str, Any]:
    wheel, heap = figures["wheel"], figures["heapq"]
    return {
        "name": f"timer wheel: {work}",
        "ratio": round(wheel / heap, 3),
        "limit": limit,
        "better": "lower",
        "detail": f"{wheel:.2f} {unit}, heapq {heap:.2f}; {TIMERS:,} timers",
    }


if __name__ == "__main__":
    for each in measure():
        print(f"{each['name']:<24} {each['ratio']:>6} (limit {each['limit']})  {each['detail']}")
