"""A server process that never outlives its program, and the account that it runs as.

It has its own process session, so that Ctrl-C does not reach it before the program has finished with it. A small shell
beside it stops it, and removes its temporary folder, however the program ends: the shell reads a pipe that closes with
the program. (The kernel's parent-death signal is tied to the thread that started the process, which may be a worker
thread that ends before the program.)

Postgres refuses to run as root: when we are root, the server runs as an unprivileged account.
"""

import os
import pwd
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

UNPRIVILEGED_USER = "nobody"
"""The account's name in the operating system."""

_STOP_TIMEOUT_S = 20.0

# $1 is the folder to remove, the rest the server's command. A line on standard input is the signal to send; the
# end of it means that the program died, and then only the shell can stop the server.
_GUARD = """
leftover=$1; shift
exec 3<&0 </dev/null
"$@" 3<&- &
server=$!
{
    if read -r signal <&3; then
        kill -s "$signal" "$server"
    else
        trap '' TERM
        kill -s INT "$server" 2>/dev/null
        while kill -s 0 "$server" 2>/dev/null; do sleep 0.1; done
        rm -rf -- "$leftover"
    fi
} &
guard=$!
wait "$server"
status=$?
kill "$guard" 2>/dev/null
exit "$status"
"""


@dataclass(frozen=True, slots=True)
class Account:
    """A user of this machine; without an id, the user of this process."""

    user_id: int | None = None
    group_id: int | None = None

    @classmethod
    def for_server(cls) -> "Account":
        if os.geteuid() != 0:
            return cls()
        entry = pwd.getpwnam(UNPRIVILEGED_USER)
        return cls(entry.pw_uid, entry.pw_gid)

    def popen_arguments(self) -> dict[str, Any]:
        """The arguments with which ``subprocess`` starts a program as this user, without the groups of this process."""
        if self.user_id is None:
            return {}
        return {"user": self.user_id, "group": self.group_id, "extra_groups": []}

    def give(self, path: Path) -> None:
        """Make the user the owner of a file or folder."""
        if self.user_id is not None and self.group_id is not None:
            os.chown(path, self.user_id, self.group_id)


class ServerProcess:
    """A running server. ``end`` must be called once; all methods block."""

    def __init__(self, command: list[str], *, account: Account, folder: Path, log: Path) -> None:
        """Starts it in ``folder``, its temporary one, with its output at the end of the file ``log``."""
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _GUARD, "exportd-postgres", str(folder), *command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=environment(folder),
                start_new_session=True,
                **account.popen_arguments(),
            )

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def end(self, signal_name: Literal["INT", "QUIT"]) -> None:
        """Sends the signal and waits until the server is gone."""
        commands = self._process.stdin
        if commands is not None:
            with suppress(BrokenPipeError), commands:  # broken: it ended by itself
                commands.write(f"{signal_name}\n".encode())
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def environment(folder: Path) -> dict[str, str]:
    """The environment of the server's programs, without that of this process, which may have PG… variables."""
    return {"PATH": os.defpath, "HOME": str(folder)}
