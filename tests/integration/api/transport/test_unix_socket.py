"""The socket's file: its rights, what a dead daemon left, and two daemons in one place."""

import os
import socket
import stat
from pathlib import Path

import pytest

from exportd.api.transport.unix_socket import peer_of, unix_socket
from exportd.model.errors import PermanentError, SettingsError


def test_only_the_owner_and_the_group_may_open_it(tmp_path: Path) -> None:
    path = tmp_path / "made" / "control.sock"
    previous = os.umask(0)
    try:
        with unix_socket(path, group_id=os.getgid()):
            found = path.stat()
            assert stat.S_ISSOCK(found.st_mode)
            assert stat.S_IMODE(found.st_mode) == 0o660
            assert found.st_gid == os.getgid()
    finally:
        os.umask(previous)
    assert not path.exists()


def test_what_a_dead_daemon_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with unix_socket(path, group_id=None) as listening, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        listening.setblocking(True)
        listening.accept()[0].close()


def test_a_living_daemon_keeps_its_place(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with unix_socket(path, group_id=None):
        with pytest.raises(PermanentError, match="Another daemon"), unix_socket(path, group_id=None):
            pass
        assert path.exists()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(PermanentError, match="Another daemon"), unix_socket(path, group_id=None):
            pass


def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    path.write_text("precious")
    with pytest.raises(SettingsError, match="cannot be made"), unix_socket(path, group_id=None):
        pass
    assert path.read_text() == "precious"
    for impossible in (tmp_path / ("x" * 200), path / "below", Path("/proc/control.sock")):
        with pytest.raises(SettingsError, match="cannot be made"), unix_socket(impossible, group_id=None):
            pass


def test_the_kernel_says_who_is_at_the_other_end() -> None:
    here, there = socket.socketpair(socket.AF_UNIX)
    with here, there:
        peer = peer_of(here)
        assert peer is not None
        assert (peer.pid, peer.uid) == (os.getpid(), os.getuid())
        assert peer.groups == {os.getgid(), *os.getgroups()}
    with socket.socket(socket.AF_INET) as other:
        assert peer_of(other) is None
