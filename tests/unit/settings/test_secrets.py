import pytest
from hypothesis import given
from hypothesis import strategies as st

from exportd.settings.secrets import mask_secrets, names_a_secret, passwords_in


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
