"""Measures where a job's time goes, from outside: each stage ends when a method of the real code has returned."""

import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any


class Stages:
    """The seconds of each stage of each run, by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}
        self._current: dict[str, float] = {}
        self._since = time.perf_counter()

    def begin(self) -> None:
        """A run starts now."""
        self._current = {}
        self._since = time.perf_counter()

    def end_of(self, stage: str) -> None:
        """What was done since the end of the stage before belongs to this one."""
        now = time.perf_counter()
        self._current[stage] = self._current.get(stage, 0.0) + now - self._since
        self._since = now

    def finish(self) -> float:
        """The run is over; the seconds it took."""
        for stage, seconds in self._current.items():
            self.seconds.setdefault(stage, []).append(seconds)
        return sum(self._current.values())


@contextmanager
def ended_by(stages: Stages, endings: dict[str, tuple[type, str]]) -> Iterator[None]:
    """Within the block, a stage ends whenever the method (of a class, by name) that ``endings`` has for it returns.

    A method that is a context manager ends its stage when it is entered.
    """
    originals = {stage: (owner, name, getattr(owner, name)) for stage, (owner, name) in endings.items()}
    for stage, (owner, name, original) in originals.items():
        entered = hasattr(original, "__wrapped__")  # as @asynccontextmanager leaves it
        setattr(owner, name, _entered(stages, stage, original) if entered else _returned(stages, stage, original))
    try:
        yield
    finally:
        for owner, name, original in originals.values():
            setattr(owner, name, original)


def _returned(stages: Stages, stage: str, method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(method)
    async def timed(*arguments: Any, **named: Any) -> Any:
        try:
            return await method(*arguments, **named)
        finally:
            stages.end_of(stage)

    return timed


def _entered(
    stages: Stages, stage: str, method: Callable[..., AbstractAsyncContextManager[Any]]
) -> Callable[..., AbstractAsyncContextManager[Any]]:
    @asynccontextmanager
    async def timed(*arguments: Any, **named: Any) -> AsyncIterator[Any]:
        async with method(*arguments, **named) as value:
            stages.end_of(stage)
            yield value

    return timed
