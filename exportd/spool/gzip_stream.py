"""A gzip file made of blocks whose compressed size is known before they are accepted. Pure.

Each block is compressed by a compressor of its own and ends at a byte boundary, so that a block can be compressed,
measured, and dropped again when the file would become too large: the size cap holds by measuring, not by trusting a
limit on how far deflate may expand. The blocks together are one ordinary deflate stream in one gzip member, which every
gzip reader accepts. Giving up the history between blocks costs 0.02% of size at blocks of 1 MiB, and no time.

isal compresses CSV at four to five times the speed of zlib at its fastest level, and to a smaller size; zlib is used
where isal has no wheel.
"""

import zlib
from types import ModuleType

codec: ModuleType
try:
    from isal import isal_zlib

    codec = isal_zlib
except ImportError:
    codec = zlib

_LEVEL = 1
_RAW_DEFLATE = -15

# Magic, deflate, no flags, no time (equal rows give equal files), no extra flags, unknown operating system.
_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
# An empty block with the "last block" bit: every block before it ended at a byte boundary.
_LAST_BLOCK = b"\x03\x00"

HEADER_BYTES = len(_HEADER)
TRAILER_BYTES = len(_LAST_BLOCK) + 8


def compress_block(content: bytes) -> bytes:
    """``content`` as a sequence of deflate blocks that depends on nothing before it and ends at a byte boundary."""
    compressor = codec.compressobj(_LEVEL, codec.DEFLATED, _RAW_DEFLATE)
    return b"".join((compressor.compress(content), compressor.flush(codec.Z_SYNC_FLUSH)))


class GzipStream:
    """Keeps what a gzip file's trailer needs: the checksum and length of everything accepted."""

    __slots__ = ("_checksum", "_content_bytes")

    def __init__(self) -> None:
        self._checksum = 0
        self._content_bytes = 0

    @property
    def content_bytes(self) -> int:
        """The uncompressed length of what was accepted."""
        return self._content_bytes

    def header(self) -> bytes:
        return _HEADER

    def accept(self, content: bytes) -> None:
        """Note that ``compress_block(content)`` became part of the file."""
        self._checksum = codec.crc32(content, self._checksum)
        self._content_bytes += len(content)

    def trailer(self) -> bytes:
        """The end of the file: the last block, CRC-32 and length modulo 2^32."""
        length = self._content_bytes & 0xFFFFFFFF
        return _LAST_BLOCK + self._checksum.to_bytes(4, "little") + length.to_bytes(4, "little")
