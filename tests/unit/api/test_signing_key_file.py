"""The key that signs tokens is a file, and never lies in the database."""

import stat
from pathlib import Path

import pytest

from exportd.api.identity.signing import own_signing_key
from exportd.model.errors import SettingsError


def test_a_key_is_made_once_for_the_daemons_user_alone(tmp_path: Path) -> None:
    spool = tmp_path / "state" / "spool"
    key = own_signing_key(spool)
    assert len(key) == 32
    assert own_signing_key(spool) == key
    (file,) = (tmp_path / "state").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert own_signing_key(tmp_path / "other" / "spool") != key


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    own_signing_key(tmp_path / "spool")
    (tmp_path / "signing.key").chmod(0o644)
    with pytest.raises(SettingsError, match="open to every user"):
        own_signing_key(tmp_path / "spool")


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="cannot be made"):
        own_signing_key(tmp_path / "file" / "spool")
