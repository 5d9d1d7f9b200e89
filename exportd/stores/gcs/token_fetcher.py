"""Fetches an access token of Google's for an identity. Blocking: it reads files, runs programs and asks servers.

google-auth does it, from the credentials' own description (``from_info``): its ``default`` and its loaders of files
ask servers in the constructor, and would take whatever identity the environment offers.
"""

import io
import json
import os
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import anyio
import anyio.to_thread
import requests
from gcloud.aio.auth import Token
from gcloud.aio.auth.token import TokenResponse
from google.auth import aws, identity_pool, pluggable
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import Request
from google.oauth2 import service_account

from exportd.model.errors import TransientError
from exportd.stores.gcs.errors import translate_identity_failure
from exportd.stores.gcs.identity import CredentialsFile, WorkloadIdentity

SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
_REQUEST_TIMEOUT_S = 10.0
_RENEWED_BEFORE_END_S = 300.0
_UNSAFE_BEFORE_END_S = 30.0


@dataclass(frozen=True, slots=True, repr=False)
class FetchedToken:
    """A token, and for how many seconds it is good. Has no repr, so that it gets into no log."""

    value: str
    lifetime_s: float


class _TokenRequests:
    """Sends google-auth's requests, with a timeout (it would wait for two minutes), and keeps the last status."""

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
    """A new token. The file, the program or the metadata behind the identity are read anew.

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


class GcsToken(Token):
    """gcloud-aio's token, fetched by google-auth, which knows every kind of identity.

    It is renewed five minutes before its end. gcloud-aio itself would try five times, up to a minute apart, whatever is
    wrong, in a task that all callers share: the cancellation of one ends it for all. Here a fetch is one attempt of at
    most ``timeout_s``, other callers wait for it behind a lock, and each caller repeats by its own retry budget.
    """

    def __init__(self, identity: WorkloadIdentity | CredentialsFile, *, bucket: str, timeout_s: float = 20.0) -> None:
        # An empty description keeps the library from looking for one in the environment.
        super().__init__(service_file=io.StringIO("{}"), scopes=[SCOPE])
        self._identity = identity
        self._bucket = bucket
        self._timeout_s = timeout_s
        self._fetching = anyio.Lock()
        self._ends_at = 0.0

    async def ensure_token(self) -> None:
        """Raises TransientError or PermanentError."""
        async with self._fetching:
            left_s = self._ends_at - anyio.current_time()
            if self.access_token is not None and left_s > _RENEWED_BEFORE_END_S:
                return
            try:
                response = await self.refresh(timeout=int(self._timeout_s))
            except TransientError:
                if self.access_token is None or left_s < _UNSAFE_BEFORE_END_S:
                    raise
            else:
                self.access_token = response.value
                self._ends_at = anyio.current_time() + response.expires_in

    async def refresh(self, *, timeout: int) -> TokenResponse:
        try:
            with anyio.fail_after(timeout):
                fetched = await anyio.to_thread.run_sync(fetch_token, self._identity, abandon_on_cancel=True)
        except (GoogleAuthError, OSError, KeyError, TypeError, ValueError) as error:
            # Not as its cause: it may repeat the token.
            raise translate_identity_failure(error, self._identity, bucket=self._bucket) from None
        return TokenResponse(value=fetched.value, expires_in=int(fetched.lifetime_s))

    def forget(self) -> None:
        """Fetch another token at the next request: this one is not accepted any more, whatever its lifetime."""
        self.access_token = None
