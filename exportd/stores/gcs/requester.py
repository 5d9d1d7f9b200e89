"""Sends requests to Google Cloud Storage: with one session and one token for all requests to a bucket.

Failures are raised as TransientError or PermanentError.
"""

import importlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aiohttp
import anyio
import anyio.to_thread
from aiohttp.abc import AbstractStreamWriter

from exportd.model.errors import ExportdError, PermanentError, Reason
from exportd.stores.gcs.answers import GcsAnswer
from exportd.stores.gcs.errors import translate_answer, translate_failure
from exportd.stores.gcs.identity import Anonymous, GcsIdentity

if TYPE_CHECKING:
    from gcloud.aio.auth import AioSession

    from exportd.stores.gcs.token_fetcher import GcsToken

_CONNECT_TIMEOUT_S = 10.0
_CONNECTIONS = 32

_BLOCK_BYTES = 256 << 10
_READ_BYTES = 1 << 20


GcsTokens = MutableMapping[GcsIdentity, "GcsToken"]
"""The tokens, by identity. They are shared because fetching one with a service account's key takes 30 ms of CPU."""


class GcsConnector:
    """Opens a session when it is first used, in the event loop that uses it. ``close`` closes it; the next use opens
    another.

    The token is shared by all connectors with the same ``tokens`` and the same identity.
    """

    def __init__(self, identity: GcsIdentity, *, bucket: str, tokens: GcsTokens | None = None) -> None:
        self.identity = identity
        self._tokens: GcsTokens = {} if tokens is None else tokens
        self._bucket = bucket
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

    async def token(self) -> str | None:
        """The token that authorizes a request; None if none is needed. Raises TransientError or PermanentError."""
        await self.session()
        return None if self._token is None else await self._token.value(bucket=self._bucket)

    def forget_token(self, token: str) -> None:
        """Drop a token that is not accepted."""
        if self._token is not None:
            self._token.forget(token)

    async def close(self) -> None:
        # Cleared first, so that a call during the closing opens a new one.
        client, self._client, self._session, self._token = self._client, None, None, None
        if client is not None:
            await client.close()

    async def _connect(self) -> "AioSession":
        try:
            # Imported here, so that only users of a bucket pay for it, and in a thread, because it takes long.
            auth = await anyio.to_thread.run_sync(importlib.import_module, "gcloud.aio.auth")
            tokens = await anyio.to_thread.run_sync(importlib.import_module, "exportd.stores.gcs.token_fetcher")
        except ImportError as error:
            raise PermanentError(
                f"The bucket gs://{self._bucket}: the library for Google Cloud Storage is missing "
                f"({error.name or error}). Install exportd anew, with what requirements.lock lists.",
                reason=Reason.DESTINATION_REFUSED,
            ) from error
        if not isinstance(self.identity, Anonymous):
            self._token = self._tokens.setdefault(self.identity, tokens.GcsToken(self.identity))
        self._client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_CONNECTIONS),
            # Each request has its own limit, which grows with what it moves.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT_S),
            auto_decompress=False,
            trust_env=True,
        )
        session: AioSession = auth.AioSession(self._client)
        return session


@dataclass(frozen=True, slots=True)
class GcsRequest:
    """A request. ``doing`` is for sentences, ``permission`` is what it needs.

    ``url`` may be an upload's own address (``is_session``), a secret that authorizes the request by itself. The
    ``body`` is sent piece by piece.
    """

    method: str
    url: str = field(repr=False)
    doing: str
    permission: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Sequence[bytes | memoryview] = field(default=(), repr=False)
    is_session: bool = False


class _Blocks(aiohttp.Payload):
    """A body in blocks; ``before_block`` is called for each.

    Once a block was sent, the body counts as used, so that aiohttp does not send it again by itself: Google has to be
    asked first how much it has kept.
    """

    def __init__(self, body: Sequence[bytes | memoryview], before_block: Callable[[], None]) -> None:
        super().__init__(body, content_type="application/octet-stream")
        self._views = [memoryview(data) for data in body]
        self._size = sum(len(view) for view in self._views)
        self._before_block = before_block

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return b"".join(self._views).decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        self._consumed = True
        for view in self._views:
            for begin in range(0, len(view), _BLOCK_BYTES):
                self._before_block()
                await writer.write(view[begin : begin + _BLOCK_BYTES])


class GcsRequester:
    """Sends requests. One in which nothing is sent or received for ``stall_timeout_s`` fails."""

    def __init__(self, connector: GcsConnector, *, bucket: str, stall_timeout_s: float = 60.0) -> None:
        self._connector = connector
        self._bucket = bucket
        self._stall_timeout_s = stall_timeout_s

    async def send(self, request: GcsRequest) -> GcsAnswer:
        """Send a request. Returns the answer, whatever its status. Raises TransientError or PermanentError when there
        is none.
        """
        with self._translated(request):
            with anyio.fail_after(self._stall_timeout_s) as scope:
                response = await self._open(request, scope)
                try:
                    return await _read(response, request)
                finally:
                    response.close()

    async def stream(
        self, request: GcsRequest, *, refusal: Callable[[GcsAnswer], ExportdError]
    ) -> AsyncIterator[bytes]:
        """Send a request and return the body of the answer in chunks. Raises the error of ``refusal`` for an answer
        that is a failure.
        """
        with self._translated(request):
            with anyio.fail_after(self._stall_timeout_s) as scope:
                response = await self._open(request, scope)
            try:
                if response.status >= 400:
                    with anyio.fail_after(self._stall_timeout_s):
                        answer = await _read(response, request)
                    raise refusal(answer)
                while True:
                    with anyio.fail_after(self._stall_timeout_s):
                        chunk = await response.content.read(_READ_BYTES)
                    if not chunk:
                        return
                    yield chunk
            finally:
                response.close()

    def refusal(self, answer: GcsAnswer, request: GcsRequest) -> ExportdError:
        """The error to raise for a failure that Google has answered."""
        return translate_answer(
            answer,
            bucket=self._bucket,
            doing=request.doing,
            permission=request.permission,
            member=self._connector.identity.member,
        )

    def foreign(self, error: ValueError, request: GcsRequest) -> PermanentError:
        """The error to raise for an answer that makes no sense, as ``error`` says."""
        return PermanentError(
            f"the bucket gs://{self._bucket} gave an answer to {request.doing} that is not Google's: {error}. Is "
            "something in between?",
            reason=Reason.DESTINATION_REFUSED,
        )

    async def _open(self, request: GcsRequest, scope: anyio.CancelScope) -> aiohttp.ClientResponse:
        token = None if request.is_session else await self._connector.token()
        response = await self._open_once(request, scope, token)
        if response.status == 401 and token is not None:
            # The token was revoked, or the clocks differ: one attempt with a new one.
            response.close()
            self._connector.forget_token(token)
            response = await self._open_once(request, scope, await self._connector.token())
        return response

    async def _open_once(
        self, request: GcsRequest, scope: anyio.CancelScope, token: str | None
    ) -> aiohttp.ClientResponse:
        session = await self._connector.session()
        headers = {**request.headers, "Accept-Encoding": "identity"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        return await session.request(
            request.method,
            request.url,
            headers,
            auto_raise_for_status=False,
            data=_Blocks(request.body, self._extend_deadline(scope)) if request.body else None,
            allow_redirects=False,
        )

    def _extend_deadline(self, scope: anyio.CancelScope) -> Callable[[], None]:
        def extend() -> None:
            scope.deadline = anyio.current_time() + self._stall_timeout_s

        return extend

    @contextmanager
    def _translated(self, request: GcsRequest) -> Iterator[None]:
        try:
            yield
        except (aiohttp.ClientError, OSError) as error:
            # Without the cause, whose text may repeat the address.
            raise translate_failure(error, bucket=self._bucket, doing=request.doing) from None


async def _read(response: aiohttp.ClientResponse, request: GcsRequest) -> GcsAnswer:
    return GcsAnswer(
        status=response.status,
        body=await response.read(),
        range=response.headers.get("Range"),
        location=response.headers.get("Location"),
        retry_after=response.headers.get("Retry-After", ""),
        # That of an upload's requests is the secret part of its address.
        request_id=None if request.is_session else response.headers.get("X-GUploader-UploadID"),
    )
