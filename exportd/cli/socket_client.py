"""Sends requests to the daemon of this machine over its Unix socket. It imports only light modules, because most
commands need no others.
"""

import http.client
import json
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

from cyclopts import Parameter

from exportd.cli import completion
from exportd.model.errors import PermanentError, Problem, Reason, SettingsError, TransientError

DEFAULT_SOCKET = Path(completion.DEFAULT_SOCKET)
TIMEOUT_S = 60.0

_TIMEVAL = struct.Struct("ll")
_PIECE_BYTES = 1024 * 1024

Document = dict[str, Any]
"""A document of the API, as docs/api.md has it."""

SocketPath = Annotated[
    Path | None,
    Parameter(name="--socket", env_var="EXPORTD_SOCKET", help="The daemon's socket (default: the configuration's)."),
]


_TRANSIENT = {Reason.JOB_UNFINISHED}
"""Reasons of refusals that pass by themselves, although clients should not repeat the request at once."""


class NoDaemonError(TransientError):
    """No daemon listens at the socket ``path``."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"No daemon listens at {path}. Start it (`systemctl start exportd`), or name its socket by --socket.",
            reason=Reason.DAEMON_UNREACHABLE,
        )
        self.path = path


class SocketClient:
    """Sends requests to a daemon. ``timeout_s`` is how long to wait for data of the answer."""

    def __init__(self, path: Path, *, timeout_s: float = TIMEOUT_S) -> None:
        self.path = path
        self._timeout_s = timeout_s

    @classmethod
    def found(cls, given: Path | None, config: Path, *, timeout_s: float = TIMEOUT_S) -> "SocketClient":
        """A client of the daemon at the ``given`` socket, or else at the one that the configuration names.

        Raises SettingsError when the configuration cannot be read and no daemon listens at the usual place.
        """
        return cls(given or find_socket(config), timeout_s=timeout_s)

    def request(
        self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: object = None
    ) -> Document:
        """The daemon's answer, read from its JSON.

        Raises SettingsError when the request is wrong, PermanentError when the daemon refuses it, TransientError when
        it cannot be done now, NoDaemonError when no daemon listens.
        """
        target = f"{path}?{urlencode(query)}" if query else path
        content = None if body is None else json.dumps(body)
        headers = {} if content is None else {"content-type": "application/json"}
        with closing(UnixConnection(self.path, self._timeout_s)) as connection, self._explained():
            connection.request(method, target, content, headers)
            answer = connection.getresponse()
            text = answer.read()
        document: Document = _understood(answer, text)
        return document

    @contextmanager
    def stream(self, path: str, *, quiet_s: float = TIMEOUT_S) -> Iterator[Iterator[bytes]]:
        """The lines of a streamed answer as they arrive, with at most ``quiet_s`` seconds between them.

        Raises what ``request`` raises, also between lines.
        """
        with self._opened(path, quiet_s) as answer:
            yield self._lines(answer)

    def download(self, path: str) -> Iterator[bytes]:
        """The bytes of an answer, piece by piece. Raises what ``request`` raises, also between pieces."""
        with self._opened(path, self._timeout_s) as answer:
            with self._explained():
                while piece := answer.read(_PIECE_BYTES):
                    yield piece
            if answer.length:  # fewer bytes than were announced
                raise _no_answer(self.path, http.client.IncompleteRead(b"", answer.length))

    @contextmanager
    def _opened(self, path: str, quiet_s: float) -> Iterator[http.client.HTTPResponse]:
        with closing(UnixConnection(self.path, self._timeout_s)) as connection:
            with self._explained():
                connection.request("GET", path)
                line = connection.sock  # which is the answer's from here on
                answer = connection.getresponse()
                refusal = answer.read() if answer.status != 200 else b""
                line.settimeout(quiet_s)
            if answer.status != 200:
                _understood(answer, refusal)
            yield answer

    def _lines(self, answer: http.client.HTTPResponse) -> Iterator[bytes]:
        with self._explained():
            while line := answer.readline():
                yield line

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """What goes wrong on the way becomes an error with a sentence."""
        try:
            yield
        except (OSError, http.client.HTTPException) as error:
            raise _no_answer(self.path, error) from error


class UnixConnection(http.client.HTTPConnection):
    """HTTP over the Unix socket ``path``. ``timeout_s`` is how long to wait for data to be sent or received."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path
        self._timeout_s = timeout_s

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        # Not by settimeout, with which Python would fail at once instead of waiting when the backlog is full.
        seconds, rest = divmod(round(self._timeout_s * 1_000_000), 1_000_000)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL.pack(seconds, rest))
        self.sock.connect(os.fspath(self._path))
        self.sock.settimeout(self._timeout_s)


def find_socket(config: Path) -> Path:
    """Where the daemon of a configuration listens. Only ``control.socket`` of the file is read.

    Raises SettingsError when the file cannot be read and no daemon listens at the usual place.
    """
    try:
        return Path(completion.named_socket(os.fspath(config)))
    except FileNotFoundError:
        return DEFAULT_SOCKET
    except (OSError, ValueError, RecursionError) as error:
        if DEFAULT_SOCKET.is_socket():
            return DEFAULT_SOCKET
        words = error.strerror if isinstance(error, OSError) else f"is not valid TOML: {error}"
        raise SettingsError.of(f"{words}; or name the daemon's socket by --socket", where=str(config)) from error


def _no_answer(path: Path, error: Exception) -> TransientError:
    if isinstance(error, FileNotFoundError | ConnectionRefusedError):
        return NoDaemonError(path)
    if isinstance(error, PermissionError):
        words = f"This user may not open {path}. Join the group that control.group names, or ask as root."
    elif isinstance(error, TimeoutError | BlockingIOError):
        words = (
            f"The daemon at {path} has not answered in time; `systemctl status exportd` says whether it runs at all. "
            "It may still do what it was asked: look before repeating."
        )
    elif isinstance(error, ConnectionError):
        words = (
            f"The daemon at {path} closed the connection without an answer: it stopped, or could not start. "
            "`systemctl status exportd` and `exportd check` say more."
        )
    else:
        words = f"The daemon at {path} broke off its answer: {str(error) or type(error).__name__}. Try again."
    return TransientError(words, reason=Reason.DAEMON_UNREACHABLE)


def _understood(answer: http.client.HTTPResponse, text: bytes) -> Any:
    try:
        document = json.loads(text) if text else None
    except ValueError:
        document = None
    if 200 <= answer.status < 300:
        return document
    message = document.get("message") if isinstance(document, dict) else None
    sentence = message if isinstance(message, str) else f"The daemon answered with the status {answer.status}."
    reason = _reason(answer)
    match answer.status:
        case 400 | 413:
            raise SettingsError([Problem("", line) for line in sentence.splitlines()])
        case 408 | 429 | 503:
            raise TransientError(sentence, reason=reason)
        case _ if reason in _TRANSIENT:
            raise TransientError(sentence, reason=reason)
        case _:
            raise PermanentError(sentence, reason=reason)


def _reason(answer: http.client.HTTPResponse) -> Reason:
    """The reason code that the daemon gives for a refusal."""
    named = answer.getheader("x-exportd-reason")
    if named in set(Reason):
        return Reason(named)
    return Reason.NOT_FOUND if answer.status == HTTPStatus.NOT_FOUND else Reason.DAEMON_REFUSED
