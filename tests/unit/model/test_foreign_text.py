"""Text that others wrote, as it is shown."""

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exportd.model.foreign_text import check_printable, logged, shown, shown_json, url_segment

HOSTILE = {
    "escape": "\x1b[2Jgone\x1b]0;title\x07",
    "C1": "a\x9b31mred",
    "line break": "one\nexportd: two\r\x85\u2028\u2029three",
    "bidi": "a\u202egpj.exe\u2066\u2069\u200f",
    "surrogate": "a\udcff",
    "private use": "a\ue000\U000f0000",
    "tab and NUL": "a\tb\x00",
    "spaces": "a\u00a0b\u200b",
    "markup": "[/x][bold]b[/][link=file:///etc]x[/link]",
    "long": "x" * 200,
    "letters": "örg-☃ 漢字 עברית",
}


@pytest.mark.parametrize("encoding", [None, "utf-8", "latin-1", "ascii"])
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_it_is_printable_and_can_be_encoded(text: str, encoding: str | None) -> None:
    found = shown(text, encoding=encoding)
    assert found.isprintable()
    found.encode(encoding or "utf-8")


@given(st.text(st.characters(), max_size=50), st.sampled_from(["utf-8", "latin-1", "ascii"]))
def test_nothing_is_obeyed_by_a_terminal(text: str, encoding: str) -> None:
    found = shown(text, encoding=encoding)
    assert found.isprintable()
    assert found.encode(encoding).decode(encoding) == found
    assert not {unicodedata.category(character) for character in found} & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    if text.isprintable() and text.isascii():
        assert found == text


@given(st.dictionaries(st.text(st.characters(), max_size=20), st.text(st.characters(), max_size=20)))
def test_a_document_says_the_same(document: dict[str, str]) -> None:
    for encoding in (None, "utf-8", "latin-1", "ascii"):
        found = shown_json(json.dumps(document, indent=2, ensure_ascii=False), encoding=encoding)
        assert all(line.isprintable() for line in found.split("\n"))
        assert json.loads(found.encode(encoding or "utf-8").decode(encoding or "utf-8")) == document


def test_a_log_keeps_the_lines_of_a_traceback() -> None:
    assert logged("one\n\ttwo\x1b\u202e") == "one\n\ttwo\\x1b\\u202e"


@given(st.text(st.characters(), max_size=20))
def test_a_segment_of_a_path_stays_one(text: str) -> None:
    assert not set(url_segment(text)) & set("/?#\\ \r\n")
    assert url_segment(text).isascii()


@pytest.mark.parametrize("kind", ["escape", "C1", "line break", "bidi", "surrogate", "private use", "spaces"])
def test_what_cannot_be_printed_is_not_accepted(kind: str) -> None:
    with pytest.raises(ValueError, match="cannot be printed"):
        check_printable(HOSTILE[kind])
    assert check_printable(HOSTILE["letters"]) == HOSTILE["letters"]
