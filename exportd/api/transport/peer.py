"""Who is at the other end of a Unix socket, as the kernel says; users and groups of this machine by name."""

import grp
import os
import pwd
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from exportd.model.errors import SettingsError

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
