"""The spool's bookkeeping."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exportd.model.job import JobId
from exportd.spool.usage import ReservationVerdict, SpoolUsage
from tests.fixtures.settings import live_settings

A, B = JobId(UUID(int=1)), JobId(UUID(int=2))
PLENTY = 10**12


@pytest.fixture
def usage() -> SpoolUsage:
    return SpoolUsage(live_settings(spool={"budget": 100, "free_space_floor": 10}))


def test_reserved_bytes_count_against_the_budget(usage: SpoolUsage) -> None:
    usage.reserve(A, 60)
    assert usage.judge(B, 40, free_bytes=PLENTY) is ReservationVerdict.NOW
    assert usage.judge(B, 41, free_bytes=PLENTY) is ReservationVerdict.LATER


def test_a_job_that_alone_needs_more_than_the_budget_need_not_wait(usage: SpoolUsage) -> None:
    usage.settle(A, reserved_bytes=0, used_bytes=60)
    assert usage.judge(A, 41, free_bytes=PLENTY) is ReservationVerdict.NEVER
    assert usage.judge(B, 101, free_bytes=PLENTY) is ReservationVerdict.NEVER


def test_the_disk_keeps_its_floor_after_everything_reserved_is_written(usage: SpoolUsage) -> None:
    usage.reserve(A, 20)
    assert usage.judge(B, 10, free_bytes=40) is ReservationVerdict.NOW
    assert usage.judge(B, 11, free_bytes=40) is ReservationVerdict.LATER


def test_what_is_settled_counts_as_it_was_written(usage: SpoolUsage) -> None:
    usage.reserve(A, 60)
    usage.settle(A, reserved_bytes=60, used_bytes=20)
    assert (usage.used_bytes, usage.reserved_bytes) == (20, 0)
    usage.release(A, 5)
    assert usage.used_bytes == 15


def test_a_forgotten_job_keeps_only_what_it_has_reserved(usage: SpoolUsage) -> None:
    usage.reserve(A, 60)
    usage.settle(A, reserved_bytes=30, used_bytes=20)
    usage.forget(A)
    assert (usage.used_bytes, usage.reserved_bytes) == (0, 30)
    usage.settle(A, reserved_bytes=30, used_bytes=0)
    usage.forget(A)
    assert usage.reserved_bytes == 0


@given(st.lists(st.tuples(st.sampled_from([A, B]), st.integers(1, 50)), max_size=30))
def test_what_is_granted_never_passes_the_budget(requests: list[tuple[JobId, int]]) -> None:
    usage = SpoolUsage(live_settings(spool={"budget": 100, "free_space_floor": 0}))
    for job, size_bytes in requests:
        if usage.judge(job, size_bytes, free_bytes=PLENTY) is ReservationVerdict.NOW:
            usage.reserve(job, size_bytes)
    assert usage.used_bytes + usage.reserved_bytes <= 100
