"""Signs and verifies access tokens, page tokens and download links.

A token is the payload (JSON, base64url) and its HMAC-SHA-256 with a separate key for each purpose, so that a token
cannot be used for another purpose. Everyone can read the payload, so it holds no secret.

The key is in the database, or in a file that all daemons of the database have.
"""

import hashlib
import hmac
import json
import os
import secrets
import tempfile
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from exportd.api.transport.certificate import read_private
from exportd.model.errors import SettingsError

MIN_KEY_BYTES = 32

_WHERE = "control.signing_key_file"


class Signer:
    """Signs and checks with a key of at least so many bytes."""

    def __init__(self, key: bytes) -> None:
        if len(key) < MIN_KEY_BYTES:
            raise ValueError(f"a signing key has at least {MIN_KEY_BYTES} bytes, not {len(key)}")
        self._key = key

    def key_for(self, purpose: str) -> bytes:
        """Derive the key of one purpose."""
        return hmac.digest(self._key, purpose.encode(), hashlib.sha256)

    def sign(self, purpose: str, payload: Mapping[str, object]) -> str:
        """A token of letters, digits, ``-``, ``_`` and one dot."""
        text = _encode(json.dumps(payload, separators=(",", ":"), sort_keys=True).encode())
        return f"{text}.{self._mark(purpose, text)}"

    def verify(self, purpose: str, token: str) -> dict[str, Any] | None:
        """Verify a token. Returns its payload; None for anything that ``sign`` has not made for this purpose."""
        text, _, mark = token.partition(".")
        if not hmac.compare_digest(mark.encode(errors="replace"), self._mark(purpose, text).encode()):
            return None
        try:
            return dict(json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4))))
        except ValueError:
            return None

    def _mark(self, purpose: str, text: str) -> str:
        return _encode(hmac.digest(self.key_for(purpose), text.encode(errors="replace"), hashlib.sha256))


def own_signing_key(spool: Path) -> bytes:
    """The key of a daemon without a configured one: a file beside its spool, created at the first start.

    Raises SettingsError for a folder that cannot be written, and as ``read_signing_key``.
    """
    path = spool.parent / "signing.key"
    if not path.exists():
        try:
            _make_key(path)
        except OSError as error:
            raise SettingsError.of(
                f"the file {path} cannot be made: {error.strerror or error}; name a key file that is there",
                where=_WHERE,
            ) from error
    return read_signing_key(path)


def _make_key(path: Path) -> None:
    """Create the file complete under its name. If another daemon has just created it, that file stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # with mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(MIN_KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        Path(temporary).unlink()


def read_signing_key(path: Path) -> bytes:
    """The key in a file. Blocking.

    Raises SettingsError when the file cannot be read, when every user can read it, and when it is too short.
    """
    key = read_private(path, where=_WHERE)
    if len(key) < MIN_KEY_BYTES:
        raise SettingsError.of(
            f"the file {path} has {len(key)} bytes; a key has at least {MIN_KEY_BYTES}"
            f" (umask 077; openssl rand -out {path} {MIN_KEY_BYTES})",
            where=_WHERE,
        )
    return key


def _encode(data: bytes) -> str:
    return urlsafe_b64encode(data).decode("ascii").rstrip("=")
