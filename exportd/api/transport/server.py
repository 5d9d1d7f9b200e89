"""Serves the API on its sockets, inside the daemon's task group.

uvicorn handles HTTP. The daemon itself handles signals, the start, addresses and the number of connections. This relies
on internals of uvicorn; tests/unit/api/transport/test_uvicorn_parts.py fails when they change.
"""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import structlog
import uvicorn
from anyio.abc import TaskStatus
from starlette.types import ASGIApp

from exportd.api.transport.acceptor import Acceptor
from exportd.api.transport.certificate import Certificate
from exportd.api.transport.connection import ApiConnection
from exportd.api.transport.unix_socket import Peer, inherited_socket, unix_socket
from exportd.model.errors import SettingsError
from exportd.settings.section import split_listen

_logger = structlog.get_logger()

_GRACE_S = 3
"""How long requests may go on when the daemon stops."""

_REFUSAL_TIMEOUT_S = 1.0
"""How long unfinished requests may take after that to answer that they were cut off."""

_MAX_HEAD_BYTES = 64 * 1024

_BACKLOG = 1024
"""How many connections over TCP may wait in the kernel, where they take no open file of the daemon."""


class ControlServer:
    """Listens on a Unix socket, and on an address if there is one: with TLS, when there is a certificate.

    It uses a Unix socket that systemd hands over, or creates one at ``socket_path``. An administrator's connection to
    it is always accepted.
    """

    def __init__(
        self,
        application: ASGIApp,
        *,
        socket_path: Path,
        group_id: int | None,
        listen: str,
        certificate: Certificate | None,
        is_administrator: Callable[[Peer], bool],
    ) -> None:
        self._application = application
        self._socket_path = socket_path
        self._group_id = group_id
        self._listen = listen
        self._certificate = certificate
        self._is_administrator = is_administrator
        self.address: tuple[str, int] | None = None
        """Host and port on which it listens over TCP; None before."""

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. Running requests may then finish. Raises what opening the sockets raises."""
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # what clients send wrongly is not logged
        with ExitStack() as sockets:
            unix = inherited_socket(self._socket_path, os.environ, process_id=os.getpid())
            if unix is None:
                opened = unix_socket(self._socket_path, group_id=self._group_id)
                unix = await anyio.to_thread.run_sync(sockets.enter_context, opened)
            else:
                sockets.enter_context(unix)  # its file is systemd's, and stays
            servers = [(EmbeddedServer(self._application, is_administrator=self._is_administrator), unix)]
            if self._listen:
                tcp = sockets.enter_context(_tcp_socket(self._listen, setting="control.listen"))
                self.address = tcp.getsockname()[:2]
                servers.append((EmbeddedServer(self._application, self._certificate), tcp))

            def ready() -> None:
                address = None if self.address is None else f"{self.address[0]}:{self.address[1]}"
                _logger.info("control API ready", socket=str(self._socket_path), address=address)
                task_status.started()

            await _serve(servers, "control API", ready)


class MetricsServer:
    """Listens at ``listen`` (``host:port``) without TLS; with an empty ``listen`` nowhere."""

    def __init__(self, application: ASGIApp, *, listen: str) -> None:
        self._application = application
        self._listen = listen
        self.address: tuple[str, int] | None = None
        """Host and port on which it listens; None before."""

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. Running requests may then finish. Raises SettingsError when the address is taken."""
        if not self._listen:
            task_status.started()
            return
        with _tcp_socket(self._listen, setting="metrics.listen") as listening:
            self.address = host, port = listening.getsockname()[:2]

            def ready() -> None:
                _logger.info("metrics ready", address=f"{host}:{port}")
                task_status.started()

            await _serve([(EmbeddedServer(self._application), listening)], "metrics", ready)


class EmbeddedServer(uvicorn.Server):
    """A uvicorn server that leaves signals to the daemon, and the accepting of connections to an acceptor."""

    def __init__(
        self,
        application: ASGIApp,
        certificate: Certificate | None = None,
        *,
        is_administrator: Callable[[Peer], bool] = lambda _: False,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                application,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                # The address that a client claims to have is not used, even on the loopback, because limits depend on
                # it.
                proxy_headers=False,
                timeout_graceful_shutdown=_GRACE_S,
                h11_max_incomplete_event_size=_MAX_HEAD_BYTES,
            )
        )
        self._certificate = certificate
        self._is_administrator = is_administrator
        self._acceptors: list[Acceptor] = []
        self.listening = anyio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.servers = []  # asyncio's, which would accept without counting
        serve = partial(
            ApiConnection, config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        self._acceptors = [
            Acceptor(listening, serve, is_administrator=self._is_administrator, certificate=self._certificate)
            for listening in sockets or []
        ]
        self.started = True
        self.listening.set()

    async def main_loop(self) -> None:
        async with anyio.create_task_group() as accepting:
            for acceptor in self._acceptors:
                accepting.start_soon(acceptor.run, name="accepting connections")
            await super().main_loop()
            accepting.cancel_scope.cancel()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        if cut_off := set(self.server_state.tasks):  # after the grace; the gate answers their clients
            await asyncio.wait(cut_off, timeout=_REFUSAL_TIMEOUT_S)
        for connection in list(self.server_state.connections):
            connection.transport.abort()


async def _serve(servers: "list[tuple[EmbeddedServer, socket.socket]]", name: str, ready: Callable[[], None]) -> None:
    """Serve until cancelled; ``ready`` is called as soon as all of them listen."""
    async with anyio.create_task_group() as group:
        group.start_soon(_stop_when_cancelled, [server for server, _ in servers], name=f"end of the {name}")
        # Shielded, because uvicorn leaves its connections open when it is cancelled. It ends by itself.
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as serving:
                for server, listening in servers:
                    serving.start_soon(server.serve, [listening], name=name)
                for server, _ in servers:
                    await server.listening.wait()
                ready()


async def _stop_when_cancelled(servers: list[EmbeddedServer]) -> None:
    try:
        await anyio.sleep_forever()
    finally:
        for server in servers:
            server.should_exit = True


def _tcp_socket(listen: str, *, setting: str) -> socket.socket:
    """Open a socket that listens at ``listen``. Raises SettingsError, which names the key ``setting``, when the system
    refuses.
    """
    host, port = split_listen(listen)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise SettingsError.of(
            f"nothing can listen at {listen}: {error.strerror or error}; name another address",
            where=setting,
        ) from error
    listening.setblocking(False)
    return listening
