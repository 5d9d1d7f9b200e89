"""The small parts of a job in one file, which costs the disk one file's space, name and synchronization.

    <job's folder>/small_parts.zip      a plain archive: each part is a member, stored as it is

A part lies there or in a file of its own; ``find_parts`` tells. Blocking; raises OSError.
"""

import errno
import io
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

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


class SmallPartsWriter:
    """Collects parts in memory; ``finish`` makes them durable, all together. For the archive of a job's folder."""

    def __init__(self, folder: Path, journal: JournalKeeper) -> None:
        self.path = folder / ARCHIVE_NAME
        self._journal = journal
        self._contents: dict[str, bytes] = {}
        self._end = 0

    def add(self, name: str, content: bytes) -> PartLocation:
        """Take a part; where it will be."""
        begin = self._end + _HEADER_BYTES + len(name.encode())
        self._contents[name] = content
        self._end = begin + len(content)
        return PartLocation(self.path, begin, len(content))

    def finish(self) -> int:
        """Write the archive; the bytes of the disk that it takes, 0 for no parts."""
        if not self._contents:
            return 0
        document = io.BytesIO()
        with zipfile.ZipFile(document, "w", zipfile.ZIP_STORED) as archive:
            for name, content in self._contents.items():
                # A member without a time of its own: equal parts make equal archives.
                archive.writestr(zipfile.ZipInfo(name), content)
        return self._journal.write(self.path, document.getvalue())


def find_parts(folder: Path, names: Iterable[str]) -> Mapping[str, PartLocation]:
    """Where the parts of these names are in a job's folder; those that are not there are left out."""
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
    # Our members have no extra fields, so those that the directory of the archive names are those before the content.
    begin = member.header_offset + _HEADER_BYTES + len(member.filename.encode()) + len(member.extra)
    return PartLocation(path, begin, member.file_size)
