"""How much one client may take: requests in a time, requests and connections at once. Pure: times are handed in.

Requests in a time (a monotonic clock's seconds) are counted in slices of the window, so that the memory for each key is
constant. The oldest slice counts whole until it has left the window: the limit is never exceeded, and at most one slice
too strict.

Every connection has an owner: a user of this machine, or an address. No owner has more than so many, and none drives
out another that has fewer. What costs a client least goes first: a connection on which nothing was asked yet.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol, TypeVar

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


class ConnectionStage(IntEnum):
    """How far a connection has come, in the order in which connections are given up."""

    CLOSING = 0
    """Its last answer is being sent."""
    HANDSHAKE = 1
    """TLS has not been agreed on."""
    ASKING = 2
    """No whole request has arrived: its head or its body is missing, or a part of them."""
    KEPT = 3
    """It was answered, and kept for another request."""
    BUSY = 4
    """A request is being answered."""


class Connection(Protocol):
    """``process`` is who has it within the owner, ``since`` when its stage of doing nothing began (any clock)."""

    @property
    def owner(self) -> Hashable: ...

    @property
    def process(self) -> Hashable: ...

    @property
    def is_administrators(self) -> bool: ...

    @property
    def stage(self) -> ConnectionStage: ...

    @property
    def since(self) -> float: ...


AnyConnection = TypeVar("AnyConnection", bound=Connection)


@dataclass(frozen=True, slots=True)
class CrowdLimits:
    """How many connections there may be, and how many of one owner."""

    connections: int
    of_owner: int


def superfluous(
    newcomer: AnyConnection, present: Collection[AnyConnection], limits: CrowdLimits
) -> AnyConnection | None:
    """The connection to close now that ``newcomer`` is among those present: that one itself where no other may go.

    None while there is room. An administrator's connection gets the place of any other user's, even a busy one.
    """
    counts = Counter(connection.owner for connection in present)
    if counts[newcomer.owner] > limits.of_owner:
        own = [connection for connection in present if connection.owner == newcomer.owner]
        return _first(own, newcomer, counts) or newcomer
    if len(present) <= limits.connections:
        return None
    found = _first(
        [
            connection
            for connection in present
            if connection.owner == newcomer.owner
            or newcomer.is_administrators
            or (counts[connection.owner] >= counts[newcomer.owner] and not connection.is_administrators)
        ],
        newcomer,
        counts,
    )
    if found is None and newcomer.is_administrators:
        others = [connection for connection in present if not connection.is_administrators]
        found = max(others, key=lambda connection: (counts[connection.owner], -connection.since), default=None)
    return found or newcomer


def first_to_go(present: Collection[AnyConnection]) -> AnyConnection | None:
    """The connection to close where files are needed for something else; None when all are busy."""
    return _first(present, None, Counter(connection.owner for connection in present))


def _first(
    candidates: Collection[AnyConnection], newcomer: AnyConnection | None, counts: Counter[Hashable]
) -> AnyConnection | None:
    """The first to go of those that answer nothing: of an owner with more than an equal share, if there is one, and of
    a process with more than an equal share within it.

    The share of the process comes before the stage: a command that has only just connected would otherwise go before
    the hundred connections of a program that have been silent for long.
    """
    processes = Counter(connection.process for connection in candidates)
    total = counts.total()
    idle = [
        connection
        for connection in candidates
        if connection.stage < ConnectionStage.BUSY and connection is not newcomer
    ]
    return max(
        idle,
        key=lambda connection: (
            counts[connection.owner] * len(counts) > total,
            processes[connection.process] * len(processes) > len(candidates),
            -connection.stage,
            counts[connection.owner],
            processes[connection.process],
            -connection.since,
        ),
        default=None,
    )
