"""The files of a job's parts: while they grow, finished, and the small ones together in one.

    <job's folder>/<file name>          a part; `.partial` is appended until it is finished
    <job's folder>/small_parts.zip      a plain archive: each part is a member, stored as it is; it costs the disk one
                                        file's space, name and synchronization

A part is in a file of its own or in the archive; ``find_parts`` finds it. After a crash a part is delivered only if
``verify`` finds it to be as it was sealed. Calls that touch files block and raise OSError, unless they say otherwise.
"""

import errno
import hashlib
import io
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread

from exportd.model.entity import EntityCode
from exportd.model.errors import PermanentError, Reason, TransientError
from exportd.model.job import Part
from exportd.spool.folders import partial_path
from exportd.spool.journal_keeper import JournalKeeper

ARCHIVE_NAME: Final = "small_parts.zip"

# Of a member's header, without name and extra field (APPNOTE.TXT 4.3.7).
_HEADER_BYTES: Final = 30

_BLOCK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class PartLocation:
    """Where a part's bytes are: ``size_bytes`` from ``offset`` on in the file at ``path``."""

    path: Path
    offset: int
    size_bytes: int

    def read(self, offset: int, length: int) -> bytes:
        """``length`` bytes of the part from its ``offset`` on, fewer where it ends before."""
        file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.pread(file, max(0, min(length, self.size_bytes - offset)), self.offset + offset)
        finally:
            os.close(file)

    def blocks(self) -> Iterator[bytes]:
        """The whole part, in blocks of a megabyte."""
        for offset in range(0, self.size_bytes, _BLOCK_BYTES):
            yield self.read(offset, _BLOCK_BYTES)


class PartFile:
    """One part, while it grows and afterwards: what an upload follows.

    The writer calls ``advance``, ``finish`` and ``abandon``; a follower waits with ``grown`` and reads with ``read``. A
    byte is announced only when it is in the file and will not change any more.
    """

    def __init__(self, *, entity: EntityCode, number: int, path: Path) -> None:
        self.entity = entity
        self.number = number
        self.path = path
        self.available_bytes = 0
        self.part: Part | None = None
        self._finished_at: PartLocation | None = None
        self._abandoned = False
        # Made when needed: most files are small, and finished before they are followed.
        self._changed: anyio.Event | None = None

    @property
    def partial_path(self) -> Path:
        return partial_path(self.path)

    async def grown(self, beyond: int) -> bool:
        """Wait until the file has more than ``beyond`` bytes. Returns False when it is finished and has no more.

        Raises TransientError when the writer gave the file up.
        """
        while True:
            if self._abandoned:
                raise TransientError(
                    f"The file {self.path.name} was given up before it was complete.",
                    reason=Reason.INTERRUPTED,
                )
            if self.available_bytes > beyond:
                return True
            if self.part is not None:
                return False
            self._changed = self._changed or anyio.Event()
            await self._changed.wait()

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the part that have been announced. Blocks: call it in a worker thread. Raises OSError."""
        if self._finished_at is not None:
            return self._finished_at.read(offset, length)
        growing = PartLocation(self.partial_path, 0, self.available_bytes)
        try:
            return growing.read(offset, length)
        except FileNotFoundError:
            # A worker thread has just given it its final name.
            return replace(growing, path=self.path).read(offset, length)

    def advance(self, available_bytes: int) -> None:
        """Announce that the file's first ``available_bytes`` can be read."""
        self.available_bytes = available_bytes
        self._announce()

    def finish(self, part: Part, location: PartLocation) -> None:
        """Announce that the part is complete, and where it is."""
        self.part = part
        self._finished_at = location
        self.advance(part.size_bytes)

    def abandon(self) -> None:
        """Announce that the file will not be finished: ``grown`` raises for its followers."""
        self._abandoned = True
        self._announce()

    def _announce(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None


@dataclass(frozen=True, slots=True)
class SpooledPart:
    """A finished file. Only ``verify`` makes it, so that no unverified file is delivered."""

    part: Part
    location: PartLocation

    @property
    def entity(self) -> EntityCode:
        return self.part.entity

    @property
    def number(self) -> int:
        return self.part.number

    async def grown(self, beyond: int) -> bool:
        """Whether the file has more than ``beyond`` bytes. It does not grow any more."""
        return self.part.size_bytes > beyond

    def read(self, offset: int, length: int) -> bytes:
        return self.location.read(offset, length)


PartSource = PartFile | SpooledPart
"""What an upload reads: a part that grows, or a finished one after a crash."""


class SmallPartsWriter:
    """Collects parts in memory for the archive of a job's folder. ``finish`` makes them durable together."""

    def __init__(self, folder: Path, journal: JournalKeeper) -> None:
        self.path = folder / ARCHIVE_NAME
        self._journal = journal
        self._contents: dict[str, bytes] = {}
        self._end = 0

    def add(self, name: str, content: bytes) -> PartLocation:
        """Take a part. Returns where it will be."""
        begin = self._end + _HEADER_BYTES + len(name.encode())
        self._contents[name] = content
        self._end = begin + len(content)
        return PartLocation(self.path, begin, len(content))

    def finish(self) -> int:
        """Write the archive. Returns the bytes that it takes on the disk; 0 when there are no parts."""
        if not self._contents:
            return 0
        document = io.BytesIO()
        with zipfile.ZipFile(document, "w", zipfile.ZIP_STORED) as archive:
            for name, content in self._contents.items():
                # A member without a time of its own: equal parts make equal archives.
                archive.writestr(zipfile.ZipInfo(name), content)
        return self._journal.write(self.path, document.getvalue())


def find_parts(folder: Path, names: Iterable[str]) -> Mapping[str, PartLocation]:
    """The locations of the named parts in a job's folder. Parts that are missing are left out."""
    found: dict[str, PartLocation] = {}
    packed = _packed(folder / ARCHIVE_NAME)
    for name in names:
        if name in packed:
            found[name] = packed[name]
            continue
        path = folder / name
        if path.is_file():
            found[name] = PartLocation(path, 0, path.stat().st_size)
    return found


async def verify(folder: Path, parts: Sequence[Part]) -> tuple[SpooledPart, ...]:
    """Read the files of a sealed job and compare each with its SHA-256.

    Raises PermanentError SPOOL_DAMAGED when one is missing, unreadable or different.
    """
    return await anyio.to_thread.run_sync(_verified, folder, parts)


def _packed(path: Path) -> Mapping[str, PartLocation]:
    try:
        with zipfile.ZipFile(path) as archive:
            return {member.filename: _location(path, member) for member in archive.infolist()}
    except FileNotFoundError:
        return {}
    except (zipfile.BadZipFile, ValueError) as error:
        raise OSError(errno.EIO, f"is no archive of parts: {error}", str(path)) from error


def _location(path: Path, member: zipfile.ZipInfo) -> PartLocation:
    if member.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{member.filename} is compressed")
    # Our members have no extra fields, so the lengths in the archive's directory are those of the header before the
    # content.
    begin = member.header_offset + _HEADER_BYTES + len(member.filename.encode()) + len(member.extra)
    return PartLocation(path, begin, member.file_size)


def _verified(folder: Path, parts: Sequence[Part]) -> tuple[SpooledPart, ...]:
    try:
        found = find_parts(folder, [part.file_name for part in parts])
    except OSError as error:
        raise _damaged(folder, f"cannot be read: {error.strerror or error}") from error
    return tuple(_checked(part, folder, found.get(part.file_name)) for part in parts)


def _checked(part: Part, folder: Path, location: PartLocation | None) -> SpooledPart:
    path = folder / part.file_name
    if location is None:
        raise _damaged(path, f"cannot be read: {os.strerror(errno.ENOENT)}")
    if location.size_bytes != part.size_bytes:
        raise _damaged(path, f"has {location.size_bytes} bytes instead of {part.size_bytes}")
    try:
        found = _sha256_of(location)
    except OSError as error:
        raise _damaged(path, f"cannot be read: {error.strerror or error}") from error
    if found != part.sha256:
        raise _damaged(path, f"has the SHA-256 {found} instead of {part.sha256}")
    return SpooledPart(part, location)


def _sha256_of(location: PartLocation) -> str:
    digest = hashlib.sha256()
    for block in location.blocks():
        digest.update(block)
    return digest.hexdigest()


def _damaged(path: Path, what: str) -> PermanentError:
    return PermanentError(
        f"The spool file {path} {what}. The job's files are damaged, so it cannot be delivered; check the disk. "
        "The schedule's next run will hold this job's changes.",
        reason=Reason.SPOOL_DAMAGED,
    )
