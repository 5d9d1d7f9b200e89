"""What stands on the first page because a person has to look at it."""

from datetime import UTC, datetime

from exportd.api.schemas.job import ShownStall
from exportd.api.schemas.schedule import NewestJobDocument, ScheduleDetails
from exportd.api.schemas.status import DaemonStatus, LeaseStatus, ListenerStatus, SpoolStatus
from exportd.console.pages.overview import Task, needs_attention

NOON = datetime(2026, 3, 9, 12, tzinfo=UTC)


def test_a_job_that_waits_for_a_lock_is_said_with_the_sessions() -> None:
    stall = ShownStall(entities=["BILLS"], reason="LOCK_NOT_AVAILABLE", message="Session 7 holds a lock.", since=NOON)
    lease = LeaseStatus(
        job_id="1",
        organization="acme",
        phase="EXTRACTING",
        attempt=1,
        started_at=NOON,
        lease_until=NOON,
        stalls=[stall],
    )
    daemon = DaemonStatus.model_construct(
        services={},
        listener=ListenerStatus(listening=True),
        leases=[lease],
        spool=SpoolStatus(id="1", directory="/spool", used_bytes=0, budget_bytes=1),
        disagreements=[],
        entities={},
        destinations=[],
    )
    assert needs_attention(daemon, []) == [
        Task("A job of acme waits for the database", "Session 7 holds a lock.", "/console/jobs/1")
    ]


def test_a_schedule_that_failed_says_why_in_a_sentence() -> None:
    newest = NewestJobDocument(
        id="7", status="FAILED", reason="DESTINATION_REFUSED", message="Create the directory.", rows=0, size_bytes=0
    )
    schedule = ScheduleDetails.model_construct(code="nightly", organization="acme", last_job=newest)
    assert needs_attention(None, [schedule]) == [
        Task("Schedule nightly of acme failed", "Create the directory.", "/console/jobs/7")
    ]


def test_damaged_capture_is_one_task_that_names_the_first() -> None:
    daemon = DaemonStatus.model_construct(
        services={},
        listener=ListenerStatus(listening=True),
        leases=[],
        spool=SpoolStatus(id="1", directory="/spool", used_bytes=0, budget_bytes=1),
        disagreements=[],
        entities={},
        destinations=[],
    )
    (one,) = needs_attention(daemon, [], ["BILLS"])
    assert (one.what, one.link) == ("The capture of an entity is not whole", "/console/system/capture")
    (several,) = needs_attention(daemon, [], [f"E{number}" for number in range(7)])
    assert several.what == "The capture of 7 entities is not whole"
    assert several.sentence.startswith("E0, E1, E2, E3, E4 and more: ")
    assert needs_attention(None, [], ["BILLS"]) == []
