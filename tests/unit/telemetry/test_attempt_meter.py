"""What is counted of an attempt, however it ends."""

from datetime import UTC, datetime
from uuid import UUID

import anyio
import pytest

from exportd.model.clock import SystemClock
from exportd.model.entity import EntityCode, OrganizationId
from exportd.model.errors import TransientError
from exportd.model.job import Job, JobId, JobPhase, JobProgress, Lease
from exportd.model.reason import Reason
from exportd.model.schedule import ExportFormat
from exportd.telemetry.attempt_meter import AttemptMeter
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
