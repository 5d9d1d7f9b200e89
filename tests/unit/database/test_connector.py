import pytest

from exportd.settings.dsn import Address


@pytest.mark.parametrize(
    ("dsn", "words"),
    [
        ("postgresql://ann:secret@db.example.com:5433/app", "database app on db.example.com:5433 as ann"),
        ("postgresql://ann:s%40cret@h1:1,h2:2/app", "database app on h1:1,h2:2 as ann"),
        ("postgresql://postgres@/app?host=/run/postgresql", "database app on /run/postgresql as postgres"),
        ("postgresql:///?user=ann&password=secret&dbname=app", "database app on the default host as ann"),
        ("postgresql://", "the default database on the default host as the default user"),
        ("postgresql://[::1", "the default database on the default host as the default user"),
    ],
)
def test_an_address_names_everything_but_the_password(dsn: str, words: str) -> None:
    assert str(Address.of(dsn)) == words
    assert "cret" not in repr(Address.of(dsn))
