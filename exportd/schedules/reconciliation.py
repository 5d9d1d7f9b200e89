"""What must change in the database so that the schedules are those that are declared. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from exportd.model.declared import ALONE, Declared, Fate
from exportd.model.entity import EntityCode
from exportd.model.schedule import Origin, Schedule, ScheduleDeclaration
from exportd.schedules import calendar
from exportd.schedules.schedule_record import declaration_to_json


@dataclass(frozen=True, slots=True)
class Edit:
    """A schedule gets a new declaration.

    ``keeping`` are the entities whose positions stay: those that it had before and has now.
    """

    schedule: Schedule
    declaration: ScheduleDeclaration
    next_due_at: datetime
    keeping: tuple[EntityCode, ...]


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """Each declaration and each schedule is in exactly one of these."""

    new: tuple[ScheduleDeclaration, ...]
    edits: tuple[Edit, ...]
    gone: tuple[Schedule, ...]
    unchanged: tuple[Schedule, ...]
    """As declared; or another daemon's; or made through the API, and none of the configuration's business."""


def compare(
    declarations: Iterable[ScheduleDeclaration], schedules: Iterable[Schedule], others: Declared = ALONE
) -> Reconciliation:
    """Schedules and declarations with the same organization and code are the same.

    One that was made through the API and is declared now belongs to the configuration from here on. ``others`` is what
    was declared before, by this daemon and elsewhere.
    """
    declared = {(each.organization, each.code): each for each in declarations}
    edits: list[Edit] = []
    gone: list[Schedule] = []
    unchanged: list[Schedule] = []
    for schedule in schedules:
        key = (schedule.declaration.organization, schedule.declaration.code)
        declaration = declared.pop(key, None)
        own = schedule.origin is Origin.CONFIGURATION
        # The usual fate of thousands: no need to write them down.
        if own and declaration == schedule.declaration:
            unchanged.append(schedule)
            continue
        fate = others.fate(
            key,
            present=declaration_to_json(schedule.declaration),
            own=own,
            now=None if declaration is None else declaration_to_json(declaration),
        )
        if fate is Fate.EDITED and declaration is not None:
            edits.append(edit(schedule, declaration))
        else:
            (gone if fate is Fate.GONE else unchanged).append(schedule)
    return Reconciliation(tuple(declared.values()), tuple(edits), tuple(gone), tuple(unchanged))


def edit(schedule: Schedule, declaration: ScheduleDeclaration) -> Edit:
    """What becomes of a schedule that gets a new declaration."""
    return Edit(
        schedule,
        declaration,
        _next_due(schedule, declaration),
        tuple(entity for entity in declaration.entities if entity in schedule.declaration.entities),
    )


def _next_due(schedule: Schedule, declaration: ScheduleDeclaration) -> datetime:
    """A new rule counts from the last due time, so that editing again and again cannot put off a run."""
    # One that has not fired yet still awaits its immediate first run.
    if declaration.rule == schedule.declaration.rule or schedule.last_due_at is None:
        return schedule.next_due_at
    return calendar.next_due(declaration.rule, last_due=schedule.last_due_at)
