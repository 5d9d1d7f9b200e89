"""Bounds the bytes that all uploads of the daemon hold in memory at the same time."""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio


@dataclass(slots=True, eq=False)
class _Waiter:
    size_bytes: int
    event: anyio.Event


class ByteLimiter:
    """Grants bytes in the order in which they were asked for, so that large pieces are not starved by small
    ones.

    Whoever asks for more than there is altogether gets its turn alone.
    """

    def __init__(self, total_bytes: int) -> None:
        self.total_bytes = total_bytes
        self._free_bytes = total_bytes
        self._waiters: deque[_Waiter] = deque()

    @property
    def held_bytes(self) -> int:
        """What is granted at the moment."""
        return self.total_bytes - self._free_bytes

    @asynccontextmanager
    async def hold(self, size_bytes: int) -> AsyncIterator[None]:
        """Hold ``size_bytes`` for the duration of the block."""
        size_bytes = min(size_bytes, self.total_bytes)
        await self._acquire(size_bytes)
        try:
            yield
        finally:
            self._free_bytes += size_bytes
            self._grant()

    async def _acquire(self, size_bytes: int) -> None:
        waiter = _Waiter(size_bytes, anyio.Event())
        self._waiters.append(waiter)
        self._grant()
        try:
            await waiter.event.wait()
        except BaseException:
            if waiter.event.is_set():
                # Granted in the very moment in which the wait was cancelled.
                self._free_bytes += size_bytes
            else:
                self._waiters.remove(waiter)
            self._grant()
            raise

    def _grant(self) -> None:
        while self._waiters and self._waiters[0].size_bytes <= self._free_bytes:
            waiter = self._waiters.popleft()
            self._free_bytes -= waiter.size_bytes
            waiter.event.set()
