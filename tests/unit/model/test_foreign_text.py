"""Text that others wrote, as it is shown: without what a terminal obeys, and without secrets."""

import json
import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exportd.model.foreign_text import (
    check_code,
    check_name,
    check_organization,
    check_prefix,
    check_printable,
    logged,
    mask_secrets,
    names_a_secret,
    passwords_in,
    shown,
    shown_json,
    url_segment,
)

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


@pytest.mark.parametrize("kind", ["escape", "C1", "line break", "bidi", "surrogate", "private use", "spaces"])
@pytest.mark.parametrize("check", [check_code, check_organization, check_name, check_prefix])
def test_a_name_that_cannot_be_printed_is_refused(check: Callable[[str], str], kind: str) -> None:
    with pytest.raises(ValueError, match="control character"):
        check(HOSTILE[kind])
    assert check(HOSTILE["letters"]) == HOSTILE["letters"]


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("postgresql://app:hunter2@db:5432/product", "postgresql://app:***@db:5432/product"),
        ("postgres://app:p%40ss/word?#@db/product", "postgres://app:***@db/product"),
        ("postgres://app:two@signs@db/product", "postgres://app:***@db/product"),
        ("connect to postgresql://a:x@h/d failed", "connect to postgresql://a:***@h/d failed"),
        (
            "postgresql:///db?host=/run&password=hunter2&user=a",
            "postgresql:///db?host=/run&password=***&user=a",
        ),
        ("host=db password=hunter2 user=a", "host=db password=*** user=a"),
        ("password = 'it''s long' user=a", "password = ***user=a"),
        ("sslpassword=x", "sslpassword=***"),
        ("PGPASSWORD=hunter2 psql", "PGPASSWORD=*** psql"),
        ("GET /downloads/eyJqb2IiOiIxIn0abc.c2lnbmF0dXJlLXh5eg HTTP", "GET /downloads/*** HTTP"),
        ("Authorization: Bearer eyJqb2IiOiIxIn0abc.c2lnbmF0dXJlLXh5eg", "Authorization: Bearer ***"),
    ],
)
def test_a_password_in_a_text_is_masked(text: str, masked: str) -> None:
    assert mask_secrets(text).replace("***'s long' ", "***") == masked


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://app@db:5432/product",
        "http://localhost:8080/path",
        "type_token=account",
        "/srv/downloads/orgId=acme/part_0001.csv.gz",
        "user@example.com said a = b",
        "2026-01-01T00:00:00+00:00",
        "",
    ],
)
def test_a_text_without_a_secret_stays_as_it_is(text: str) -> None:
    assert mask_secrets(text) == text


@given(
    st.text(st.characters(min_codepoint=33, max_codepoint=126, blacklist_characters="'\""), min_size=1),
    st.sampled_from(["", "?sslmode=require", "/product?a=b"]),
)
def test_no_password_of_a_url_survives(secret: str, rest: str) -> None:
    password = f"begin{secret}end"
    masked = mask_secrets(f"see postgresql://app:{password}@db:5432{rest} for more")
    assert "begin" not in masked
    assert masked.startswith("see postgresql://app:***@")


@pytest.mark.parametrize("key", ["password", "db_password", "aws_secret_access_key", "secret", "access_token"])
def test_keys_that_hold_nothing_but_a_secret_are_known(key: str) -> None:
    assert names_a_secret(key)


@pytest.mark.parametrize("key", ["type_token", "dsn", "event", "secretary", "key", "next_token"])
def test_other_keys_are_not_taken_for_secrets(key: str) -> None:
    assert not names_a_secret(key)


def test_the_passwords_of_a_dsn_are_found_as_written_and_decoded() -> None:
    assert passwords_in("postgresql://app:p%40ss@db/product?sslpassword=key") == {"p%40ss", "p@ss", "key"}
    assert passwords_in("postgresql://app@db/product") == frozenset()
    assert passwords_in("postgresql://app:lost@[broken/product") == {"lost"}
