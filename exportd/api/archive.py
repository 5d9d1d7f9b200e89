"""A job's files as one zip archive, made while it is sent: nothing is written, and memory is constant.

The parts are compressed already and are stored as they are.
"""

import zipfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import IO, cast

import anyio
import anyio.to_thread

_PIECE_BYTES = 256 * 1024


class _Outlet:
    """What zipfile writes to: it cannot seek, and hands out what it got."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def taken(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


async def zipped(folder: Path, names: Sequence[str]) -> AsyncIterator[bytes]:
    """The bytes of an archive of these files of a folder. Raises OSError when one of them cannot be read."""
    outlet = _Outlet()
    with zipfile.ZipFile(cast("IO[bytes]", outlet), "w", zipfile.ZIP_STORED) as archive:
        for name in names:
            async with await anyio.open_file(folder / name, "rb") as source:
                with archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as entry:
                    while piece := await source.read(_PIECE_BYTES):
                        # The checksum over it takes long enough to keep others waiting.
                        await anyio.to_thread.run_sync(entry.write, piece)
                        yield outlet.taken()
            yield outlet.taken()
    yield outlet.taken()
