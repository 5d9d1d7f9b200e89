"""When a job counts as one that stalls. The event loop's time is moved by hand."""

import asyncio
from collections.abc import Callable

import pytest

from exportd.extraction import silence_watcher
from exportd.extraction.silence_watcher import SilenceWatcher
from exportd.model.entity import EntityCode
from exportd.model.job import JobProgress

BILLS, COINS = EntityCode("BILLS"), EntityCode("COINS")
MEGABYTE = 1_000_000


class MovableLoop:
    """The time and the timers of an event loop."""

    def __init__(self) -> None:
        self._running = asyncio.get_running_loop()
        self._now = self._running.time()
        self._timers: list[asyncio.TimerHandle] = []

    def time(self) -> float:
        return self._now

    def call_later(self, delay: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        self._timers.append(asyncio.TimerHandle(self._now + delay, callback, (), self._running))
        return self._timers[-1]

    def pass_by(self, seconds: float) -> None:
        until = self._now + seconds
        while due := [timer for timer in self._timers if timer.when() <= until and not timer.cancelled()]:
            timer = min(due, key=asyncio.TimerHandle.when)
            self._timers.remove(timer)
            self._now = timer.when()
            timer._run()
        self._now = until


@pytest.fixture
async def loop(monkeypatch: pytest.MonkeyPatch) -> MovableLoop:
    loop = MovableLoop()
    monkeypatch.setattr(silence_watcher, "running_loop", lambda: loop)
    return loop


async def test_silence_is_told_and_forgotten_when_the_rows_come(loop: MovableLoop) -> None:
    progress = JobProgress()
    heard: list[int] = []
    progress.on_stall = lambda: heard.append(len(progress.stalls))
    with SilenceWatcher(timeout_s=600, progress=progress).reading(BILLS) as silence:
        loop.pass_by(14.9)
        assert not progress.stalls
        loop.pass_by(300)
        (stall,) = progress.stalls
        assert stall.entities == (BILLS,)
        assert "next to nothing for 15 s" in stall.sentence
        for _ in range(5):
            silence.received(4 * MEGABYTE)
            silence.resumed()
            loop.pass_by(0.1)
        assert not progress.stalls, "a sort is forgotten when its rows come"
    assert heard == [1, 0]


async def test_rows_that_drip_are_like_none_and_steady_ones_are_not(loop: MovableLoop) -> None:
    for size_bytes, stalls in ((8192, True), (6 * MEGABYTE, False)):
        progress = JobProgress()
        with SilenceWatcher(timeout_s=600, progress=progress).reading(BILLS) as silence:
            for _ in range(10):
                loop.pass_by(5)
                silence.received(size_bytes)
                silence.resumed()
            assert bool(progress.stalls) == stalls
        assert not progress.stalls


async def test_what_the_spool_takes_is_not_the_servers_time(loop: MovableLoop) -> None:
    progress = JobProgress()
    with SilenceWatcher(timeout_s=600, progress=progress).reading(BILLS) as silence:
        silence.received(8192)
        loop.pass_by(300)
        assert not progress.stalls
        silence.resumed()
        loop.pass_by(15)
        assert progress.stalls


async def test_many_sleeps_are_like_a_long_one_and_no_entity_stalls_for_another(loop: MovableLoop) -> None:
    progress = JobProgress()
    watcher = SilenceWatcher(timeout_s=600, progress=progress)
    with watcher.reading(BILLS):
        loop.pass_by(60)
    with watcher.reading(COINS):
        loop.pass_by(2.9)
        assert not progress.stalls
        loop.pass_by(0.2)
        assert [stall.entities for stall in progress.stalls] == [(COINS,)]
