"""Rows are found as a CSV reader finds them, whatever the values hold; blocks compressed one by one make one ordinary
gzip member.
"""

import csv
import gzip
import io
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exportd.model.schedule import ExportFormat
from exportd.spool import part_content
from exportd.spool.part_content import (
    HEADER_BYTES,
    TRAILER_BYTES,
    GzipStream,
    compress_block,
    count_rows,
    first_row,
    rows_of,
    whole_rows,
)

CELL = st.text(st.sampled_from('a"\n\r,é\\x'), max_size=6)


def csv_row(cells: list[str]) -> bytes:
    """As COPY writes it: quoted when it holds a quote, the delimiter or a line end; quotes doubled."""
    written = [
        '"' + cell.replace('"', '""') + '"' if set(cell) & set('",\n\r') or cell == "" else cell for cell in cells
    ]
    return (",".join(written) + "\n").encode()


CSV_ROWS = st.lists(st.lists(CELL, min_size=1, max_size=4).map(csv_row), max_size=12)
JSONL_ROWS = st.lists(st.binary(max_size=8).map(lambda raw: raw.replace(b"\n", b" ") + b"\n"), max_size=12)


@given(CSV_ROWS)
def test_csv_rows_are_counted_as_a_csv_reader_counts_them(rows: list[bytes]) -> None:
    data = b"".join(rows)
    assert count_rows(data, ExportFormat.CSV) == len(rows)
    assert len(list(csv.reader(io.StringIO(data.decode(), newline="")))) == len(rows)


@given(JSONL_ROWS)
def test_jsonl_rows_are_lines(rows: list[bytes]) -> None:
    assert count_rows(b"".join(rows), ExportFormat.JSONL) == len(rows)


@given(CSV_ROWS)
def test_csv_rows_are_cut_apart(rows: list[bytes]) -> None:
    assert [*rows_of(b"".join(rows), ExportFormat.CSV)] == rows


@given(JSONL_ROWS)
def test_jsonl_rows_are_cut_apart(rows: list[bytes]) -> None:
    assert [*rows_of(b"".join(rows), ExportFormat.JSONL)] == rows


def longest(rows: list[bytes], limit: int) -> int:
    total = 0
    for row in rows:
        if total + len(row) > limit:
            break
        total += len(row)
    return total


@given(CSV_ROWS, st.integers(-3, 120))
def test_the_longest_prefix_of_whole_csv_rows_is_found(rows: list[bytes], limit: int) -> None:
    assert whole_rows(b"".join(rows), limit, ExportFormat.CSV) == longest(rows, limit)


@given(JSONL_ROWS, st.integers(-3, 120))
def test_the_longest_prefix_of_whole_jsonl_rows_is_found(rows: list[bytes], limit: int) -> None:
    assert whole_rows(b"".join(rows), limit, ExportFormat.JSONL) == longest(rows, limit)


@given(CSV_ROWS)
def test_the_first_csv_row_is_found(rows: list[bytes]) -> None:
    assert first_row(b"".join(rows), ExportFormat.CSV) == (len(rows[0]) if rows else 0)


@given(JSONL_ROWS)
def test_the_first_jsonl_row_is_found(rows: list[bytes]) -> None:
    assert first_row(b"".join(rows), ExportFormat.JSONL) == (len(rows[0]) if rows else 0)


def test_a_quoted_value_of_very_many_newlines_is_one_row() -> None:
    row = b'1,"' + b"\n" * 1_000_000 + b'"\n'
    data = row + b"2,x\n"
    assert count_rows(data, ExportFormat.CSV) == 2
    assert whole_rows(data, len(data) - 1, ExportFormat.CSV) == len(row)
    assert first_row(data, ExportFormat.CSV) == len(row)


def test_an_unfinished_quoted_value_does_not_make_a_row() -> None:
    assert first_row(b'1,"a\n', ExportFormat.CSV) == 5
    assert whole_rows(b'1,"a\n', 5, ExportFormat.CSV) == 0


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
        patch.setattr(part_content, "codec", zlib)
        assert gzip.decompress(assemble(blocks)) == b"".join(blocks)


def test_a_dropped_block_leaves_no_trace() -> None:
    stream = GzipStream()
    compress_block(b"does not fit\n")
    compressed = compress_block(b"fits\n")
    stream.accept(b"fits\n")
    assert gzip.decompress(stream.header() + compressed + stream.trailer()) == b"fits\n"
