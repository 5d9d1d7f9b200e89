"""Files are dropped when their time is over, and never while a job may need them."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exportd.model.job import JobId, JobState
from exportd.spool.retention import RetentionVerdict, SpooledJob, decide, judge

NOW = datetime(2026, 3, 9, 12, tzinfo=UTC)
DAY = timedelta(hours=24)


def job_of(state: JobState, *, hours_ago: float | None = None, sealed_here: bool = True, number: int = 1) -> SpooledJob:
    finished_at = None if hours_ago is None else NOW - timedelta(hours=hours_ago)
    return SpooledJob(JobId(UUID(int=number)), state, sealed_here, finished_at)


@pytest.mark.parametrize(
    ("job", "verdict"),
    [
        (job_of(JobState.SUCCEEDED, hours_ago=24), RetentionVerdict.DROP_OLD),
        (job_of(JobState.SUCCEEDED, hours_ago=23.9), RetentionVerdict.KEEP_YOUNG),
        (job_of(JobState.FAILED, hours_ago=30), RetentionVerdict.DROP_OLD),
        (job_of(JobState.FAILED, hours_ago=1), RetentionVerdict.KEEP_YOUNG),
        (job_of(JobState.FAILED, hours_ago=0, sealed_here=False), RetentionVerdict.DROP_USELESS),
        (job_of(JobState.SUCCEEDED, hours_ago=0, sealed_here=False), RetentionVerdict.DROP_USELESS),
        (job_of(JobState.RUNNING), RetentionVerdict.KEEP_UNFINISHED),
        (job_of(JobState.RUNNING, sealed_here=False), RetentionVerdict.KEEP_UNFINISHED),
        (job_of(JobState.PENDING, hours_ago=100), RetentionVerdict.KEEP_UNFINISHED),
    ],
)
def test_verdicts(job: SpooledJob, verdict: RetentionVerdict) -> None:
    assert judge(job, now=NOW, retention=DAY) is verdict


def test_an_unknown_job_is_kept() -> None:
    unknown = SpooledJob(JobId(UUID(int=9)), None, False, None)
    assert decide([unknown], now=NOW, retention=DAY) == {unknown.id: RetentionVerdict.KEEP_UNKNOWN}


def test_the_longest_finished_are_judged_first() -> None:
    jobs = [job_of(JobState.SUCCEEDED, hours_ago=hours, number=hours) for hours in (30, 50, 26)]
    assert [job.int for job in decide(jobs, now=NOW, retention=DAY)] == [50, 30, 26]


JOBS = st.builds(
    SpooledJob,
    st.integers(1, 8).map(lambda number: JobId(UUID(int=number))),
    st.none() | st.sampled_from(JobState),
    st.booleans(),
    st.none() | st.timedeltas(timedelta(), timedelta(days=3)).map(lambda age: NOW - age),
)


@given(st.lists(JOBS, unique_by=lambda job: job.id))
def test_what_may_be_needed_is_never_dropped(jobs: list[SpooledJob]) -> None:
    verdicts = decide(jobs, now=NOW, retention=DAY)
    assert set(verdicts) == {job.id for job in jobs}
    known = {job.id: job for job in jobs}
    for job_id, verdict in verdicts.items():
        if verdict.drops:
            job = known[job_id]
            assert job.state in {JobState.SUCCEEDED, JobState.FAILED}
            assert job.finished_at is not None
            assert not job.sealed_here or NOW - job.finished_at >= DAY
