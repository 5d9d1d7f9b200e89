from typing import Any

import pytest

from exportd.daemon.current import configure_log
from exportd.settings.schema import DatabaseSettings, Settings
from exportd.telemetry import logging


def settings(password: str, reader_password: str) -> Settings:
    database = DatabaseSettings(
        dsn=f"postgresql://own:{password}@db/product", reader_dsn=f"postgresql://reader:{reader_password}@db/product"
    )
    return Settings(database=database)


def test_the_passwords_of_both_logins_are_masked_and_those_of_the_logins_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(logging, "configure", given.update)
    configure_log(settings("hunter2", "swordfish"), before=settings("hunter1", "tunafish"), level="warning")
    assert given == {
        "level": "warning",
        "line_format": "auto",
        "secrets": {"hunter1", "tunafish", "hunter2", "swordfish"},
    }
