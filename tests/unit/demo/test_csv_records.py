import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exportd.demo.csv_records import records

TEXTS = st.text(alphabet=st.sampled_from('ab,"\n\r\\. é\x01日'), max_size=8)
RECORDS = st.lists(st.none() | TEXTS, min_size=1, max_size=6)


def written(record: list[str | None]) -> str:
    """A record as COPY writes it: quoted where it must be, and where it is empty but not NULL."""

    def cell(text: str | None) -> str:
        if text is None:
            return ""
        if text in {"", "\\."} or any(character in text for character in ',"\r\n'):
            return '"' + text.replace('"', '""') + '"'
        return text

    return ",".join(map(cell, record)) + "\n"


@given(st.lists(RECORDS, max_size=5))
def test_what_was_written_is_read(wanted: list[list[str | None]]) -> None:
    text = "".join(map(written, wanted))
    assert list(records(io.StringIO(text, newline="\n"))) == wanted


@given(st.lists(st.lists(TEXTS.filter(bool), min_size=2, max_size=6), min_size=1, max_size=5))
def test_but_for_null_it_reads_what_the_standard_library_reads(wanted: list[list[str]]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(wanted)
    assert list(records(io.StringIO(text.getvalue(), newline="\n"))) == wanted


def test_null_and_an_empty_text_are_kept_apart() -> None:
    assert list(records([',"",\n', '"",\n', "\n"])) == [[None, "", None], ["", None], [None]]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('a,"b\n', "inside of a quoted cell"),
        ('"a"b,c\n', "text follows"),
        ('a"b",c\n', "inside of a plain cell"),
        ("a,b", "not ended"),
    ],
)
def test_what_copy_does_not_write_is_refused(line: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        list(records([line]))
