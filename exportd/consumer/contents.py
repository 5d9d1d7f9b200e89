"""Examines the content of an object chunk by chunk: memory does not grow with the file. Pure (computation only).

A record of CSV ends at a newline outside quotes; ``deleted``, the last cell, is never quoted. JSONL ends ``deleted``
and the record with ``"deleted":true}`` and a newline, which no text inside of a record can hold.
"""

import csv
import hashlib
import zlib
from dataclasses import dataclass
from types import ModuleType

from exportd.model.schedule import ExportFormat

codec: ModuleType
try:
    from isal import isal_zlib

    codec = isal_zlib
except ImportError:
    codec = zlib

_GZIP = 31
_BLOCK_BYTES = 1 << 20
_MAX_HEADER_BYTES = 1 << 20

_DELETED = {ExportFormat.CSV: b",true\n", ExportFormat.JSONL: b'"deleted":true}\n'}


@dataclass(frozen=True, slots=True)
class Contents:
    """The content of an object. ``problem`` says why the rest could not be read; the counts are then those of the
    readable part.
    """

    size_bytes: int
    sha256: str
    content_bytes: int
    rows: int
    deleted_rows: int
    header: tuple[str, ...] | None
    """The names in the header line of CSV, None for JSONL."""
    problem: str | None


class Examination:
    """Examines an object's bytes: call ``feed`` for each chunk, then ask for the ``contents``.

    Content beyond ``max_content_bytes`` is a problem, and is not decompressed: a small object can hold terabytes.
    """

    def __init__(self, file_format: ExportFormat, *, max_content_bytes: int | None = None) -> None:
        self._max_content_bytes = max_content_bytes
        self._digest = hashlib.sha256()
        self._size_bytes = 0
        self._gzip = codec.decompressobj(_GZIP)
        self._problem: str | None = None
        self._records = _Records(file_format)

    def feed(self, data: bytes) -> None:
        self._digest.update(data)
        self._size_bytes += len(data)
        if self._problem is None:
            try:
                self._decompress(data)
            except _TooLongError:
                self._problem = f"holds more than the {self._max_content_bytes} bytes that the manifest says"
            except codec.error as error:
                self._problem = f"is no gzip file that can be read to its end ({error})"

    def contents(self) -> Contents:
        problem = self._problem
        if problem is None and not self._gzip.eof:
            problem = "is cut off: its gzip stream has no end"
        records = self._records
        if problem is None and records.inside_of_one:
            problem = "ends inside of a record"
        return Contents(
            size_bytes=self._size_bytes,
            sha256=self._digest.hexdigest(),
            content_bytes=records.content_bytes,
            rows=records.rows,
            deleted_rows=records.deleted_rows,
            header=records.header,
            problem=problem,
        )

    def _decompress(self, data: bytes) -> None:
        while data:
            if self._gzip.eof:
                # Several gzip members one after the other are one file.
                self._gzip = codec.decompressobj(_GZIP)
            # In blocks: a decompression bomb must not exhaust the memory.
            self._take(self._gzip.decompress(data, _BLOCK_BYTES))
            data = self._gzip.unused_data if self._gzip.eof else self._gzip.unconsumed_tail
            if not data and not self._gzip.eof:
                while block := self._gzip.decompress(b"", _BLOCK_BYTES):
                    self._take(block)
                data = self._gzip.unused_data if self._gzip.eof else b""

    def _take(self, block: bytes) -> None:
        self._records.feed(block)
        if self._max_content_bytes is not None and self._records.content_bytes > self._max_content_bytes:
            raise _TooLongError


class _TooLongError(Exception):
    """The content is longer than allowed."""


class _Records:
    """Counts records, and those of them that are deletions."""

    def __init__(self, file_format: ExportFormat) -> None:
        self._format = file_format
        self._deleted = _DELETED[file_format]
        self._lines = 0
        self._quoted = False
        self._tail = b""
        self._start = bytearray()
        self._last = b""
        self.content_bytes = 0
        self.deleted_rows = 0

    @property
    def rows(self) -> int:
        return max(0, self._lines - (self._format is ExportFormat.CSV))

    @property
    def inside_of_one(self) -> bool:
        return self._quoted or self._last not in {b"", b"\n"}

    @property
    def header(self) -> tuple[str, ...] | None:
        if self._format is ExportFormat.JSONL:
            return None
        line, end, _ = bytes(self._start).partition(b"\n")
        return tuple(next(csv.reader([line.decode(errors="replace")]), ())) if end else ()

    def feed(self, block: bytes) -> None:
        if not block:
            return
        self.content_bytes += len(block)
        self._last = block[-1:]
        if self._format is ExportFormat.CSV:
            if len(self._start) < _MAX_HEADER_BYTES:
                self._start += block[: _MAX_HEADER_BYTES - len(self._start)]
            block = self._outside_of_quotes(block)
        self._lines += block.count(b"\n")
        # The record that ends here may have begun in the previous block.
        self.deleted_rows += (self._tail + block).count(self._deleted)
        self._tail = (self._tail + block)[1 - len(self._deleted) :]

    def _outside_of_quotes(self, block: bytes) -> bytes:
        if b'"' not in block:
            return b"" if self._quoted else block
        pieces = block.split(b'"')
        outside = b"".join(pieces[self._quoted :: 2])
        self._quoted ^= len(pieces) % 2 == 0
        return outside
