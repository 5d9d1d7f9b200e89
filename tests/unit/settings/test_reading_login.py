"""The DSN of the login that reads."""

from pathlib import Path

import pytest

from exportd.model.errors import SettingsError
from exportd.settings.loader import load
from exportd.settings.schema import DatabaseSettings, Settings

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


def test_it_may_be_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "reader").write_text("postgresql://reader:hunter2@db/product\n")
    text = f'[database]\ndsn = "{DSN}"\nreader_dsn_file = "reader"\n'
    database = load_text(tmp_path, text).database
    assert database.reading_dsn == "postgresql://reader:hunter2@db/product"
    assert "hunter2" not in repr(database)


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        (
            'reader_user = "a"\nreader_dsn = "postgresql://a@b/c"',
            "give one of reader_user, reader_dsn, reader_dsn_file",
        ),
        ('reader_dsn = "mysql://a@b/c"', "should be a URL such as"),
        ('reader_dsn_file = "missing"', "there is no such file"),
    ],
)
def test_what_cannot_be_meant_is_said(tmp_path: Path, keys: str, sentence: str) -> None:
    with pytest.raises(SettingsError) as raised:
        load_text(tmp_path, f'[database]\ndsn = "{DSN}"\n{keys}\n')
    (problem,) = raised.value.problems
    assert sentence in problem.sentence


def load_text(folder: Path, text: str) -> Settings:
    config = folder / "exportd.toml"
    config.write_text(text)
    return load(config, check_rule=lambda _: [], environment={})
