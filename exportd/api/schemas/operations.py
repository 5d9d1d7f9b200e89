"""What is asked of the daemon itself, and its answers. Pure."""

from typing import Annotated, Literal

from pydantic import Field

from exportd.api.schemas.fields import Answer, Moment, RequestBody
from exportd.capture.installer import EntityCapture
from exportd.model.reason import FullReason
from exportd.schedules.backfiller import Backfill

LogLevelName = Literal["debug", "info", "warning", "error"]


class Paused(Answer):
    """The pause of all daemons."""

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
    """FAILED: it has ended. RUNNING: the daemon that runs it stops within seconds."""

    job_id: str
    status: Literal["FAILED", "RUNNING"]


class RefreshRequest(RequestBody):
    """An entity that the schedule exports completely once more."""

    entity: Annotated[str, Field(min_length=1, description="The entity, as the catalog calls it.")]
    now: Annotated[bool, Field(description="Run at once; otherwise the schedule's next run does it.")] = False


class Refreshed(Answer):
    """``jobId`` is of the run that does it, when it was to be at once."""

    entity: str
    job_id: str | None = None


class BackfillRequest(RequestBody):
    """The past job of the schedule since which everything is exported once more."""

    job: Annotated[str, Field(min_length=1, description="The job's id. Its own changes are included.")]


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


class LogLevel(RequestBody):
    """How much this daemon says. Until it is started again, or told otherwise."""

    level: LogLevelName


class ShownLogLevel(Answer):
    """How much this daemon says."""

    level: LogLevelName


class CaptureRequest(RequestBody):
    """Which entities' capture is meant, and whether anything is done."""

    entities: Annotated[list[str], Field(description="None: the whole catalog.")] = Field(default_factory=list)
    dry_run: Annotated[bool, Field(description="Change nothing; the answer has the SQL that would be run.")] = False


class ShownCapture(Answer):
    """An entity's capture: what is amiss (or was, and was put right), and the SQL that puts (or put) it right."""

    entity: str
    whole: bool
    findings: list[str]
    statements: list[str]


class CaptureList(Answer):
    """The capture of some entities."""

    data: list[ShownCapture]


class CaptureRemoval(Answer):
    """``removed`` change logs are gone, with their triggers and functions; or would go by these ``statements``."""

    removed: list[str]
    statements: list[str]


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


def shown_capture(capture: EntityCapture, *, repaired: bool = False) -> ShownCapture:
    return ShownCapture(
        entity=capture.entity,
        whole=repaired or not capture.findings,
        findings=list(capture.findings),
        statements=list(capture.statements),
    )
