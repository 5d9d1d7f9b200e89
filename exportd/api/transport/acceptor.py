"""Accepts the connections of one listener, and limits their number.

Connections are counted as soon as they are accepted, before a byte was read or the TLS handshake was made. Exports need
open files, and a client that only connects could otherwise take them all.
"""

import asyncio
import contextlib
import errno
import os
import resource
import socket
from collections.abc import Callable
from http import HTTPStatus

import anyio
import structlog
from anyio.abc import TaskGroup

from exportd.api.transport.certificate import Certificate
from exportd.api.transport.client_limits import CrowdLimits, first_to_go, superfluous
from exportd.api.transport.connection import ApiConnection, Arrival, closing_answer
from exportd.api.transport.unix_socket import Peer, peer_of

_logger = structlog.get_logger()

MAX_CONNECTIONS = 256
"""The limit of connections of one listener."""

HANDSHAKE_TIMEOUT_S = 5.0
"""How long a TLS handshake may take."""

_TLS_CLOSE_TIMEOUT_S = 2.0
"""How long a client may take to close TLS. The connection holds an open file until then."""

_MAX_UNCOUNTED = 16
"""The open files are counted again only after this many connections, because counting takes longer than accepting."""

_MAX_RESERVED_FILES = 512
"""The most open files that are kept for exports: spool files, COPY streams, uploads and the pool need a few hundred
with the largest settings.
"""

_RETRY_S = 0.05
"""The pause before looking again for free files, and before repeating what the kernel refused."""

_NO_FILES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

_WARNING_INTERVAL_S = 60.0


class Acceptor:
    """Accepts connections of one listening socket, which does not block.

    ``serve`` makes the protocol of a connection. ``is_administrator`` tells whether a user of this machine is an
    administrator.
    """

    def __init__(
        self,
        listening: socket.socket,
        serve: Callable[[Arrival], ApiConnection],
        *,
        is_administrator: Callable[[Peer], bool],
        certificate: Certificate | None = None,
    ) -> None:
        self._listening = listening
        self._serve = serve
        self._is_administrator = is_administrator
        self._certificate = certificate
        self._is_local = listening.family == socket.AF_UNIX
        self._present: set[ApiConnection] = set()
        self._uncounted = 0
        self._warned_at: float | None = None

    async def run(self) -> None:
        """Accept until cancelled. Connections that were made by then go on; handshakes end."""
        async with anyio.create_task_group() as handshakes:
            try:
                while True:
                    await self._accept(handshakes)
            finally:
                for connection in self._present:
                    if connection.transport is None:
                        connection.drop()

    async def _accept(self, handshakes: TaskGroup) -> None:
        if not self._is_local:
            await self._spare_files()
        try:
            line, address = await asyncio.get_running_loop().sock_accept(self._listening)
        except OSError as error:
            if error.errno in _NO_FILES:
                self._warn(error=error.strerror)
                await anyio.sleep(_RETRY_S)
            return  # any other: the client has gone again
        try:
            arrival = self._arrival(line, address)
        except OSError:  # it has gone by now
            line.close()
            return
        connection = self._serve(arrival)
        if self._has_room_for(connection):
            handshakes.start_soon(self._welcome, connection, line)
        elif self._certificate is None:
            answer = closing_answer(HTTPStatus.SERVICE_UNAVAILABLE, "There are too many connections. Try again later.")
            with contextlib.suppress(OSError):
                line.send(answer)
            line.close()
        else:
            line.close()  # without TLS there are no words for it

    def _arrival(self, line: socket.socket, address: object) -> Arrival:
        peer = peer_of(line)
        host = address[0] if isinstance(address, tuple) else ""
        return Arrival(line, host, peer, peer is not None and self._is_administrator(peer))

    def _has_room_for(self, connection: ApiConnection) -> bool:
        """Take the connection, perhaps in place of another one. Returns False when it has to be closed itself."""
        self._present.add(connection)
        most = _connections_affordable(MAX_CONNECTIONS)
        limits = CrowdLimits(most, max(1, most // 2))
        while evicted := superfluous(connection, self._staying, limits):
            if evicted is connection:
                self._present.discard(connection)
                return False
            evicted.drop()
        return True

    @property
    def _staying(self) -> list[ApiConnection]:
        return [connection for connection in self._present if not connection.is_dropped]

    async def _welcome(self, connection: ApiConnection, line: socket.socket) -> None:
        """Make the TLS handshake, if there is one, and count the connection until its end."""
        tls = self._certificate
        connection.on_end = self._present.discard
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection,
                line,
                ssl=None if tls is None else tls.context,
                ssl_handshake_timeout=None if tls is None else HANDSHAKE_TIMEOUT_S,
                ssl_shutdown_timeout=None if tls is None else _TLS_CLOSE_TIMEOUT_S,
            )
        except OSError:
            pass  # what a client does wrong in a handshake, or that it ends it, is its own affair
        except Exception:
            _logger.exception("connection failed")
        finally:
            if connection.transport is None:
                self._present.discard(connection)

    async def _spare_files(self) -> None:
        """Wait while exports need the remaining files. The Unix socket and jobs go on."""
        if self._uncounted > 0:
            self._uncounted -= 1
            return
        while (spare := files_left() - _reserved_files()) <= 0:
            self._warn(error="few files may still be opened")
            idle = first_to_go(self._staying)
            if idle is not None:
                idle.drop()
            await anyio.sleep(_RETRY_S)
        # Others open files too, so only a part of the free files is used before counting again.
        self._uncounted = min(_MAX_UNCOUNTED, spare // 4)

    def _warn(self, *, error: str | None) -> None:
        now = asyncio.get_running_loop().time()
        if self._warned_at is None or now >= self._warned_at + _WARNING_INTERVAL_S:
            self._warned_at = now
            _logger.warning("connections have to wait", error=error, connections=len(self._present))


def files_left() -> int:
    """How many files this process may still open. It counts the open ones, a few hundred at most."""
    with os.scandir("/proc/self/fd") as entries:
        return _file_limit() - sum(1 for _ in entries)


def _reserved_files() -> int:
    """How many of the allowed open files are kept for exports and the Unix socket."""
    return min(_MAX_RESERVED_FILES, _file_limit() // 2)


def _connections_affordable(wanted: int) -> int:
    """The allowed connections of one listener: ``wanted``, or a quarter of the allowed open files if that is less."""
    return max(1, min(wanted, _file_limit() // 4))


def _file_limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if soft == resource.RLIM_INFINITY else soft
