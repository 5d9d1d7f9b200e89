"""What the daemon tells systemd: that it is ready, reloads or leaves, how it is, and that its event loop still turns.

The protocol of sd_notify(3): datagrams of ``NAME=value`` lines to the socket in ``NOTIFY_SOCKET``. Without one, nobody
is told anything.
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


class SystemdNotifier:
    """The way to the service manager that started us."""

    def __init__(self, address: str, *, watchdog_s: float | None) -> None:
        """``address`` is that of a datagram socket, empty for none; within each ``watchdog_s`` a sign of life is
        expected.
        """
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self.watchdog_s = watchdog_s

    @classmethod
    def taken_from(cls, environment: MutableMapping[str, str], *, process_id: int) -> "SystemdNotifier":
        """What systemd has put there for the process; taken away, for children have no business with it."""
        address, duration, wanted = (
            environment.pop(name, "") for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
        )
        expected = duration.isdecimal() and int(duration) > 0 and wanted in {"", str(process_id)}
        return cls(address, watchdog_s=int(duration) / 1e6 if expected else None)

    def notify(self, message: str) -> bool:
        """Send the lines of ``message``; whether somebody got them. Never raises: the work goes on without."""
        if not self._address:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sending:
                # The event loop waits for nobody; systemd's queue has room for hundreds.
                sending.setblocking(False)
                sending.sendto(message.encode(), self._address)
        except OSError:
            return False
        return True

    async def run(self) -> None:
        """Say twice in each of the watchdog's periods that the event loop turns; forever.

        It runs beside the work, in the same loop: a loop that hangs is not heard of, and systemd starts us again.
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
    """Tell the service manager of this process; whether there is one that listens."""
    return systemd().notify(message)


def reloading() -> str:
    """The message that a reload begins; READY ends it."""
    return f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}"


def status(sentence: str) -> str:
    """The message that ``systemctl status`` shows as one line."""
    return f"STATUS={' '.join(sentence.split())}"
