"""``exportd console``: the daemon's pages in a browser, as the user who calls it.

The browser connects to a port of this machine, and its requests are forwarded to the daemon's Unix socket. Other users
of this machine can open the port too. So only the console's pages are forwarded, and only to a browser that has a
session: the printed address begins one, once. On Linux the kernel says which user opens the port, and other users are
refused before they take a place.

The daemon of another host is reached through ssh, which forwards its socket to a folder that only the caller can
access.
"""

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import webbrowser
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import BoundedSemaphore, Thread
from typing import Annotated, Any

from cyclopts import Parameter

from exportd.cli.daemon_client import DaemonAddress
from exportd.cli.output import print_error, print_line
from exportd.cli.socket_client import DEFAULT_SOCKET, TIMEOUT_S, SocketClient, UnixConnection
from exportd.console.sessions import FORWARDER_HEADER
from exportd.model.errors import Reason, SettingsError, TransientError

_HERE = DaemonAddress()

_PAGES = "/console/"
_MAX_BODY_BYTES = 1_000_000
_MAX_CONNECTIONS = 64
_IDLE_S = 30.0
_STREAM = "text/event-stream"
_PIECE_BYTES = 64 * 1024
_POLL_S = 0.05
_SSH_ENDS_S = 5.0
_ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_MAX_SSH_WORDS = 500
_CONNECTIONS = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_ESTABLISHED = "01"
_LOOPBACK = f"{int.from_bytes(socket.inet_aton('127.0.0.1'), sys.byteorder):08X}"
"""The loopback address in the form that the kernel prints, which also ends an IPv4 address in IPv6."""

_MAX_REPORTED_USERS = 10
_NOT_FORWARDED = {
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
    "te",
    "trailer",
    FORWARDER_HEADER,
}
"""Headers that belong to one connection, and those of exportd."""


@dataclass(frozen=True, slots=True)
class _Tunnel:
    """An ssh process that forwards the socket ``remote`` of ``host`` to ``local``. Its error messages are in
    ``log``.
    """

    host: str
    remote: Path
    local: Path
    process: "subprocess.Popen[bytes]"
    log: Path

    def wait(self) -> None:
        """Wait for the forwarded socket. A person may have to type a password first. Raises TransientError as
        ``ended``.
        """
        while not self.local.is_socket():
            if self.process.poll() is not None:
                raise self.ended()
            time.sleep(_POLL_S)

    def ended(self) -> TransientError:
        """The error when ssh has ended."""
        return TransientError(
            f"ssh to {self.host} ended{self._words()}. `ssh {self.host}` shows whether it works at all.",
            reason=Reason.DAEMON_UNREACHABLE,
        )

    def unanswered(self, error: TransientError) -> TransientError:
        """The error when ssh works but the daemon of the host does not answer."""
        return TransientError(
            f"The daemon at {self.remote} of {self.host} does not answer{self._words() or f': {error.sentence}'}. Name"
            " its socket by --socket, and log in as a user who may open it.",
            reason=Reason.DAEMON_UNREACHABLE,
        )

    def _words(self) -> str:
        lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return f": {'; '.join(lines[-3:])[-_MAX_SSH_WORDS:]}".rstrip(".") if lines else ""


def console(
    *,
    host: Annotated[str | None, Parameter(help="The daemon's host, as ssh knows it; without it, this one.")] = None,
    port: Annotated[int, Parameter(help="The port of this machine; 0 takes a free one.")] = 0,
    read_only: Annotated[bool, Parameter(negative="", help="Only look: the pages change nothing.")] = False,
    browser: Annotated[bool, Parameter(negative="--no-browser", help="Open a browser.")] = True,
    at: DaemonAddress = _HERE,
) -> None:
    """Open the daemon's pages in a browser, until Ctrl-C.

    What you do there is done as you. The printed address is good for one browser, within a minute. With --host,
    --socket is the daemon's socket on that host.
    """
    for number in _ENDING_SIGNALS:
        signal.signal(number, _interrupt_once)
    with ExitStack() as opened:
        tunnel = None if host is None else opened.enter_context(_tunnel(host, at.socket or DEFAULT_SOCKET))
        client = at.client() if tunnel is None else SocketClient(tunnel.local, timeout_s=at.timeout or TIMEOUT_S)
        invitation = _invitation(client, tunnel, read_only=read_only)
        try:
            server = opened.enter_context(_Server(client.path, port))
        except (OSError, OverflowError) as error:
            words = error.strerror if isinstance(error, OSError) else "no port has such a number"
            raise SettingsError.of(f"port {port} of this machine cannot be used: {words}; leave --port out") from error
        address = f"http://127.0.0.1:{server.server_port}{_PAGES}open?once={invitation}"
        with suppress(KeyboardInterrupt):
            print_line(f"The console is at {address}")
            print_line("Ctrl-C ends it.")
            sys.stdout.flush()
            if browser and sys.stdout.isatty():
                webbrowser.open(address)
            _serve(server, tunnel)


def _interrupt_once(*_: object) -> None:
    """Raise KeyboardInterrupt. A second signal must not interrupt the ending of ssh."""
    for number in _ENDING_SIGNALS:
        # Not SIG_IGN: Python would report that a signal which has come already is ignored.
        signal.signal(number, lambda *_: None)
    raise KeyboardInterrupt


def _invitation(client: SocketClient, tunnel: _Tunnel | None, *, read_only: bool) -> str:
    query = {"readOnly": "true"} if read_only else None
    try:
        return str(client.request("POST", "/console/invitations", query=query)["invitation"])
    except TransientError as error:
        raise error if tunnel is None else tunnel.unanswered(error) from error


def _serve(server: "_Server", tunnel: _Tunnel | None) -> None:
    """Serve until Ctrl-C. Raises TransientError when ssh ends before."""
    if tunnel is None:
        server.serve_forever()
        return

    def end_with_ssh() -> None:
        tunnel.process.wait()
        server.shutdown()

    Thread(target=end_with_ssh, daemon=True).start()
    server.serve_forever()
    raise tunnel.ended()


@contextmanager
def _tunnel(host: str, remote: Path) -> Iterator[_Tunnel]:
    """Forward the socket of a host's daemon until the block ends.

    Raises SettingsError for an invalid host and when ssh is missing; TransientError when ssh ends.
    """
    if not host or host.startswith("-") or not host.isprintable() or " " in host:
        raise SettingsError.of(f"{host!r} is no host. Give a name as ssh knows it, such as web1", where="--host")
    if ":" in str(remote):
        raise SettingsError.of(f"ssh cannot forward the socket {remote}: its path has a colon", where="--socket")
    ssh = shutil.which("ssh")
    if ssh is None:
        raise SettingsError.of("there is no ssh here. Install it, or run `exportd console` on the host", where="--host")
    with TemporaryDirectory(prefix="exportd-") as folder:
        local, log = Path(folder, "control.sock"), Path(folder, "ssh.log")
        options = ("ExitOnForwardFailure=yes", "StreamLocalBindMask=0177", "ServerAliveInterval=15")
        settings = [word for option in options for word in ("-o", option)]
        with log.open("wb") as complaints:
            process = subprocess.Popen(
                [ssh, "-N", "-T", *settings, "-L", f"{local}:{remote}", "--", host],
                stdout=subprocess.DEVNULL,
                stderr=complaints,  # it asks for passwords at the terminal itself
            )
        tunnel = _Tunnel(host, remote, local, process, log)
        try:
            tunnel.wait()
            yield tunnel
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_SSH_ENDS_S)
            process.kill()
            process.wait()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128  # a browser's connection finds room behind those that are being turned away

    def __init__(self, socket_path: Path, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Forwarder)
        self.socket_path = socket_path
        self.places = BoundedSemaphore(_MAX_CONNECTIONS)
        self._users = _own_users()
        self._reported = set[int]()

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Refuse connections of other users of this machine, so that they take no place."""
        user = _user_of(client_address[1], self.server_port)
        if user is None or user in self._users:
            return True
        if user not in {_NO_USER, *self._reported} and len(self._reported) < _MAX_REPORTED_USERS:
            self._reported.add(user)
            print_error(f"another user of this machine (number {user}) opened the port, and was turned away")
        return False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a browser or a daemon that closes its connection in the middle of an answer."""
        if not isinstance(sys.exception(), OSError | http.client.HTTPException):
            super().handle_error(request, client_address)


_NO_USER = -1
"""Stands for the user of a connection that has ended already, which the kernel does not name."""


def _own_users() -> frozenset[int]:
    """The users who may open the port: the caller, root, and the user who became root by sudo."""
    by_sudo = os.environ.get("SUDO_UID", "") if os.getuid() == 0 else ""
    return frozenset({0, os.getuid(), *([int(by_sudo)] if by_sudo.isdecimal() else [])})


def _user_of(port: int, own_port: int) -> int | None:
    """The number of the user who has connected from a ``port`` of this machine; None when the kernel does not tell."""
    known = False
    for connections in _CONNECTIONS:
        try:
            lines = connections.read_text().splitlines()[1:]
        except OSError:
            continue
        known = True
        for line in lines:
            _, local, remote, state, _, _, _, user, *_ = line.split()
            address, _, remote_port = remote.partition(":")
            is_here = address.endswith(_LOOPBACK) and int(remote_port, 16) == own_port
            if is_here and state == _ESTABLISHED and int(local.rpartition(":")[2], 16) == port:
                return int(user)
    return _NO_USER if known else None


class _Forwarder(BaseHTTPRequestHandler):
    """Handles one connection of a browser."""

    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_S

    def handle(self) -> None:
        if self.server.places.acquire(blocking=False):
            try:
                super().handle()
            finally:
                self.server.places.release()

    def do_GET(self) -> None:
        self._forward(b"")

    def do_POST(self) -> None:
        length = self.headers.get("content-length", "")
        if not length.isdecimal() or int(length) > _MAX_BODY_BYTES or "transfer-encoding" in self.headers:
            self.send_error(http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return
        self._forward(self.rfile.read(int(length)))

    def _forward(self, body: bytes) -> None:
        if not self.path.startswith(_PAGES):
            self.send_error(http.HTTPStatus.NOT_FOUND)
            return
        headers = [(name, value) for name, value in self.headers.items() if name.lower() not in _NOT_FORWARDED]
        with closing(UnixConnection(self.server.socket_path, TIMEOUT_S)) as connection:
            try:
                connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in (*headers, (FORWARDER_HEADER, "forwarded")):
                    connection.putheader(name, value)
                connection.endheaders(body or None)
                line = connection.sock
                answer = connection.getresponse()
            except (OSError, http.client.HTTPException, ValueError):
                self.send_error(http.HTTPStatus.BAD_GATEWAY, "The daemon does not answer", "It may be starting again.")
                return
            if answer.headers.get_content_type() == _STREAM:
                Thread(target=self._hang_up_with_browser, args=(line,), daemon=True).start()
            self._answer(answer)

    def _hang_up_with_browser(self, line: socket.socket) -> None:
        """End a stream when its page is left, because the streams of a user are limited."""
        with suppress(OSError):
            while True:
                with suppress(TimeoutError):
                    self.connection.recv(1, socket.MSG_PEEK)
                    break
            line.shutdown(socket.SHUT_RDWR)

    def _answer(self, answer: http.client.HTTPResponse) -> None:
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in _NOT_FORWARDED:
                self.send_header(name, value)
        if answer.length is None:  # its end is the end of the connection
            self.close_connection = True
        self.end_headers()
        while piece := answer.read1(_PIECE_BYTES):  # what has come, at once: it may be an event of a stream
            self.wfile.write(piece)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as the base class calls it
        """Log nothing, because the daemon logs requests."""
