"""Jobs, and the links to their files. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any, Literal

from exportd.api.schemas.fields import Answer, ExactMoment, Moment
from exportd.jobs.job_record import JobRecord, for_organization
from exportd.jobs.requests import FoundJob, JobSummary
from exportd.model.errors import FullReason
from exportd.model.extraction import Mode
from exportd.model.job import EntityProgress, Job, JobState, Stall
from exportd.model.schedule import DialectName

JobStatus = Literal["PENDING", "RUNNING", "SUCCEEDED", "FAILED"]


class JobDocument(Answer):
    """One run, of a schedule or without one, as its organization sees it. With a ``startDate``, which only a run
    without a schedule may have, it holds what was modified then or later.
    """

    id: str
    version: int = 1
    schedule_id: str | None = None
    start_date: ExactMoment | None = None
    started_at: Moment | None = None
    date_created: Moment
    source_type: Literal["OPERATIONAL"] = "OPERATIONAL"
    status: JobStatus


class JobPage(Answer):
    """Some jobs, the newest first."""

    data: list[JobDocument]
    next_token: str | None = None


class ShownWindow(Answer):
    """What was read: the changes between two snapshots of Postgres. Without ``previous``: everything, or from the job's
    ``startDate`` on.
    """

    previous: str | None = None
    snapshot: str
    lsn: str


class JobEntity(Answer):
    """What a job has of an entity so far. ``mode`` is known when it was read; ``reason`` says why that was full."""

    mode: Mode | None = None
    reason: FullReason | None = None
    window: ShownWindow | None = None
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


class ShownDelivery(Answer):
    """A destination has everything since ``publishedAt``. ``manifestSha256`` is that of its manifest there, in hex."""

    destination: str
    published_at: Moment
    manifest_sha256: str


class ShownAttempt(Answer):
    """One try. Without ``endedAt`` it runs; ``reason`` and ``message`` say why it ended without success.

    ``number`` is the same again where an attempt did not count, such as one that a daemon gave back as it stopped.
    """

    number: int
    holder: str | None = None
    started_at: Moment
    ended_at: Moment | None = None
    reason: str | None = None
    message: str | None = None


class ShownStall(Answer):
    """What a running job waits for in the database: sessions that have locked tables of the ``entities``
    (LOCK_NOT_AVAILABLE), or rows of them that do not come (COPY_SILENT). The message says more.
    """

    entities: list[str]
    reason: str
    message: str
    since: Moment


class _JobLine(JobDocument):
    organization: str
    schedule: str | None = None
    export_file_format: Literal["CSV", "JSONL"]
    destinations: list[str]
    due_at: Moment
    finished_at: Moment | None = None
    phase: Literal["EXTRACTING", "SEALED", "PUBLISHING"]
    attempt: int
    holder: str | None = None
    reason: str | None = None
    message: str | None = None
    delivered_to: list[str]


class JobTotals(Answer):
    """All entities of a job together. ``done`` of the ``entities`` were read, ``full`` of them completely, for one of
    the ``fullReasons``; that is known when the files are complete.
    """

    entities: int
    done: int
    full: int | None = None
    full_reasons: list[str]
    rows: int
    deleted_rows: int
    files: int
    size_bytes: int


class FoundJobDocument(_JobLine):
    """A run as lists show it; the same fields as in the document of one job, and ``totals`` of its entities."""

    totals: JobTotals


class FoundJobPage(Answer):
    """Some jobs, the newest first. Where a search has looked at many jobs, a page may have few, and a token."""

    data: list[FoundJobDocument]
    next_token: str | None = None


class JobDetails(_JobLine):
    """The same run as operators see it. ``schedule`` is the schedule's code, ``destinations`` are the codes of where it
    goes; ``reason`` and ``message`` say why it failed, or why its last attempt did.

    ``takenAt`` is when it read, ``sealedAt`` when its files were complete, ``notBefore`` when it is tried again,
    ``filesKeptUntil`` when the spool may remove them, ``filesRemovedAt`` when it did. ``holder`` runs it, with a lease
    until ``leaseUntil``; ``stalls`` is what it waits for at the moment. ``attempts`` are the newest 100.
    """

    not_before: Moment | None = None
    taken_at: Moment | None = None
    sealed_at: Moment | None = None
    files_kept_until: Moment | None = None
    files_removed_at: Moment | None = None
    lease_until: Moment | None = None
    stalls: list[ShownStall]
    entities: dict[str, JobEntity]
    parts: list[JobPart]
    deliveries: list[ShownDelivery]
    attempts: list[ShownAttempt]


class LoaderScript(Answer):
    """SQL that loads a job's files from a destination into a database."""

    dialect: DialectName
    destination: str
    text: str


class DownloadLink(Answer):
    """Where a job's files are for a quarter of an hour, without further credentials."""

    url: str
    expiration_time: Moment


def job_document(summary: JobSummary) -> JobDocument:
    return JobDocument(
        id=str(summary.id),
        schedule_id=None if summary.schedule_id is None else str(summary.schedule_id),
        start_date=summary.start_date,
        started_at=summary.started_at,
        date_created=summary.created_at,
        status=summary.state.value,
    )


def found_job(found: FoundJob, *, shows_hosts: bool = True) -> FoundJobDocument:
    """``shows_hosts``: for users of the machine."""
    job = found if shows_hosts else found.for_organization()
    return FoundJobDocument(
        **_line_fields(job, job),
        holder=job.holder,
        delivered_to=list(job.delivered_to),
        totals=JobTotals.of(job).model_copy(update={"full": job.full_entities}),
    )


def job_details(record: JobRecord, retention: timedelta, *, shows_hosts: bool = True) -> JobDetails:
    """``retention`` is for how long files of finished jobs are kept.

    ``shows_hosts``: for users of the machine; see ``for_organization``.
    """
    record, job = record if shows_hosts else for_organization(record), record.job
    waits_for_another_attempt = record.state is JobState.PENDING and record.attempt > 0
    return JobDetails(
        **_line_fields(job, record),
        not_before=record.not_before if waits_for_another_attempt else None,
        taken_at=(record.extraction or {}).get("taken_at"),
        sealed_at=record.sealed_at,
        files_kept_until=_kept_until(record, retention),
        files_removed_at=record.expired_at,
        holder=record.lease_holder,
        lease_until=record.lease_until,
        stalls=shown_stalls(record.progress.stalls),
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
        deliveries=[ShownDelivery.of(delivery) for delivery in record.deliveries],
        attempts=[ShownAttempt.of(attempt) for attempt in record.attempts],
    )


def _line_fields(job: Job | FoundJob, record: JobRecord | FoundJob) -> dict[str, Any]:
    """What lists and the document of one job show alike."""
    return {
        "id": str(job.id),
        "schedule_id": None if job.schedule_id is None else str(job.schedule_id),
        "start_date": job.start_date,
        "started_at": record.started_at,
        "date_created": record.created_at,
        "status": record.state.value,
        "organization": job.organization,
        "schedule": job.schedule_code,
        "export_file_format": job.file_format.value,
        "destinations": list(job.destinations),
        "due_at": job.due_at,
        "finished_at": record.finished_at,
        "phase": record.phase.value,
        "attempt": record.attempt,
        "reason": record.reason,
        "message": record.message,
    }


def _kept_until(record: JobRecord, retention: timedelta) -> datetime | None:
    """The time until which files are kept; None for an unfinished job, and for one whose files were never complete or
    are gone.
    """
    if record.finished_at is None or record.sealed_at is None or record.expired_at is not None:
        return None
    return record.finished_at + retention


def shown_stalls(stalls: Iterable[Stall]) -> list[ShownStall]:
    return [
        ShownStall(entities=list(stall.entities), reason=stall.reason, message=stall.sentence, since=stall.since)
        for stall in stalls
    ]


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
            window=_window(record, extracted) if extracted else None,
            **asdict(figures),
        )
    return found


def _window(record: JobRecord, extracted: Mapping[str, Any]) -> ShownWindow | None:
    read = record.extraction or {}
    if "snapshot" not in read:
        return None
    return ShownWindow(previous=extracted.get("previous"), snapshot=read["snapshot"], lsn=read["wal_position"])
