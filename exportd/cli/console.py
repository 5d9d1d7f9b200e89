"""``exportd console``: the daemon's pages in a browser, as the user who calls it.

The browser speaks to a port of this machine, and what it asks for goes to the daemon's Unix socket. Other users of this
machine can open the port too, so only the console's pages are forwarded, and those only to a browser that the daemon
knows by its session: the address that is printed begins one, once.
"""

import http.client
import socket
import sys
import webbrowser
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import BoundedSemaphore, Thread
from typing import Annotated, Any

from cyclopts import Parameter

from exportd.cli.daemon_client import DaemonAddress
from exportd.cli.output import print_line
from exportd.cli.socket_client import TIMEOUT_S, UnixConnection
from exportd.console.sessions import FORWARDER_HEADER
from exportd.model.errors import SettingsError

_HERE = DaemonAddress()

_PAGES = "/console/"
_MAX_BODY_BYTES = 1_000_000
_MAX_CONNECTIONS = 64
_IDLE_S = 30.0
_STREAM = "text/event-stream"
_PIECE_BYTES = 64 * 1024
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
"""Headers that belong to one connection, and ours."""


def console(
    *,
    port: Annotated[int, Parameter(help="The port of this machine; 0 takes a free one.")] = 0,
    read_only: Annotated[bool, Parameter(negative="", help="Only look: the pages change nothing.")] = False,
    browser: Annotated[bool, Parameter(negative="--no-browser", help="Open a browser.")] = True,
    at: DaemonAddress = _HERE,
) -> None:
    """Open the daemon's pages in a browser, until Ctrl-C.

    What you do there is done as you. The printed address is good for one browser, within a minute.
    """
    client = at.client()
    query = {"readOnly": "true"} if read_only else None
    invitation = client.request("POST", "/console/invitations", query=query)["invitation"]
    try:
        server = _Server(client.path, port)
    except (OSError, OverflowError) as error:
        words = error.strerror if isinstance(error, OSError) else "no port has such a number"
        raise SettingsError.of(f"port {port} of this machine cannot be used: {words}; leave --port out") from error
    with server:
        address = f"http://127.0.0.1:{server.server_port}{_PAGES}open?once={invitation}"
        print_line(f"The console is at {address}")
        print_line("Ctrl-C ends it.")
        sys.stdout.flush()
        if browser and sys.stdout.isatty():
            webbrowser.open(address)
        with suppress(KeyboardInterrupt):
            server.serve_forever()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, socket_path: Path, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Forwarder)
        self.socket_path = socket_path
        self.places = BoundedSemaphore(_MAX_CONNECTIONS)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser or a daemon that goes away in the middle of an answer is no fault."""
        if not isinstance(sys.exception(), OSError | http.client.HTTPException):
            super().handle_error(request, client_address)


class _Forwarder(BaseHTTPRequestHandler):
    """One connection of a browser."""

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
        """End a stream as soon as its page is left: a user may follow only so many."""
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
        """The daemon has the log."""
