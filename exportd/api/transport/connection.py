"""One connection of the API, from the moment it is accepted.

uvicorn handles HTTP. Its protocol class is extended by what it lacks: who is at the other end, the stage of the
connection, and timeouts for clients that send no request or do not read the answer. This relies on internals of
uvicorn; tests/unit/api/transport/test_uvicorn_parts.py fails when they change.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.server import ServerState

from exportd.api.problems import problem_response
from exportd.api.transport.client_limits import ConnectionStage
from exportd.api.transport.unix_socket import Peer

HEADER_TIMEOUT_S = 10.0
"""How long a client may take to send the head of a request."""

WRITE_STALL_TIMEOUT_S = 30.0
"""How long a client may leave sent data unread."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A connection as it was accepted. ``peer`` is the process at its other end, None over TCP."""

    line: socket.socket
    address: str
    peer: Peer | None
    is_administrators: bool


class ApiConnection(H11Protocol):
    """One connection. ``request.state.peer`` is the process at its other end."""

    _header_timeout: asyncio.TimerHandle | None = None
    _stall_timeout: asyncio.TimerHandle | None = None

    def __init__(
        self, arrival: Arrival, config: Config, server_state: ServerState, *, app_state: dict[str, Any]
    ) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(config, server_state, {**app_state, "peer": arrival.peer}, loop)
        self._line = arrival.line
        self.owner: Hashable = arrival.address if arrival.peer is None else arrival.peer.uid
        self.process: Hashable = arrival.address if arrival.peer is None else arrival.peer.pid
        self.is_administrators = arrival.is_administrators
        self.since = loop.time()
        """When it was accepted or last answered, by the clock of the event loop."""
        self.is_dropped = False
        """Whether its place was given to another connection."""
        self.on_end: Callable[[ApiConnection], None] = lambda _: None

    @property
    def stage(self) -> ConnectionStage:
        transport: asyncio.Transport | None = self.transport  # None until TLS is agreed on
        if transport is None:
            return ConnectionStage.HANDSHAKE
        if transport.is_closing():
            return ConnectionStage.CLOSING
        cycle = self._cycle
        if cycle is None or cycle.more_body:
            return ConnectionStage.ASKING
        return ConnectionStage.KEPT if cycle.response_complete else ConnectionStage.BUSY

    def drop(self) -> None:
        """Close it without waiting for anything to be sent or read."""
        self.is_dropped = True
        transport: asyncio.Transport | None = self.transport
        if transport is not None:
            transport.abort()
        else:
            # The handshake notices the end of the connection. Its transport is not known earlier.
            with contextlib.suppress(OSError):
                self._line.shutdown(socket.SHUT_RDWR)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # Writing pauses as soon as anything is unread, so that the stall timeout begins and at most one piece waits.
        # Not 0, at which a transport with TLS would count an empty buffer as a full one.
        transport.set_write_buffer_limits(high=1, low=0)
        self._start_header_timeout()

    def data_received(self, data: bytes) -> None:
        self._start_header_timeout()
        super().data_received(data)
        if self._is_answering:
            self._stop_header_timeout()

    def on_response_complete(self) -> None:
        self.since = self.loop.time()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_header_timeout()
        self._stop_stall_timeout()
        super().connection_lost(exc)
        self.on_end(self)

    def pause_writing(self) -> None:
        super().pause_writing()
        # Not close(), which would wait until the rest is read.
        self._stall_timeout = self.loop.call_later(WRITE_STALL_TIMEOUT_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_stall_timeout()

    def send_400_response(self, msg: str) -> None:
        """Answer invalid HTTP in the form of all errors. uvicorn would send plain text."""
        self.transport.write(closing_answer(HTTPStatus.BAD_REQUEST, "This is no HTTP request that can be read."))
        self.transport.close()

    @property
    def _cycle(self) -> RequestResponseCycle | None:
        return self.cycle  # None before the first request, whatever uvicorn declares

    @property
    def _is_answering(self) -> bool:
        cycle = self._cycle
        return cycle is not None and not cycle.response_complete

    def _start_header_timeout(self) -> None:
        """Start the header timeout, which goes on while the head of a request arrives piece by piece."""
        if self._header_timeout is None and not self._is_answering:
            self._header_timeout = self.loop.call_later(HEADER_TIMEOUT_S, self.transport.close)

    def _stop_header_timeout(self) -> None:
        if self._header_timeout is not None:
            self._header_timeout.cancel()
            self._header_timeout = None

    def _stop_stall_timeout(self) -> None:
        if self._stall_timeout is not None:
            self._stall_timeout.cancel()
            self._stall_timeout = None


def closing_answer(status: HTTPStatus, sentence: str) -> bytes:
    """An answer in the form of all errors that closes the connection, for what never became a request."""
    response = problem_response(
        status, sentence, {"connection": "close", "cross-origin-resource-policy": "same-origin"}
    )
    head = b"".join(b"%s: %s\r\n" % header for header in response.raw_headers)
    return f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() + head + b"\r\n" + bytes(response.body)
