"""Fetches an access token of Google's for an identity. Blocking: it reads files, runs programs and asks servers.

google-auth does it, from the credentials' own description (``from_info``): its ``default`` and its loaders of files
ask servers in the constructor, and would take whatever identity the environment offers.
"""

import json
import os
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import requests
from google.auth import aws, identity_pool, pluggable
from google.auth.transport.requests import Request
from google.oauth2 import service_account

from exportd.stores.gcs_identity import CredentialsFile, WorkloadIdentity

SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
_REQUEST_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True, repr=False)
class FetchedToken:
    """A token, and for how many seconds it is good. Has no repr, so that it gets into no log."""

    value: str
    lifetime_s: float


def fetch_token(identity: WorkloadIdentity | CredentialsFile) -> FetchedToken:
    """A new token. The file, the program or the metadata behind the identity are read anew.

    Raises GoogleAuthError, OSError, KeyError, TypeError or ValueError; ``gcs_identity_errors`` translates them.
    """
    credentials = _credentials(_description(identity))
    with requests.Session() as session:
        # Without a timeout google-auth waits for two minutes.
        try:
            credentials.refresh(partial(Request(session), timeout=_REQUEST_TIMEOUT_S))
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
