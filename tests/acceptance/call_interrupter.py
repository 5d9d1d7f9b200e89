"""Stops an export at its n-th call of anything that touches the world: with an error, or because the daemon leaves."""

import functools
import inspect
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

Trip = Callable[[], Awaitable[None]]


class Tripwire:
    """Counts the calls of everything behind ``guard``, and trips at the n-th call of a name, before it or after it.

    A name is such as ``JobTable.seal``; the number None means every call.
    """

    def __init__(self, name: str, number: int | None, trip: Trip, *, after: bool = False) -> None:
        self.calls: Counter[str] = Counter()
        self.tripped = False
        self._at = (name, number)
        self._trip = trip
        self._after = after

    @classmethod
    def none(cls) -> "Tripwire":
        """Never trips."""
        return cls("", 0, _never)

    def guard(self, inner: Any) -> Any:
        return _Guarded(inner, self)

    async def before(self, name: str) -> bool:
        """Count a call; whether it is to trip afterwards."""
        self.calls[name] += 1
        if self._at not in {(name, None), (name, self.calls[name])}:
            return False
        self.tripped = True
        if not self._after:
            await self._trip()
        return self._after

    async def trip(self) -> None:
        await self._trip()


class _Guarded:
    """``inner``, whose coroutine methods are counted."""

    def __init__(self, inner: Any, wire: Tripwire) -> None:
        self._inner = inner
        self._wire = wire

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        place = f"{type(self._inner).__name__}.{name}"
        if inspect.iscoroutinefunction(found):
            return functools.partial(self._call, found, place)
        if inspect.isasyncgenfunction(found):
            return functools.partial(self._iterate, found, place)
        return found

    async def _call(self, method: Callable[..., Awaitable[Any]], place: str, *arguments: Any, **named: Any) -> Any:
        trips = await self._wire.before(place)
        result = await method(*arguments, **named)
        if trips:
            await self._wire.trip()
        return result

    async def _iterate(
        self, method: Callable[..., AsyncIterator[Any]], place: str, *arguments: Any, **named: Any
    ) -> AsyncIterator[Any]:
        trips = await self._wire.before(place)
        async for each in method(*arguments, **named):
            yield each
        if trips:
            await self._wire.trip()


async def _never() -> None:
    """A call without a name does not come."""
