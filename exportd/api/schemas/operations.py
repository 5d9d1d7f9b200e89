"""What operators ask of the daemon, and its answers. Pure."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from exportd.api.identity.client_table import Client
from exportd.api.schemas.fields import Answer, DisplayName, EntityName, EntityNames, Id, Moment, RequestBody, Word
from exportd.capture.installer import EntityCapture
from exportd.consumer.verifier import DestinationVerification
from exportd.model.errors import FullReason, Reason
from exportd.model.foreign_text import MAX_CODE_LENGTH
from exportd.model.schedule import Pause
from exportd.schedules.operations import Backfill

LogLevelName = Literal["debug", "info", "warning", "error"]


class PauseAnswer(Answer):
    """Whether something is paused: all daemons, a schedule or a destination."""

    paused: bool
    since: Moment | None = None
    by: str | None = None


class OrganizationList(Answer):
    """The organizations that have a destination or a schedule."""

    data: list[str]


class Done(Answer):
    """What was asked for is done, or will be: ``message`` says which."""

    message: str


class QueuedJob(Answer):
    """The job that was queued."""

    job_id: str


class CancelledJob(Answer):
    """FAILED: it has ended. RUNNING: the daemon that runs it stops it within seconds."""

    job_id: str
    status: Literal["FAILED", "RUNNING"]


class RefreshRequest(RequestBody):
    """An entity that the schedule exports completely once more."""

    entity: Annotated[EntityName, Field(min_length=1, description="The entity, as the catalog calls it.")]
    now: Annotated[bool, Field(description="Run at once; otherwise the schedule's next run does it.")] = False


class Refreshed(Answer):
    """``jobId`` is of the run that does it, when it was to be at once."""

    entity: str
    job_id: str | None = None


class BackfillBody(RequestBody):
    """The past job of the schedule since which everything is exported once more."""

    job: Annotated[Word, Field(description="The job's id. Its own changes are included.")]
    dry_run: Annotated[bool, Field(description="Only say since when each entity would be exported.")] = False


class BackfilledEntity(Answer):
    """``since`` is when the window begins; ``reason`` says why the run is full instead."""

    entity: str
    since: Moment | None = None
    reason: FullReason | None = None


class Backfilled(Answer):
    """``jobId`` is of the run that does it; while the job ``running`` runs, the schedule's next run after that does."""

    entities: list[BackfilledEntity]
    job_id: str | None = None
    running: str | None = None


class ShownFinding(Answer):
    """One thing that is wrong with what was delivered, and what to do. ``key`` is of the manifest or object."""

    kind: str
    job: str | None = None
    entity: str | None = None
    key: str | None = None
    message: str
    remedy: str


class VerificationAnswer(Answer):
    """What this daemon has found at a destination, or so far. ``readBytes`` of ``sizeBytes`` were read; ``objects``
    files of ``runs`` are there. DONE with ``findingCount`` 0: nothing is missing, nothing was altered. ``findings`` are
    the first of them. ``message`` says why it FAILED.
    """

    destination_id: str
    status: Literal["RUNNING", "DONE", "FAILED", "CANCELLED"]
    by: str
    started_at: Moment
    finished_at: Moment | None = None
    size_bytes: int | None = None
    read_bytes: int
    objects: int
    runs: int
    finding_count: int
    findings: list[ShownFinding]
    message: str | None = None


class LogLevel(RequestBody):
    """How much this daemon logs, until it is started again or another level is set."""

    level: LogLevelName


class ShownLogLevel(Answer):
    """How much this daemon logs."""

    level: LogLevelName


class CaptureRequest(RequestBody):
    """Which entities' capture is meant, and whether anything is done."""

    entities: Annotated[
        EntityNames, Field(description="None: the whole catalog; to uninstall, every entity that is captured.")
    ] = Field(default_factory=list)
    dry_run: Annotated[bool, Field(description="Change nothing; the answer has the SQL that would be run.")] = False


class CaptureAnswer(Answer):
    """An entity's capture: what is wrong (or was, and is repaired), and the SQL that repairs (or repaired) it.

    ``reason`` is why an installation failed.
    """

    entity: str
    whole: bool
    findings: list[str]
    statements: list[str]
    reason: Reason | None = None


class CaptureList(Answer):
    """The capture of some entities."""

    data: list[CaptureAnswer]


class CaptureRemoval(Answer):
    """``removed`` change logs are gone, with their triggers and functions; ``statements`` is the SQL that does it."""

    removed: list[str]
    statements: list[str]


class ShownChange(Answer):
    """One thing that is different: a key, or what it is (``schedule hourly of org-acme``), and what about it."""

    subject: str
    details: str


class ReloadAnswer(Answer):
    """What a reload has changed, or would change; ``sentences`` say all of it in words.

    ``disagreements`` are those with other daemons of the database, a sentence for each, as they are now.
    """

    dry_run: bool
    added: list[ShownChange]
    removed: list[ShownChange]
    changed: list[ShownChange]
    needs_restart: list[ShownChange]
    sentences: list[str]
    disagreements: list[str]


class AuditEntry(Answer):
    """Who did what, when. ``objectId`` is of a schedule, destination, job or client; ``details`` are as it was then."""

    at: Moment
    actor: str
    action: str
    organization: str | None = None
    object_id: Id | None = None
    details: dict[str, Any]


class AuditPage(Answer):
    """Some of the audit log, the newest first."""

    data: list[AuditEntry]
    next_token: str | None = None


def shown_pause(pause: Pause | None) -> PauseAnswer:
    """The answer about what is paused, or, with None, is not."""
    if pause is None:
        return PauseAnswer(paused=False)
    return PauseAnswer(paused=True, since=pause.paused_at, by=pause.paused_by)


def shown_backfill(backfill: Backfill) -> Backfilled:
    return Backfilled(
        entities=[
            BackfilledEntity(entity=request.entity, reason=request.begins)
            if isinstance(request.begins, FullReason)
            else BackfilledEntity(entity=request.entity, since=request.begins.taken_at)
            for request in backfill.requests
        ],
        job_id=None if backfill.job_id is None else str(backfill.job_id),
        running=None if backfill.running is None else str(backfill.running),
    )


def shown_verification(found: DestinationVerification) -> VerificationAnswer:
    return VerificationAnswer(
        destination_id=str(found.destination_id),
        status=found.state.value,
        by=found.actor,
        started_at=found.started_at,
        finished_at=found.finished_at,
        size_bytes=found.size_bytes,
        read_bytes=found.read_bytes,
        objects=found.objects,
        runs=found.runs,
        finding_count=found.count,
        findings=[
            ShownFinding(
                kind=finding.kind.value,
                job=None if finding.job is None else str(finding.job),
                entity=finding.entity,
                key=finding.key,
                message=finding.sentence,
                remedy=finding.remedy,
            )
            for finding in found.findings
        ],
        message=found.sentence or None,
    )


def capture_answer(capture: EntityCapture, *, repaired: bool = False) -> CaptureAnswer:
    return CaptureAnswer(
        entity=capture.entity,
        whole=(repaired and capture.failure is None) or not capture.findings,
        findings=list(capture.findings),
        statements=list(capture.statements),
        reason=None if capture.failure is None else capture.failure.reason,
    )


def capture_removal(removals: Mapping[str, Sequence[str]], *, dry_run: bool) -> CaptureRemoval:
    """``removals`` has what is run for each log; with ``dry_run`` it was not."""
    return CaptureRemoval(
        removed=[] if dry_run else list(removals),
        statements=[statement for statements in removals.values() for statement in statements],
    )


class ClientCreation(RequestBody):
    """A program that shall have credentials."""

    organization: Annotated[str, Field(min_length=1, max_length=MAX_CODE_LENGTH)]
    name: DisplayName
    role: Literal["reader", "operator"] = "operator"


class ShownClient(Answer):
    """A program with credentials. ``id`` is its access key id."""

    id: str
    organization: str
    name: str
    role: Literal["reader", "operator"]
    active: bool
    dt_created: Moment
    created_by: str


class CreatedClient(ShownClient):
    """The same, with its secret, which is shown this one time."""

    api_secret: str


class ClientList(Answer):
    """Every program with credentials."""

    data: list[ShownClient]


class AccessToken(Answer):
    """To be sent as ``Authorization: Bearer …``. ``expires_in`` is in seconds."""

    model_config = ConfigDict(alias_generator=None)

    access_token: str
    expires_in: int
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - the name of a scheme
    scope: None = None


def client_fields(client: Client) -> dict[str, object]:
    return {
        "id": str(client.id),
        "organization": client.organization,
        "name": client.name,
        "role": client.role.name.lower(),
        "active": client.active,
        "dt_created": client.created_at,
        "created_by": client.created_by,
    }
