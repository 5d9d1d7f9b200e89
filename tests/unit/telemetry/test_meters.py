"""What is counted of an attempt, however it ends; how late the event loop is, and the memory of the process."""

from datetime import UTC, datetime
from uuid import UUID

import anyio
import anyio.lowlevel
import pytest

from exportd.model.clock import SystemClock
from exportd.model.entity import EntityCode, OrganizationId
from exportd.model.errors import TransientError
from exportd.model.job import Job, JobId, JobPhase, JobProgress, Lease
from exportd.model.reason import Reason
from exportd.model.schedule import ExportFormat
from exportd.telemetry.meters import AttemptMeter, LoopDelaySampler, resident_bytes
from exportd.telemetry.metrics import Metrics

BILLS = EntityCode("BILLS")
JOB = Job(
    JobId(UUID(int=1)),
    OrganizationId("acme"),
    None,
    None,
    datetime(2026, 1, 1, tzinfo=UTC),
    (BILLS,),
    ExportFormat.CSV,
    (),
)


def lease(attempt: int = 1) -> Lease:
    return Lease(JOB, fence=attempt, attempt=attempt, phase=JobPhase.EXTRACTING)


def ended(metrics: Metrics, outcome: str, reason: str = "") -> float | None:
    return metrics.registry.get_sample_value("exportd_job_attempts_total", {"outcome": outcome, "reason": reason})


async def test_rows_and_bytes_count_when_a_job_succeeds() -> None:
    async def work(_lease: Lease, progress: JobProgress) -> None:
        progress.of(BILLS).rows, progress.of(BILLS).size_bytes = 7, 900

    metrics = Metrics()
    await AttemptMeter(work, metrics, SystemClock()).run(lease(), JobProgress())
    await AttemptMeter(work, metrics, SystemClock()).run(lease(attempt=2), JobProgress())
    value = metrics.registry.get_sample_value
    assert ended(metrics, "succeeded") == 2
    assert value("exportd_exported_rows_total", {"entity": BILLS}) == 14
    assert value("exportd_exported_bytes_total", {"entity": BILLS}) == 1800
    assert value("exportd_job_retries_total") == 1
    assert value("exportd_job_attempt_seconds_count") == 2


@pytest.mark.parametrize(
    ("error", "reason"),
    [(TransientError("full", reason=Reason.SPOOL_FULL), "SPOOL_FULL"), (KeyError("x"), "BUG")],
)
async def test_a_failure_counts_with_its_reason_and_without_rows(error: Exception, reason: str) -> None:
    async def work(_lease: Lease, progress: JobProgress) -> None:
        progress.of(BILLS).rows = 7
        raise error

    metrics = Metrics()
    with pytest.raises(type(error)):
        await AttemptMeter(work, metrics, SystemClock()).run(lease(), JobProgress())
    assert ended(metrics, "failed", reason) == 1
    assert metrics.registry.get_sample_value("exportd_exported_rows_total", {"entity": BILLS}) is None


async def test_a_stop_from_outside_is_no_failure() -> None:
    async def work(_lease: Lease, _progress: JobProgress) -> None:
        await anyio.sleep_forever()

    metrics = Metrics()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await AttemptMeter(work, metrics, SystemClock()).run(lease(), JobProgress())
    assert ended(metrics, "stopped") == 1


async def test_a_late_event_loop_shows() -> None:
    metrics = Metrics()
    async with anyio.create_task_group() as services:
        services.start_soon(LoopDelaySampler(metrics.loop_delay).run)
        await anyio.wait_all_tasks_blocked()
        until = anyio.current_time() + 0.5
        while anyio.current_time() < until:
            pass
        while not metrics.registry.get_sample_value("exportd_event_loop_delay_seconds_count"):
            await anyio.lowlevel.checkpoint()
        services.cancel_scope.cancel()
    sample = metrics.registry.get_sample_value
    in_time = sample("exportd_event_loop_delay_seconds_bucket", {"le": "0.05"})
    late = (sample("exportd_event_loop_delay_seconds_count") or 0) - (in_time or 0)
    assert late >= 4, "every sleeper that was due in that half second was late"
    assert 0.4 < (sample("exportd_event_loop_delay_seconds_sum") or 0) < 50


def test_the_process_has_some_memory() -> None:
    assert 10_000_000 < resident_bytes() < 10_000_000_000
