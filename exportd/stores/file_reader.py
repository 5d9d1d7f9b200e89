"""Streams files of this host in blocks, in threads of its own.

Opening a file on an unreachable share hangs, and cancelling does not free its thread. So files are read in separate
threads, and neither the compression of parts nor any other work has to wait for them. Handing work to a thread costs 50
to 80 µs, which is little for blocks of 1 MB.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import aiofiles
import anyio

if TYPE_CHECKING:
    from aiofiles.threadpool.binary import AsyncBufferedReader

FILE_BLOCK_BYTES = 1 << 20

_FILES = ThreadPoolExecutor(8, "files")


@asynccontextmanager
async def opened_file(
    path: Path, opener: Callable[[str, int], int] | None = None
) -> AsyncIterator["AsyncBufferedReader"]:
    """Open a file for reading until the block ends. ``opener`` is that of ``open``. Raises OSError."""
    file = await aiofiles.open(path, "rb", opener=opener, executor=_FILES)
    try:
        yield file
    finally:
        with anyio.CancelScope(shield=True):
            await file.close()


class FileWindow:
    """A file object for ``size_bytes`` of an open file from ``offset`` on. It starts at their beginning."""

    def __init__(self, file: "AsyncBufferedReader", offset: int, size_bytes: int) -> None:
        self._file = file
        self._offset = offset
        self._size_bytes = size_bytes
        self._position = 0
        self._is_there = offset == 0

    async def seek(self, position: int) -> None:
        """Continue from another offset."""
        await self._file.seek(self._offset + position)
        self._position, self._is_there = position, True

    async def read(self, length: int) -> bytes:
        """Read the next bytes, at most ``length``; none at the end. Raises OSError."""
        if not self._is_there:
            await self.seek(self._position)
        data: bytes = await self._file.read(min(length, self._size_bytes - self._position))
        self._position += len(data)
        return data


async def file_blocks(path: Path, opener: Callable[[str, int], int] | None = None) -> AsyncGenerator[bytes]:
    """The content of a file in blocks of ``FILE_BLOCK_BYTES``. Raises OSError."""
    async with opened_file(path, opener) as file:
        while block := await file.read(FILE_BLOCK_BYTES):
            yield block
