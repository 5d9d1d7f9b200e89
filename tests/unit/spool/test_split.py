"""Rows are found as a CSV reader finds them, whatever the values hold."""

import csv
import io

from hypothesis import given
from hypothesis import strategies as st

from exportd.model.schedule import ExportFormat
from exportd.spool.split import count_rows, first_row, rows_of, whole_rows

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
