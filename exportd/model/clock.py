"""The clock. Everything that waits or reads the time gets a ``Clock`` passed in; tests pass one that they move.

Its readings must not be mixed. ``now`` is for records and due times, and may jump in either direction (NTP, a person, a
suspended machine). ``monotonic`` is for waiting: it only grows, and stops while Linux is suspended. ``boot_time`` also
counts the time of a suspension: it is for things that end elsewhere, such as a lease, whether this machine runs or not.
"""

import time
from datetime import UTC, datetime
from typing import Protocol

import anyio


class Clock(Protocol):
    """Reads the time and waits for it."""

    def now(self) -> datetime:
        """The wall clock: aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary moment; never goes back."""
        ...

    async def sleep_until(self, deadline: float) -> None:
        """Return when ``monotonic()`` has reached ``deadline``, give or take a millisecond; at once if it has."""
        ...

    async def wait_for(self, event: anyio.Event, deadline: float) -> bool:
        """Wait for ``event``, but not beyond ``deadline`` of the monotonic clock; returns whether it was set."""
        ...


class SystemClock:
    """The clock of this machine."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep_until(self, deadline: float) -> None:
        # Not anyio.sleep_until: an event loop's own time may count from elsewhere.
        await anyio.sleep(max(0.0, deadline - time.monotonic()))

    async def wait_for(self, event: anyio.Event, deadline: float) -> bool:
        with anyio.move_on_after(max(0.0, deadline - time.monotonic())):
            await event.wait()
        return event.is_set()


def boot_time() -> float:
    """Seconds since the machine was started, including the time during which Linux was suspended."""
    # Elsewhere than on Linux there is no such clock.
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
