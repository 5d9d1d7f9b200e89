"""Counts what the attempts at jobs come to."""

from collections.abc import Awaitable, Callable

from exportd.model.clock import Clock
from exportd.model.errors import ExportdError
from exportd.model.job import JobProgress, Lease
from exportd.model.reason import Reason
from exportd.telemetry.metrics import Metrics

RunJob = Callable[[Lease, JobProgress], Awaitable[None]]


class AttemptMeter:
    """Runs attempts by ``run_job`` and looks at how they end."""

    def __init__(self, run_job: RunJob, metrics: Metrics, clock: Clock) -> None:
        self._run_job = run_job
        self._metrics = metrics
        self._clock = clock

    async def run(self, lease: Lease, progress: JobProgress) -> None:
        """One attempt. Raises what it raises."""
        if lease.attempt > 1:
            self._metrics.retries.inc()
        begun = self._clock.monotonic()
        outcome, reason = "stopped", ""
        try:
            await self._run_job(lease, progress)
            outcome = "succeeded"
            self._count(progress)
        except ExportdError as error:
            outcome, reason = "failed", error.reason
            raise
        except Exception:
            outcome, reason = "failed", Reason.BUG
            raise
        finally:
            self._metrics.attempts.labels(outcome, reason).inc()
            self._metrics.attempt_duration.observe(self._clock.monotonic() - begun)

    def _count(self, progress: JobProgress) -> None:
        for entity, figures in progress.entities.items():
            self._metrics.rows.labels(entity).inc(figures.rows)
            self._metrics.bytes.labels(entity).inc(figures.size_bytes)
