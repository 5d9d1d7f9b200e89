"""What an upload needs to know of a file in the spool, finished or still growing."""

from typing import BinaryIO, Protocol

from exportd.model.entity import EntityCode
from exportd.model.part import Part


class GrowingFile(Protocol):
    """A file that only ever gets longer."""

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
