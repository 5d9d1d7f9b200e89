"""Fetches and keeps Google's access tokens. Fetching blocks: it reads files, runs programs and asks servers.

It uses google-auth with the credentials' own description (``from_info``). The library's ``default`` and its loaders of
files would ask servers in the constructor, and use whatever identity the environment offers.
"""

import json
import os
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import anyio
import anyio.to_thread
import requests
from google.auth import aws, identity_pool, pluggable
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import Request
from google.oauth2 import service_account

from exportd.model.errors import TransientError
from exportd.stores.gcs.errors import translate_identity_failure
from exportd.stores.gcs.identity import CredentialsFile, WorkloadIdentity

SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
_REQUEST_TIMEOUT_S = 10.0
_FETCH_TIMEOUT_S = 20.0
_RENEWED_BEFORE_END_S = 300.0
_UNSAFE_BEFORE_END_S = 30.0


@dataclass(frozen=True, slots=True, repr=False)
class FetchedToken:
    """A token, and for how many seconds it is valid. It has no repr, so that no log contains it."""

    value: str
    lifetime_s: float


class _TokenRequests:
    """Sends google-auth's requests with a shorter timeout than its own two minutes, and keeps the last status."""

    def __init__(self, session: requests.Session) -> None:
        self._request = Request(session)
        self.status = 0

    @property
    def is_transient(self) -> bool:
        """Whether the last answer was a failure that may pass."""
        return self.status >= 500 or self.status in {408, 429}

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        self.status = 0
        response: Any = self._request(*arguments, **{"timeout": _REQUEST_TIMEOUT_S, **options})
        self.status = response.status
        return response


def fetch_token(identity: WorkloadIdentity | CredentialsFile) -> FetchedToken:
    """Fetch a new token. The identity's file, program or metadata is read again.

    Raises GoogleAuthError, OSError, KeyError, TypeError or ValueError; ``translate_identity_failure`` translates them.
    """
    credentials = _credentials(_description(identity))
    with requests.Session() as session:
        requests_ = _TokenRequests(session)
        try:
            credentials.refresh(requests_)
        except GoogleAuthError as error:
            if requests_.is_transient:
                raise ConnectionError(f"the token service answers HTTP {requests_.status}") from error
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
        # Google's library runs programs only with this consent, which the configuration has given.
        os.environ["GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES"] = "1"
        return pluggable.Credentials
    return identity_pool.Credentials


class GcsToken:
    """The token of an identity, for all stores that use it. It is renewed five minutes before its end.

    A fetch is one attempt of at most 20 seconds. Those who wait for it share what comes of it, and each repeats by
    its own retry budget.
    """

    def __init__(self, identity: WorkloadIdentity | CredentialsFile) -> None:
        self._identity = identity
        self._fetching = anyio.Lock()
        self._fetches = 0
        self._value = ""
        self._ends_at = 0.0
        self._failure: Exception | None = None

    async def value(self, *, bucket: str) -> str:
        """The token, for a request to ``bucket``. Raises TransientError or PermanentError."""
        fetches = self._fetches
        async with self._fetching:
            left_s = self._ends_at - anyio.current_time()
            if self._value and left_s > _RENEWED_BEFORE_END_S:
                return self._value
            if self._fetches == fetches or not (self._value or self._failure):
                await self._fetch()
            if self._failure is not None:
                failure = translate_identity_failure(self._failure, self._identity, bucket=bucket)
                if not self._value or left_s < _UNSAFE_BEFORE_END_S or not isinstance(failure, TransientError):
                    # Without the cause, which may repeat the token.
                    raise failure from None
            return self._value

    async def _fetch(self) -> None:
        self._failure = None
        try:
            with anyio.fail_after(_FETCH_TIMEOUT_S):
                fetched = await anyio.to_thread.run_sync(fetch_token, self._identity, abandon_on_cancel=True)
        except (GoogleAuthError, OSError, KeyError, TypeError, ValueError) as error:
            self._failure = error.with_traceback(None)  # which refers to this object
        else:
            self._value, self._ends_at = fetched.value, anyio.current_time() + fetched.lifetime_s
        self._fetches += 1

    def forget(self, value: str) -> None:
        """Fetch another token for the next request, because this one is not accepted any more."""
        if self._value == value:
            self._value = ""
