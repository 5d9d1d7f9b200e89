"""The DSN of the login that reads."""

import pytest

from exportd.settings.schema import DatabaseSettings

DSN = "postgresql://exportd:p%40ss@h1:1,h2:2/product?sslmode=verify-full"


@pytest.mark.parametrize(
    ("dsn", "user", "expected"),
    [
        (DSN, "reader", "postgresql://reader:p%40ss@h1:1,h2:2/product?sslmode=verify-full"),
        ("postgresql://exportd@/product?host=/run/x", "reader", "postgresql://reader@/product?host=/run/x"),
        ("postgresql:///product?user=exportd&host=/run", "a@b/c", "postgresql://a%40b%2Fc@/product?host=/run"),
    ],
)
def test_another_user_is_all_that_differs(dsn: str, user: str, expected: str) -> None:
    assert DatabaseSettings(dsn=dsn, reader_user=user).reading_dsn == expected


def test_a_dsn_of_its_own_goes_first() -> None:
    assert DatabaseSettings(dsn=DSN).reading_dsn is None
    own = "postgresql://reader@h/product"
    assert DatabaseSettings(dsn=DSN, reader_dsn=own).reading_dsn == own
