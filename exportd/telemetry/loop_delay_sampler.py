"""Measures how late the event loop wakes those who sleep: what is blocked there, blocks everything."""

import anyio
from prometheus_client import Histogram

_INTERVAL_S = 0.25


class LoopDelaySampler:
    """Sleeps, and observes by how much too long."""

    def __init__(self, delay: Histogram) -> None:
        self._delay = delay

    async def run(self) -> None:
        """Sample for ever."""
        while True:
            due = anyio.current_time() + _INTERVAL_S
            await anyio.sleep_until(due)
            self._delay.observe(max(0.0, anyio.current_time() - due))
