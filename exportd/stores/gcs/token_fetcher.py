"""Fetches an access token of Google's for an identity. Blocking: it reads files, runs programs and asks servers.

google-auth does it, from the credentials' own description (``from_info``): its ``default`` and its loaders of files
ask servers in the constructor, and would take whatever identity the environment offers.
"""

import json
import os
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import requests
from google.auth import aws, identity_pool, pluggable
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import Request
from google.oauth2 import service_account

from exportd.stores.gcs.identity import CredentialsFile, WorkloadIdentity

SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
_REQUEST_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True, repr=False)
class FetchedToken:
    """A token, and for how many seconds it is good. Has no repr, so that it gets into no log."""

    value: str
    lifetime_s: float


class _Asking:
    """Sends google-auth's requests, with a timeout (it would wait for two minutes), and keeps the last status."""

    def __init__(self, session: requests.Session) -> None:
        self._request = Request(session)
        self.status = 0

    @property
    def is_passing(self) -> bool:
        """Whether the last answer was that the server could not answer now."""
        return self.status >= 500 or self.status in {408, 429}

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        self.status = 0
        response: Any = self._request(*arguments, **{"timeout": _REQUEST_TIMEOUT_S, **options})
        self.status = response.status
        return response


def fetch_token(identity: WorkloadIdentity | CredentialsFile) -> FetchedToken:
    """A new token. The file, the program or the metadata behind the identity are read anew.

    Raises GoogleAuthError, OSError, KeyError, TypeError or ValueError; ``gcs_identity_errors`` translates them.
    """
    credentials = _credentials(_description(identity))
    with requests.Session() as session:
        asking = _Asking(session)
        try:
            credentials.refresh(asking)
        except GoogleAuthError as error:
            if asking.is_passing:
                raise ConnectionError(f"the token service answers HTTP {asking.status}") from error
            raise
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(f"the token's program did not end within {error.timeout:g} s") from None
    lifetime = credentials.expiry.replace(tzinfo=UTC) - datetime.now(UTC)
    return FetchedToken(credentials.token, lifetime.total_seconds())


def _description(identity: WorkloadIdentity | CredentialsFile) -> Any:
    if isinstance(identity, WorkloadIdentity):
        return identity.credential_configuration()
    with identity.path.open(encoding="utf-8") as file:
        return json.load(file)


def _credentials(description: Any) -> Any:
    match description:
        case {"type": "service_account"}:
            kind: Any = service_account.Credentials
            return kind.from_service_account_info(description, scopes=[SCOPE])
        case {"type": "external_account", "credential_source": dict(source)}:
            return _kind(source).from_info(description, scopes=[SCOPE])
        case _:
            raise ValueError(
                "it is neither the key of a service account nor the configuration of an external account, in JSON"
            )


def _kind(source: dict[str, Any]) -> Any:
    if str(source.get("environment_id", "")).startswith("aws"):
        return aws.Credentials
    if "executable" in source:
        # Google's library wants to hear that running programs is meant: the configuration has said so.
        os.environ["GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES"] = "1"
        return pluggable.Credentials
    return identity_pool.Credentials
