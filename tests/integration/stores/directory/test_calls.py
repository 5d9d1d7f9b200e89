"""Blocking calls about files: how many run at a time, and what a share that hangs holds up."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Lock

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest

from exportd.stores.directory import store
from exportd.stores.directory.store import MAX_CALLS, QUICK_CALLS, CallRunner, CallTurns

A_WHILE_S = 60.0


class BlockedCalls:
    """Calls that wait in their threads until ``released`` is set."""

    def __init__(self) -> None:
        self.released = Event()
        self.begun = 0
        self._lock = Lock()
        self._changed = anyio.Event()

    def __call__(self) -> None:
        with self._lock:
            self.begun += 1
        anyio.from_thread.run_sync(self._tell)
        assert self.released.wait(A_WHILE_S)

    async def wait_for(self, count: int) -> None:
        """Until so many have begun."""
        with anyio.fail_after(A_WHILE_S):
            while self.begun < count:
                await self._changed.wait()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


@contextmanager
def blocked() -> Iterator[BlockedCalls]:
    calls = BlockedCalls()
    try:
        yield calls
    finally:
        calls.released.set()


async def test_few_quick_calls_run_at_a_time_whatever_their_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "LONG_S", A_WHILE_S)
    turns, count = CallTurns(), 5
    with blocked() as calls:
        async with anyio.create_task_group() as group:
            for _ in range(count):
                group.start_soon(CallRunner(turns).run, calls)
            await calls.wait_for(QUICK_CALLS)
            await anyio.wait_all_tasks_blocked()
            assert calls.begun == QUICK_CALLS
            calls.released.set()
    assert calls.begun == count


async def test_calls_that_take_long_do_not_hold_up_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "LONG_S", 0.01)
    runner = CallRunner(CallTurns())
    with blocked() as calls:
        async with anyio.create_task_group() as group:
            for _ in range(2 * QUICK_CALLS):
                group.start_soon(runner.run, calls)
            await calls.wait_for(2 * QUICK_CALLS)
            calls.released.set()


async def test_a_store_that_hangs_takes_its_own_threads_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """More of its calls than there are threads for everything else in a daemon."""
    monkeypatch.setattr(store, "LONG_S", 0.001)
    turns = CallTurns()
    hanging, other = CallRunner(turns), CallRunner(turns)
    threads = anyio.to_thread.current_default_thread_limiter()
    with blocked() as calls:
        async with anyio.create_task_group() as group:
            for _ in range(MAX_CALLS + int(threads.total_tokens)):
                group.start_soon(hanging.run, calls)
            await calls.wait_for(MAX_CALLS)
            with anyio.fail_after(A_WHILE_S):
                assert await other.run(lambda: "written") == "written"
                assert await anyio.to_thread.run_sync(lambda: "read") == "read"
            assert (calls.begun, threads.borrowed_tokens) == (MAX_CALLS, 0)
            calls.released.set()
    assert calls.begun == MAX_CALLS + int(threads.total_tokens)


@pytest.mark.parametrize("place", [0, QUICK_CALLS])
async def test_a_call_that_is_cancelled_gives_its_turn_back(place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it runs, or while it still waits."""
    monkeypatch.setattr(store, "LONG_S", A_WHILE_S)
    runner = CallRunner(CallTurns())
    scopes = [anyio.CancelScope() for _ in range(QUICK_CALLS + 1)]

    async def run(scope: anyio.CancelScope, call: Callable[[], None]) -> None:
        with scope:
            await runner.run(call)

    with blocked() as calls:
        async with anyio.create_task_group() as group:
            for scope in scopes:
                group.start_soon(run, scope, calls)
            await calls.wait_for(QUICK_CALLS)
            scopes[place].cancel()
            calls.released.set()
    with anyio.fail_after(A_WHILE_S), blocked() as calls:
        async with anyio.create_task_group() as group:
            for _ in range(QUICK_CALLS):
                group.start_soon(runner.run, calls)
            await calls.wait_for(QUICK_CALLS)
            calls.released.set()


async def test_an_error_of_a_call_is_raised_and_its_turn_is_given_back() -> None:
    runner = CallRunner(CallTurns())

    def fail() -> None:
        raise OSError("no space")

    for _ in range(QUICK_CALLS + 1):
        with anyio.fail_after(A_WHILE_S), pytest.raises(OSError, match="no space"):
            await runner.run(fail)
