"""Which bytes of a file go up in which piece. Pure.

All pieces are equally large, but for the last, which has at least one byte and is withheld until the file
may be published. So a piece goes up as soon as the file is known to be longer than the piece's end. A file
of at most one piece is not uploaded in pieces at all.
"""

from dataclasses import dataclass

from exportd.stores.store import StoreLimits


@dataclass(frozen=True, slots=True)
class ByteRange:
    """``length`` bytes from ``offset``."""

    offset: int
    length: int

    @property
    def end(self) -> int:
        return self.offset + self.length


def piece_range(number: int, limits: StoreLimits) -> ByteRange:
    """The bytes of piece ``number`` (from 1), which is not the last."""
    return ByteRange((number - 1) * limits.piece_bytes, limits.piece_bytes)


def tail_range(size_bytes: int, limits: StoreLimits) -> ByteRange:
    """The bytes that are handed over when a finished file is published."""
    offset = max(size_bytes - 1, 0) // limits.piece_bytes * limits.piece_bytes
    return ByteRange(offset, size_bytes - offset)


def is_too_many(number: int, limits: StoreLimits) -> bool:
    """Whether a piece ``number`` that is not the last leaves no room for the last one."""
    return number >= limits.most_pieces
