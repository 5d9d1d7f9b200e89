"""What is inside of an object: the counts hold however the bytes are cut, and damage is reported."""

import gzip
import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exportd.consumer.contents import Contents, Examination
from exportd.model.schedule import ExportFormat
from tests.fixtures.file_parsers import csv_rows

CELLS = st.one_of(
    st.just(""), st.just('""'), st.text('a",\n', max_size=6).map(lambda text: f'"{text.replace(chr(34), chr(34) * 2)}"')
)
ROWS = st.lists(st.tuples(CELLS, CELLS, st.booleans()), max_size=8)


def examined(data: bytes, *, file_format: ExportFormat = ExportFormat.CSV, chunk_bytes: int = 7) -> Contents:
    examination = Examination(file_format)
    for start in range(0, len(data), chunk_bytes):
        examination.feed(data[start : start + chunk_bytes])
    return examination.contents()


@given(ROWS, st.integers(1, 40))
def test_csv_is_counted_as_a_parser_of_csv_does(rows: list[tuple[str, str, bool]], chunk_bytes: int) -> None:
    lines = [f"{one},{other},{str(deleted).lower()}\n" for one, other, deleted in rows]
    content = ("id,name,deleted\n" + "".join(lines)).encode()
    # Uncompressed blocks, so that the cuts of the chunks are cuts of the content.
    data = gzip.compress(content, compresslevel=0, mtime=0)
    found = examined(data, chunk_bytes=chunk_bytes)
    parsed = csv_rows(content)[1:]
    assert (found.rows, found.deleted_rows) == (len(parsed), sum(row[-1] == "true" for row in parsed))
    assert (found.size_bytes, found.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert (found.content_bytes, found.header, found.problem) == (len(content), ("id", "name", "deleted"), None)


@given(st.lists(st.tuples(st.text(max_size=9), st.booleans()), max_size=8), st.integers(1, 40))
def test_jsonl_is_counted_line_by_line(rows: list[tuple[str, bool]], chunk_bytes: int) -> None:
    dumps = [json.dumps({"x": text, "deleted": deleted}, separators=(",", ":")) + "\n" for text, deleted in rows]
    data = gzip.compress("".join(dumps).encode(), compresslevel=0)
    found = examined(data, file_format=ExportFormat.JSONL, chunk_bytes=chunk_bytes)
    assert (found.rows, found.deleted_rows) == (len(rows), sum(deleted for _, deleted in rows))
    assert (found.header, found.problem) == (None, None)


def test_a_text_that_looks_like_the_end_of_a_deletion_is_none() -> None:
    content = b'id,name,deleted\n1,"x,true\n",false\n2,"\n3,,true\n",false\n'
    found = examined(gzip.compress(content))
    assert (found.rows, found.deleted_rows) == (2, 0)
    line = json.dumps({"x": '"deleted":true}\n', "deleted": False}, separators=(",", ":")).encode() + b"\n"
    assert examined(gzip.compress(line), file_format=ExportFormat.JSONL).deleted_rows == 0


def test_a_file_of_several_gzip_members_is_one() -> None:
    data = gzip.compress(b"id,deleted\n1,true\n") + gzip.compress(b"2,false\n")
    for chunk_bytes in (1, 1000):
        found = examined(data, chunk_bytes=chunk_bytes)
        assert (found.rows, found.deleted_rows, found.problem) == (2, 1, None)


def test_a_file_that_expands_a_thousandfold_is_read_in_blocks() -> None:
    content = b"id,deleted\n" + b"1,false\n" * 4_000_000
    found = examined(gzip.compress(content), chunk_bytes=1 << 20)
    assert (found.rows, found.content_bytes, found.problem) == (4_000_000, len(content), None)


WHOLE = gzip.compress(b"id,deleted\n" + b"".join(b"%d,false\n" % n for n in range(1000)), mtime=0)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is cut off"),
        (WHOLE[:-1], "is cut off"),
        (WHOLE[:9], "is cut off"),
        (b"not gzip at all", "is no gzip file"),
        (WHOLE[:-6] + b"\0\0" + WHOLE[-4:], "is no gzip file"),
        (WHOLE + b"and much more than a header", "is no gzip file"),
        (gzip.compress(b'id,deleted\n"1,false\n'), "ends inside of a record"),
        (gzip.compress(b"id,deleted\n1,false"), "ends inside of a record"),
    ],
)
def test_damage_is_reported(data: bytes, words: str) -> None:
    problem = examined(data).problem
    assert problem is not None
    assert words in problem


@given(st.integers(0, len(WHOLE) - 1), st.integers(0, 7))
def test_a_flipped_bit_never_goes_unseen_nor_breaks_anything(position: int, bit: int) -> None:
    flipped = bytearray(WHOLE)
    flipped[position] ^= 1 << bit
    assert examined(bytes(flipped), chunk_bytes=100).sha256 != hashlib.sha256(WHOLE).hexdigest()
