"""One part of an entity, while it grows and afterwards: what an upload follows.

The writer calls ``advance``, ``finish`` and ``abandon``; a follower waits with ``grown`` and reads with ``read``. A
byte is announced only when it is in the file and will not change any more.
"""

from dataclasses import replace
from pathlib import Path

import anyio

from exportd.model.entity import EntityCode
from exportd.model.errors import Reason, TransientError
from exportd.model.job import Part
from exportd.spool.folders import partial_path
from exportd.spool.small_parts import PartLocation


class PartFile:
    """A part in the making, in a file at ``path`` + ``.partial`` until it is finished."""

    def __init__(self, *, entity: EntityCode, number: int, path: Path) -> None:
        self.entity = entity
        self.number = number
        self.path = path
        self.available_bytes = 0
        self.part: Part | None = None
        self._finished_at: PartLocation | None = None
        self._abandoned = False
        # Most files are small, and finished before they are followed.
        self._changed: anyio.Event | None = None

    @property
    def partial_path(self) -> Path:
        return partial_path(self.path)

    async def grown(self, beyond: int) -> bool:
        """Wait for more than ``beyond`` bytes; False when the file is finished and does not have them.

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
            # It was given its final name, by a worker thread, a moment ago.
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
