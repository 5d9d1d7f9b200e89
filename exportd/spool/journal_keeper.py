"""Makes small files of the spool durable, many with one synchronization of the disk.

    <directory>/journal/<number>      what was written, one record after the other; the largest number is written to

A small file is written under its own name, and once more to the end of the journal, together with all other files that
are written at the same time. Only the journal is synchronized; the system writes the file itself to the disk at any
time. If the machine loses power before that, the file is made again from the journal when the spool is opened. When the
journal has become large, a new one is begun, the whole file system is synchronized, and the old journal is removed.

A removal is recorded before anything that comes later, so that files of an earlier attempt never come back beside those
of the next. After a crash, the last removals may be undone; the folders are then removed again later.

A record that is incomplete, or that does not match its checksum, was being written when the machine stopped. No caller
was told that it was durable, and its journal ends there. Methods block, raise OSError, and may be called by several
threads.
"""

import ctypes
import os
import struct
import threading
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import BinaryIO, Final

import structlog

from exportd.model.errors import PermanentError, Reason
from exportd.spool import folders

MAX_BYTES: Final = 16 << 20
"""A journal that has reached this size is followed by a new one."""

_CHECKSUM: Final = struct.Struct("<I")
_HEAD: Final = struct.Struct("<BIQ")
"""A record is the CRC-32 of what follows; then the change, the lengths of name and content in bytes; then both."""

# Python has no function for it. On other systems than Linux all file systems are synchronized.
_syncfs: Final = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)

_Place = tuple[int, int]
"""The number of a journal, and how many records precede the place."""

_logger = structlog.stdlib.get_logger()


class JournalChange(IntEnum):
    """The kind of a record."""

    WRITTEN = 1
    REMOVED = 2


@dataclass(frozen=True, slots=True)
class JournalRecord:
    """A file that was written, or a folder that was removed; ``name`` is relative to the spool."""

    change: JournalChange
    name: str
    content: bytes = b""

    def encode(self) -> bytes:
        name = self.name.encode()
        content = b"".join((_HEAD.pack(self.change, len(name), len(self.content)), name, self.content))
        return _CHECKSUM.pack(zlib.crc32(content)) + content


def read_records(file: BinaryIO) -> Iterator[JournalRecord]:
    """The records of a journal, up to the first incomplete one. Only one is in memory at a time.

    Raises ValueError for a complete record of a kind that this version does not know.
    """
    size_bytes = file.seek(0, os.SEEK_END)
    file.seek(0)
    while len(begin := file.read(_CHECKSUM.size + _HEAD.size)) == _CHECKSUM.size + _HEAD.size:
        (checksum,), head = _CHECKSUM.unpack_from(begin), begin[_CHECKSUM.size :]
        change, name_bytes, content_bytes = _HEAD.unpack(head)
        if name_bytes + content_bytes > size_bytes:
            return
        name, content = file.read(name_bytes), file.read(content_bytes)
        if zlib.crc32(content, zlib.crc32(name, zlib.crc32(head))) != checksum:
            return
        yield JournalRecord(JournalChange(change), name.decode(), content)


@dataclass(slots=True, eq=False)
class _Waiting:
    """A record for which a caller waits until it is durable or has failed."""

    record: JournalRecord
    is_durable: bool = False
    error: OSError | None = None


class JournalKeeper:
    """The journal of the spool in ``directory``; ``open`` it before anything is written, under the spool's lock."""

    def __init__(self, directory: Path, *, max_bytes: int = MAX_BYTES) -> None:
        self._directory = directory
        self._folder = directory / "journal"
        self._max_bytes = max_bytes
        self._file: BinaryIO | None = None
        self._number = 0
        self._dropped_below = 0
        self._waiting: list[_Waiting] = []
        self._removals: list[JournalRecord] = []
        self._list = threading.Lock()
        self._turn = threading.Lock()
        self._dropping = threading.Lock()

    def open(self) -> int:
        """Make the files again that were lost. Returns how many. Raises PermanentError SPOOL_DAMAGED for unknown
        records.
        """
        folders.make(self._folder)
        numbers = self._numbers()
        last = _last_places(self._records(numbers))
        lost = sum(self._restore(record) for place, record in self._records(numbers) if place in last)
        if lost:
            _logger.warning("files made again of the journal", files=lost)
        self._drop(numbers)
        self._number = max(numbers, default=0)
        self._dropped_below = self._number + 1
        return lost

    def close(self) -> None:
        """Close the journal. It is read when the spool is opened again."""
        with self._turn:
            self._end_file()

    def drop(self) -> None:
        """Synchronize the file system, so that the journal can be removed."""
        self.close()
        with self._dropping:
            self._drop(self._numbers())

    def write(self, path: Path, content: bytes) -> int:
        """Write a file in one go, durably, replacing one that is there. Returns by how many bytes the space on the disk
        grows.
        """
        (outcome,) = self.write_all([(path, content)])
        if isinstance(outcome, OSError):
            raise outcome
        return outcome

    def write_all(self, files: Sequence[tuple[Path, bytes]]) -> list[int | OSError]:
        """The same for several files. Returns for each the bytes, or the error with which it was not written."""
        # The files come before their records, because a journal is dropped only after its files are on the disk.
        outcomes = [_replaced(path, content) for path, content in files]
        mine = {
            place: _Waiting(self._record(JournalChange.WRITTEN, *files[place]))
            for place, outcome in enumerate(outcomes)
            if not isinstance(outcome, OSError)
        }
        with self._list:
            self._waiting += mine.values()
        with self._turn:
            # Another caller may have done it meanwhile, for all or for none.
            if any(not waiting.is_durable and waiting.error is None for waiting in mine.values()):
                self._append()
        for place, waiting in mine.items():
            outcomes[place] = waiting.error or outcomes[place]
        self._drop_old()
        return outcomes

    def note_removal(self, folder: Path) -> None:
        """Record that a folder was removed. It is durable after the next ``write`` or ``sync``.

        The journal only keeps itself from making the files again. A caller that writes into such a folder again has to
        synchronize the folder above it first, so that the disk does not bring them back either.
        """
        with self._list:
            self._removals.append(self._record(JournalChange.REMOVED, folder))

    def sync(self) -> None:
        """Make the recorded removals durable."""
        with self._turn:
            if self._removals:
                self._append()

    def _record(self, change: JournalChange, path: Path, content: bytes = b"") -> JournalRecord:
        return JournalRecord(change, path.relative_to(self._directory).as_posix(), content)

    def _append(self) -> None:
        """Write the waiting records and make them durable. An error goes to each caller that waits; without one,
        OSError is raised.
        """
        with self._list:
            removals, self._removals = self._removals, []
            together, self._waiting = self._waiting, []
        records = [*removals, *(waiting.record for waiting in together)]
        try:
            self._write(b"".join(record.encode() for record in records))
        except OSError as error:
            # The last record may be incomplete, and it is not known how much is on the disk. So nothing more is written
            # to this journal.
            self._end_file()
            with self._list:
                self._removals = [*removals, *self._removals]
            for waiting in together:
                waiting.error = OSError(error.errno, error.strerror)
            if not together:
                raise
        else:
            for waiting in together:
                waiting.is_durable = True

    def _write(self, data: bytes) -> None:
        file = self._file
        if file is None:
            self._number += 1
            path = self._folder / str(self._number)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, folders.FILE_MODE)
            file = self._file = os.fdopen(descriptor, "wb")
            folders.sync(self._folder)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
        if file.tell() >= self._max_bytes:
            self._end_file()

    def _end_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):  # closing writes what could not be written before; nothing was promised of it
                file.close()

    def _drop_old(self) -> None:
        """Drop the journals that have ended, while others may write. If this fails, nothing is lost."""
        with self._turn:
            current = self._number if self._file is not None else self._number + 1
        if current <= self._dropped_below or not self._dropping.acquire(blocking=False):
            return
        try:
            self._drop([number for number in self._numbers() if number < current])
            self._dropped_below = current
        except OSError as error:
            _logger.warning("journal not dropped", error=str(error))
        finally:
            self._dropping.release()

    def _drop(self, numbers: Sequence[int]) -> None:
        """Remove journals after synchronizing everything that they contain."""
        if not numbers:
            return
        _sync_file_system(self._folder)
        for number in numbers:
            (self._folder / str(number)).unlink()

    def _numbers(self) -> list[int]:
        return sorted(int(path.name) for path in self._folder.iterdir() if path.name.isdecimal())

    def _records(self, numbers: Sequence[int]) -> Iterator[tuple[_Place, JournalRecord]]:
        for number in numbers:
            path = self._folder / str(number)
            with path.open("rb") as file:
                try:
                    for place, record in enumerate(read_records(file)):
                        yield (number, place), record
                except ValueError as error:
                    raise PermanentError(
                        f"{path} holds a record that this version of exportd does not know. Start the later version "
                        "that wrote it and stop it again, which leaves no journal.",
                        reason=Reason.SPOOL_DAMAGED,
                    ) from error

    def _restore(self, record: JournalRecord) -> bool:
        path = self._directory / record.name
        try:
            if path.read_bytes() == record.content:
                return False
        except FileNotFoundError:
            pass
        folders.replace(path, record.content)
        return True


def _replaced(path: Path, content: bytes) -> int | OSError:
    try:
        return folders.replace(path, content)
    except OSError as error:
        return error


def _last_places(records: Iterable[tuple[_Place, JournalRecord]]) -> set[_Place]:
    """For each file the place of its last record."""
    last: defaultdict[str, dict[str, _Place]] = defaultdict(dict)
    for place, record in records:
        if record.change is JournalChange.REMOVED:
            last.pop(record.name, None)
        else:
            folder, _, name = record.name.rpartition("/")
            last[folder][name] = place
    return {place for places in last.values() for place in places.values()}


def _sync_file_system(folder: Path) -> None:
    """Write everything to the disk that the system still keeps in memory for the folder's file system."""
    if _syncfs is None:
        os.sync()
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _syncfs(descriptor):
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), str(folder))
    finally:
        os.close(descriptor)
