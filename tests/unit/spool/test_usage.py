"""The spool's bookkeeping."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exportd.model.entity import OrganizationId
from exportd.model.job import JobId
from exportd.spool.usage import ReservationVerdict, SpoolUsage
from tests.fixtures.settings import live_settings

A, B, C = JobId(UUID(int=1)), JobId(UUID(int=2)), JobId(UUID(int=3))
ACME, GLOBEX = OrganizationId("acme"), OrganizationId("globex")
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
    assert usage.judge(B, 11, free_bytes=40) is ReservationVerdict.DISK


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


def test_an_organization_stays_within_its_quota_and_others_go_on(usage: SpoolUsage) -> None:
    usage.own(A, ACME)
    usage.own(B, ACME)
    usage.own(C, GLOBEX)
    usage.settle(A, reserved_bytes=0, used_bytes=40)
    assert usage.judge(B, 10, free_bytes=PLENTY) is ReservationVerdict.NOW
    assert usage.judge(B, 11, free_bytes=PLENTY) is ReservationVerdict.QUOTA
    assert usage.judge(C, 60, free_bytes=PLENTY) is ReservationVerdict.NOW
    # It is the only one of its organization.
    assert usage.judge(A, 60, free_bytes=PLENTY) is ReservationVerdict.NOW
    usage.forget(A)
    assert usage.judge(B, 60, free_bytes=PLENTY) is ReservationVerdict.NOW


def test_a_quota_of_its_own_goes_before_the_half() -> None:
    usage = SpoolUsage(live_settings(spool={"budget": 100, "free_space_floor": 0}, quotas={"spool_share": 0.8}))
    usage.own(A, ACME)
    usage.own(B, ACME)
    usage.settle(A, reserved_bytes=0, used_bytes=70)
    assert usage.judge(B, 10, free_bytes=PLENTY) is ReservationVerdict.NOW
    assert usage.judge(B, 11, free_bytes=PLENTY) is ReservationVerdict.QUOTA


OPERATIONS = st.one_of(
    st.tuples(st.just("own"), st.sampled_from([A, B, C]), st.sampled_from([ACME, GLOBEX])),
    st.tuples(st.just("reserve"), st.sampled_from([A, B, C]), st.integers(0, 50)),
    st.tuples(st.just("release"), st.sampled_from([A, B, C]), st.integers(0, 50)),
    st.tuples(st.just("settle"), st.sampled_from([A, B, C]), st.integers(0, 50), st.integers(0, 50)),
    st.tuples(st.just("forget"), st.sampled_from([A, B, C])),
)


@given(st.lists(OPERATIONS, max_size=40))
def test_the_totals_are_the_sums_of_what_the_jobs_have(
    operations: list[tuple[str, JobId, *tuple[object, ...]]],
) -> None:
    usage = SpoolUsage(live_settings(spool={"budget": 100, "free_space_floor": 0}))
    for name, job, *arguments in operations:
        match name, arguments:
            case "settle", [int(reserved_bytes), int(used_bytes)]:
                usage.settle(job, reserved_bytes=reserved_bytes, used_bytes=used_bytes)
            case _:
                getattr(usage, name)(job, *arguments)
        taken_bytes = {one: usage.taken_bytes(one) for one in (A, B, C)}
        assert usage.used_bytes + usage.reserved_bytes == sum(taken_bytes.values())
        for organization in (ACME, GLOBEX):
            of_it = sum(taken for one, taken in taken_bytes.items() if usage.owner(one) == organization)
            assert usage.taken_bytes_of(organization) == of_it
