"""Which connection has to go when there are too many. Pure.

Every connection has an owner: a user of this machine, or an address. No owner has more than so many, and none drives
out another that has fewer. What costs a client least goes first: a connection on which nothing was asked yet.
"""

from collections import Counter
from collections.abc import Collection, Hashable
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol, TypeVar


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
