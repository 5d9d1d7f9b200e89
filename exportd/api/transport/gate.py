"""The outermost layer of the API: limits on what comes in, and an answer whatever goes wrong inside.

Over TCP, the Host header has to name this server (which refuses web pages that reach it under a foreign name), and the
number of requests is limited. A body has to arrive in time.
"""

import asyncio
from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

import anyio
import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from exportd.api.problems import Refusal, problem_response
from exportd.api.transport.rate_limit import RateLimit
from exportd.model.clock import Clock

_logger = structlog.get_logger()

BODY_TIME_S = 30.0
MAX_BODY_BYTES = 1_000_000

_MAX_DRAINED_BYTES = 32_000_000
_DRAIN_TIMEOUT_S = 5.0
"""How much of a body that is too large is read and dropped: most clients send everything before they read the answer,
and never see it when the connection is closed meanwhile.
"""


class Gate:
    """An ASGI application around another one. ``hosts`` are our names, in lower case and without ports."""

    def __init__(
        self,
        application: ASGIApp,
        *,
        hosts: Collection[str],
        address_limit: RateLimit,
        clock: Clock,
        body_time_s: float = BODY_TIME_S,
    ) -> None:
        self._application = application
        self._hosts = frozenset(hosts)
        self._address_limit = address_limit
        self._clock = clock
        self._body_time_s = body_time_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        refusal = _refuse_size(headers)
        if refusal is not None and b"expect" not in headers:
            await _drain(receive)
        if refusal is None and scope.get("state", {}).get("peer") is None:
            refusal = self._refuse_stranger(scope, headers)
        if refusal is not None:
            await problem_response(refusal.status_code, refusal.detail, refusal.headers)(scope, receive, send)
            return
        begun = False

        async def answer(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._application(scope, _Measured(receive, self._body_time_s), answer)
        except asyncio.CancelledError:
            # Only the server cancels requests: the daemon stops, and the grace period is over.
            _logger.warning("request cut off", method=scope["method"], path=scope["path"])
            if not begun:
                sentence = "The daemon is stopping. What was asked for may still be done; look before you repeat it."
                await problem_response(503, sentence)(scope, receive, send)
        except Exception:
            # Answered already, with 500; the log says why.
            _logger.exception("request failed", method=scope["method"], path=scope["path"])

    def _refuse_stranger(self, scope: Scope, headers: Mapping[bytes, str]) -> Refusal | None:
        """Why a request over TCP is refused; None when it is not."""
        if _name_in(f"//{headers.get(b'host', '')}") not in self._hosts:
            return Refusal(400, "The Host header does not name this server: control.hosts lists the names it goes by.")
        if b"origin" in headers and _name_in(headers[b"origin"]) not in self._hosts:
            return Refusal(403, "A page of another site may not call this server.")
        client = scope.get("client")
        wait_s = self._address_limit.wait_s(client[0] if client else "", self._clock.monotonic())
        if not wait_s:
            return None
        sentence = "An address may make 20000 requests in 5 minutes. Try again later."
        return Refusal(429, sentence, headers={"retry-after": str(max(1, round(wait_s)))})


def _too_large() -> Refusal:
    return Refusal(413, "The request's body is too large: one megabyte is the limit.", headers={"connection": "close"})


def _refuse_size(headers: Mapping[bytes, str]) -> Refusal | None:
    length = headers.get(b"content-length", "")
    return _too_large() if length.isdecimal() and int(length) > MAX_BODY_BYTES else None


async def _drain(receive: Receive) -> None:
    size_bytes = 0
    with anyio.move_on_after(_DRAIN_TIMEOUT_S):
        while size_bytes < _MAX_DRAINED_BYTES:
            message = await receive()
            size_bytes += len(message.get("body", b""))
            if not message.get("more_body", False):  # its end, or that of the connection
                return


def _name_in(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


class _Measured:
    """Receives a request's body in time and up to a size, or not at all."""

    def __init__(self, receive: Receive, seconds: float) -> None:
        self._receive = receive
        self._deadline = anyio.current_time() + seconds
        self._size_bytes = 0
        self._complete = False

    async def __call__(self) -> Message:
        if self._complete:
            return await self._receive()
        with anyio.move_on_after(max(0.0, self._deadline - anyio.current_time())):
            message = await self._receive()
            self._complete = not message.get("more_body", False)
            self._size_bytes += len(message.get("body", b""))
            if self._size_bytes <= MAX_BODY_BYTES:
                return message
        if self._size_bytes > MAX_BODY_BYTES:
            if not self._complete:
                await _drain(self._receive)
            raise _too_large()
        raise Refusal(408, "The request's body did not arrive in time.", headers={"connection": "close"})
