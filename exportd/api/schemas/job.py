"""Jobs, and the links to their files. Pure."""

from collections.abc import Mapping
from typing import Any, Literal

from exportd.api.schemas.fields import Answer, Moment
from exportd.jobs.job_record import JobRecord
from exportd.jobs.requests import JobSummary
from exportd.model.extraction import Mode
from exportd.model.job import EntityProgress
from exportd.model.reason import FullReason

JobStatus = Literal["PENDING", "RUNNING", "SUCCEEDED", "FAILED"]


class JobDocument(Answer):
    """One run, of a schedule or without one, as its organization sees it."""

    id: str
    version: int = 1
    schedule_id: str | None = None
    started_at: Moment | None = None
    date_created: Moment
    source_type: Literal["OPERATIONAL"] = "OPERATIONAL"
    status: JobStatus


class JobPage(Answer):
    """Some jobs, the newest first."""

    data: list[JobDocument]
    next_token: str | None = None


class JobEntity(Answer):
    """What a job has of an entity so far. ``mode`` is known when it was read; ``reason`` says why that was full."""

    mode: Mode | None = None
    reason: FullReason | None = None
    rows: int
    deleted_rows: int
    content_bytes: int
    size_bytes: int
    files: int
    oversized_parts: int
    done: bool


class JobPart(Answer):
    """A file of a job. ``sha256`` is that of the whole file, in hex."""

    entity: str
    file: str
    rows: int
    size_bytes: int
    sha256: str


class JobDetails(JobDocument):
    """The same run as operators see it. ``schedule`` is the schedule's code; ``reason`` and ``message`` say why it
    failed, or why its last attempt did.
    """

    organization: str
    schedule: str | None = None
    due_at: Moment
    finished_at: Moment | None = None
    phase: Literal["EXTRACTING", "SEALED", "PUBLISHING"]
    attempt: int
    reason: str | None = None
    message: str | None = None
    entities: dict[str, JobEntity]
    parts: list[JobPart]
    delivered_to: list[str]


class JobDetailsList(Answer):
    """Jobs of every organization, the newest first."""

    data: list[JobDetails]


class DownloadLink(Answer):
    """Where a job's files are for a quarter of an hour, without further credentials."""

    url: str
    expiration_time: Moment


def job_document(summary: JobSummary) -> JobDocument:
    return JobDocument(
        id=str(summary.id),
        schedule_id=None if summary.schedule_id is None else str(summary.schedule_id),
        started_at=summary.started_at,
        date_created=summary.created_at,
        status=summary.state.value,
    )


def job_details(record: JobRecord) -> JobDetails:
    job = record.job
    return JobDetails(
        id=str(job.id),
        schedule_id=None if job.schedule_id is None else str(job.schedule_id),
        started_at=record.started_at,
        date_created=record.created_at,
        status=record.state.value,
        organization=job.organization,
        schedule=job.schedule_code,
        due_at=job.due_at,
        finished_at=record.finished_at,
        phase=record.phase.value,
        attempt=record.attempt,
        reason=record.reason,
        message=record.message,
        entities=_entities(record),
        parts=[
            JobPart(
                entity=part.entity,
                file=part.file_name,
                rows=part.rows,
                size_bytes=part.size_bytes,
                sha256=part.sha256,
            )
            for part in record.parts
        ],
        delivered_to=[delivery.destination for delivery in record.deliveries],
    )


def _entities(record: JobRecord) -> dict[str, JobEntity]:
    read: dict[str, Mapping[str, Any]] = {
        entity["entity"]: entity for entity in (record.extraction or {}).get("entities", ())
    }
    found: dict[str, JobEntity] = {}
    for code in record.job.entities:
        figures, extracted = record.progress.entities.get(code, EntityProgress()), read.get(code, {})
        found[code] = JobEntity(
            mode=extracted.get("mode"),
            reason=extracted.get("full_reason"),
            rows=figures.rows,
            deleted_rows=figures.deleted_rows,
            content_bytes=figures.content_bytes,
            size_bytes=figures.size_bytes,
            files=figures.files,
            oversized_parts=figures.oversized_parts,
            done=figures.done,
        )
    return found
