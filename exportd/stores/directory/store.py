"""Delivers to a directory: a mounted share, or the hand-over point of another program.

Objects are files below the root. ``files`` knows the layout, and handles durability and modes. This module runs it in
worker threads, reads objects by ``file_blocks``, and translates errors.

Few calls run at a time while they are quick, more when they wait. Threads that run Python at the same time compete for
the interpreter: each system call releases it, and with forty threads, getting it back took four times the CPU of the
work itself. A call that waits for a slow share needs no interpreter, so a call that takes long does not count any more.

A share may also hang. Its calls then occupy the threads of one store, and none that the rest of the daemon uses.
"""

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar

import anyio
import anyio.to_thread

from exportd.stores.directory.files import DirectoryFiles, translated
from exportd.stores.file_reader import file_blocks
from exportd.stores.layout import ObjectKey
from exportd.stores.store import ObjectInfo, Piece, StoreLimits, Upload

T = TypeVar("T")

QUICK_CALLS: Final = 2
"""How many calls that have not taken long yet run at a time, in all stores together."""

LONG_S: Final = 0.1

MAX_CALLS: Final = 32
"""How many calls of one store run at a time."""


class CallTurns:
    """Decides when calls may begin. One instance serves all stores of a daemon."""

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
        """Run the call and return its result. Raises what it raises. A cancellation waits until the call has ended."""
        async with self._calls, self._turns.turn():
            return await anyio.to_thread.run_sync(call, limiter=self._turns.threads)


class DirectoryStore:
    """A store in the directory ``root``, which has to exist, so that nothing is written when a share is not mounted.
    ``turns`` are shared by all stores.
    """

    def __init__(self, root: Path, *, turns: CallTurns | None = None, piece_bytes: int = 8 << 20) -> None:
        self._root = root
        self.name = f"the directory {root}"
        self.limits = StoreLimits(piece_bytes=piece_bytes, max_pieces=1_000_000)
        self._files = DirectoryFiles(root, name=self.name)
        self._calls = CallRunner(turns or CallTurns())

    async def start(self, key: ObjectKey) -> Upload:
        return await self._run(lambda: self._files.start(key), doing=f"starting {key}")

    async def piece(self, upload: Upload, number: int, data: bytes) -> Piece:
        offset = (number - 1) * self.limits.piece_bytes
        await self._run(lambda: self._files.write_piece(upload, data, offset), doing=f"writing {upload.key}")
        return Piece(number, len(data))

    async def pieces(self, upload: Upload) -> Sequence[Piece]:
        """Always empty: a file does not show which of its pieces were written, and writing them again is cheap."""
        await self._run(lambda: self._files.require_upload(upload), doing=f"looking at {upload.key}")
        return ()

    def recognise(self, piece: Piece, data: bytes) -> Piece | None:
        """Never needed, because ``pieces`` finds none."""
        return None

    async def complete(self, upload: Upload, pieces: Sequence[Piece], tail: bytes) -> ObjectInfo:
        size_bytes = len(pieces) * self.limits.piece_bytes + len(tail)
        return await self._run(lambda: self._files.complete(upload, tail, size_bytes), doing=f"completing {upload.key}")

    async def abort(self, upload: Upload) -> None:
        await self._run(lambda: self._files.remove_upload(upload), doing=f"aborting {upload.key}")

    async def put(self, key: ObjectKey, data: bytes) -> ObjectInfo:
        (info,) = await self._run(lambda: self._files.put_all([(key, data)]), doing=f"writing {key}")
        return info

    async def put_all(self, objects: Sequence[tuple[ObjectKey, bytes]]) -> Sequence[ObjectInfo]:
        first = objects[0][0]
        return await self._run(lambda: self._files.put_all(objects), doing=f"writing {first} and others beside it")

    async def head(self, key: ObjectKey) -> ObjectInfo | None:
        return await self._run(lambda: self._files.head(key), doing=f"looking at {key}")

    async def read(self, key: ObjectKey) -> AsyncGenerator[bytes]:
        async with aclosing(file_blocks(self._root / key, lambda *_: self._files.open_object(key))) as blocks:
            while True:
                with translated(root=self._root, doing=f"reading {key}"):
                    block = await anext(blocks, b"")
                if not block:
                    return
                yield block

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        for info in await self._run(lambda: self._files.find(prefix), doing="listing objects"):
            yield info

    async def delete(self, key: ObjectKey) -> None:
        await self._run(lambda: self._files.delete(key), doing=f"deleting {key}")

    async def list_uploads(self, prefix: str) -> AsyncIterator[Upload]:
        for upload in await self._run(self._files.uploads, doing="listing uploads"):
            if upload.key.startswith(prefix):
                yield upload

    async def aclose(self) -> None:
        """Nothing is kept open."""

    async def _run(self, work: Callable[[], T], *, doing: str) -> T:
        with translated(root=self._root, doing=doing):
            return await self._calls.run(work)
