"""Holds an access token and renews it in time."""

import io

import anyio
import anyio.to_thread
from gcloud.aio.auth import Token
from gcloud.aio.auth.token import TokenResponse
from google.auth.exceptions import GoogleAuthError

from exportd.model.errors import TransientError
from exportd.stores.gcs.identity import CredentialsFile, WorkloadIdentity
from exportd.stores.gcs.identity_errors import translate
from exportd.stores.gcs.token_fetcher import SCOPE, fetch_token

_RENEWED_BEFORE_END_S = 300.0
_UNSAFE_BEFORE_END_S = 30.0


class GcsToken(Token):
    """gcloud-aio's token, fetched by google-auth, which knows every kind of identity.

    gcloud-aio itself would try five times, up to a minute apart, whatever is wrong, in a task that all callers share:
    the cancellation of one ends it for all. Here a fetch is one attempt of at most ``timeout_s``, and who comes
    meanwhile waits behind a lock. Repeating is the business of whoever asked.
    """

    def __init__(self, identity: WorkloadIdentity | CredentialsFile, *, bucket: str, timeout_s: float = 20.0) -> None:
        # An empty description keeps it from looking for one in the environment.
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
            raise translate(error, self._identity, bucket=self._bucket) from None
        return TokenResponse(value=fetched.value, expires_in=int(fetched.lifetime_s))

    def forget(self) -> None:
        """The token is not accepted any more, whatever it said of its end."""
        self.access_token = None
