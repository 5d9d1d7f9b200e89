"""Runs blocking calls about files in worker threads: few at a time while they are quick, more when they wait.

Threads that run Python at the same time fight over the interpreter: each call of the operating system gives it away,
and with forty threads getting it back took four times the CPU of the work itself. But a share may be slow, and a call
that waits for it needs no interpreter: one that takes long does not count any more.

A share may also hang. Its calls then hold as many threads as one store may have, and none of those that the rest of the
daemon uses.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeVar

import anyio
import anyio.to_thread

T = TypeVar("T")

QUICK_CALLS: Final = 2
"""How many calls run at a time, of all stores together, that have not taken long yet."""

LONG_S: Final = 0.1

MAX_CALLS: Final = 32
"""How many calls of one store run at a time."""


class CallTurns:
    """Lets calls begin. One serves all stores of a daemon."""

    def __init__(self) -> None:
        self.threads = anyio.CapacityLimiter(math.inf)  # each store has a limit of its own
        self._free = anyio.Semaphore(QUICK_CALLS, fast_acquire=True)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn. It ends with the block, or when the block takes long."""
        await self._free.acquire()
        is_held = True

        def end() -> None:
            nonlocal is_held
            if is_held:
                is_held = False
                self._free.release()

        timer = asyncio.get_running_loop().call_later(LONG_S, end)
        try:
            yield
        finally:
            timer.cancel()
            end()


class CallRunner:
    """Runs the calls of one store."""

    def __init__(self, turns: CallTurns) -> None:
        self._turns = turns
        self._calls = anyio.Semaphore(MAX_CALLS, fast_acquire=True)

    async def run(self, call: Callable[[], T]) -> T:
        """What the call returns; raises what it raises. Once it runs, a cancellation waits for its end."""
        async with self._calls, self._turns.turn():
            return await anyio.to_thread.run_sync(call, limiter=self._turns.threads)
