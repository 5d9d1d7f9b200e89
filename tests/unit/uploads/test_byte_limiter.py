"""Bytes in flight are bounded, granted in order, and given back whatever happens."""

import anyio
import pytest

from exportd.uploads.byte_limiter import ByteLimiter


async def test_no_more_than_the_total_is_held() -> None:
    limiter = ByteLimiter(100)
    most = 0

    async def work(size_bytes: int) -> None:
        nonlocal most
        async with limiter.hold(size_bytes):
            most = max(most, limiter.held_bytes)
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        for size_bytes in (60, 50, 40, 10, 100, 30, 30, 30, 30):
            tasks.start_soon(work, size_bytes)
    assert 60 <= most <= 100
    assert limiter.held_bytes == 0


async def test_a_large_request_is_not_overtaken() -> None:
    limiter = ByteLimiter(100)
    order: list[str] = []

    async def work(name: str, size_bytes: int) -> None:
        async with limiter.hold(size_bytes):
            order.append(name)

    async with anyio.create_task_group() as tasks, limiter.hold(50):
        tasks.start_soon(work, "large", 90)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(work, "small", 10)
        await anyio.wait_all_tasks_blocked()
        assert order == []
    assert order == ["large", "small"]


async def test_more_than_the_total_is_granted_alone() -> None:
    limiter = ByteLimiter(100)
    async with limiter.hold(1000):
        assert limiter.held_bytes == 100
    assert limiter.held_bytes == 0


async def test_bytes_come_back_after_an_error() -> None:
    limiter = ByteLimiter(100)
    with pytest.raises(ValueError, match="inside"):
        async with limiter.hold(100):
            raise ValueError("inside")
    assert limiter.held_bytes == 0


async def test_a_cancelled_wait_lets_those_behind_it_through() -> None:
    limiter = ByteLimiter(100)
    granted = anyio.Event()

    async def small() -> None:
        async with limiter.hold(10):
            granted.set()

    async with anyio.create_task_group() as tasks, limiter.hold(50):
        scope = anyio.CancelScope()

        async def large() -> None:
            with scope:
                async with limiter.hold(90):
                    raise AssertionError("cancelled before")

        tasks.start_soon(large)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(small)
        await anyio.wait_all_tasks_blocked()
        assert not granted.is_set()
        scope.cancel()
        await granted.wait()
    assert limiter.held_bytes == 0


async def test_a_wait_cancelled_in_the_moment_of_its_grant_gives_back() -> None:
    limiter = ByteLimiter(100)
    scope = anyio.CancelScope()

    async def late() -> None:
        with scope:
            async with limiter.hold(60):
                await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        async with limiter.hold(50):
            tasks.start_soon(late)
            await anyio.wait_all_tasks_blocked()
        # The grant was made when the block ended; the waiter has not run since.
        assert limiter.held_bytes == 60
        scope.cancel()
    assert limiter.held_bytes == 0
