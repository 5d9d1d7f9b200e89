"""The way of commands to the daemon's socket."""

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from exportd.cli.socket_client import DEFAULT_SOCKET, SocketClient, find_socket
from exportd.model.errors import ExportdError, PermanentError, SettingsError, TransientError

HEAVY = ("pydantic", "asyncpg", "fastapi", "uvicorn", "structlog", "rich")


def answering(path: Path, answer: bytes) -> threading.Thread:
    """Somebody who listens there and answers the first request so."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen(1)

    def serve() -> None:
        with listening, listening.accept()[0] as connection:
            connection.recv(65536)
            connection.sendall(answer)
            connection.shutdown(socket.SHUT_WR)
            # A body comes by itself, after the head: whoever sends it must find somebody there.
            while connection.recv(65536):
                pass

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


def http(status: str, body: str) -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()


def test_it_imports_nothing_heavy() -> None:
    code = f"import sys, exportd.cli.socket_client; print([each for each in {HEAVY!r} if each in sys.modules])"
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert output.strip() == "[]"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('[control]\nsocket = "run/c.sock"\n', "run/c.sock"),
        ('[control]\nsocket = "/srv/c.sock"\n', "/srv/c.sock"),
        ("[control]\n", None),
        ("control = 3\n", None),
        ("[control]\nsocket = 3\n[limitz]\n", None),
    ],
)
def test_the_configuration_says_where_the_socket_is(tmp_path: Path, text: str, found: str | None) -> None:
    config = tmp_path / "exportd.toml"
    config.write_text(text, encoding="utf-8")
    assert find_socket(config) == (DEFAULT_SOCKET if found is None else tmp_path / found)
    assert find_socket(tmp_path / "missing.toml") == DEFAULT_SOCKET


def test_a_file_that_says_nothing_is_named(tmp_path: Path) -> None:
    config = tmp_path / "exportd.toml"
    config.write_text('[control]\nsocket = "/srv/c.so', encoding="utf-8")
    with pytest.raises(SettingsError) as refused:
        find_socket(config)
    assert refused.value.sentence.startswith(f"{config}: is not valid TOML")


def test_an_answer_is_read(tmp_path: Path) -> None:
    thread = answering(tmp_path / "c.sock", http("200 OK", '{"a": [1]}'))
    assert SocketClient(tmp_path / "c.sock").request("POST", "/v1/x", query={"a": "b c"}, body={}) == {"a": [1]}
    thread.join()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("400 Bad Request", SettingsError),
        ("403 Forbidden", PermanentError),
        ("404 Not Found", PermanentError),
        ("500 Internal Server Error", PermanentError),
        ("503 Service Unavailable", TransientError),
    ],
)
def test_a_refusal_has_the_daemons_sentence(tmp_path: Path, status: str, kind: type[ExportdError]) -> None:
    thread = answering(tmp_path / "c.sock", http(status, '{"message": "Not so."}'))
    with pytest.raises(kind, match=r"^Not so[.]$"):
        SocketClient(tmp_path / "c.sock").request("GET", "/v1/x")
    thread.join()


@pytest.mark.parametrize("answer", [b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{"])
def test_a_conversation_that_ends_is_worth_another_try(tmp_path: Path, answer: bytes) -> None:
    thread = answering(tmp_path / "c.sock", answer)
    with pytest.raises(TransientError, match="ended the conversation"):
        SocketClient(tmp_path / "c.sock").request("GET", "/v1/x")
    thread.join()


def test_an_end_without_an_answer_says_where_to_look(tmp_path: Path) -> None:
    thread = answering(tmp_path / "c.sock", b"")
    with pytest.raises(TransientError, match="has gone without an answer: it left, or could not start"):
        SocketClient(tmp_path / "c.sock").request("GET", "/v1/x")
    thread.join()


def test_nobody_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(TransientError, match=r"^No daemon listens at .*c\.sock\. Start it"):
        SocketClient(tmp_path / "c.sock").request("GET", "/v1/x")


@pytest.fixture
def crowded(tmp_path: Path) -> Iterator[socket.socket]:
    """Somebody who listens and lets nobody in, with as many before the door as may wait there."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket(socket.AF_UNIX))
        listening.bind(str(tmp_path / "c.sock"))
        listening.listen(0)
        with suppress(BlockingIOError):
            while True:
                waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
                waiting.setblocking(False)
                waiting.connect(str(tmp_path / "c.sock"))
        yield listening


def test_it_waits_its_turn(crowded: socket.socket, tmp_path: Path) -> None:
    """Whichever of the two comes first: it is answered once those before it have been sent away."""

    def serve() -> None:
        while True:
            with crowded.accept()[0] as connection:
                connection.settimeout(0.2)
                with suppress(TimeoutError):
                    if connection.recv(65536):
                        connection.sendall(http("200 OK", '{"turn": "mine"}'))
                        return

    thread = threading.Thread(target=serve)
    thread.start()
    assert SocketClient(tmp_path / "c.sock").request("GET", "/") == {"turn": "mine"}
    thread.join()


@pytest.mark.usefixtures("crowded")
def test_it_does_not_wait_for_ever_to_be_let_in(tmp_path: Path) -> None:
    with pytest.raises(TransientError, match="has not answered in time"):
        SocketClient(tmp_path / "c.sock", timeout_s=0.05).request("GET", "/")


def test_who_does_not_answer_is_not_waited_for_long(tmp_path: Path) -> None:
    """So it is where systemd keeps the socket open and the daemon cannot start."""
    path = tmp_path / "c.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen(0)
        client = SocketClient(path, timeout_s=0.05)
        # The first is queued; the queue is full for those after it.
        for _ in range(3):
            with pytest.raises(TransientError, match="has not answered in time; `systemctl status exportd`"):
                client.request("GET", "/v1/x")
        with pytest.raises(TransientError, match="has not answered in time"), client.stream("/v1/x"):
            pass


def test_a_stream_may_be_quiet_for_longer_than_an_answer_takes(tmp_path: Path) -> None:
    path, quiet = tmp_path / "c.sock", threading.Event()
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen(1)

    def serve() -> None:
        with listening, listening.accept()[0] as connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            quiet.wait(20)
            connection.sendall(b"at last\n")

    thread = threading.Thread(target=serve)
    thread.start()
    with SocketClient(path, timeout_s=0.5).stream("/v1/x", quiet_s=20) as lines:
        threading.Timer(0.7, quiet.set).start()
        assert list(lines) == [b"at last\n"]
    thread.join()
