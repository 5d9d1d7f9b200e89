"""Notifies systemd: the daemon is ready, reloads or stops, its status, and that its event loop runs (the watchdog).

The protocol of sd_notify(3): datagrams of ``NAME=value`` lines to the socket in ``NOTIFY_SOCKET``. Without that
variable, nothing is sent.
"""

import os
import socket
import time
from collections.abc import MutableMapping
from functools import cache

import anyio

READY = "READY=1"
STOPPING = "STOPPING=1"
_ALIVE = "WATCHDOG=1"
_PATIENCE_OF_SYSTEMD_S = 60.0
"""How long systemd waits for an attempt to connect and to migrate, in seconds."""


class SystemdNotifier:
    """Sends messages to the service manager that started this process."""

    def __init__(self, address: str, *, watchdog_s: float | None) -> None:
        """``address`` is that of a datagram socket, empty for none; the watchdog expects a message per ``watchdog_s``.

        Without a watchdog ``watchdog_s`` is None.
        """
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self.watchdog_s = watchdog_s

    @classmethod
    def taken_from(cls, environment: MutableMapping[str, str], *, process_id: int) -> "SystemdNotifier":
        """Reads what systemd put into the environment, and removes it, so that child processes do not inherit it."""
        address, duration, wanted = (
            environment.pop(name, "") for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
        )
        expected = duration.isdecimal() and int(duration) > 0 and wanted in {"", str(process_id)}
        return cls(address, watchdog_s=int(duration) / 1e6 if expected else None)

    def notify(self, message: str) -> bool:
        """Send the lines of ``message``. Returns whether they were received. Never raises, because the daemon works
        without it.
        """
        if not self._address:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sending:
                # The event loop must not wait here; systemd's queue has room for hundreds.
                sending.setblocking(False)
                sending.sendto(message.encode(), self._address)
        except OSError:
            return False
        return True

    async def run(self) -> None:
        """Report twice per watchdog period that the event loop runs, until cancelled.

        It runs in the loop of the services: when the loop hangs, no message is sent, and systemd restarts the daemon.
        """
        if self.watchdog_s is None:
            await anyio.sleep_forever()
        else:
            while True:
                self.notify(_ALIVE)
                await anyio.sleep(self.watchdog_s / 2)


@cache
def systemd() -> SystemdNotifier:
    """The service manager of this process."""
    return SystemdNotifier.taken_from(os.environ, process_id=os.getpid())


def notify(message: str) -> bool:
    """Send a message to the service manager of this process. Returns whether it was received."""
    return systemd().notify(message)


def reloading() -> str:
    """The message that a reload begins; ``READY`` ends it."""
    return f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}"


def still_starting(pause_s: float) -> str:
    """The message that the start goes on, with a pause of ``pause_s`` seconds: its timeout begins anew."""
    return f"EXTEND_TIMEOUT_USEC={round((pause_s + _PATIENCE_OF_SYSTEMD_S) * 1e6)}"


def status(sentence: str) -> str:
    """The message that ``systemctl status`` shows as one line."""
    return f"STATUS={' '.join(sentence.split())}"
