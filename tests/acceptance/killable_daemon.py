"""A daemon that is killed at a given step of its work: before the n-th change of a file, or around a job's query or a
request to a bucket.

The steps are counted from a signal on. Otherwise it does what ``exportd run`` does. Python's audit hooks report every
file that is opened, renamed or removed, so the code under test knows nothing of the counting.
"""

import functools
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from exportd.jobs.job_table import JobTable
from exportd.stores.gcs.requester import GcsRequester
from exportd.stores.gcs.store import GcsStore
from exportd.stores.gcs.uploader import QUANTUM_BYTES
from exportd.stores.s3 import options
from exportd.stores.s3.store import S3Store
from tests.fixtures.forked_process import run_logged_daemon
from tests.fixtures.swift import SMALL_PIECE_BYTES

COUNT_FROM_NOW = signal.SIGUSR1

_CHANGES: dict[str, tuple[tuple[int, int | None], ...]] = {
    "open": ((0, None),),
    "os.rename": ((0, 2), (1, 3)),
    "os.remove": ((0, 1),),
    "os.link": ((1, 3),),
    "os.mkdir": ((0, 2),),
    "os.rmdir": ((0, 1),),
    "os.chmod": ((0, 2),),
}
"""The events of files, and where in their arguments the paths are, each with the folder that it begins in, if there is
one: a file descriptor, or -1.
"""
_QUERIES = ("seal", "publishing", "record_delivery", "succeed", "put_back", "fail")

_REQUESTS: tuple[tuple[type, str], ...] = ((S3Store, "_call"), (GcsRequester, "send"))


def run_until_step(config: Path, log: Path, folders: tuple[Path, ...], step: int) -> None:
    """Run the daemon; after the signal, die at step ``step`` (from 1) that concerns ``folders`` or the job's row."""
    counter = _Counter(step)
    signal.signal(COUNT_FROM_NOW, lambda *_: counter.start())
    roots = tuple(f"{folder}/" for folder in folders)

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _CHANGES:
            return
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return
        if any(path.startswith(roots) for path in _paths(event, arguments)):
            counter.step()

    for name in _QUERIES:
        setattr(JobTable, name, _counted(getattr(JobTable, name), counter))
    options.piece_bytes_for = _small_pieces
    if GcsStore.__init__.__kwdefaults__ is not None:
        GcsStore.__init__.__kwdefaults__["piece_bytes"] = QUANTUM_BYTES
    for owner, name in _REQUESTS:
        setattr(owner, name, _counted(getattr(owner, name), counter))
    sys.addaudithook(watch)
    run_logged_daemon(config, log)


def _paths(event: str, arguments: tuple[Any, ...]) -> Iterator[str]:
    for at, folder_at in _CHANGES[event]:
        path = arguments[at]
        if not isinstance(path, str | bytes | os.PathLike):
            continue  # a file that is already open comes as a number
        folder = -1 if folder_at is None else arguments[folder_at]
        yield os.fsdecode(path) if folder < 0 else f"{Path(f'/proc/self/fd/{folder}').readlink()}/{os.fsdecode(path)}"


def _small_pieces(largest_file_bytes: int) -> int:
    """Small pieces, so that few bytes make many of them."""
    return SMALL_PIECE_BYTES


class _Counter:
    def __init__(self, last: int) -> None:
        self._last = last
        self._steps = 0
        self._started = False
        self._lock = threading.Lock()

    def start(self) -> None:
        self._started = True

    def step(self) -> None:
        if not self._started:
            return
        with self._lock:
            self._steps += 1
            if self._steps == self._last:
                os.kill(os.getpid(), signal.SIGKILL)


def _counted(method: Callable[..., Awaitable[Any]], counter: _Counter) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(method)
    async def counted(*arguments: Any, **named: Any) -> Any:
        counter.step()
        result = await method(*arguments, **named)
        counter.step()
        return result

    return counted
