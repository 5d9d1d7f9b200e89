"""What systemd hands over is taken only when it is the socket that clients look for."""

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from exportd.api.transport.unix_socket import inherited_socket
from exportd.model.errors import SettingsError

HandOver = Callable[..., dict[str, str]]
FIRST = 200
"""Descriptors that no test has open; systemd's own begin at 3."""


@pytest.fixture
def hand_over() -> Iterator[HandOver]:
    """Puts sockets where systemd would, and says so in an environment."""
    descriptors: list[int] = []

    def place(*sockets: socket.socket, name: str = "control", process_id: int | None = None) -> dict[str, str]:
        for number, opened in enumerate(sockets):
            descriptors.append(os.dup2(opened.fileno(), FIRST + number))
        pid = os.getpid() if process_id is None else process_id
        return {"LISTEN_PID": str(pid), "LISTEN_FDS": str(len(sockets)), "LISTEN_FDNAMES": name, "HOME": "/"}

    yield place
    for descriptor in descriptors:
        try:
            os.close(descriptor)
        except OSError:
            continue  # it was taken, and closed


def taken(path: Path, environment: dict[str, str]) -> socket.socket | None:
    return inherited_socket(path, environment, process_id=os.getpid(), first_descriptor=FIRST)


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(tmp_path / "control.sock"))
        opened.listen()
        yield opened


@pytest.mark.parametrize("name", ["control", "unknown", ""])
def test_a_listening_socket_is_taken(tmp_path: Path, hand_over: HandOver, listening: socket.socket, name: str) -> None:
    environment = hand_over(listening, name=name)
    inherited = taken(tmp_path / "control.sock", environment)
    assert inherited is not None
    with inherited:
        assert inherited.fileno() == FIRST
        assert not inherited.get_inheritable()
        assert not inherited.getblocking()
        assert environment == {"HOME": "/"}


def test_nothing_is_taken_that_is_for_another_process(
    tmp_path: Path, hand_over: HandOver, listening: socket.socket
) -> None:
    environment = hand_over(listening, process_id=1)
    assert taken(tmp_path / "control.sock", environment) is None
    assert environment == {"HOME": "/"}
    assert taken(tmp_path / "control.sock", {}) is None


def test_what_does_not_fit_is_refused_with_a_reason(
    tmp_path: Path, hand_over: HandOver, listening: socket.socket
) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as deaf, socket.create_server(("127.0.0.1", 0)) as tcp:
        for sockets, name, sentence in (
            ([listening, tcp], "control:web", "2 sockets named 'control:web'"),
            ([listening], "web", "1 sockets named 'web'"),
            ([tcp], "control", "something else than a listening Unix stream socket"),
            ([deaf], "control", "something else than a listening Unix stream socket"),
        ):
            environment = hand_over(*sockets, name=name)
            with pytest.raises(SettingsError, match=sentence):
                taken(path, environment)
    environment = hand_over(listening)
    with pytest.raises(SettingsError, match=rf"listens at {path}, but control\.socket is .*elsewhere"):
        taken(tmp_path / "elsewhere", environment)
