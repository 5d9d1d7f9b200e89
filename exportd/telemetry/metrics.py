"""All metrics of exportd, in a registry of their own, and the measurements of the daemon's process.

``docs/metrics.md`` lists them. Counters and histograms are this process's. Gauges about schedules, jobs and logs are
read from the database, and are the same in every daemon. Organizations and schedules are labels: a client that may read
the metrics sees all of them.
"""

import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from exportd import __version__
from exportd.model.clock import Clock
from exportd.model.entity import EntityCode
from exportd.model.errors import ExportdError, Reason
from exportd.model.job import JobProgress, JobState, Lease, RunJob

_LOOP_DELAY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
_ATTEMPT_BUCKETS_S = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 4 * 3600)


@dataclass(frozen=True, slots=True)
class MetricDescription:
    """A metric as the documentation names it."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str


class BootTimeProcessCollector(ProcessCollector):
    """The library's own ``process_*`` metrics, which also work where /proc/stat is hidden, as by systemd's
    ProcSubset=pid.

    The library's collector would report nothing there, because it reads the machine's start time in that file.
    """

    def _boot_time(self) -> float:
        return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


class Metrics:
    """The metrics of one daemon."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        BootTimeProcessCollector(registry=self.registry)
        self.descriptions: list[MetricDescription] = []
        self._labelled: list[Gauge] = []
        self._plain: list[Gauge] = []
        self._declare_database_gauges()
        self._declare_process_metrics()
        self._declare_counters()

    def _declare_database_gauges(self) -> None:
        self.database_up = self._gauge("exportd_database_up", "1 when the database answered in time, else 0.")
        of_database = self._gauge_of_database
        self.freshness = of_database(
            "exportd_freshness_lag_seconds",
            "How old the destination's newest complete run is: now minus its snapshot (download only: no destination).",
            ["organization", "schedule", "destination"],
        )
        self.schedule_failed = of_database(
            "exportd_schedule_failed",
            "1 for a schedule whose last finished job has failed, with the reason code.",
            ["organization", "schedule", "reason"],
        )
        self.jobs = of_database("exportd_jobs", "Jobs that are not finished, by state.", ["state"])
        self.oldest_due = of_database(
            "exportd_oldest_due_job_seconds", "How long the job that is due longest has been waiting to be claimed."
        )
        self.log_rows = of_database(
            "exportd_change_log_rows", "Rows in the entity's change log, as the server estimates.", ["entity"]
        )
        self.oldest_window = of_database(
            "exportd_change_log_oldest_window_seconds",
            "Age of the oldest window start of a schedule, which holds the entity's change log back.",
            ["entity"],
        )
        self.quota_used = of_database(
            "exportd_quota_used_ratio",
            "How much of a quota an organization has used, as a share; only from 0.8 on, and of the fifty fullest.",
            ["organization", "quota"],
        )
        self.oldest_row = of_database(
            "exportd_oldest_row_seconds",
            "Age of the oldest row that is kept: of jobs since they ended, and of the audit log.",
            ["kind"],
        )
        self.oldest_transaction = of_database(
            "exportd_oldest_transaction_seconds",
            "Age of the oldest open transaction of the database, prepared ones too, as far as the role may see.",
        )

    def _declare_process_metrics(self) -> None:
        info = self._gauge("exportd_build_info", "Always 1; the version is the label.", ["version"])
        info.labels(__version__).set(1)
        self.listening = self._gauge("exportd_listening", "1 while the daemon receives the database's notifications.")
        self.trouble = self._gauge(
            "exportd_database_trouble",
            "1 while the daemon cannot listen to its database, with the reason code; absent otherwise.",
            ["reason"],
        )
        self.out_of_order = self._gauge(
            "exportd_entity_out_of_order",
            "1 for an entity that does not fit its table at the moment: its jobs fail, all others run.",
            ["entity"],
        )
        self.stalled = self._gauge(
            "exportd_entity_stalled",
            "1 for an entity that keeps jobs of this daemon waiting (a lock, or silence), 2 while it is left alone.",
            ["entity"],
        )
        self.daemons = self._gauge(
            "exportd_daemons", "Daemons of the database that run, this one too, as this one last read them."
        )
        self.disagreeing = self._gauge(
            "exportd_daemons_disagreeing",
            "Other daemons that declare something else, or have other settings or another catalog.",
        )
        self.changes_waiting = self._gauge(
            "exportd_changes_waiting_seconds",
            "How long the entity's oldest change that the doorbell reported has been waiting to be exported.",
            ["entity"],
        )
        self.spool_used = self._gauge("exportd_spool_used_bytes", "What the files in the spool take.")
        self.spool_budget = self._gauge("exportd_spool_budget_bytes", "What they may take (spool.budget).")
        self.spool_free = self._gauge("exportd_spool_free_bytes", "What the spool's file system has left.")
        self.resident_memory = self._gauge("exportd_resident_memory_bytes", "Memory of the daemon's process.")

    def _declare_counters(self) -> None:
        self._log_lines_dropped = self._counter(
            "exportd_log_lines_dropped_total", "Lines of the log that could not be written: no reader, a full disk."
        )
        self._known_dropped = 0
        self.loop_delay = self._histogram(
            "exportd_event_loop_delay_seconds",
            "How much later than asked for the event loop wakes a sleeper; sampled.",
            _LOOP_DELAY_BUCKETS_S,
        )
        self.attempt_duration = self._histogram(
            "exportd_job_attempt_seconds", "How long attempts at jobs took, however they ended.", _ATTEMPT_BUCKETS_S
        )
        self.attempts = self._counter(
            "exportd_job_attempts_total",
            "Attempts at jobs that ended: succeeded, or failed with the reason code, or stopped from outside.",
            ["outcome", "reason"],
        )
        self.retries = self._counter("exportd_job_retries_total", "Attempts at jobs that were not their first.")
        self.put_back = self._counter(
            "exportd_database_put_back_total", "Times the database was found to be older than what was published."
        )
        self.deleted_rows = self._counter(
            "exportd_retention_deleted_total",
            "What this daemon has deleted because it had been kept long enough ([retention]), by kind.",
            ["kind"],
        )
        self.rows = self._counter("exportd_exported_rows_total", "Rows of jobs that succeeded.", ["entity"])
        self.bytes = self._counter(
            "exportd_exported_bytes_total", "Bytes of their files, compressed, each counted once.", ["entity"]
        )

    def count_dropped_lines(self, so_far: int) -> None:
        """Update the number of log lines that this process has dropped ``so_far``."""
        self._log_lines_dropped.inc(max(0, so_far - self._known_dropped))
        self._known_dropped = so_far

    def forget_database(self) -> None:
        """Drop the figures that were read from the database, because they may be wrong by now."""
        self.database_up.set(0)
        for gauge in self._labelled:
            gauge.clear()
        for gauge in self._plain:
            gauge.set(float("nan"))

    def text(self) -> bytes:
        """All metrics, in the text format of Prometheus."""
        return generate_latest(self.registry)

    def _gauge(self, name: str, meaning: str, labels: Sequence[str] = ()) -> Gauge:
        self._describe(name, "gauge", labels, meaning)
        return Gauge(name, meaning, labels, registry=self.registry)

    def _gauge_of_database(self, name: str, meaning: str, labels: Sequence[str] = ()) -> Gauge:
        gauge = self._gauge(name, meaning, labels)
        (self._labelled if labels else self._plain).append(gauge)
        return gauge

    def _counter(self, name: str, meaning: str, labels: Sequence[str] = ()) -> Counter:
        self._describe(name, "counter", labels, meaning)
        return Counter(name, meaning, labels, registry=self.registry)

    def _histogram(self, name: str, meaning: str, buckets: Sequence[float]) -> Histogram:
        self._describe(name, "histogram", (), meaning)
        return Histogram(name, meaning, buckets=buckets, registry=self.registry)

    def _describe(self, name: str, kind: str, labels: Sequence[str], meaning: str) -> None:
        self.descriptions.append(MetricDescription(name, kind, tuple(labels), meaning))


_LOOP_INTERVAL_S = 0.1
_STATUS = Path("/proc/self/status")


class AttemptMeter:
    """Runs attempts by ``run_job`` and counts how they end."""

    def __init__(self, run_job: RunJob, metrics: Metrics, clock: Clock) -> None:
        self._run_job = run_job
        self._metrics = metrics
        self._clock = clock
        self._counters: dict[EntityCode, tuple[Counter, Counter]] = {}

    async def run(self, lease: Lease, progress: JobProgress) -> JobState | None:
        """Run one attempt. Returns and raises as ``run_job`` does."""
        if lease.attempt > 1:
            self._metrics.retries.inc()
        begun = self._clock.monotonic()
        outcome, reason = "stopped", ""
        try:
            state = await self._run_job(lease, progress)
        except ExportdError as error:
            outcome, reason = "failed", error.reason
            raise
        except Exception:
            outcome, reason = "failed", Reason.BUG
            raise
        else:
            outcome = "succeeded"
            self._count(progress)
            return state
        finally:
            self._metrics.attempts.labels(outcome, reason).inc()
            self._metrics.attempt_duration.observe(self._clock.monotonic() - begun)

    def _count(self, progress: JobProgress) -> None:
        for entity, figures in progress.entities.items():
            if entity not in self._counters:  # which to look up is dear, and twenty entities have little to count
                self._counters[entity] = (self._metrics.rows.labels(entity), self._metrics.bytes.labels(entity))
            rows, size_bytes = self._counters[entity]
            rows.inc(figures.rows)
            size_bytes.inc(figures.size_bytes)


class LoopDelaySampler:
    """Observes how late the event loop wakes a sleeper that is due every tenth of a second.

    A long delay makes many wake-ups late, and each is observed. So the share of late ones is the share of time in which
    the event loop, and every task with it, is blocked.
    """

    def __init__(self, delay: Histogram) -> None:
        self._delay = delay

    async def run(self) -> None:
        """Sample until cancelled."""
        due = anyio.current_time() + _LOOP_INTERVAL_S
        while True:
            await anyio.sleep_until(due)
            now = anyio.current_time()
            while due <= now:
                self._delay.observe(now - due)
                due += _LOOP_INTERVAL_S


def resident_bytes() -> int:
    """The memory of the process now, in bytes; its peak if the system does not report the present value."""
    try:
        lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
