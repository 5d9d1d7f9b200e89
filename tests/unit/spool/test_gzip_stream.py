"""Blocks compressed one by one make one ordinary gzip member."""

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exportd.spool import gzip_stream
from exportd.spool.gzip_stream import HEADER_BYTES, TRAILER_BYTES, GzipStream, compress_block

BLOCKS = st.lists(st.one_of(st.binary(max_size=2000), st.binary(min_size=1, max_size=3).map(lambda b: b * 700)))


def assemble(blocks: list[bytes]) -> bytes:
    stream = GzipStream()
    file = [stream.header()]
    for block in blocks:
        file.append(compress_block(block))
        stream.accept(block)
    file.append(stream.trailer())
    assert stream.content_bytes == sum(map(len, blocks))
    assert len(file[0]) == HEADER_BYTES
    assert len(file[-1]) == TRAILER_BYTES
    return b"".join(file)


@given(BLOCKS)
def test_a_gzip_reader_gives_the_blocks_back(blocks: list[bytes]) -> None:
    file = assemble(blocks)
    reader = zlib.decompressobj(31)
    assert reader.decompress(file) == b"".join(blocks)
    assert reader.eof
    assert reader.unused_data == b""


@given(BLOCKS)
def test_a_damaged_file_is_noticed(blocks: list[bytes]) -> None:
    file = bytearray(assemble([*blocks, b"row\n"]))
    file[-5] ^= 1
    with pytest.raises((gzip.BadGzipFile, zlib.error)):
        gzip.decompress(bytes(file))


@given(BLOCKS)
def test_zlib_does_where_isal_is_missing(blocks: list[bytes]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gzip_stream, "codec", zlib)
        assert gzip.decompress(assemble(blocks)) == b"".join(blocks)


def test_a_dropped_block_leaves_no_trace() -> None:
    stream = GzipStream()
    compress_block(b"does not fit\n")
    compressed = compress_block(b"fits\n")
    stream.accept(b"fits\n")
    assert gzip.decompress(stream.header() + compressed + stream.trailer()) == b"fits\n"
