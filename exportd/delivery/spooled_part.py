"""Files of the spool as an upload takes them: while they still grow, or finished, after a crash.

A finished file is taken only when it is what the seal says.
"""

import errno
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import anyio.to_thread

from exportd.model.entity import EntityCode
from exportd.model.errors import PermanentError, Reason
from exportd.model.job import Part
from exportd.spool.small_parts import PartLocation, find_parts


class GrowingFile(Protocol):
    """A file in the spool that only ever gets longer, until it is finished."""

    @property
    def entity(self) -> EntityCode: ...

    @property
    def number(self) -> int:
        """Its place among the entity's files, from 1."""
        ...

    @property
    def part(self) -> Part | None:
        """Set when the file is finished."""
        ...

    async def grown(self, beyond: int) -> bool:
        """Wait for more than ``beyond`` bytes; False when the file is finished and does not have them."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Bytes that it has. Blocks, and raises OSError."""
        ...


@dataclass(frozen=True, slots=True)
class SpooledPart:
    """A finished file. Made by ``verify`` only, so that an unverified one cannot be delivered."""

    part: Part
    location: PartLocation

    @property
    def entity(self) -> EntityCode:
        return self.part.entity

    @property
    def number(self) -> int:
        return self.part.number

    async def grown(self, beyond: int) -> bool:
        """Whether it has more than ``beyond`` bytes: it does not grow any more."""
        return self.part.size_bytes > beyond

    def read(self, offset: int, length: int) -> bytes:
        return self.location.read(offset, length)


async def verify(folder: Path, parts: Sequence[Part]) -> tuple[SpooledPart, ...]:
    """A sealed job's files in its folder, each one read and compared with its SHA-256.

    Raises PermanentError SPOOL_DAMAGED when one is missing, unreadable or different.
    """
    return await anyio.to_thread.run_sync(_verified, folder, parts)


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
