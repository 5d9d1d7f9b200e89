"""How many requests a client may make, and how many at once. Pure: the time (a monotonic clock's seconds) is handed in.

Requests in a time are counted in slices of the window, so that the memory for each key is constant. The oldest slice
counts whole until it has left the window: the limit is never exceeded, and at most one slice too strict.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping

_SLICES = 10
_MAX_KEYS = 10_000
"""Beyond these, the keys that were idle longest are evicted."""


class RateLimit:
    """At most ``limit`` requests for each key in any ``window_s`` seconds."""

    def __init__(self, limit: int, window_s: float) -> None:
        self._limit = limit
        self._window_s = window_s
        self._slice_s = window_s / _SLICES
        self._counts: OrderedDict[str, deque[tuple[int, int]]] = OrderedDict()

    def wait_s(self, key: str, now: float) -> float:
        """0 and counts the request when it may pass; else the seconds after which trying again can help."""
        number = int(now // self._slice_s)
        counts = self._counts.setdefault(key, deque())
        self._counts.move_to_end(key)
        while counts and counts[0][0] <= number - _SLICES:
            counts.popleft()
        if sum(count for _, count in counts) >= self._limit:
            return min(self._window_s, max(0.001, (counts[0][0] + _SLICES) * self._slice_s - now))
        if counts and counts[-1][0] == number:
            counts[-1] = (number, counts[-1][1] + 1)
        else:
            counts.append((number, 1))
        while len(self._counts) > _MAX_KEYS:
            self._counts.popitem(last=False)
        return 0.0


class ConnectionCount:
    """At most ``limit()`` connections of each key on which a request is being answered."""

    def __init__(self, limit: Callable[[], int]) -> None:
        self._limit = limit
        self._busy: Counter[str] = Counter()

    @property
    def limit(self) -> int:
        return self._limit()

    @property
    def busy(self) -> Mapping[str, int]:
        """How many each key has, if any."""
        return self._busy

    def begin(self, key: str) -> bool:
        """Whether one more may be answered; it counts until ``end``."""
        if self._busy[key] >= self._limit():
            self._busy = +self._busy
            return False
        self._busy[key] += 1
        return True

    def end(self, key: str) -> None:
        self._busy[key] -= 1
        self._busy = +self._busy  # without those that have none any more
