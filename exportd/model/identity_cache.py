"""Remembers results by the identity of the objects from which they were made. The objects must never change.

Thousands of jobs have the same fields and guards. Hashing these, as ``functools.lru_cache`` does, would cost as much as
it saves.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

SourceT = TypeVar("SourceT")
MadeT = TypeVar("MadeT")

MAX_REMEMBERED = 1024


class IdentityCache(Generic[SourceT, MadeT]):
    """Calls ``make`` once for each object. It keeps the objects, the last ``MAX_REMEMBERED`` of them."""

    def __init__(self, make: Callable[[SourceT], MadeT]) -> None:
        self._make = make
        self._made: dict[int, tuple[SourceT, MadeT]] = {}

    def __call__(self, source: SourceT) -> MadeT:
        # The object is kept, so no other gets its id while the entry is there.
        known = self._made.get(id(source))
        if known is None:
            if len(self._made) >= MAX_REMEMBERED:
                del self._made[next(iter(self._made))]
            known = self._made[id(source)] = (source, self._make(source))
        return known[1]
