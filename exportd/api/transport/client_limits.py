"""Limits what one client may use: requests in a time, and requests and connections at once. Pure: times are passed in.

Requests in a time (seconds of a monotonic clock) are counted in slices of the window, so that the memory for each key
is constant. The oldest slice counts completely until it has left the window. So the limit is never exceeded, and is at
most one slice too strict.

Every connection has an owner: a user of this machine, or an address. The connections of an owner are limited, and no
owner displaces another one that has fewer. The connection that costs its client least is closed first: one on which
nothing was requested yet.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol, TypeVar

_SLICES = 10
_MAX_KEYS = 10_000
"""When there are more keys, those that were idle longest are evicted."""


class RateLimit:
    """At most ``limit`` requests for each key in any ``window_s`` seconds."""

    def __init__(self, limit: int, window_s: float) -> None:
        self._limit = limit
        self._window_s = window_s
        self._slice_s = window_s / _SLICES
        self._counts: OrderedDict[str, deque[tuple[int, int]]] = OrderedDict()

    def wait_s(self, key: str, now: float) -> float:
        """Count a request. Returns 0 when it may pass, else the seconds after which another attempt may."""
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
    """Limits the connections of each key on which a request is being answered to ``limit()``."""

    def __init__(self, limit: Callable[[], int]) -> None:
        self._limit = limit
        self._busy: Counter[str] = Counter()

    @property
    def limit(self) -> int:
        return self._limit()

    @property
    def busy(self) -> Mapping[str, int]:
        """The number of connections of each key that has some."""
        return self._busy

    def begin(self, key: str) -> bool:
        """Whether another request may be answered. If so, it counts until ``end``."""
        if self._busy[key] >= self._limit():
            self._busy = +self._busy
            return False
        self._busy[key] += 1
        return True

    def end(self, key: str) -> None:
        self._busy[key] -= 1
        self._busy = +self._busy  # without those that have none any more


class ConnectionStage(IntEnum):
    """The stage of a connection, in the order in which connections are closed."""

    CLOSING = 0
    """Its last answer is being sent."""
    HANDSHAKE = 1
    """The TLS handshake is not finished."""
    ASKING = 2
    """No complete request has arrived yet."""
    KEPT = 3
    """Its request was answered, and it is kept for another one."""
    BUSY = 4
    """A request is being answered."""


class Connection(Protocol):
    """A connection. ``process`` is the owner's process that has it. ``since`` is the time when it became idle (of any
    clock).
    """

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
    """The limits of connections, in all and of one owner."""

    connections: int
    of_owner: int


def superfluous(
    newcomer: AnyConnection, present: Collection[AnyConnection], limits: CrowdLimits
) -> AnyConnection | None:
    """The connection to close after ``newcomer`` has come, which is the newcomer itself if no other may be closed.

    None while there is room. An administrator's connection may displace that of any other user, even a busy one.
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
    """The connection to close when files are needed for something else; None when all are busy."""
    return _first(present, None, Counter(connection.owner for connection in present))


def _first(
    candidates: Collection[AnyConnection], newcomer: AnyConnection | None, counts: Counter[Hashable]
) -> AnyConnection | None:
    """The first idle connection to close: of an owner with more than an equal share, if there is one, and of a process
    with more than an equal share within it.

    The share of the process counts more than the stage. Otherwise a command that has just connected would be closed
    before the hundred long idle connections of a program.
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
