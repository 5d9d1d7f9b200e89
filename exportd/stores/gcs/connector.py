"""Connects to Google Cloud Storage: one session and one token for all requests to a bucket."""

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import aiohttp
import anyio
import anyio.to_thread

from exportd.model.errors import PermanentError
from exportd.model.reason import Reason
from exportd.stores.gcs.identity import Anonymous, GcsIdentity

if TYPE_CHECKING:
    from gcloud.aio.auth import AioSession

    from exportd.stores.gcs.token_fetcher import GcsToken

_CONNECT_TIMEOUT_S = 10.0


class GcsConnector:
    """Connects when it is used, in the event loop that uses it. ``close`` ends everything until then."""

    def __init__(self, identity: GcsIdentity, *, bucket: str, connections: int) -> None:
        self.identity = identity
        self._bucket = bucket
        self._connections = connections
        self._connecting = anyio.Lock()
        self._client: aiohttp.ClientSession | None = None
        self._session: AioSession | None = None
        self._token: GcsToken | None = None

    async def session(self) -> "AioSession":
        """Raises PermanentError when Google's library is not installed."""
        async with self._connecting:
            if self._session is None:
                self._session = await self._connect()
        return self._session

    async def authorization(self) -> Mapping[str, str]:
        """The headers that authorize a request. Raises TransientError or PermanentError."""
        await self.session()
        if self._token is None:
            return {}
        return {"Authorization": f"Bearer {await self._token.get()}"}

    def forget_token(self) -> bool:
        """Drop a token that is not accepted; whether there was one, so that another one may be."""
        if self._token is None:
            return False
        self._token.forget()
        return True

    async def close(self) -> None:
        # Taken first: who calls while it closes gets a new one.
        client, self._client, self._session, self._token = self._client, None, None, None
        if client is not None:
            await client.close()

    async def _connect(self) -> "AioSession":
        try:
            # Imported here, because only who has a bucket there pays for it; in a thread, because it takes a while.
            auth = await anyio.to_thread.run_sync(importlib.import_module, "gcloud.aio.auth")
            tokens = await anyio.to_thread.run_sync(importlib.import_module, "exportd.stores.gcs.token_fetcher")
        except ImportError as error:
            raise PermanentError(
                f"The bucket gs://{self._bucket}: the library for Google Cloud Storage is missing "
                f"({error.name or error}). Install exportd anew, with what requirements.lock lists.",
                reason=Reason.DESTINATION_REFUSED,
            ) from error
        if not isinstance(self.identity, Anonymous):
            self._token = tokens.GcsToken(self.identity, bucket=self._bucket)
        self._client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections),
            # Each request has its own limit, which grows with what it moves.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT_S),
            auto_decompress=False,
            trust_env=True,
        )
        session: AioSession = auth.AioSession(self._client)
        return session
