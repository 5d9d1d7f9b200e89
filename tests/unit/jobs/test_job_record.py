"""Whether a job's files can be downloaded; and progress on its way through the job's row."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exportd.jobs.job_record import Download, JobRecord, download, progress_from_json, progress_to_json
from exportd.model.entity import EntityCode, OrganizationId
from exportd.model.errors import Reason
from exportd.model.job import EntityProgress, Job, JobId, JobPhase, JobProgress, JobState, Stall
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


counts = st.integers(min_value=0, max_value=2**62)
figures = st.builds(
    EntityProgress,
    rows=counts,
    deleted_rows=counts,
    content_bytes=counts,
    size_bytes=counts,
    files=counts,
    oversized_parts=counts,
    done=st.booleans(),
)
entities = st.dictionaries(st.text(min_size=1).map(EntityCode), figures, max_size=4)
stalls = st.builds(
    Stall,
    st.tuples(st.sampled_from([EntityCode("ACCOUNTS"), EntityCode("PLANS")])),
    st.sampled_from([Reason.COPY_SILENT, "INVENTED_LATER"]),
    st.text(max_size=5),
    st.datetimes(timezones=st.just(UTC)),
)
progresses = st.builds(
    JobProgress,
    entities=entities,
    published_files=counts,
    stalls=st.lists(stalls, max_size=2),
    on_stall=st.just(JobProgress().on_stall),
)


@given(progresses)
def test_what_is_read_back_is_what_was_written(progress: JobProgress) -> None:
    assert progress_from_json(json.loads(json.dumps(progress_to_json(progress)))) == progress


def test_a_document_does_not_follow_later_changes() -> None:
    progress = JobProgress()
    progress.of(EntityCode("ACCOUNTS")).rows = 1
    before = progress_to_json(progress)
    progress.of(EntityCode("ACCOUNTS")).rows = 2
    assert before["entities"]["ACCOUNTS"]["rows"] == 1
    assert progress_to_json(progress) != before


def test_documents_of_other_versions_are_read() -> None:
    assert progress_from_json({}) == JobProgress()
    read = progress_from_json({"entities": {"PLANS": {"rows": 3, "invented_later": 1}}})
    assert read.entities == {"PLANS": EntityProgress(rows=3)}
