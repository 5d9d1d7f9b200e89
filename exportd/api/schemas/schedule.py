"""Schedules, what their next runs would hold, and exports without one. Pure."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from exportd.api.schemas.fields import (
    READ_ONLY,
    Answer,
    Code,
    DisplayName,
    EntityNames,
    Id,
    Moment,
    PauseStatus,
    RequestBody,
    StartDate,
    Version,
    pause_status,
)
from exportd.extraction.previewer import Figure, Preview
from exportd.jobs.job_record import message_for_organization
from exportd.model.errors import FullReason
from exportd.model.extraction import Mode
from exportd.model.foreign_text import MAX_CRON_LENGTH, MAX_DESTINATIONS, MAX_WORD_LENGTH
from exportd.model.schedule import API_RULE, ExportFormat, Rule, rule_document, rule_from
from exportd.schedules.calendar import next_due, rule_gaps, rule_problems, rule_words, upcoming
from exportd.schedules.cron import Gap
from exportd.schedules.editing import OwnedSchedule
from exportd.schedules.operations import NewestJob, ScheduleStanding

Format = Literal["CSV", "JSONL"]
EntityCodes = Annotated[
    EntityNames, Field(min_length=1, description="The entities to export, as the catalog calls them.")
]
DestinationIds = Annotated[
    list[Annotated[str, Field(max_length=MAX_WORD_LENGTH)]],
    Field(
        max_length=MAX_DESTINATIONS,
        fail_fast=True,
        description="Destinations that receive the files. With none, they are kept for download only.",
    ),
]


class _Operational(RequestBody):
    """What asks for operational data; usage data is another product."""

    source_type: Literal["OPERATIONAL"]
    operational_data_types: EntityCodes
    destination_ids: DestinationIds = Field(default_factory=list)
    export_file_format: Format = "CSV"

    @model_validator(mode="before")
    @classmethod
    def _refuse_usage(cls, document: Any) -> Any:
        if isinstance(document, dict) and document.get("sourceType") == "USAGE":
            raise ValueError("sourceType: USAGE is not exported here; exportd exports OPERATIONAL data only")
        return document

    @property
    def format(self) -> ExportFormat:
        return ExportFormat(self.export_file_format)


class _ScheduleBody(_Operational):
    # The highest period and offset are for the rule to refuse: it says which the unit allows.
    name: DisplayName
    code: Code
    schedule_type: Literal["HOUR", "DAY", "MINUTE"] | None = None
    period: Annotated[
        Annotated[int, Field(ge=1, json_schema_extra={"maximum": 4320})] | None,
        Field(description="Every how many hours, days or minutes: from 15 minutes to 3 days."),
    ] = None
    offset: Annotated[
        Annotated[int, Field(ge=1, json_schema_extra={"maximum": 59})] | None,
        Field(description="Minutes into the hour (HOUR) or hours into the day (DAY)."),
    ] = None
    cron_expression: Annotated[
        str | None,
        Field(max_length=MAX_CRON_LENGTH, description="Five fields, in UTC, instead of scheduleType and period."),
    ] = None

    @property
    def rule(self) -> Rule:
        """When it fires. Raises ValueError with a sentence unless exactly one of the two ways is given."""
        return rule_from(self.model_dump(by_alias=True), API_RULE)


class ScheduleCreation(_ScheduleBody):
    """A new schedule. Its first run is at once."""

    ignored: ClassVar[frozenset[str]] = READ_ONLY | {"version"}


class ScheduleUpdate(_ScheduleBody):
    """What replaces a schedule: what is left out is not set any more."""

    version: Version


class AdHocRequest(_Operational):
    """One export, now: complete, or of what was modified since a date."""

    ignored: ClassVar[frozenset[str]] = READ_ONLY | {"version"}

    start_date: Annotated[
        StartDate | None,
        Field(
            description="Inclusive. Only records whose time of the last change is this or later, or unknown, and no "
            "deletions. Each of the entities must have `modified` in the catalog."
        ),
    ] = None


class ListedSchedule(Answer):
    """A schedule as the list shows it."""

    id: str
    version: int
    name: str
    code: str
    source_type: Literal["OPERATIONAL"] = "OPERATIONAL"
    destination_ids: list[str]
    schedule_type: Literal["HOUR", "DAY", "MINUTE"] | None = None
    period: int | None = None
    offset: int | None = None
    cron_expression: str | None = None
    export_file_format: Format
    dt_created: Moment
    dt_last_modified: Moment
    created_by: str
    last_modified_by: str


class ScheduleDocument(ListedSchedule):
    """A schedule as its organization sees it."""

    operational_data_types: list[str]


class NewestJobDocument(Answer):
    """The newest job of a schedule, with the rows and bytes of all its entities."""

    id: str
    status: Literal["PENDING", "RUNNING", "SUCCEEDED", "FAILED"]
    reason: str | None = None
    message: str | None = None
    started_at: Moment | None = None
    finished_at: Moment | None = None
    rows: int
    size_bytes: int


class ScheduleDetails(ScheduleDocument):
    """The same schedule as operators see it. ``destinations`` are the codes of its destinations, ``frequency`` is its
    rule in words. ``readUntil``: when the entity that is furthest behind was last read, if all were.
    """

    organization: str
    origin: Literal["CONFIGURATION", "API"]
    destinations: list[str]
    frequency: str
    last_due_at: Moment | None = None
    next_due_at: Moment
    paused: PauseStatus | None = None
    last_job: NewestJobDocument | None = None
    read_until: Moment | None = None


class SchedulePage(Answer):
    """Some schedules, the newest first."""

    data: list[ListedSchedule]
    next_token: str | None = None


class ScheduleDetailsPage(Answer):
    """Some schedules of every organization, the newest first."""

    data: list[ScheduleDetails]
    next_token: str | None = None


class ShownPosition(Answer):
    """Where a schedule stands with an entity: at the job that read it, ``since`` that job succeeded. ``startsAnew``:
    the next run is complete, for it cannot go on from there.
    """

    entity: str
    job_id: Id
    read_at: Moment
    since: Moment | None = None
    starts_anew: bool


class PositionList(Answer):
    """The entities that a schedule has read, in its order. The first run of any other is complete."""

    data: list[ShownPosition]


class ShownGap(Answer):
    """Two firings, one after the other, and the ``seconds`` between them."""

    start: Moment
    end: Moment
    seconds: int


class ShownRuleProblem(Answer):
    """What is wrong with a ``field``, in a sentence; ``gap`` are the two firings that are too near or too far."""

    field: Literal["scheduleType", "period", "offset", "cronExpression"]
    message: str
    gap: ShownGap | None = None


class RuleCheck(Answer):
    """Whether a rule is good, what it means in words, and when it fires.

    ``firings`` are those after ``after``; a new schedule runs at once besides. A rule with ``problems`` has none.
    """

    good: bool
    words: str | None = None
    problems: list[ShownRuleProblem]
    after: Moment
    firings: list[Moment]
    shortest_gap: ShownGap | None = None
    longest_gap: ShownGap | None = None


class AdHocAnswer(Answer):
    """The job that was queued."""

    job_id: str


class ShownEntityPreview(Answer):
    """One entity. ``reason`` says why it would be full."""

    entity: str
    mode: Mode
    reason: FullReason | None = None
    rows: Annotated[int, Field(ge=0, description="All records, deletions included.")]
    deleted_rows: Annotated[int, Field(ge=0, description="Those that are deletions.")]
    content_bytes: Annotated[int, Field(ge=0, description="Before compression.")]
    estimated: Annotated[list[Figure], Field(description="The figures that are estimates; the others are exact.")]


class SchedulePreview(Answer):
    """What a run that begins at ``takenAt`` would hold, in all and by entity."""

    taken_at: Moment
    rows: int
    deleted_rows: int
    content_bytes: int
    entities: list[ShownEntityPreview]


_PARTS: dict[str, Literal["period", "offset", "cronExpression"]] = {
    "period": "period",
    "offset": "offset",
    "cron": "cronExpression",
}


def rule_check(fields: Mapping[str, object], *, after: datetime, count: int) -> RuleCheck:
    """Check the rule that some fields of a schedule make. Takes milliseconds."""
    try:
        rule = rule_from(fields, API_RULE)
    except ValueError as error:
        problem = ShownRuleProblem(field="scheduleType", message=f"{error}.")
        return RuleCheck(good=False, problems=[problem], after=after, firings=[])
    problems = [
        ShownRuleProblem(field=_PARTS[found.part], message=f"{found.sentence}.", gap=found.gap and _gap(found.gap))
        for found in rule_problems(rule)
    ]
    if problems:
        return RuleCheck(good=False, problems=problems, after=after, firings=[])
    gaps = rule_gaps(rule, after=after)
    return RuleCheck(
        good=True,
        words=rule_words(rule),
        problems=[],
        after=after,
        firings=list(upcoming(rule, next_due(rule, last_due=after), count)),
        shortest_gap=_gap(gaps.shortest),
        longest_gap=_gap(gaps.longest),
    )


def _gap(gap: Gap) -> ShownGap:
    return ShownGap(start=gap.start, end=gap.end, seconds=round((gap.end - gap.start).total_seconds()))


def listed_schedule(owned: OwnedSchedule) -> ListedSchedule:
    return ListedSchedule.model_validate(_fields(owned))


def schedule_document(owned: OwnedSchedule) -> ScheduleDocument:
    return ScheduleDocument.model_validate(_fields(owned))


def schedule_details(owned: OwnedSchedule, standing: ScheduleStanding, *, shows_hosts: bool = True) -> ScheduleDetails:
    """``shows_hosts``: for users of the machine."""
    schedule = owned.schedule
    return ScheduleDetails.model_validate(
        {
            **_fields(owned),
            "organization": schedule.declaration.organization,
            "origin": schedule.origin.value,
            "destinations": list(schedule.declaration.destinations),
            "frequency": rule_words(schedule.declaration.rule),
            "last_due_at": schedule.last_due_at,
            "next_due_at": schedule.next_due_at,
            "paused": pause_status(standing.pause),
            "last_job": None if standing.newest is None else _newest(standing.newest, shows_hosts=shows_hosts),
            "read_until": standing.read_until,
        }
    )


def _newest(job: NewestJob, *, shows_hosts: bool) -> NewestJobDocument:
    return NewestJobDocument(
        id=str(job.id),
        status=job.state.value,
        reason=job.reason,
        message=job.message if shows_hosts else message_for_organization(job.reason, job.message),
        started_at=job.started_at,
        finished_at=job.finished_at,
        rows=job.rows,
        size_bytes=job.size_bytes,
    )


def shown_preview(preview: Preview) -> SchedulePreview:
    return SchedulePreview(
        taken_at=preview.taken_at,
        rows=sum(entity.rows for entity in preview.entities),
        deleted_rows=sum(entity.deleted_rows for entity in preview.entities),
        content_bytes=sum(entity.content_bytes for entity in preview.entities),
        entities=[
            ShownEntityPreview.model_validate({**asdict(entity), "reason": entity.full_reason})
            for entity in preview.entities
        ],
    )


def _fields(owned: OwnedSchedule) -> dict[str, object]:
    """What every document of a schedule has; the list shows less of it."""
    schedule, declaration = owned.schedule, owned.schedule.declaration
    return {
        "id": str(schedule.id),
        "version": schedule.version,
        "name": declaration.name,
        "code": declaration.code,
        "operational_data_types": list(declaration.entities),
        "destination_ids": [str(destination_id) for destination_id in owned.destination_ids],
        "export_file_format": declaration.file_format.value,
        "dt_created": schedule.created_at,
        "dt_last_modified": owned.modified_at,
        "created_by": owned.created_by,
        "last_modified_by": owned.modified_by,
        **rule_document(declaration.rule, API_RULE),
    }
