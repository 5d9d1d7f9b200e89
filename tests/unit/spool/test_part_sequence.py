"""Files are cut between rows, hold every byte, and never pass the cap but for a row that does so alone."""

import gzip
import hashlib
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exportd.model.entity import EntityCode
from exportd.model.job import Part
from exportd.model.schedule import ExportFormat
from exportd.spool.part_content import HEADER_BYTES, TRAILER_BYTES, compress_block
from exportd.spool.part_sequence import PartSequence

HEADER = b"id,value,deleted\n"


def sequence_in(
    folder: Path, cap_bytes: int, *, file_format: ExportFormat = ExportFormat.CSV, header: bytes = HEADER
) -> PartSequence:
    return PartSequence(
        entity=EntityCode("ACCOUNTS"),
        file_format=file_format,
        header=header,
        cap_bytes=cap_bytes,
        path_of=lambda number: folder / f"part-{number}.gz",
    )


def contents(folder: Path, parts: tuple[Part, ...], header: bytes = HEADER) -> list[bytes]:
    """What each part holds after its header; checks that the parts describe their files."""
    assert sorted(path.name for path in folder.iterdir()) == sorted(part.file_name for part in parts)
    assert [part.number for part in parts] == list(range(1, len(parts) + 1))
    found = []
    for part in parts:
        raw = (folder / part.file_name).read_bytes()
        content = gzip.decompress(raw)
        assert part.size_bytes == len(raw)
        assert part.sha256 == hashlib.sha256(raw).hexdigest()
        assert part.content_bytes == len(content)
        assert content.startswith(header)
        found.append(content[len(header) :])
    return found


VALUE = st.one_of(
    st.binary(max_size=30).map(lambda raw: raw.replace(b'"', b'""')),
    st.binary(min_size=1, max_size=2).map(lambda raw: raw.replace(b'"', b"\n") * 300),
)
ROW = VALUE.map(lambda value: b'1,"' + value + b'",false\n')


@given(st.lists(st.lists(ROW, max_size=20), max_size=5), st.integers(1, 400))
def test_no_byte_is_lost_no_row_cut_and_the_cap_is_kept(blocks: list[list[bytes]], cap_bytes: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sequence = sequence_in(folder, cap_bytes)
        fed = [sequence.feed(block) for block in blocks]
        fed.append(sequence.close())
        parts = sequence.parts
        bodies = contents(folder, parts)

        rows = [row for block in blocks for row in block]
        assert b"".join(bodies) == b"".join(rows)
        ends = {0}
        for row in rows:
            ends.add(max(ends) + len(row))
        reached = 0
        for part, body in zip(parts, bodies, strict=True):
            reached += len(body)
            assert reached in ends
            assert part.rows <= 1 or part.size_bytes <= cap_bytes
        assert sum(part.rows for part in parts) == len(rows) == sum(call.rows for call in fed)
        assert sum(call.written_bytes for call in fed) == sum(part.size_bytes for part in parts)
        assert sum(call.content_bytes for call in fed) == sum(part.content_bytes for part in parts)
        finished = [change.part for call in fed for change in call.changes if change.part is not None]
        assert tuple(finished) == parts


@settings(max_examples=40)
@given(st.lists(st.binary(max_size=200).map(lambda raw: raw.replace(b"\n", b" ") + b"\n")), st.integers(1, 2000))
def test_jsonl_keeps_the_same_promises(rows: list[bytes], cap_bytes: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sequence = sequence_in(folder, cap_bytes, file_format=ExportFormat.JSONL, header=b"")
        sequence.feed(rows)
        sequence.close()
        assert b"".join(contents(folder, sequence.parts, b"")) == b"".join(rows)
        assert all(part.size_bytes <= cap_bytes or part.rows <= 1 for part in sequence.parts)


@pytest.mark.parametrize("kind", ["random", "text", "random then text", "text then random"])
def test_parts_come_close_to_the_cap(tmp_path: Path, kind: str) -> None:
    source = random.Random(5)

    def row(number: int) -> bytes:
        turned = number >= 10_000
        if kind == "random" or (kind.startswith("random") != turned and kind != "text"):
            return source.randbytes(150).hex().encode() + b"\n"
        return b"%d,a plain sentence that is much like the others in this file\n" % number

    cap_bytes = 400_000
    rows = [row(number) for number in range(20_000)]
    sequence = sequence_in(tmp_path, cap_bytes, file_format=ExportFormat.JSONL, header=b"")
    for start in range(0, len(rows), 3500):
        sequence.feed(rows[start : start + 3500])
    sequence.close()
    assert b"".join(contents(tmp_path, sequence.parts, b"")) == b"".join(rows)
    assert all(part.size_bytes <= cap_bytes for part in sequence.parts)
    assert all(part.size_bytes > cap_bytes * 0.97 for part in sequence.parts[:-1])


def test_a_row_larger_than_the_cap_gets_a_part_of_its_own(tmp_path: Path) -> None:
    giant = b'2,"' + random.Random(1).randbytes(5000).hex().encode() + b'",false\n'
    rows = [b"1,x,false\n", giant, b"3,y,false\n"]
    sequence = sequence_in(tmp_path, 600)
    sequence.feed(rows)
    sequence.close()
    assert contents(tmp_path, sequence.parts) == rows
    assert [part.size_bytes > 600 for part in sequence.parts] == [False, True, False]


def test_an_entity_without_rows_still_has_a_file_with_its_header(tmp_path: Path) -> None:
    sequence = sequence_in(tmp_path, 1000)
    sequence.close()
    assert contents(tmp_path, sequence.parts) == [b""]
    assert sequence.parts[0].rows == 0


def test_a_jsonl_file_without_rows_is_empty_inside(tmp_path: Path) -> None:
    sequence = sequence_in(tmp_path, 1000, file_format=ExportFormat.JSONL, header=b"")
    sequence.close()
    assert contents(tmp_path, sequence.parts, b"") == [b""]
    assert sequence.parts[0].content_bytes == 0
    assert sequence.parts[0].size_bytes == HEADER_BYTES + TRAILER_BYTES


def test_rows_that_fill_a_part_to_the_byte_stay_in_it(tmp_path: Path) -> None:
    row = b"1,x,false\n"
    exact = HEADER_BYTES + len(compress_block(HEADER)) + len(compress_block(row)) + TRAILER_BYTES
    sequence = sequence_in(tmp_path, exact)
    sequence.feed([row])
    sequence.feed([row])
    sequence.close()
    assert contents(tmp_path, sequence.parts) == [row, row]
    assert [part.size_bytes for part in sequence.parts] == [exact, exact]


def test_announced_bytes_are_in_the_file_already(tmp_path: Path) -> None:
    sequence = sequence_in(tmp_path, 10**9)
    fed = sequence.feed([b"1,x,false\n" * 10])
    announced = fed.changes[-1].location.size_bytes
    assert announced > 0
    partial = tmp_path / "part-1.gz.partial"
    assert partial.stat().st_size == announced
    assert partial.stat().st_mode & 0o777 == 0o600
    sequence.discard()


def test_discarding_removes_finished_and_unfinished_files(tmp_path: Path) -> None:
    sequence = sequence_in(tmp_path, 200)
    sequence.feed([b"%d,x,false\n" % number for number in range(500)])
    assert len(list(tmp_path.iterdir())) > 1
    sequence.discard()
    assert list(tmp_path.iterdir()) == []
    sequence.discard()
