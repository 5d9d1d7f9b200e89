"""Bytes in flight are bounded, granted in order, and given back whatever happens."""

from random import Random

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exportd.delivery.byte_limiter import ByteLimiter


async def test_no_more_than_the_total_is_held() -> None:
    limiter = ByteLimiter(100)
    most = 0

    async def work(owner: int, size_bytes: int) -> None:
        nonlocal most
        async with limiter.hold(size_bytes, owner=owner):
            most = max(most, limiter.held_bytes)
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        for number, size_bytes in enumerate((60, 50, 40, 10, 100, 30, 30, 30, 30)):
            tasks.start_soon(work, number % 4, size_bytes)
    assert 60 <= most <= 100
    assert limiter.held_bytes == 0


async def test_a_large_request_is_not_overtaken() -> None:
    limiter = ByteLimiter(100)
    order: list[str] = []

    async def work(name: str, size_bytes: int) -> None:
        async with limiter.hold(size_bytes, owner=name):
            order.append(name)

    async with anyio.create_task_group() as tasks, limiter.hold(50, owner="first"):
        tasks.start_soon(work, "large", 90)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(work, "small", 10)
        await anyio.wait_all_tasks_blocked()
        assert order == []
    assert order == ["large", "small"]


async def test_more_than_the_total_is_granted_alone() -> None:
    limiter = ByteLimiter(100)
    async with limiter.hold(1000, owner="one"):
        assert limiter.held_bytes == 100
    assert limiter.held_bytes == 0


async def test_bytes_come_back_after_an_error() -> None:
    limiter = ByteLimiter(100)
    with pytest.raises(ValueError, match="inside"):
        async with limiter.hold(100, owner="one"):
            raise ValueError("inside")
    assert limiter.held_bytes == 0


async def test_a_cancelled_wait_lets_those_behind_it_through() -> None:
    limiter = ByteLimiter(100)
    granted = anyio.Event()

    async def small() -> None:
        async with limiter.hold(10, owner="small"):
            granted.set()

    async with anyio.create_task_group() as tasks, limiter.hold(50, owner="first"):
        scope = anyio.CancelScope()

        async def large() -> None:
            with scope:
                async with limiter.hold(90, owner="large"):
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
            async with limiter.hold(60, owner="late"):
                await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        async with limiter.hold(50, owner="first"):
            tasks.start_soon(late)
            await anyio.wait_all_tasks_blocked()
        # The grant was made when the block ended; the waiter has not run since.
        assert limiter.held_bytes == 60
        scope.cancel()
    assert limiter.held_bytes == 0


async def test_a_slow_owner_leaves_as_much_to_the_others_as_it_holds() -> None:
    limiter = ByteLimiter(100)
    granted: list[str] = []
    release = anyio.Event()

    async def work(owner: str) -> None:
        async with limiter.hold(10, owner=owner):
            granted.append(owner)
            await release.wait()

    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(work, "slow")
        await anyio.wait_all_tasks_blocked()
        assert granted == ["slow"] * 5
        for _ in range(10):
            tasks.start_soon(work, "fast")
        await anyio.wait_all_tasks_blocked()
        assert granted.count("fast") >= 2
        release.set()
    assert granted.count("slow") == granted.count("fast") == 10
    assert limiter.held_bytes == 0


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(min_value=0, max_value=150)), max_size=30),
    st.randoms(use_true_random=False),
)
def test_everybody_is_served_whatever_is_asked(asked: list[tuple[str, int]], chance: Random) -> None:
    async def play() -> None:
        limiter = ByteLimiter(100)
        served = 0

        async def work(owner: str, size_bytes: int) -> None:
            nonlocal served
            async with limiter.hold(size_bytes, owner=owner):
                assert limiter.held_bytes <= 100
                for _ in range(chance.randrange(3)):
                    await anyio.lowlevel.checkpoint()
            served += 1

        async with anyio.create_task_group() as tasks:
            for owner, size_bytes in asked:
                tasks.start_soon(work, owner, size_bytes)
        assert (served, limiter.held_bytes) == (len(asked), 0)

    anyio.run(play)
