"""How many requests a client may make. Pure: the time (seconds of a monotonic clock) is handed in.

Counted in slices of the window, so that the memory for each key is constant. The oldest slice counts whole until it
has left the window: the limit is never exceeded, and at most one slice too strict.
"""

from collections import OrderedDict, deque

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
