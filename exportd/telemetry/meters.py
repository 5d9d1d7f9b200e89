"""Measures the daemon's process: how attempts at jobs end, how late the event loop is, how much memory there is."""

import resource
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
from prometheus_client import Histogram

from exportd.model.clock import Clock
from exportd.model.errors import ExportdError
from exportd.model.job import JobProgress, Lease
from exportd.model.reason import Reason
from exportd.telemetry.metrics import Metrics

RunJob = Callable[[Lease, JobProgress], Awaitable[None]]

_LOOP_INTERVAL_S = 0.1
_STATUS = Path("/proc/self/status")


class AttemptMeter:
    """Runs attempts by ``run_job`` and counts how they end."""

    def __init__(self, run_job: RunJob, metrics: Metrics, clock: Clock) -> None:
        self._run_job = run_job
        self._metrics = metrics
        self._clock = clock

    async def run(self, lease: Lease, progress: JobProgress) -> None:
        """One attempt. Raises what ``run_job`` raises."""
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


class LoopDelaySampler:
    """Observes how late the event loop wakes a sleeper that is due every tenth of a second.

    A long delay is late for many of its wake-ups, and observed once for each: so the share of late ones is the share of
    time in which the loop is blocked, and every task with it.
    """

    def __init__(self, delay: Histogram) -> None:
        self._delay = delay

    async def run(self) -> None:
        """Sample for ever."""
        due = anyio.current_time() + _LOOP_INTERVAL_S
        while True:
            await anyio.sleep_until(due)
            now = anyio.current_time()
            while due <= now:
                self._delay.observe(now - due)
                due += _LOOP_INTERVAL_S


def resident_bytes() -> int:
    """The memory that the process has now; its peak, where the system does not report the present value."""
    try:
        lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
