"""Calls that are made at the same time are joined."""

from collections.abc import Callable, Sequence

import anyio
import pytest

from exportd.database.call_batcher import LINGER_S, MAX_TOGETHER, CallBatcher
from exportd.model.errors import ExportdError, PermanentError, Reason, TransientError

REFUSED = PermanentError("The database refuses it.", reason=Reason.DATABASE_REFUSED)
AWAY = TransientError("The database is away.", reason=Reason.DATABASE_UNREACHABLE)


class Database:
    """Doubles numbers; ``gate`` holds calls up, and ``wrong`` numbers are refused."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.gate = anyio.Event()
        self.gate.set()
        self.wrong: dict[int, ExportdError] = {}

    async def call(self, numbers: Sequence[int]) -> list[int]:
        self.calls.append(list(numbers))
        await self.gate.wait()
        for number in numbers:
            if number in self.wrong:
                raise self.wrong[number]
        return [2 * number for number in numbers]


class FakeTime:
    """In place of anyio's time: sleeping only calls ``on_sleep``, and gives others a turn."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.slept: list[float] = []
        self.on_sleep: Callable[[], None] = lambda: None
        monkeypatch.setattr(anyio, "sleep", self._sleep)
        monkeypatch.setattr(anyio, "current_time", lambda: self.now)

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.on_sleep()
        await anyio.lowlevel.checkpoint()


async def answers_to(batcher: CallBatcher[int, int], numbers: Sequence[int]) -> dict[int, int | ExportdError]:
    found: dict[int, int | ExportdError] = {}

    async def ask(number: int) -> None:
        try:
            found[number] = await batcher.ask(number)
        except ExportdError as error:
            found[number] = error

    async with anyio.create_task_group() as tasks:
        for number in numbers:
            tasks.start_soon(ask, number)
    return found


async def test_what_is_asked_at_once_goes_together() -> None:
    database = Database()
    assert await answers_to(CallBatcher(database.call), range(7)) == {number: 2 * number for number in range(7)}
    assert database.calls == [list(range(7))]


async def test_what_is_asked_meanwhile_goes_with_the_next_call() -> None:
    database, found = Database(), list[int]()
    batcher = CallBatcher(database.call)

    async def ask(number: int) -> None:
        found.append(await batcher.ask(number))

    database.gate = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask, 1)
        await anyio.wait_all_tasks_blocked()
        for number in (2, 3):
            tasks.start_soon(ask, number)
        await anyio.wait_all_tasks_blocked()
        assert database.calls == [[1]]
        database.gate.set()
    assert (database.calls, sorted(found)) == ([[1], [2, 3]], [2, 4, 6])


async def test_where_many_have_asked_the_next_call_waits_as_long_as_others_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    database, clock = Database(), FakeTime(monkeypatch)
    batcher = CallBatcher(database.call)
    await answers_to(batcher, (1, 2))
    numbers = iter((4, 5))
    async with anyio.create_task_group() as tasks:

        def come() -> None:
            for number in numbers:
                tasks.start_soon(batcher.ask, number)
                return

        clock.on_sleep = come
        await batcher.ask(3)
    assert (database.calls, clock.slept) == ([[1, 2], [3, 4, 5]], [LINGER_S] * 3)


async def test_one_that_asks_alone_waits_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    database, clock = Database(), FakeTime(monkeypatch)
    batcher = CallBatcher(database.call)
    for number in (1, 2):
        assert await batcher.ask(number) == 2 * number
    assert clock.slept == []
    await answers_to(batcher, (3, 4))
    await batcher.ask(5)
    assert clock.slept == [LINGER_S]
    clock.now += 3600  # the others are gone
    await batcher.ask(6)
    assert (clock.slept, database.calls) == ([LINGER_S], [[1], [2], [3, 4], [5], [6]])


async def test_it_does_not_wait_for_ever_where_others_keep_coming(monkeypatch: pytest.MonkeyPatch) -> None:
    database, clock = Database(), FakeTime(monkeypatch)
    batcher = CallBatcher(database.call)
    await answers_to(batcher, (1, 2))
    async with anyio.create_task_group() as tasks:

        def come() -> None:
            if len(database.calls) < 2:
                tasks.start_soon(batcher.ask, 4)

        clock.on_sleep = come
        await batcher.ask(3)
    assert database.calls[1][:3] == [3, 4, 4]
    assert sum(clock.slept) < 1


async def test_a_call_is_bounded() -> None:
    database = Database()
    assert len(await answers_to(CallBatcher(database.call), range(MAX_TOGETHER + 1))) == MAX_TOGETHER + 1
    assert [len(call) for call in database.calls] == [MAX_TOGETHER, 1]


async def test_what_is_refused_is_so_for_the_one_at_fault_only() -> None:
    database = Database()
    database.wrong[2] = REFUSED
    assert await answers_to(CallBatcher(database.call), [1, 2, 3]) == {1: 2, 2: REFUSED, 3: 6}


async def test_a_database_that_is_away_is_so_for_all() -> None:
    database = Database()
    database.wrong[2] = AWAY
    batcher = CallBatcher(database.call)
    assert await answers_to(batcher, [1, 2, 3]) == dict.fromkeys((1, 2, 3), AWAY)
    assert len(database.calls) == 1
    database.wrong.clear()
    assert await batcher.ask(4) == 8


async def test_one_that_is_cancelled_keeps_no_other_waiting() -> None:
    database, found = Database(), list[int]()
    batcher = CallBatcher(database.call)
    database.gate = anyio.Event()
    first, waiting = anyio.CancelScope(), anyio.CancelScope()

    async def ask(number: int, scope: anyio.CancelScope) -> None:
        with scope:
            found.append(await batcher.ask(number))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask, 1, first)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(ask, 2, waiting)
        tasks.start_soon(ask, 3, anyio.CancelScope())
        await anyio.wait_all_tasks_blocked()
        first.cancel()  # its call has gone out, and is waited for
        waiting.cancel()
        await anyio.wait_all_tasks_blocked()
        database.gate.set()
    assert database.calls == [[1], [3]]
    assert 6 in found
    assert 4 not in found


async def test_a_database_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exportd.database.call_batcher.CALL_TIMEOUT_S", 0.01)
    database = Database()
    database.gate = anyio.Event()
    found = await answers_to(CallBatcher(database.call), [1, 2])
    assert {error.reason for error in found.values() if isinstance(error, TransientError)} == {
        Reason.DATABASE_UNREACHABLE
    }
    assert len(found) == 2
