"""A schedule as a row of ``exportd.schedule``. Pure."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from exportd.model.entity import EntityCode, OrganizationId
from exportd.model.schedule import (
    DestinationCode,
    ExportFormat,
    Origin,
    Schedule,
    ScheduleDeclaration,
    ScheduleId,
    rule_from,
)
from exportd.schedules import calendar

if TYPE_CHECKING:
    from exportd.database.queries import Row


@dataclass(frozen=True, slots=True)
class OwnedSchedule:
    """A schedule as its organization sees it.

    ``destination_ids`` are those of its destinations that exist. ``created_by`` and ``modified_by`` are users as the
    API names them, or ``configuration``.
    """

    schedule: Schedule
    destination_ids: tuple[UUID, ...]
    modified_at: datetime
    created_by: str
    modified_by: str


@dataclass(frozen=True, slots=True)
class ScheduleEdit:
    """A schedule gets a new declaration.

    ``keeping`` are the entities whose positions stay: those that it had before and has now.
    """

    schedule: Schedule
    declaration: ScheduleDeclaration
    next_due_at: datetime
    keeping: tuple[EntityCode, ...]

    @classmethod
    def of(cls, schedule: Schedule, declaration: ScheduleDeclaration) -> "ScheduleEdit":
        """What becomes of a schedule that gets a new declaration."""
        return cls(
            schedule,
            declaration,
            _next_due(schedule, declaration),
            tuple(entity for entity in declaration.entities if entity in schedule.declaration.entities),
        )


@dataclass(frozen=True, slots=True)
class Firing:
    """A schedule as it was read, the due time that its job gets, and when it is due next."""

    schedule: Schedule
    due_at: datetime
    next_due_at: datetime


def _next_due(schedule: Schedule, declaration: ScheduleDeclaration) -> datetime:
    """A new rule counts from the last due time, so that editing again and again cannot put off a run."""
    # One that has not fired yet still awaits its immediate first run.
    if declaration.rule == schedule.declaration.rule or schedule.last_due_at is None:
        return schedule.next_due_at
    return calendar.next_due(declaration.rule, last_due=schedule.last_due_at)


def schedule_from_row(row: "Row") -> Schedule:
    return Schedule(
        id=ScheduleId(row["id"]),
        declaration=ScheduleDeclaration(
            organization=OrganizationId(row["organization"]),
            code=row["code"],
            name=row["name"],
            entities=tuple(EntityCode(entity) for entity in row["entities"]),
            file_format=ExportFormat(row["format"]),
            destinations=tuple(DestinationCode(destination) for destination in row["destinations"]),
            rule=rule_from(json.loads(row["rule"])),
        ),
        created_at=row["created_at"],
        last_due_at=row["last_due_at"],
        next_due_at=row["next_due_at"],
        version=row["version"],
        origin=Origin(row["origin"]),
    )


def owned_schedule_from_row(row: "Row") -> OwnedSchedule:
    return OwnedSchedule(
        schedule_from_row(row),
        tuple(row["destination_ids"]),
        row["modified_at"],
        row["created_by"],
        row["modified_by"],
    )
