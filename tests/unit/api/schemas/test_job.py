"""A job as operators see it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from exportd.api.schemas.job import job_details
from exportd.jobs.job_record import DeliveryRecord, JobRecord
from exportd.model.entity import EntityCode, OrganizationId
from exportd.model.job import EntityProgress, Job, JobId, JobPhase, JobProgress, JobState, Part
from exportd.model.schedule import DestinationCode, ExportFormat

ACCOUNTS, ORDERS = EntityCode("ACCOUNTS"), EntityCode("ORDERS")
MOMENT = datetime(2026, 3, 10, 4, 15, tzinfo=UTC)
RECORD = JobRecord(
    job=Job(
        id=JobId(UUID(int=1)),
        organization=OrganizationId("acme"),
        schedule_id=None,
        schedule_code=None,
        due_at=MOMENT,
        entities=(ACCOUNTS, ORDERS),
        file_format=ExportFormat.CSV,
        destinations=(DestinationCode("lake"),),
    ),
    state=JobState.SUCCEEDED,
    phase=JobPhase.PUBLISHING,
    attempt=2,
    created_at=MOMENT,
    not_before=MOMENT,
    started_at=MOMENT,
    sealed_at=MOMENT,
    finished_at=MOMENT,
    expired_at=None,
    lease_holder=None,
    lease_until=None,
    spool_id=UUID(int=2),
    reason=None,
    message=None,
    progress=JobProgress({ACCOUNTS: EntityProgress(3, 1, 300, 100, 1, done=True)}),
    extraction={
        "snapshot": "9:9:",
        "wal_position": "0/9",
        "taken_at": MOMENT.isoformat(),
        "entities": [
            {"entity": "ACCOUNTS", "mode": "incremental", "full_reason": None, "previous": "7:7:"},
            {"entity": "ORDERS", "mode": "full", "full_reason": "REQUESTED", "previous": None},
        ],
    },
    parts=(Part(ACCOUNTS, 1, "1_account.csv.gz", 3, 300, 100, "ab"),),
    deliveries=(DeliveryRecord(DestinationCode("lake"), "cd", MOMENT),),
)


def test_a_job_has_its_figures_files_and_deliveries() -> None:
    document = job_details(RECORD, timedelta(hours=24)).model_dump(mode="json", by_alias=True)
    moment = "2026-03-10T04:15:00.000Z"
    assert document == {
        "id": str(UUID(int=1)),
        "version": 1,
        "sourceType": "OPERATIONAL",
        "organization": "acme",
        "exportFileFormat": "CSV",
        "destinations": ["lake"],
        "status": "SUCCEEDED",
        "phase": "PUBLISHING",
        "attempt": 2,
        "dueAt": moment,
        "dateCreated": moment,
        "startedAt": moment,
        "takenAt": moment,
        "sealedAt": moment,
        "finishedAt": moment,
        "filesKeptUntil": "2026-03-11T04:15:00.000Z",
        **dict.fromkeys(["scheduleId", "schedule", "startDate", "holder", "leaseUntil", "notBefore", "filesRemovedAt"]),
        **dict.fromkeys(["reason", "message"]),
        "entities": {
            "ACCOUNTS": {
                "mode": "incremental",
                "reason": None,
                "window": {"previous": "7:7:", "snapshot": "9:9:", "lsn": "0/9"},
                "rows": 3,
                "deletedRows": 1,
                "contentBytes": 300,
                "sizeBytes": 100,
                "files": 1,
                "oversizedParts": 0,
                "done": True,
            },
            "ORDERS": {
                "mode": "full",
                "reason": "REQUESTED",
                "window": {"previous": None, "snapshot": "9:9:", "lsn": "0/9"},
                "rows": 0,
                "deletedRows": 0,
                "contentBytes": 0,
                "sizeBytes": 0,
                "files": 0,
                "oversizedParts": 0,
                "done": False,
            },
        },
        "stalls": [],
        "parts": [{"entity": "ACCOUNTS", "file": "1_account.csv.gz", "rows": 3, "sizeBytes": 100, "sha256": "ab"}],
        "deliveredTo": ["lake"],
        "deliveries": [{"destination": "lake", "publishedAt": moment, "manifestSha256": "cd"}],
        "attempts": [],
    }
    assert RECORD.progress.entities.keys() == {ACCOUNTS}, "looking at a job does not change it"


@pytest.mark.parametrize(
    "others",
    [
        {"state": JobState.RUNNING, "finished_at": None},
        {"state": JobState.FAILED, "sealed_at": None},
        {"expired_at": MOMENT},
    ],
    ids=["not finished", "never complete", "removed"],
)
def test_files_that_are_not_kept_have_no_time_until_which_they_are(others: dict[str, Any]) -> None:
    assert job_details(replace(RECORD, **others), timedelta(hours=24)).files_kept_until is None
