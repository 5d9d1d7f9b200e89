"""Measures how late the event loop wakes those who sleep: what is blocked there, blocks everything."""

import anyio
from prometheus_client import Histogram

_INTERVAL_S = 0.1


class LoopDelaySampler:
    """Is to be woken at regular times, and observes how late it is for each.

    One long delay is late for many of them: so the share of late ones is the share of time in which everybody waits.
    """

    def __init__(self, delay: Histogram) -> None:
        self._delay = delay

    async def run(self) -> None:
        """Sample for ever."""
        due = anyio.current_time() + _INTERVAL_S
        while True:
            await anyio.sleep_until(due)
            now = anyio.current_time()
            while due <= now:
                self._delay.observe(now - due)
                due += _INTERVAL_S
