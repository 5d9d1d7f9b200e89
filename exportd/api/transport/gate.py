"""The outermost layer of the API: limits requests, and answers whatever goes wrong inside.

The person that a proxy names is accepted only from that proxy. Over TCP, the requests of an address are limited. A body
has to arrive in time. Refusals are sent slowly: a client that continues although it is refused has to wait for the
answers, and the time goes to exports.

A browser sends what a page tells it to send, with the rights of its user. This also applies to the Unix socket when a
person forwards it to a port. So on every listener:

- The Host header has to name this server. A page that was sent here by a foreign name (DNS rebinding) is refused.
- A request that changes something has to come from this server's own pages, or from a program that is no browser.
- A page of another site may link to this server and nothing else: it cannot embed or fetch an answer.

Source: the Fetch Metadata Request Headers and the Origin header (RFC 6454) as browsers send them.
"""

import asyncio
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus

import anyio
import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from exportd.api.problems import Refusal, problem_response
from exportd.api.transport.client_limits import RateLimit
from exportd.api.transport.unix_socket import Peer
from exportd.model.clock import Clock
from exportd.model.foreign_text import MASK

_logger = structlog.get_logger()

ON_ANSWERED = "on_answered"
"""The key in a request's state of a function that is called when the request has ended, in any way."""

PERSON = "person"
"""The key in a request's state of the person whom a proxy names; None without a proxy."""

PersonOf = Callable[[Peer | None, Iterable[tuple[bytes, bytes]]], str | None]
"""Returns the person of a request of a peer with these headers. Raises Refusal for headers that are not accepted."""

REFUSALS_A_SECOND = 20
"""How many refusals an address, or a user of this machine, gets at once. Further ones wait, a second at most."""

_REFUSALS = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS}

BODY_TIME_S = 30.0
_DOWNLOADS = "/downloads/"
MAX_BODY_BYTES = 1_000_000

_MAX_DRAINED_BYTES = 32_000_000
_DRAIN_TIMEOUT_S = 5.0
"""How long a body that is too large is read and dropped. Most clients send everything before they read the answer, and
never see it when the connection is closed before.
"""


class Gate:
    """An ASGI application around another one. ``hosts`` are this server's names, in lower case and without ports."""

    def __init__(
        self,
        application: ASGIApp,
        *,
        hosts: Collection[str],
        address_limit: RateLimit,
        clock: Clock,
        refusals_a_second: int = REFUSALS_A_SECOND,
        body_time_s: float = BODY_TIME_S,
        person_of: PersonOf = lambda _peer, _headers: None,
    ) -> None:
        self._application = application
        self._hosts = frozenset(hosts)
        self._address_limit = address_limit
        self._refusals = RateLimit(refusals_a_second, 1.0)
        self._clock = clock
        self._body_time_s = body_time_s
        self._person_of = person_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        send = _with_policy(send)
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        refusal = _refuse_size(headers)
        if refusal is not None and refusal.status_code == 413 and b"expect" not in headers:
            await _drain(receive)
        refusal = refusal or refuse_page(scope["method"], scope["headers"], hosts=self._hosts)
        peer = scope.get("state", {}).get("peer")
        client = _address(scope) if peer is None else f"user {peer.uid}"
        if refusal is None and peer is None:
            refusal = self._refuse_stranger(client)
        refusal = refusal or self._name_person(scope)
        if refusal is not None:
            await self._wait_to_refuse(client)
            await problem_response(refusal.status_code, refusal.detail, refusal.headers)(scope, receive, send)
            return
        begun = False

        async def answer(message: Message) -> None:
            nonlocal begun
            if peer is None and message.get("status") in _REFUSALS:
                await self._wait_to_refuse(client)
            begun = True
            await send(message)

        try:
            await self._application(scope, _Measured(receive, self._body_time_s), answer)
        except asyncio.CancelledError:
            # Only the server cancels requests: the daemon stops, and the grace period is over.
            _logger.warning("request cut off", method=scope["method"], path=_loggable(scope["path"]))
            if not begun:
                sentence = "The daemon is stopping. What was asked for may still be done; look before you repeat it."
                await problem_response(503, sentence)(scope, receive, send)
        except ClientDisconnect:
            pass  # in the middle of its body: there is no client to answer, and nothing for the log
        except Exception:
            # Answered already, with 500; the log says why.
            _logger.exception("request failed", method=scope["method"], path=_loggable(scope["path"]))
        finally:
            if (on_answered := scope.get("state", {}).get(ON_ANSWERED)) is not None:
                on_answered()

    def _name_person(self, scope: Scope) -> Refusal | None:
        """Store the person whom a proxy names. Returns why that is not accepted, if so."""
        state = scope.setdefault("state", {})
        try:
            state[PERSON] = self._person_of(state.get("peer"), scope["headers"])
        except Refusal as refusal:
            return refusal
        return None

    def _refuse_stranger(self, address: str) -> Refusal | None:
        """Why a request over TCP is refused; None when it is not."""
        wait_s = self._address_limit.wait_s(address, self._clock.monotonic())
        if not wait_s:
            return None
        sentence = "An address may make 20000 requests in 5 minutes. Try again later."
        return Refusal(429, sentence, headers={"retry-after": str(max(1, round(wait_s)))})

    async def _wait_to_refuse(self, client: str) -> None:
        now = self._clock.monotonic()
        await self._clock.sleep_until(now + self._refusals.wait_s(client, now))


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else ""


def _with_policy(send: Send) -> Send:
    """Add to every answer, including refusals, that no page of another site may embed it."""

    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), (b"cross-origin-resource-policy", b"same-origin")]
        await send(message)

    return answer


def _loggable(path: str) -> str:
    """The path without the token of a download, which would let every reader of the log download the files."""
    before, downloads, _ = path.partition(_DOWNLOADS)
    return f"{before}{downloads}{MASK}" if downloads else path


def _too_large() -> Refusal:
    return Refusal(413, "The request's body is too large: one megabyte is the limit.", headers={"connection": "close"})


def _refuse_size(headers: Mapping[bytes, str]) -> Refusal | None:
    length = headers.get(b"content-length", "")
    if length and b"transfer-encoding" in headers:
        # A proxy in front may use the other of the two headers, and take the rest of the body for the next request.
        sentence = "A request may have a Content-Length or a Transfer-Encoding, not both."
        return Refusal(400, sentence, headers={"connection": "close"})
    return _too_large() if length.isdecimal() and int(length) > MAX_BODY_BYTES else None


async def _drain(receive: Receive) -> None:
    size_bytes = 0
    with anyio.move_on_after(_DRAIN_TIMEOUT_S):
        while size_bytes < _MAX_DRAINED_BYTES:
            message = await receive()
            size_bytes += len(message.get("body", b""))
            if not message.get("more_body", False):  # its end, or that of the connection
                return


class _Measured:
    """Receives a request's body within a time and up to a size."""

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


SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

_AUTHORITY = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::(?P<port>[0-9]{1,5}))?")
"""A host with or without a port, and nothing else: no user, no path."""

_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Authority:
    """A host in lower case, without brackets, and its port; None is the scheme's own."""

    host: str
    port: int | None

    @classmethod
    def of(cls, text: str) -> "Authority | None":
        """Read a Host header, or what follows ``//`` in an origin; None when it is neither."""
        match = _AUTHORITY.fullmatch(text)
        if match is None:
            return None
        port = match["port"]
        return cls(match["host"].strip("[]").lower(), int(port) if port else None)


def refuse_page(method: str, headers: Sequence[tuple[bytes, bytes]], *, hosts: Collection[str]) -> Refusal | None:
    """Why a request is refused by its headers; None when it is not.

    ``headers`` have names in lower case, as ASGI has them. ``hosts`` are this server's names, in lower case and without
    ports.
    """
    named = [value.decode("latin-1") for name, value in headers if name == b"host"]
    host = Authority.of(named[0]) if len(named) == 1 else None
    if host is None or host.host not in hosts:
        return Refusal(400, "The Host header does not name this server: control.hosts lists the names it goes by.")
    site = _last(headers, b"sec-fetch-site")
    if site is None:
        # Not a browser, or an old one, which sends the page's origin where it matters.
        origins = [value.decode("latin-1") for name, value in headers if name == b"origin"]
        allowed = all(_is_here(origin, host) for origin in origins)
    else:
        is_link = method in SAFE_METHODS and _last(headers, b"sec-fetch-mode") == "navigate"
        allowed = site in {"same-origin", "none"} or is_link
    return None if allowed else Refusal(403, "A page of another site may not call this server.")


def _last(headers: Sequence[tuple[bytes, bytes]], wanted: bytes) -> str | None:
    values = [value.decode("latin-1") for name, value in headers if name == wanted]
    return values[-1] if values else None


def _is_here(origin: str, host: Authority) -> bool:
    """Whether an origin is the address of the request, including the port."""
    origin_scheme, _, rest = origin.partition("://")
    found = Authority.of(rest)
    if found is None or origin_scheme not in _DEFAULT_PORTS:
        return False  # "null" is the origin of a sandboxed page
    # A proxy in front may use TLS where this server does not. So a Host without a port has the default port of the
    # origin.
    default = _DEFAULT_PORTS[origin_scheme]
    return (found.host, found.port or default) == (host.host, host.port or default)
