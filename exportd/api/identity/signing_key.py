"""The key file that daemons can be given instead of the key in their database. Blocking."""

from pathlib import Path

from exportd.api.identity.signing import LEAST_KEY_BYTES
from exportd.api.transport.private_file import read_private
from exportd.model.errors import SettingsError

_WHERE = "control.signing_key_file"


def read_signing_key(path: Path) -> bytes:
    """Raises SettingsError for a file that cannot be read, that everybody can read, or that is too short."""
    key = read_private(path, where=_WHERE)
    if len(key) < LEAST_KEY_BYTES:
        raise SettingsError.of(
            f"the file {path} has {len(key)} bytes; a key has at least {LEAST_KEY_BYTES}"
            f" (umask 077; openssl rand -out {path} {LEAST_KEY_BYTES})",
            where=_WHERE,
        )
    return key
