"""One entity's files, written one after the other. Blocking: runs in a worker thread, one call at a time.

Rows go in with ``feed``; each call reports what happened to the files. A file is started when the first row (or the
end) arrives, gets the header, takes blocks as long as the file with its trailer stays within the cap, and is made
durable under its final name before the next one is started. What is small as a whole can be kept in one file with the
small parts of other entities instead: ``close_into``.

A block is compressed first, and written only if the file then stays within the cap. Otherwise the largest prefix of
whole rows that fits is written, and the rest begins the next file. So the cap is never exceeded, except by a row that
is larger than the cap by itself: it gets a file of its own.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from exportd.model.entity import EntityCode
from exportd.model.job import Part
from exportd.model.schedule import ExportFormat
from exportd.spool import folders
from exportd.spool.folders import partial_path
from exportd.spool.part_content import (
    TRAILER_BYTES,
    GzipStream,
    compress_block,
    count_rows,
    first_row,
    whole_rows,
)
from exportd.spool.part_files import PartLocation, SmallPartsWriter

# At most this many times the remaining room of the file is compressed in one attempt. So little work is wasted on a
# file that is nearly full, however small the cap is.
_BOLDNESS = 8
# A prefix is estimated from the block's own ratio, minus a little, because its beginning may compress worse.
_CAUTION = 0.97


@dataclass(frozen=True, slots=True)
class FileChange:
    """A file was started, grew, or was finished (``part`` is then set); ``location`` has what is written of it."""

    number: int
    location: PartLocation
    part: Part | None = None


@dataclass(frozen=True, slots=True)
class Fed:
    """What a call has done: the changes of each file, in order, and the totals of the call.

    ``taken_bytes`` is the space on the disk that the ``written_bytes`` take. ``free_bytes`` is the free space of the
    disk; None when no file is open.
    """

    changes: tuple[FileChange, ...]
    rows: int
    content_bytes: int
    written_bytes: int
    taken_bytes: int
    free_bytes: int | None


@dataclass(slots=True)
class _OpenFile:
    number: int
    path: Path
    file: BinaryIO
    stream: GzipStream
    digest: "hashlib._Hash"
    rows: int = 0
    size_bytes: int = 0


class PartSequence:
    """The files of one entity. ``path_of`` gives the final path of the part with a number."""

    def __init__(
        self,
        *,
        entity: EntityCode,
        file_format: ExportFormat,
        header: bytes,
        cap_bytes: int,
        path_of: Callable[[int], Path],
    ) -> None:
        self._entity = entity
        self._format = file_format
        self._header = header
        self._cap_bytes = cap_bytes
        self._path_of = path_of
        self._open: _OpenFile | None = None
        self._parts: list[Part] = []
        self._changes: list[FileChange] = []
        self._rows = 0
        self._content_bytes = 0
        self._written_bytes = 0
        self._taken_bytes = 0
        self._small_parts: SmallPartsWriter | None = None

    @property
    def parts(self) -> tuple[Part, ...]:
        """The finished parts."""
        return tuple(self._parts)

    def feed(self, chunks: Sequence[bytes]) -> Fed:
        """Write whole rows. Raises OSError."""
        self._write_all(chunks)
        return self._report()

    def close(self, chunks: Sequence[bytes] = ()) -> Fed:
        """Write the last whole rows and finish the last file; an entity without rows still gets one. Raises OSError.

        The last file's name is durable only when its folder has been synchronized.
        """
        self._write_all(chunks)
        if self._open is None and not self._parts:
            self._start_file()
        if self._open is not None:
            self._finish_file(self._open, syncs_name=False)
        return self._report()

    def close_into(self, small_parts: SmallPartsWriter, chunks: Sequence[bytes]) -> Fed:
        """As ``close``, but an entity of which nothing was written yet is kept with the small parts of others, and
        becomes durable with them.
        """
        if self._open is None and not self._parts:
            self._small_parts = small_parts
            if not any(chunks):
                self._add_empty(small_parts)
        return self.close(chunks)

    def _add_empty(self, small_parts: SmallPartsWriter) -> None:
        """Add the part of an entity without rows. It is made once for each header, because most entities of a small job
        have no rows.
        """
        content, sha256 = _empty_file(self._header)
        path, size_bytes = self._path_of(1), len(content)
        part = Part(self._entity, 1, path.name, 0, len(self._header), size_bytes, sha256)
        self._parts.append(part)
        self._content_bytes += len(self._header)
        self._written_bytes += size_bytes
        self._changes.append(FileChange(1, small_parts.add(path.name, content), part))

    def _write_all(self, chunks: Sequence[bytes]) -> None:
        data = b"".join(chunks)
        while data:
            taken = self._take_rows(data)
            data = data[taken:] if taken < len(data) else b""

    def discard(self) -> None:
        """Remove every file of this sequence. Never raises: it is called when something else failed."""
        if self._open is not None:
            # Closing writes what is left in the buffer, which fails on a full disk; it is closed all the same.
            with suppress(OSError):
                self._open.file.close()
            _unlink_quietly(partial_path(self._open.path))
            # The file may have been renamed before something failed.
            _unlink_quietly(self._open.path)
            self._open = None
        for part in self._parts:
            _unlink_quietly(self._path_of(part.number))
        if self._small_parts is not None:
            # The small parts of other entities are removed with it: the files of a job are aborted together.
            _unlink_quietly(partial_path(self._small_parts.path))
            _unlink_quietly(self._small_parts.path)
        self._parts.clear()

    def _take_rows(self, data: bytes) -> int:
        """Write the rows at the beginning of ``data`` that fit, or start the next file; bytes written."""
        file = self._open or self._start_file()
        room = self._cap_bytes - TRAILER_BYTES - file.size_bytes
        rows = data[: self._bold_length(data, room)]
        compressed = compress_block(rows)
        while len(compressed) > room and (fewer := self._fewer(rows, room, len(compressed))):
            rows = rows[:fewer]
            compressed = compress_block(rows)
        fits = len(compressed) <= room
        if not fits and file.rows:
            self._finish_file(file)
            return 0
        # A file without rows takes its first row whatever its size.
        self._write_rows(file, rows, compressed)
        return len(rows)

    def _bold_length(self, data: bytes, room: int) -> int:
        limit = room * _BOLDNESS
        if len(data) <= limit:
            return len(data)
        return whole_rows(data, limit, self._format) or first_row(data, self._format)

    def _fewer(self, rows: bytes, room: int, compressed_bytes: int) -> int:
        """The length of a shorter prefix of ``rows`` that ought to fit; 0 when ``rows`` is one row."""
        limit = min(int(len(rows) * max(room, 0) / compressed_bytes * _CAUTION), len(rows) - 1)
        fewer = whole_rows(rows, limit, self._format) or first_row(rows, self._format)
        return fewer if fewer < len(rows) else 0

    def _start_file(self) -> _OpenFile:
        number = len(self._parts) + 1
        path = self._path_of(number)
        file = folders.create(partial_path(path)) if self._small_parts is None else BytesIO()
        opened = _OpenFile(number, path, file, GzipStream(), hashlib.sha256())
        self._open = opened
        self._write(opened, opened.stream.header())
        if self._header:
            self._write(opened, compress_block(self._header))
            opened.stream.accept(self._header)
            self._content_bytes += len(self._header)
        self._note(opened)
        return opened

    def _write_rows(self, file: _OpenFile, rows: bytes, compressed: bytes) -> None:
        count = count_rows(rows, self._format)
        self._write(file, compressed)
        file.stream.accept(rows)
        file.rows += count
        self._rows += count
        self._content_bytes += len(rows)
        self._note(file)

    def _write(self, file: _OpenFile, data: bytes) -> None:
        file.digest.update(data)
        before = folders.disk_bytes(file.size_bytes)
        file.size_bytes += len(data)
        if self._small_parts is None:  # they are counted when they are written, together
            self._taken_bytes += folders.disk_bytes(file.size_bytes) - before
        self._written_bytes += len(data)
        file.file.write(data)

    def _finish_file(self, file: _OpenFile, *, syncs_name: bool = True) -> None:
        self._write(file, file.stream.trailer())
        location = PartLocation(file.path, 0, file.size_bytes)
        if self._small_parts is None:
            folders.finish(file.file, file.path, syncs_name=syncs_name)
        else:
            file.file.seek(0)
            location = self._small_parts.add(file.path.name, file.file.read())
        part = Part(
            entity=self._entity,
            number=file.number,
            file_name=file.path.name,
            rows=file.rows,
            content_bytes=file.stream.content_bytes,
            size_bytes=file.size_bytes,
            sha256=file.digest.hexdigest(),
        )
        self._parts.append(part)
        self._open = None
        self._changes.append(FileChange(file.number, location, part))

    def _note(self, file: _OpenFile) -> None:
        if self._small_parts is None:
            self._changes.append(FileChange(file.number, PartLocation(file.path, 0, file.size_bytes)))

    def _report(self) -> Fed:
        """Return what has happened since the last report. The announced bytes are in the file by then."""
        free_bytes = None
        if self._open is not None and self._small_parts is None:
            self._open.file.flush()
            disk = os.fstatvfs(self._open.file.fileno())
            free_bytes = disk.f_bavail * disk.f_frsize
        written = (self._rows, self._content_bytes, self._written_bytes, self._taken_bytes)
        fed = Fed(tuple(self._changes), *written, free_bytes)
        self._changes.clear()
        self._rows = self._content_bytes = self._written_bytes = self._taken_bytes = 0
        return fed


@lru_cache(maxsize=1024)
def _empty_file(header: bytes) -> tuple[bytes, str]:
    """A file without rows, and its SHA-256."""
    stream = GzipStream()
    begin = stream.header()
    if header:
        begin += compress_block(header)
        stream.accept(header)
    content = begin + stream.trailer()
    return content, hashlib.sha256(content).hexdigest()


def _unlink_quietly(path: Path) -> None:
    with suppress(OSError):  # left for the sweep at the next start
        path.unlink(missing_ok=True)
