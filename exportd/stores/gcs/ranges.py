"""Which bytes of a resumable upload are in, and which are sent next. Pure.

Ranges are half open here, ``begin`` to ``end``; the headers count the last byte.
"""

import re

QUANTUM_BYTES = 256 << 10
"""Google keeps multiples of this, but for the last chunk."""

WHAT_IS_IN = "bytes */*"
"""The Content-Range of a request without a body that asks what is in."""

_RANGE = re.compile(r"bytes=0-([0-9]{1,15})")


def content_range(begin: int, end: int, total: int | None = None) -> str:
    """The Content-Range of a chunk. ``total`` is the size of the whole, which makes it the last; None while unknown.

    The last one may be empty: when everything is in, but not yet complete.
    """
    span = f"{begin}-{end - 1}" if end > begin else "*"
    return f"bytes {span}/{'*' if total is None else total}"


def committed_bytes(header: str | None) -> int:
    """How many bytes are in, by the Range header of an answer 308; there is none while nothing is in.

    Only whole quanta count: what is sent again is ignored there, what were left out would be missing. Raises ValueError
    for a header that is none of this kind.
    """
    if header is None:
        return 0
    match = _RANGE.fullmatch(header.strip())
    if match is None:
        raise ValueError("it is no range from byte 0")
    return (int(match[1]) + 1) // QUANTUM_BYTES * QUANTUM_BYTES


def whole_pieces(committed: int, piece_bytes: int) -> int:
    """How many pieces are completely in."""
    return committed // piece_bytes
