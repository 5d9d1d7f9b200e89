"""A job with everything that is known about it: its row, parts and deliveries, and its progress as JSON. Pure.

Also here: the names of the declared destinations, in the form in which claims send them to the database.
"""

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from operator import attrgetter
from typing import TYPE_CHECKING, Any
from uuid import UUID

from exportd.database import quoting
from exportd.jobs.states import FINISHED
from exportd.model.entity import EntityCode, OrganizationId
from exportd.model.errors import PermanentError, Reason
from exportd.model.job import EntityProgress, Job, JobId, JobPhase, JobProgress, JobState, Part, Stall
from exportd.model.schedule import DestinationCode, ExportFormat, ScheduleId
from exportd.model.start import Position
from exportd.stores.layout import is_file_name

if TYPE_CHECKING:
    from exportd.database.queries import Row

_FIGURES = tuple(figure.name for figure in dataclasses.fields(EntityProgress))
_figures_of = attrgetter(*_FIGURES)


@dataclass(frozen=True, slots=True)
class DeliveryRecord:
    """A delivery that is complete: the manifest was written at ``published_at``."""

    destination: DestinationCode
    manifest_sha256: str
    published_at: datetime


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One attempt of a job, aware UTC. ``ended_at`` is None while it runs, ``holder`` for those who see no hosts.

    ``reason`` and ``message`` say why it ended; both are None when the job succeeded.
    """

    number: int
    holder: str | None
    started_at: datetime
    ended_at: datetime | None
    reason: str | None
    message: str | None


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job at one moment. Times are aware UTC and come from the database server's clock.

    ``attempt`` is the number of attempts so far, the running one included. ``not_before`` is when a PENDING job may be
    claimed. ``reason`` and ``message`` say why it failed, or why its last attempt did. ``spool_id`` is the spool that
    holds the parts once sealed; ``expired_at`` is when that spool removed them. ``attempts`` are the newest 100, in
    their order; they are read of one job only, not of lists.
    """

    job: Job
    state: JobState
    phase: JobPhase
    attempt: int
    created_at: datetime
    not_before: datetime
    started_at: datetime | None
    sealed_at: datetime | None
    finished_at: datetime | None
    expired_at: datetime | None
    lease_holder: str | None
    lease_until: datetime | None
    spool_id: UUID | None
    reason: str | None
    message: str | None
    progress: JobProgress
    extraction: Mapping[str, Any] | None = field(repr=False)
    parts: tuple[Part, ...] = ()
    deliveries: tuple[DeliveryRecord, ...] = ()
    attempts: tuple[AttemptRecord, ...] = ()

    @property
    def finished(self) -> bool:
        return self.state in FINISHED


CONCERNS_THE_ORGANIZATION = {
    Reason.DESTINATION_UNAVAILABLE,
    Reason.DESTINATION_REFUSED,
    Reason.DESTINATION_MISSING,
    Reason.CANCELLED,
}
"""The reasons that the owner of a schedule can do something about. All others are for the operators."""

_OPERATORS_SEE = "The job waits for the database. The operators of exportd see why; it goes on by itself."
_OPERATORS_KNOW = "The operators of exportd see why, and mend it. The schedule's next run holds the same changes."


def message_for_organization(reason: str | None, message: str | None) -> str | None:
    """The sentence that tells an organization why its job failed. For a reason that only operators can do something
    about, the original sentence may name hosts, paths and tables of the machine, so the organization is told to ask the
    operators.
    """
    if reason is None or message is None or reason in CONCERNS_THE_ORGANIZATION:
        return message
    return _OPERATORS_KNOW


def progress_for_organization(progress: JobProgress) -> JobProgress:
    """A job's progress as its organization may see it, without what it waits for, which may be the session of
    others.
    """
    stalls = [dataclasses.replace(stall, sentence=_OPERATORS_SEE) for stall in progress.stalls]
    return dataclasses.replace(progress, stalls=stalls)


def for_organization(record: JobRecord) -> JobRecord:
    """A job as its organization may see it, without hosts and without sentences that are for operators."""
    return dataclasses.replace(
        record,
        lease_holder=None,
        progress=progress_for_organization(record.progress),
        message=message_for_organization(record.reason, record.message),
        attempts=tuple(
            dataclasses.replace(attempt, holder=None, message=message_for_organization(attempt.reason, attempt.message))
            for attempt in record.attempts
        ),
    )


def unknown_job(job_id: object) -> str:
    """The error for an id that no job has."""
    return (
        f"There is no job {job_id}. Look at the list of jobs for its id; one that ended longer ago than retention.jobs "
        "may have been deleted."
    )


class Download(StrEnum):
    """Whether a job's files can be downloaded."""

    READY = "ready"
    NOT_FINISHED = "not finished"
    FAILED = "failed"
    GONE = "gone"
    """The retention has removed the files."""
    ELSEWHERE = "elsewhere"
    """The files are in the spool of another daemon."""


def download(record: JobRecord, *, spool_id: UUID) -> Download:
    """Whether the files of a job can be downloaded from the spool ``spool_id``."""
    if not record.finished:
        return Download.NOT_FINISHED
    if record.state is JobState.FAILED:
        return Download.FAILED
    if record.expired_at is not None:
        return Download.GONE
    return Download.READY if record.spool_id == spool_id else Download.ELSEWHERE


def job_from_row(row: "Row") -> Job:
    return Job(
        id=JobId(row["id"]),
        organization=OrganizationId(row["organization"]),
        schedule_id=None if row["schedule_id"] is None else ScheduleId(row["schedule_id"]),
        schedule_code=row["schedule_code"],
        due_at=row["due_at"],
        entities=tuple(EntityCode(entity) for entity in row["entities"]),
        file_format=ExportFormat(row["format"]),
        destinations=tuple(DestinationCode(destination) for destination in row["destinations"]),
        start_date=row["start_date"],
    )


def file_names(job: JobId, parts: Iterable[Part]) -> tuple[str, ...]:
    """The names of the parts in the job's folder.

    Raises PermanentError SPOOL_DAMAGED for a name that exportd does not give: a row of the database says which files
    are read and handed out, and is believed only as far as it names files of the job.
    """
    names = []
    for part in parts:
        if not is_file_name(part.file_name, job=job, number=part.number):
            raise PermanentError(
                f"The database names a file {part.file_name!r} for job {job}, which exportd has not written. The row "
                "of exportd.part was changed: find out by whom, and let the schedule run again.",
                reason=Reason.SPOOL_DAMAGED,
            )
        names.append(part.file_name)
    return tuple(names)


def part_from_row(row: "Row") -> Part:
    return Part(
        entity=EntityCode(row["entity"]),
        number=row["number"],
        file_name=row["file_name"],
        rows=row["rows"],
        content_bytes=row["content_bytes"],
        size_bytes=row["size_bytes"],
        sha256=row["sha256"],
    )


def delivery_from_row(row: "Row") -> DeliveryRecord:
    return DeliveryRecord(DestinationCode(row["destination"]), row["manifest_sha256"], row["published_at"])


def record_from_row(row: "Row", *, parts: tuple[Part, ...], deliveries: tuple[DeliveryRecord, ...]) -> JobRecord:
    return JobRecord(
        job=job_from_row(row),
        state=JobState(row["state"]),
        phase=JobPhase(row["phase"]),
        attempt=row["attempt"],
        created_at=row["created_at"],
        not_before=row["not_before"],
        started_at=row["started_at"],
        sealed_at=row["sealed_at"],
        finished_at=row["finished_at"],
        expired_at=row["expired_at"],
        lease_holder=row["lease_holder"],
        lease_until=row["lease_until"],
        spool_id=row["spool_id"],
        reason=row["reason"],
        message=row["message"],
        progress=progress_from_row(row),
        extraction=None if row["extraction"] is None else json.loads(row["extraction"]),
        parts=parts,
        deliveries=deliveries,
    )


def position_from_row(row: "Row", documents: Mapping[str, Any]) -> Position:
    """The position in a row. Guards that are missing in ``documents``, because their row is lost, are empty and so
    count as changed.
    """
    own = row["own_guards"]
    return Position(
        entity=EntityCode(row["entity"]),
        job_id=JobId(row["job_id"]),
        snapshot=row["snapshot"],
        taken_at=row["taken_at"],
        guards=documents.get(row["guards_digest"], {}) if own is None else json.loads(own),
        destinations=tuple(DestinationCode(destination) for destination in row["destinations"]),
        expired=row["expired"],
        put_back=row["put_back"],
    )


def progress_from_row(row: "Row") -> JobProgress:
    """The progress of a job. A job that does not run has no stalls, whatever its last attempt has left in the row."""
    progress = progress_from_json(json.loads(row["progress"]))
    if JobState(row["state"]) is not JobState.RUNNING:
        progress.stalls = []
    return progress


def progress_to_json(progress: JobProgress) -> dict[str, Any]:
    """The progress in JSON, as it is now."""
    document: dict[str, Any] = {
        "entities": {
            code: dict(zip(_FIGURES, _figures_of(figures), strict=True)) for code, figures in progress.entities.items()
        },
        "published_files": progress.published_files,
    }
    if progress.stalls:  # the claim asks whether the key is there
        document["stalls"] = [
            {**dataclasses.asdict(stall), "since": stall.since.isoformat()} for stall in progress.stalls
        ]
    return document


def progress_mark(progress: JobProgress) -> tuple[object, ...]:
    """A value that differs whenever ``progress_to_json`` gives another document. It costs a tenth, and lease keepers
    compare often.
    """
    figures = tuple(map(_figures_of, progress.entities.values()))
    return progress.published_files, tuple(progress.stalls), tuple(progress.entities), figures


def progress_from_json(document: Mapping[str, Any]) -> JobProgress:
    """The progress that a row holds, without the figures that only another version knows."""
    return JobProgress(
        entities={
            EntityCode(code): EntityProgress(**{name: figures[name] for name in _FIGURES if name in figures})
            for code, figures in document.get("entities", {}).items()
        },
        published_files=document.get("published_files", 0),
        stalls=[
            Stall(
                entities=tuple(map(EntityCode, stall["entities"])),
                reason=stall["reason"],
                sentence=stall["sentence"],
                since=datetime.fromisoformat(stall["since"]),
            )
            for stall in document.get("stalls", ())
        ],
    )


class DeclaredNames:
    """The names of the declared destinations as two Postgres arrays in text. They are made once for each configuration,
    because there may be thousands and every claim sends them. Without ``declared``, jobs to all destinations are taken.
    """

    def __init__(self, declared: Callable[[], Sequence[tuple[str, str]]] | None) -> None:
        self._declared = declared
        self._known: list[tuple[str, str]] = []
        self._arrays: tuple[str, str] = ("{}", "{}")

    def arrays(self) -> tuple[str, str] | tuple[None, None]:
        """The organizations and the codes, in the same order."""
        if self._declared is None:
            return None, None
        declared = self._declared()
        if declared != self._known:
            self._arrays = (
                quoting.array(organization for organization, _ in declared),
                quoting.array(code for _, code in declared),
            )
            self._known = [*declared]
        return self._arrays
