"""A server process that never outlives its program.

It has a session of its own, so that Ctrl-C does not reach it before the program has finished with it. A small shell
beside it stops it, and removes its temporary folder, however the program ends: the shell reads a pipe that closes with
the program. (The kernel's parent-death signal follows the thread that started the process, and a worker thread may end
before the program.)
"""

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Literal

from exportd.postgres.unprivileged import Account

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
    """The environment of the server's programs: nothing of ours, above all no PG… variable."""
    return {"PATH": os.defpath, "HOME": str(folder)}
