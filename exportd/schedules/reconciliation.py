"""What must change in the database so that the schedules are those that are declared. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from exportd.model.entity import EntityCode
from exportd.model.schedule import Schedule, ScheduleDeclaration
from exportd.schedules import calendar


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


def compare(declarations: Iterable[ScheduleDeclaration], schedules: Iterable[Schedule]) -> Reconciliation:
    """Schedules and declarations with the same organization and code are the same."""
    declared = {(each.organization, each.code): each for each in declarations}
    edits, gone, unchanged = [], [], []
    for schedule in schedules:
        declaration = declared.pop((schedule.declaration.organization, schedule.declaration.code), None)
        if declaration is None:
            gone.append(schedule)
        elif declaration == schedule.declaration:
            unchanged.append(schedule)
        else:
            edits.append(_edit(schedule, declaration))
    return Reconciliation(tuple(declared.values()), tuple(edits), tuple(gone), tuple(unchanged))


def _edit(schedule: Schedule, declaration: ScheduleDeclaration) -> Edit:
    return Edit(
        schedule,
        declaration,
        _next_due(schedule, declaration),
        tuple(each for each in declaration.entities if each in schedule.declaration.entities),
    )


def _next_due(schedule: Schedule, declaration: ScheduleDeclaration) -> datetime:
    """A new rule counts from the last due time, so that editing again and again cannot put off a run."""
    # One that has not fired yet still awaits its immediate first run.
    if declaration.rule == schedule.declaration.rule or schedule.last_due_at is None:
        return schedule.next_due_at
    return calendar.next_due(declaration.rule, last_due=schedule.last_due_at)
