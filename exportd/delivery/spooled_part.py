"""Files of the spool as an upload takes them: while they still grow, or finished, after a crash.

A finished file is taken only when it is what the seal says.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import anyio.to_thread

from exportd.model.entity import EntityCode
from exportd.model.errors import PermanentError
from exportd.model.job import Part
from exportd.model.reason import Reason


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

    def open(self) -> BinaryIO:
        """Open it for reading. Blocks, and raises OSError."""
        ...


@dataclass(frozen=True, slots=True)
class SpooledPart:
    """A finished file. Made by ``verify`` only, so that an unverified one cannot be delivered."""

    part: Part
    path: Path

    @property
    def entity(self) -> EntityCode:
        return self.part.entity

    @property
    def number(self) -> int:
        return self.part.number

    async def grown(self, beyond: int) -> bool:
        """Whether it has more than ``beyond`` bytes: it does not grow any more."""
        return self.part.size_bytes > beyond

    def open(self) -> BinaryIO:
        return self.path.open("rb")


async def verify(folder: Path, parts: Sequence[Part]) -> tuple[SpooledPart, ...]:
    """A sealed job's files in its folder, each one read and compared with its SHA-256.

    Raises PermanentError SPOOL_DAMAGED when one is missing, unreadable or different.
    """
    verified = []
    for part in parts:
        path = folder / part.file_name
        await anyio.to_thread.run_sync(_check, path, part)
        verified.append(SpooledPart(part, path))
    return tuple(verified)


def _check(path: Path, part: Part) -> None:
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
            size_bytes = file.tell()
    except OSError as error:
        raise _damaged(path, f"cannot be read: {error.strerror or error}") from error
    if size_bytes != part.size_bytes:
        raise _damaged(path, f"has {size_bytes} bytes instead of {part.size_bytes}")
    if found != part.sha256:
        raise _damaged(path, f"has the SHA-256 {found} instead of {part.sha256}")


def _damaged(path: Path, what: str) -> PermanentError:
    return PermanentError(
        f"The spool file {path} {what}. The job's files are damaged, so it cannot be delivered; check the disk. "
        "The schedule's next run will hold this job's changes.",
        reason=Reason.SPOOL_DAMAGED,
    )
