"""The text that Prometheus reads: made at most every few seconds, however often it is scraped."""

from collections.abc import Awaitable, Callable

import anyio
import anyio.to_thread
import structlog

from exportd.model.clock import Clock
from exportd.model.errors import ExportdError
from exportd.telemetry.metrics import Metrics

_logger = structlog.get_logger()

_MAX_AGE_S = 5.0


class Exposition:
    """Metrics: ``refresh`` updates those of the database, and may raise ExportdError; ``look`` those of the process."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        refresh: Callable[[Metrics], Awaitable[None]],
        look: Callable[[Metrics], Awaitable[None]],
        clock: Clock,
    ) -> None:
        self._metrics = metrics
        self._refresh = refresh
        self._look = look
        self._clock = clock
        self._lock = anyio.Lock()
        self._text = b""
        self._made_at = float("-inf")

    async def text(self) -> bytes:
        """The newest, or one that is a few seconds old. While the database is away, without its metrics."""
        async with self._lock:
            if self._clock.monotonic() - self._made_at >= _MAX_AGE_S:
                try:
                    await self._refresh(self._metrics)
                except ExportdError as error:
                    self._metrics.forget_database()
                    _logger.warning("metrics without the database", reason=error.reason, error=error.sentence)
                await self._look(self._metrics)
                # With thousands of schedules, this takes a while.
                self._text = await anyio.to_thread.run_sync(self._metrics.text)
                self._made_at = self._clock.monotonic()
            return self._text
