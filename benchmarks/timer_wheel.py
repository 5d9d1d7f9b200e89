"""The timer wheel beside heapq, with a million timers: inserting, cancelling, advancing second by second, memory.

Both do the same work in the same process, in turns; a ratio is the wheel's median divided by the heap's. The heap
cancels as asyncio's does: it marks an entry and drops it when it comes to the top. That is hard to beat when only
the marking is timed, so cancelling is measured with what it leaves behind: half of the timers are cancelled, then
the rest expires.
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

from benchmarks.measurement import Measurement, Options, Say, in_turns
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


async def measure(options: Options, say: Say) -> list[Measurement]:
    """Ratios wheel to heapq, one for each kind of work."""
    count = options.size(TIMERS)
    due_times = random.Random(7).choices(range(SPREAD_S * 1000), k=count)
    rounds: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for side in in_turns(list(SIDES), options.repeats(ROUNDS)):
        say(f"{count:,} timers in a {side}")
        rounds[side].append(_round(SIDES[side](), due_times))
    medians = {
        side: {work: statistics.median(round_times[work] for round_times in measured) for work in measured[0]}
        for side, measured in rounds.items()
    }
    say("memory")
    memory = {side: _bytes_a_timer(make(), due_times) for side, make in SIDES.items()}

    def microseconds(works: tuple[str, ...], divisor: int) -> dict[str, float]:
        return {side: 1e6 * sum(median[work] for work in works) / divisor for side, median in medians.items()}

    def measurement(work: str, unit: str, figures: dict[str, float], *, limit: float) -> Measurement:
        wheel, heap = figures["wheel"], figures["heapq"]
        detail = f"{wheel:.2f} {unit}, heapq {heap:.2f}; {count:,} timers"
        return Measurement(f"timer wheel: {work}, against heapq", wheel / heap, limit, "lower", detail)

    return [
        # A heap of random times is hard to beat here: most new entries stay near the bottom.
        measurement("insert", "µs a timer", microseconds(("insert",), count), limit=6.0),
        measurement("advance", "µs a second", microseconds(("advance",), STEPS), limit=1.0),
        measurement("cancel and drain", "µs a timer", microseconds(("cancel", "drain"), count), limit=0.6),
        measurement("memory", "bytes a timer", memory, limit=1.0),
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
    expired = 0
    with timed("advance"):
        for second in range(STEPS):
            expired += len(timers.advance(second * 1000))
    with timed("cancel"):
        for handle in handles[::2]:
            timers.cancel(handle)
    with timed("drain"):
        for second in range(STEPS, SPREAD_S + 1, 60):
            expired += len(timers.advance(second * 1000))
    assert expired >= len(due_times) // 2
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
