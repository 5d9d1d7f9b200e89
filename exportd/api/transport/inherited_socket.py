"""The socket that systemd opened for us (exportd.socket), so that no client is refused while the daemon restarts.

The protocol of sd_listen_fds(3): descriptors from 3 on, as many as ``LISTEN_FDS`` says, for the process ``LISTEN_PID``.
"""

import os
import socket
from collections.abc import MutableMapping
from contextlib import ExitStack
from pathlib import Path

from exportd.model.errors import SettingsError

_FIRST_DESCRIPTOR = 3
_NAME = "control"
_UNNAMED = {"", "unknown", "connection"}


def inherited_socket(
    path: Path, environment: MutableMapping[str, str], *, process_id: int, first_descriptor: int = _FIRST_DESCRIPTOR
) -> socket.socket | None:
    """The listening Unix socket that came with the process; None when none did.

    Takes the variables out of ``environment``: they are not for children. Raises SettingsError for anything but one
    listening Unix stream socket at ``path``, where the clients look for it.
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
