import pytest
from hypothesis import given
from hypothesis import strategies as st

from exportd.database import quoting
from exportd.model.entity import TableName

_TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(_TEXT.filter(bool))
def test_an_identifier_reads_back_as_the_name_it_was_made_of(name: str) -> None:
    quoted = quoting.identifier(name)
    assert quoted[0] == quoted[-1] == '"'
    assert quoted[1:-1].replace('""', "") == name.replace('"', ""), "no quote of the name stands alone"
    assert quoted[1:-1].replace('""', '"') == name


@given(_TEXT)
def test_a_literal_reads_back_as_the_text_it_was_made_of(text: str) -> None:
    quoted = quoting.literal(text)
    assert ("\\" in text) == quoted.startswith("E")
    inner = quoted.removeprefix("E")[1:-1].replace("''", "'")
    assert (inner.replace("\\\\", "\\") if "\\" in text else inner) == text


def test_capitals_keywords_and_quotes_survive() -> None:
    assert quoting.identifier("select") == '"select"'
    assert quoting.identifier('Say "hi"') == '"Say ""hi"""'
    assert quoting.table(TableName("My Schema", "t.able")) == '"My Schema"."t.able"'


def test_an_array_holds_texts_with_commas_quotes_and_braces() -> None:
    assert quoting.array(["a", "", 'b,"c"', "{d}\\"]) == r'{"a","","b,\"c\"","{d}\\"}'
    assert quoting.array([]) == "{}"
    with pytest.raises(ValueError, match="NUL"):
        quoting.array(["a\0b"])


@pytest.mark.parametrize("name", ["", "a\0b"])
def test_a_name_that_postgres_cannot_hold_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"empty|NUL"):
        quoting.identifier(name)


def test_a_text_that_postgres_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="NUL"):
        quoting.literal("a\0b")


@given(_TEXT)
def test_a_comment_is_one_printable_line(text: str) -> None:
    written = quoting.comment(text)
    assert written.startswith("-- ")
    assert written.isprintable()
    assert quoting.is_comment(written)


def test_a_comment_shows_what_is_not_printable() -> None:
    assert quoting.comment("a\nb\r\u2028\u202e\x1b é") == "-- a\\nb\\r\\u2028\\u202e\\x1b é"
