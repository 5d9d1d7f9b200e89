"""The way of commands to the daemon's socket."""

import json
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext, suppress
from pathlib import Path

import pytest

from exportd.cli.daemon_client import DaemonAddress
from exportd.cli.socket_client import DEFAULT_SOCKET, NoDaemonError, SocketClient, find_socket
from exportd.model.errors import ExportdError, PermanentError, Reason, SettingsError, TransientError
from tests.tools.measure_tree import CHECKOUT

HEAVY = ("pydantic", "asyncpg", "fastapi", "uvicorn", "structlog", "rich")


def answering(path: Path, answer: bytes) -> threading.Thread:
    """A server at the path that answers the first request so."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen(1)

    def serve() -> None:
        with listening, listening.accept()[0] as connection:
            connection.recv(65536)
            connection.sendall(answer)
            connection.shutdown(socket.SHUT_WR)
            # A body comes after the head, by itself: the client must be able to send it.
            while connection.recv(65536):
                pass

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return thread


def http(status: str, body: str) -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()


def test_it_imports_nothing_heavy() -> None:
    code = f"import sys, exportd.cli.socket_client; print([name for name in {HEAVY!r} if name in sys.modules])"
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


@pytest.mark.parametrize(
    ("status", "header", "kind", "reason"),
    [
        ("409 Conflict", "x-exportd-reason: JOB_STATE_UNFIT\r\n", PermanentError, Reason.JOB_STATE_UNFIT),
        ("409 Conflict", "x-exportd-reason: JOB_UNFINISHED\r\n", TransientError, Reason.JOB_UNFINISHED),
        ("409 Conflict", "x-exportd-reason: OF_A_LATER_VERSION\r\n", PermanentError, Reason.DAEMON_REFUSED),
        ("503 Away", "x-exportd-reason: DATABASE_UNREACHABLE\r\n", TransientError, Reason.DATABASE_UNREACHABLE),
        ("404 Not Found", "", PermanentError, Reason.NOT_FOUND),
        ("403 Forbidden", "", PermanentError, Reason.DAEMON_REFUSED),
    ],
)
def test_a_refusal_has_the_daemons_reason(
    tmp_path: Path, status: str, header: str, kind: type[ExportdError], reason: Reason
) -> None:
    body = '{"message": "Not so."}'
    answer = f"HTTP/1.1 {status}\r\n{header}content-length: {len(body)}\r\n\r\n{body}"
    thread = answering(tmp_path / "c.sock", answer.encode())
    with pytest.raises(kind) as refused:
        SocketClient(tmp_path / "c.sock").request("GET", "/v1/x")
    assert refused.value.reason is reason
    thread.join()


def test_a_download_comes_whole_or_not_at_all(tmp_path: Path) -> None:
    thread = answering(tmp_path / "c.sock", http("200 OK", "all of it"))
    assert b"".join(SocketClient(tmp_path / "c.sock").download("/v1/x")) == b"all of it"
    thread.join()
    (tmp_path / "c.sock").unlink()
    thread = answering(tmp_path / "c.sock", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nsome")
    with pytest.raises(TransientError, match="broke off its answer"):
        b"".join(SocketClient(tmp_path / "c.sock").download("/v1/x"))
    thread.join()


@pytest.mark.parametrize("answer", [b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{"])
def test_an_answer_that_breaks_off_is_worth_another_try(tmp_path: Path, answer: bytes) -> None:
    thread = answering(tmp_path / "c.sock", answer)
    with pytest.raises(TransientError, match="broke off its answer"):
        SocketClient(tmp_path / "c.sock").request("GET", "/v1/x")
    thread.join()


def test_an_end_without_an_answer_says_where_to_look(tmp_path: Path) -> None:
    thread = answering(tmp_path / "c.sock", b"")
    with pytest.raises(TransientError, match="closed the connection without an answer: it stopped, or could not start"):
        SocketClient(tmp_path / "c.sock").request("GET", "/v1/x")
    thread.join()


def test_no_daemon_is_a_sentence(tmp_path: Path) -> None:
    for request in (lambda client: client.request("GET", "/v1/x"), lambda client: list(client.download("/v1/x"))):
        with pytest.raises(NoDaemonError, match=r"^No daemon listens at .*c\.sock\. Start it"):
            request(SocketClient(tmp_path / "c.sock"))


@pytest.fixture
def crowded(tmp_path: Path) -> Iterator[socket.socket]:
    """A socket that accepts no connection, with a full backlog."""
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


def test_a_configuration_that_names_no_socket_does_not_reach_the_daemon_of_another_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, config = tmp_path / "c.sock", tmp_path / "other.toml"
    monkeypatch.setattr("exportd.cli.completion.DEFAULT_SOCKET", str(usual))
    monkeypatch.setattr("exportd.cli.daemon_client.DEFAULT_SOCKET", usual)
    shutil.copy(CHECKOUT / "config" / "entities.toml", tmp_path)
    config.write_text('catalog.file = "entities.toml"\ndatabase.dsn = "postgresql://me@db/shop"\n', encoding="utf-8")
    for host, refused in (("elsewhere", True), ("db", False)):
        body = json.dumps({"database": f"database shop on {host} as exportd"})
        thread = answering(usual, http("200 OK", body))
        refusal = pytest.raises(SettingsError, match="works with the database shop on elsewhere")
        with refusal if refused else nullcontext():
            DaemonAddress(config=config).client()
        thread.join()
        usual.unlink()
