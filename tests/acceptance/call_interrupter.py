"""Stops an export at its n-th call to a database, store or spool: with an error, or because the daemon shuts down."""

import functools
import inspect
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

Interruption = Callable[[], Awaitable[None]]


class CallInterrupter:
    """Counts the calls of everything behind ``guard``, and interrupts the n-th call of a name, before or after it.

    A name is one like ``JobTable.seal``; the number None means every call.
    """

    def __init__(self, name: str, number: int | None, interruption: Interruption, *, after: bool = False) -> None:
        self.calls: Counter[str] = Counter()
        self.interrupted = False
        self._at = (name, number)
        self._interruption = interruption
        self._after = after

    @classmethod
    def none(cls) -> "CallInterrupter":
        """Interrupts nothing."""
        return cls("", 0, _never)

    def guard(self, inner: Any) -> Any:
        return _Guarded(inner, self)

    async def before(self, name: str) -> bool:
        """Count a call; whether it is to be interrupted afterwards."""
        self.calls[name] += 1
        if self._at not in {(name, None), (name, self.calls[name])}:
            return False
        self.interrupted = True
        if not self._after:
            await self._interruption()
        return self._after

    async def interrupt(self) -> None:
        await self._interruption()


class _Guarded:
    """``inner``, whose coroutine methods are counted."""

    def __init__(self, inner: Any, interrupter: CallInterrupter) -> None:
        self._inner = inner
        self._interrupter = interrupter

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        place = f"{type(self._inner).__name__}.{name}"
        if inspect.iscoroutinefunction(found):
            return functools.partial(self._call, found, place)
        if inspect.isasyncgenfunction(found):
            return functools.partial(self._iterate, found, place)
        return found

    async def _call(self, method: Callable[..., Awaitable[Any]], place: str, *arguments: Any, **named: Any) -> Any:
        interrupts = await self._interrupter.before(place)
        result = await method(*arguments, **named)
        if interrupts:
            await self._interrupter.interrupt()
        return result

    async def _iterate(
        self, method: Callable[..., AsyncIterator[Any]], place: str, *arguments: Any, **named: Any
    ) -> AsyncIterator[Any]:
        interrupts = await self._interrupter.before(place)
        async for item in method(*arguments, **named):
            yield item
        if interrupts:
            await self._interrupter.interrupt()


async def _never() -> None:
    """A call without a name does not come."""
