"""Whether a job's files can be handed out."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from exportd.jobs.job_record import Download, JobRecord, download
from exportd.model.entity import OrganizationId
from exportd.model.job import Job, JobId, JobPhase, JobProgress, JobState
from exportd.model.schedule import ExportFormat

NOON = datetime(2026, 3, 9, 12, tzinfo=UTC)
HERE = UUID(int=1)


def record() -> JobRecord:
    return JobRecord(
        job=Job(JobId(uuid4()), OrganizationId("org-1"), None, None, NOON, (), ExportFormat.CSV, ()),
        state=JobState.SUCCEEDED,
        phase=JobPhase.PUBLISHING,
        attempt=1,
        created_at=NOON,
        not_before=NOON,
        started_at=NOON,
        sealed_at=NOON,
        finished_at=NOON,
        expired_at=None,
        lease_holder=None,
        lease_until=None,
        spool_id=HERE,
        reason=None,
        message=None,
        progress=JobProgress(),
        extraction=None,
    )


def test_a_job_that_succeeded_is_ready_where_its_files_are() -> None:
    assert download(record(), spool_id=HERE) is Download.READY
    assert download(record(), spool_id=UUID(int=2)) is Download.ELSEWHERE


@pytest.mark.parametrize("state", [JobState.PENDING, JobState.RUNNING])
def test_a_sealed_job_is_not_handed_out_before_it_succeeded(state: JobState) -> None:
    assert download(replace(record(), state=state), spool_id=HERE) is Download.NOT_FINISHED


def test_a_failed_job_is_not_handed_out() -> None:
    assert download(replace(record(), state=JobState.FAILED), spool_id=HERE) is Download.FAILED


def test_an_expired_job_is_gone_everywhere() -> None:
    for spool in (HERE, UUID(int=2)):
        assert download(replace(record(), expired_at=NOON), spool_id=spool) is Download.GONE
