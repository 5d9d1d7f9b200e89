"""Serves the API on its sockets, inside the daemon's task group.

uvicorn does the HTTP; signals, start-up and addresses stay the daemon's. Its protocol class is extended by what it
lacks: the peer of a Unix socket, a limit to the number of connections (exports need the open files), and timeouts for
clients that send no request or do not read the answer. This relies on internals of uvicorn's minor version.
"""

import asyncio
import contextlib
import logging
import os
import socket
from collections import Counter
from collections.abc import Collection, Hashable, Iterator
from contextlib import ExitStack
from http import HTTPStatus
from pathlib import Path
from typing import Protocol, TypeVar

import anyio
import anyio.to_thread
import structlog
import uvicorn
from anyio.abc import TaskStatus
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from exportd.api.problems import problem_response
from exportd.api.transport.certificate import Certificate
from exportd.api.transport.inherited_socket import inherited_socket
from exportd.api.transport.peer import peer_of
from exportd.api.transport.unix_socket import unix_socket
from exportd.model.errors import SettingsError
from exportd.settings.section import split_listen

_logger = structlog.get_logger()

MAX_CONNECTIONS = 256
_HEADER_TIMEOUT_S = 10.0
"""How long a client may take to send the head of a request."""

_WRITE_STALL_TIMEOUT_S = 30.0
"""How long a client may leave what was sent to it unread."""

_GRACE_S = 3
"""How long requests may go on when the daemon stops."""

_REFUSAL_TIMEOUT_S = 1.0
"""How long requests that were not done by then may take to answer that they were cut off."""

_MAX_HEAD_BYTES = 64 * 1024


class Connection(Protocol):
    """``owner`` is the process or the address at its other end; ``idle_since`` None while a request is answered."""

    @property
    def owner(self) -> Hashable: ...

    @property
    def idle_since(self) -> float | None: ...


AnyConnection = TypeVar("AnyConnection", bound=Connection)


def eviction(connections: Collection[AnyConnection]) -> AnyConnection | None:
    """Which connection to close: of the owner with most connections, the one that has been idle longest. Pure.

    So a client that opens thousands loses its own, and others are served as always. None when all are busy.
    """
    counts = Counter(connection.owner for connection in connections)
    idle = [
        (counts[connection.owner], -connection.idle_since, connection)
        for connection in connections
        if connection.idle_since is not None
    ]
    return max(idle, key=lambda entry: entry[:2])[2] if idle else None


class ControlServer:
    """Listens on a Unix socket, and on an address if there is one: with TLS, when there is a certificate.

    A Unix socket that systemd hands over is taken; otherwise there is one made at ``socket_path``.
    """

    def __init__(
        self,
        application: ASGIApp,
        *,
        socket_path: Path,
        group_id: int | None,
        listen: str,
        certificate: Certificate | None,
    ) -> None:
        self._application = application
        self._socket_path = socket_path
        self._group_id = group_id
        self._listen = listen
        self._certificate = certificate
        self.address: tuple[str, int] | None = None
        """Where it listens on TCP, once it does: host and port."""

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; requests that run then may end. Raises what opening the sockets raises."""
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # what clients send wrongly is not logged
        with ExitStack() as sockets:
            unix = inherited_socket(self._socket_path, os.environ, process_id=os.getpid())
            if unix is None:
                opened = unix_socket(self._socket_path, group_id=self._group_id)
                unix = await anyio.to_thread.run_sync(sockets.enter_context, opened)
            else:
                sockets.enter_context(unix)  # its file is systemd's, and stays
            servers = [(EmbeddedServer(self._application), unix)]
            if self._listen:
                tcp = sockets.enter_context(_tcp_socket(self._listen, setting="control.listen"))
                self.address = tcp.getsockname()[:2]
                servers.append((EmbeddedServer(self._application, self._certificate), tcp))
            await self._serve(servers, task_status)

    async def _serve(
        self, servers: "list[tuple[EmbeddedServer, socket.socket]]", task_status: TaskStatus[None]
    ) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(_stop_when_cancelled, [server for server, _ in servers], name="end of the control API")
            # Cancelled in the middle, uvicorn would leave its connections behind: it ends by itself.
            with anyio.CancelScope(shield=True):
                async with anyio.create_task_group() as serving:
                    for server, listening in servers:
                        serving.start_soon(server.serve, [listening], name="control API")
                    for server, _ in servers:
                        await server.listening.wait()
                    address = None if self.address is None else f"{self.address[0]}:{self.address[1]}"
                    _logger.info("control API ready", socket=str(self._socket_path), address=address)
                    task_status.started()


class MetricsServer:
    """Listens at ``listen`` (``host:port``) without TLS; with an empty ``listen`` nowhere."""

    def __init__(self, application: ASGIApp, *, listen: str) -> None:
        self._application = application
        self._listen = listen
        self.address: tuple[str, int] | None = None
        """Where it listens, once it does: host and port."""

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; requests that run then may end. Raises SettingsError when the address is taken."""
        if not self._listen:
            task_status.started()
            return
        with _tcp_socket(self._listen, setting="metrics.listen") as listening:
            self.address = listening.getsockname()[:2]
            server = EmbeddedServer(self._application)
            async with anyio.create_task_group() as group:
                group.start_soon(_stop_when_cancelled, [server], name="end of the metrics")
                # Cancelled in the middle, uvicorn would leave its connections behind: it ends by itself.
                with anyio.CancelScope(shield=True):
                    async with anyio.create_task_group() as serving:
                        serving.start_soon(server.serve, [listening], name="metrics")
                        await server.listening.wait()
                        _logger.info("metrics ready", address=f"{self.address[0]}:{self.address[1]}")
                        task_status.started()


class EmbeddedServer(uvicorn.Server):
    """A uvicorn that leaves the signals to the daemon."""

    def __init__(self, application: ASGIApp, certificate: Certificate | None = None) -> None:
        super().__init__(
            uvicorn.Config(
                application,
                http=PeerProtocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=_GRACE_S,
                h11_max_incomplete_event_size=_MAX_HEAD_BYTES,
                ssl_context_factory=None if certificate is None else lambda _config, _default: certificate.context,
            )
        )
        self.listening = anyio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        if cut_off := set(self.server_state.tasks):  # after the grace; the gate answers their clients
            await asyncio.wait(cut_off, timeout=_REFUSAL_TIMEOUT_S)
        for connection in list(self.server_state.connections):
            connection.transport.abort()


class PeerProtocol(H11Protocol):
    """One connection. ``request.state.peer`` is the process at its other end."""

    owner: Hashable = None
    """The process at the other end, or over TCP the address."""

    _idle_since: float = 0.0
    _header_timeout: asyncio.TimerHandle | None = None
    _stall_timeout: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # Writing pauses as soon as anything is unread, so that the stall timeout begins and at most one piece waits.
        # Not 0, at which a transport with TLS would count an empty buffer as a full one.
        transport.set_write_buffer_limits(high=1, low=0)
        connection = transport.get_extra_info("socket")
        peer = None if connection is None else peer_of(connection)
        self.app_state = {**self.app_state, "peer": peer}
        self.owner = peer.pid if peer is not None else (self.client or ("",))[0]
        self._idle_since = self.loop.time()
        self._make_room()
        if not transport.is_closing():
            self._start_header_timeout()

    def data_received(self, data: bytes) -> None:
        self._start_header_timeout()
        super().data_received(data)
        if self._is_answering:
            self._stop_header_timeout()

    def on_response_complete(self) -> None:
        self._idle_since = self.loop.time()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_header_timeout()
        self._stop_stall_timeout()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        # Not close(), which would wait for ever until the rest is read.
        self._stall_timeout = self.loop.call_later(_WRITE_STALL_TIMEOUT_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_stall_timeout()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP in the form of all errors; uvicorn would send plain text."""
        self._answer_and_close(HTTPStatus.BAD_REQUEST, "This is no HTTP request that can be read.")

    def _answer_and_close(self, status: HTTPStatus, sentence: str) -> None:
        body = bytes(problem_response(status, sentence).body)
        head = f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\nconnection: close\r\n"
        self.transport.write(head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body)
        self.transport.close()

    def _make_room(self) -> None:
        """Close a connection, this one or another, when there are too many."""
        present = [
            connection
            for connection in self.connections
            if isinstance(connection, PeerProtocol) and not connection.transport.is_closing()
        ]
        if len(present) <= MAX_CONNECTIONS:
            return
        evicted = eviction(present)
        if evicted is None or evicted is self:
            self._answer_and_close(HTTPStatus.SERVICE_UNAVAILABLE, "There are too many connections. Try again later.")
        else:
            evicted.transport.abort()  # without waiting until it has read what was sent

    @property
    def idle_since(self) -> float | None:
        """On the clock of the event loop; None while a request is being answered."""
        return None if self._is_answering else self._idle_since

    @property
    def _is_answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # None before the first request, whatever uvicorn declares
        return cycle is not None and not cycle.response_complete

    def _start_header_timeout(self) -> None:
        """Start the header timeout, which goes on while the head of a request arrives piece by piece."""
        if self._header_timeout is None and not self._is_answering:
            self._header_timeout = self.loop.call_later(_HEADER_TIMEOUT_S, self.transport.close)

    def _stop_header_timeout(self) -> None:
        if self._header_timeout is not None:
            self._header_timeout.cancel()
            self._header_timeout = None

    def _stop_stall_timeout(self) -> None:
        if self._stall_timeout is not None:
            self._stall_timeout.cancel()
            self._stall_timeout = None


async def _stop_when_cancelled(servers: list[EmbeddedServer]) -> None:
    try:
        await anyio.sleep_forever()
    finally:
        for server in servers:
            server.should_exit = True


def _tcp_socket(listen: str, *, setting: str) -> socket.socket:
    """Listens at ``listen``. Raises SettingsError that names the key ``setting`` when the system refuses."""
    host, port = split_listen(listen)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except OSError as error:
        raise SettingsError.of(
            f"nothing can listen at {listen}: {error.strerror or error}; name another address",
            where=setting,
        ) from error
    listening.setblocking(False)
    return listening
