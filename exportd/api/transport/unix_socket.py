"""Opens the Unix socket of the API, or takes over the one that systemd has opened; finds out who is at the other end,
as the kernel reports; and looks up users and groups of this machine. Blocking.

With the socket of systemd (exportd.socket) no client is refused while the daemon restarts. The protocol is
sd_listen_fds(3): descriptors from 3 on, as many as ``LISTEN_FDS`` says, for the process ``LISTEN_PID``.
"""

import fcntl
import grp
import os
import pwd
import socket
import stat
import struct
from collections.abc import Iterable, Iterator, MutableMapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from exportd.model.errors import PermanentError, Reason, SettingsError

_MODE = 0o660
_BACKLOG = 1024
_PROBE_TIMEOUT_S = 1.0

_FIRST_DESCRIPTOR = 3
_NAME = "control"
_UNNAMED = {"", "unknown", "connection"}

_SO_PEERGROUPS = 59
"""Not in Python's socket module; the same number on every architecture that matters here."""

_CREDENTIALS = struct.Struct("3i")
_MAX_GROUPS = 65536
_PROXY = "control.proxy_user"


@dataclass(frozen=True, slots=True)
class Peer:
    """A process on this machine. ``groups`` are its primary and supplementary ones."""

    pid: int
    uid: int
    groups: frozenset[int]

    @property
    def name(self) -> str:
        """The user's name; the number where there is no such user."""
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return str(self.uid)


def peer_of(connection: socket.socket) -> Peer | None:
    """The peer of a connected Unix socket; None for any other."""
    if connection.family != socket.AF_UNIX:
        return None
    pid, uid, gid = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return Peer(pid, uid, frozenset({gid, *_supplementary(connection)}))


def _supplementary(connection: socket.socket) -> tuple[int, ...]:
    room = 64
    while room <= _MAX_GROUPS:
        try:
            found = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, room * 4)
        except OSError:  # no room, or a kernel that does not know
            room *= 4
            continue
        return struct.unpack(f"{len(found) // 4}I", found)
    return ()


def group_ids(names: Iterable[str]) -> frozenset[int]:
    """The numbers of groups of this machine. Raises SettingsError for one that does not exist."""
    return frozenset(group_id(name) for name in names)


def group_id(name: str) -> int:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise SettingsError.of(
            f"this machine has no group {name!r}; create it, or name another", where="control"
        ) from None


def proxy_user_id(name: str) -> int:
    """The number of the user as whom a proxy runs. Raises SettingsError for one that does not exist, or is trusted."""
    try:
        found = pwd.getpwnam(name).pw_uid
    except KeyError:
        raise SettingsError.of(f"this machine has no user {name!r}; create it, or name another", where=_PROXY) from None
    if found in {0, os.geteuid()}:
        raise SettingsError.of(
            f"{name!r} is root, or the user of this process. The proxy needs a user of its own: all that it sends is"
            " taken for what a person asks",
            where=_PROXY,
        )
    return found


@contextmanager
def unix_socket(path: Path, *, group_id: int | None) -> Iterator[socket.socket]:
    """A listening socket at ``path`` that the group may open; removed at the end of the block.

    A socket that a dead daemon has left is replaced. Raises PermanentError when another daemon listens there, and
    SettingsError when the socket cannot be created.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _no_socket(path, error) from error
    try:
        _take(lock, path)
        listening = _open(path, group_id)
        try:
            yield listening
        finally:
            listening.close()
            path.unlink(missing_ok=True)
    finally:
        os.close(lock)


def _open(path: Path, group_id: int | None) -> socket.socket:
    try:
        _remove_stale(path)
        return _listen(path, group_id)
    except OSError as error:
        raise _no_socket(path, error) from error


def _take(lock: int, path: Path) -> None:
    """Take the lock that decides between two daemons starting at the same moment. The kernel releases it when a daemon
    dies.
    """
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise _occupied(path) from error


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(f"{path} is something else than a socket")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_PROBE_TIMEOUT_S)
        try:
            probe.connect(os.fspath(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
    raise _occupied(path)


def _listen(path: Path, group_id: int | None) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX)
    try:
        # The file gets the mode of the socket, so no other user can connect before the group is set.
        os.fchmod(listening.fileno(), 0o600)
        listening.bind(os.fspath(path))
        if group_id is not None:
            os.chown(path, -1, group_id)
        path.chmod(_MODE)
        listening.listen(_BACKLOG)
        listening.setblocking(False)
    except BaseException:
        listening.close()
        raise
    return listening


def _occupied(path: Path) -> PermanentError:
    return PermanentError(
        f"Another daemon listens at {path}. Stop it, or give this one a control.socket of its own.",
        reason=Reason.IN_USE,
    )


def _no_socket(path: Path, error: OSError) -> SettingsError:
    return SettingsError.of(
        f"the socket {path} cannot be made: {error.strerror or error}; name another place, or let the daemon's user"
        " write there",
        where="control.socket",
    )


def inherited_socket(
    path: Path, environment: MutableMapping[str, str], *, process_id: int, first_descriptor: int = _FIRST_DESCRIPTOR
) -> socket.socket | None:
    """The listening Unix socket that came with the process; None when none did.

    Removes the variables from ``environment``, because child processes must not see them. Raises SettingsError for
    anything but one listening Unix stream socket at ``path``, where the clients look for it.
    """
    wanted, count, names = (environment.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"))
    if wanted != str(process_id) or not count.isdecimal() or int(count) == 0:
        return None
    with ExitStack() as opened:
        sockets = [
            opened.enter_context(socket.socket(fileno=first_descriptor + number)) for number in range(int(count))
        ]
        for inherited in sockets:
            os.set_inheritable(inherited.fileno(), False)
        if len(sockets) != 1 or not set(names.split(":")) <= {_NAME, *_UNNAMED}:
            raise _unsuitable(f"it hands over {len(sockets)} sockets named {names!r}, and one named {_NAME} is needed")
        (listening,) = sockets
        _check(listening, path)
        listening.setblocking(False)
        opened.pop_all()
        return listening


def _check(listening: socket.socket, path: Path) -> None:
    is_listening = listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if listening.family != socket.AF_UNIX or listening.type != socket.SOCK_STREAM or not is_listening:
        raise _unsuitable("it hands over something else than a listening Unix stream socket")
    if (there := listening.getsockname()) != os.fspath(path):
        raise _unsuitable(f"it listens at {there}, but control.socket is {path}, where clients look")


def _unsuitable(problem: str) -> SettingsError:
    return SettingsError.of(f"exportd.socket does not fit: {problem}; correct ListenStream=", where="control.socket")
