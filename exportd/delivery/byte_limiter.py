"""Bounds the bytes that all uploads of the daemon hold in memory at the same time.

Each destination is an owner. An owner that holds nothing gets what is free. An owner that holds something gets more
only while as much as it then holds stays free for the others. So a slow destination never takes all, and one that is
alone takes half: the rest stays free for others.
"""

from collections import Counter, deque
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio


@dataclass(slots=True, eq=False)
class _Waiter:
    owner: Hashable
    size_bytes: int
    event: anyio.Event


class ByteLimiter:
    """Grants bytes in the order of the requests, so that small pieces do not starve large ones. A request is overtaken
    only when its owner has its share already.

    A request for more than ``total_bytes`` is granted when nothing else is held.
    """

    def __init__(self, total_bytes: int) -> None:
        self.total_bytes = total_bytes
        self._held: Counter[Hashable] = Counter()
        self._waiters: deque[_Waiter] = deque()

    @property
    def held_bytes(self) -> int:
        """The number of bytes that are granted at the moment."""
        return self._held.total()

    @asynccontextmanager
    async def hold(self, size_bytes: int, *, owner: Hashable) -> AsyncIterator[None]:
        """Wait for ``size_bytes``, and hold them until the block ends."""
        size_bytes = min(size_bytes, self.total_bytes)
        await self._acquire(_Waiter(owner, size_bytes, anyio.Event()))
        try:
            yield
        finally:
            self._release(owner, size_bytes)

    async def _acquire(self, waiter: _Waiter) -> None:
        self._waiters.append(waiter)
        self._grant()
        try:
            await waiter.event.wait()
        except BaseException:
            if waiter.event.is_set():
                # The bytes were granted in the same moment in which the wait was cancelled.
                self._release(waiter.owner, waiter.size_bytes)
            else:
                self._waiters.remove(waiter)
                self._grant()
            raise

    def _release(self, owner: Hashable, size_bytes: int) -> None:
        self._held[owner] -= size_bytes
        if not self._held[owner]:
            del self._held[owner]
        self._grant()

    def _grant(self) -> None:
        for waiter in tuple(self._waiters):
            free_bytes = self.total_bytes - self.held_bytes
            if self._has_its_share(waiter, free_bytes):
                continue
            if waiter.size_bytes > free_bytes:
                return
            self._waiters.remove(waiter)
            self._held[waiter.owner] += waiter.size_bytes
            waiter.event.set()

    def _has_its_share(self, waiter: _Waiter, free_bytes: int) -> bool:
        held_bytes = self._held[waiter.owner]
        return held_bytes > 0 and held_bytes + waiter.size_bytes > free_bytes - waiter.size_bytes
