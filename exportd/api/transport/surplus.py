"""Which connection has to go when there are more than there may be. Pure."""

from collections import Counter
from collections.abc import Collection, Hashable
from typing import Protocol, TypeVar


class Connection(Protocol):
    """``owner`` is the process or the address at its other end; ``idle_since`` None while a request is answered."""

    @property
    def owner(self) -> Hashable: ...

    @property
    def idle_since(self) -> float | None: ...


AnyConnection = TypeVar("AnyConnection", bound=Connection)


def surplus(connections: Collection[AnyConnection]) -> AnyConnection | None:
    """The one that has been idle longest, of the idle ones of whoever has most connections.

    So a client that opens thousands drives out its own, and others are served as always. None when all are busy.
    """
    counts = Counter(each.owner for each in connections)
    idle = [(counts[each.owner], -each.idle_since, each) for each in connections if each.idle_since is not None]
    return max(idle, key=lambda entry: entry[:2])[2] if idle else None
