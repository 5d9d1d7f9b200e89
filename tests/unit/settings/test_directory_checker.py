import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from exportd.settings.directory_checker import check_directories, dsn_risks
from exportd.settings.loader import load
from exportd.settings.schema import DatabaseSettings, Settings


def settings_with(folder: Path, *, spool: Path, destination: Path, socket: Path = Path("control.sock")) -> Settings:
    config = folder / "exportd.toml"
    config.write_text(
        f'[database]\ndsn = "postgresql://a@b/c"\n[spool]\ndirectory = "{spool}"\n'
        f'[[destination]]\ncode = "lake"\norganization = "o"\ndirectory = "{destination}"\n'
        f'[control]\nsocket = "{socket}"\n'
    )
    return load(config, check_rule=lambda _: [], environment={})


@contextmanager
def ordinary_user() -> Iterator[None]:
    """Root may write anywhere; the daemon is not root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_directories_that_are_there_or_can_be_made_are_good_and_stay_untouched(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    settings = settings_with(tmp_path, spool=tmp_path / "spool", destination=tmp_path / "a/b/c")
    assert check_directories(settings) == []
    assert list((tmp_path / "spool").iterdir()) == []
    assert not (tmp_path / "a").exists()


def test_a_file_in_place_of_a_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings = settings_with(tmp_path, spool=tmp_path / "file", destination=tmp_path / "file/below")
    first, second = check_directories(settings)
    assert str(first).endswith(
        f"exportd.toml:4: spool.directory: {tmp_path}/file is not a directory; "
        "choose another path or move that file away"
    )
    assert second.where.endswith("exportd.toml:8")
    assert "destination[0].directory" in second.sentence


def test_a_directory_that_is_not_writable(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o555)
    closed = tmp_path / "closed"
    settings = settings_with(tmp_path, spool=closed, destination=closed / "new", socket=closed / "control.sock")
    with ordinary_user():
        first, second, third = check_directories(settings)
    assert "cannot be written by this user (Permission denied); give the daemon's user the right" in first.sentence
    assert "exportd.toml:10: control.socket: " in str(second)
    assert "cannot be written by this user" in second.sentence
    assert "cannot be written by this user" in third.sentence


@pytest.mark.parametrize(
    ("dsn", "risks"),
    [
        ("postgresql://u:p@db/app", ["perhaps not encrypted", "every user of this machine can read"]),
        ("postgresql://u:p@db/app?sslmode=require", ["is encrypted, but", "every user of this machine can read"]),
        ("postgresql://u:p@db/app?sslmode=verify-full", ["every user of this machine can read"]),
        ("postgresql://u@/app?host=/run/postgresql", []),
    ],
)
def test_what_works_and_is_a_risk_is_told(tmp_path: Path, dsn: str, risks: list[str]) -> None:
    file = tmp_path / "dsn"
    file.write_text(dsn)
    file.chmod(0o644)
    database = DatabaseSettings(dsn=dsn, dsn_file=file)
    found = dsn_risks(database)
    assert len(found) == len(risks)
    assert all(risk in sentence for risk, sentence in zip(risks, found, strict=True)), found
    file.chmod(0o640)
    assert not any("every user" in sentence for sentence in dsn_risks(database))
