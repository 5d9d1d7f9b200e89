"""The schedules in Postgres: keeps them equal to their declarations, and fires them.

A firing moves the schedule's next due time and queues a job, both or neither. When two daemons fire the same schedule,
the second finds that it was moved. Every change sends an event. All methods raise TransientError when the database is
out of reach and PermanentError when it refuses.

The functions write many schedules in one statement, because there may be thousands. Each is part of the caller's
transaction, which holds the lock ``LOCK`` and the rows that it edits or deletes.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

import anyio.to_thread

from exportd.database import queries
from exportd.database.declaration_table import SCHEDULE, declare
from exportd.database.unit_of_work import notify, slices, statements, transaction
from exportd.model.declared import columns_of
from exportd.model.entity import EntityCode, OrganizationId
from exportd.model.errors import Reason, TransientError
from exportd.model.job import JobId
from exportd.model.schedule import (
    CONFIGURATION,
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
    from exportd.database.connector import Connection, Pool
    from exportd.database.queries import Row

_SQL = queries.load("schedules")

LOCK = "exportd schedules"
"""The lock of reconciling and editing: without it, two at once could insert the same schedule or take the same code."""


@dataclass(frozen=True, slots=True)
class ScheduleEdit:
    """An edit: a schedule gets a new declaration.

    ``keeping`` are the entities whose positions stay: those that it had before and has now.
    """

    schedule: Schedule
    declaration: ScheduleDeclaration
    next_due_at: datetime
    keeping: tuple[EntityCode, ...]

    @classmethod
    def of(cls, schedule: Schedule, declaration: ScheduleDeclaration) -> "ScheduleEdit":
        """The edit that gives a schedule a new declaration."""
        return cls(
            schedule,
            declaration,
            _next_due(schedule, declaration),
            tuple(entity for entity in declaration.entities if entity in schedule.declaration.entities),
        )


@dataclass(frozen=True, slots=True)
class Firing:
    """A firing: the schedule as it was read, the due time of its job, and its next due time."""

    schedule: Schedule
    due_at: datetime
    next_due_at: datetime


@dataclass(frozen=True, slots=True)
class ReconcileResult:
    """What a reconciliation has changed. ``deleted`` schedules are as they last were."""

    created: tuple[Schedule, ...]
    changed: tuple[Schedule, ...]
    deleted: tuple[Schedule, ...]
    unchanged: tuple[Schedule, ...]


def _next_due(schedule: Schedule, declaration: ScheduleDeclaration) -> datetime:
    """A new rule counts from the last due time, so that editing again and again cannot put off a run."""
    # A schedule that has not fired yet still waits for its immediate first run.
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


class ScheduleTable:
    """``exportd.schedule``. Only this class queues a schedule's jobs. ``OwnedScheduleTable`` writes the schedules of
    the API.
    """

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool

    async def reconcile(
        self, declarations: Iterable[ScheduleDeclaration], *, now: datetime, daemon: UUID | None = None
    ) -> ReconcileResult:
        """Make the rows equal to the declared schedules, all or none.

        A new schedule is due at once. A changed one keeps its positions, except for entities that it did not have
        before or has no longer. One that is no longer declared is deleted; if it is declared again later, it is a new
        one. Schedules of the API stay; one that is now declared belongs to the configuration from then on.

        ``daemon`` is the spool id of the daemon that declares them; see ``database.declaration_table``. Schedules of
        other daemons stay. If two daemons declare a schedule differently, the declaration that was written last holds:
        see ``model.declared``.
        """
        declarations = tuple(declarations)
        async with transaction(self._pool, "reconciling the schedules", lock=LOCK) as connection:
            schedules = await _read(connection, _SQL["hold_all"])
            plan = await declare(connection, SCHEDULE, declarations, schedules, daemon=daemon)
            edits = [ScheduleEdit.of(schedule, declaration) for schedule, declaration in plan.edits]
            created = await insert_schedules(connection, plan.new, now=now)
            changed = await edit_schedules(connection, edits, now=now)
            await delete_schedules(connection, (schedule.id for schedule in plan.gone), now=now)
            if plan:
                await notify(connection, "schedule_changed", schedule=None)
        return ReconcileResult(tuple(created), tuple(changed), plan.gone, plan.unchanged)

    async def all(self) -> list[Schedule]:
        """The schedules that are not deleted, by organization and code."""
        async with transaction(self._pool, "reading the schedules") as connection:
            return await _read(connection, _SQL["all"])

    async def some(self, schedule_ids: Collection[ScheduleId]) -> list[Schedule]:
        """The schedules with these ids that are not deleted."""
        async with statements(self._pool, "reading some schedules") as connection:
            return [schedule_from_row(row) for row in await connection.fetch(_SQL["some"], list(schedule_ids))]

    async def fire(self, firings: Sequence[Firing], *, now: datetime) -> dict[ScheduleId, JobId]:
        """For each of several schedules, queue a job and move the next due time, both or neither.

        Returns the jobs; each is a copy of its schedule's declaration now. Nothing is queued for a schedule with an
        unfinished job, which stays due until that job has ended, nor for one that was fired, edited or deleted since it
        was read.
        """
        async with transaction(self._pool, "firing schedules") as connection:
            as_read = [(firing.schedule.id, firing.schedule.version, firing.schedule.next_due_at) for firing in firings]
            held = {row["id"] for row in await connection.fetch(_SQL["hold"], *_columns(as_read))}
            if not held:
                return {}
            fired = [
                (firing.schedule.id, firing.due_at, firing.next_due_at)
                for firing in firings
                if firing.schedule.id in held
            ]
            ids, due_at, next_due_at = _columns(fired)
            queued = await connection.fetch(_SQL["queue_jobs"], ids, due_at, now)
            await connection.execute(_SQL["move_on"], ids, due_at, next_due_at)
        return {ScheduleId(row["schedule_id"]): JobId(row["id"]) for row in queued}


async def fire_held(connection: "Connection", schedule_id: UUID, code: str) -> JobId:
    """Queue another job of a locked schedule, due now. Raises TransientError JOB_UNFINISHED while it has an unfinished
    job.
    """
    while True:
        queued = await connection.fetchrow(_SQL["queue_jobs"], [schedule_id], [None], None)
        if queued is not None:
            return JobId(queued["id"])
        unfinished = await connection.fetchrow(_SQL["unfinished_job"], schedule_id)
        if unfinished is not None:
            raise TransientError(
                f"The schedule {code!r} has an unfinished job, {unfinished['id']} ({unfinished['state']}). Ask again"
                " when it has ended.",
                reason=Reason.JOB_UNFINISHED,
            )
        # The unfinished job has ended in between.


def _columns(rows: Iterable[tuple[object, ...]]) -> tuple[list[object], ...]:
    """One or more rows as an array for each column, as ``unnest`` takes them."""
    return tuple(list(column) for column in zip(*rows, strict=True))


async def _read(connection: "Connection", query: str, *arguments: object) -> list[Schedule]:
    """The schedules that a query of schedules.sql finds."""
    return [schedule_from_row(row) async for rows in slices(connection, query, *arguments) for row in rows]


async def insert_schedules(
    connection: "Connection",
    declarations: Sequence[ScheduleDeclaration],
    *,
    now: datetime,
    origin: Origin = Origin.CONFIGURATION,
    actor: str = CONFIGURATION,
) -> list[Schedule]:
    """Insert new schedules, due at once, in no particular order."""
    documents = await anyio.to_thread.run_sync(_declared, declarations)
    return await _read(connection, _SQL["insert"], documents, now, origin, actor)


async def edit_schedules(
    connection: "Connection",
    edits: Sequence[ScheduleEdit],
    *,
    now: datetime,
    origin: Origin = Origin.CONFIGURATION,
    actor: str = CONFIGURATION,
) -> list[Schedule]:
    """Replace the declarations of schedules, in no particular order. Entities that are new in a schedule are full at
    first.
    """
    documents, keeping = await anyio.to_thread.run_sync(_edited, edits)
    edited = await _read(connection, _SQL["edit"], documents, now, origin, actor)
    await connection.execute(_SQL["drop_positions"], keeping)
    return edited


async def delete_schedules(connection: "Connection", schedule_ids: Iterable[ScheduleId], *, now: datetime) -> None:
    """Delete schedules with their positions. Their jobs stay, and a running one goes on."""
    await connection.execute(_SQL["delete"], [*schedule_ids], now)


def _declared(declarations: Sequence[ScheduleDeclaration]) -> str:
    return json.dumps([columns_of(declaration) for declaration in declarations])


def _edited(edits: Sequence[ScheduleEdit]) -> tuple[str, str]:
    """Update the rows of the schedules, and delete the positions that they do not keep."""
    edited, keeping = [], []
    for edit in edits:
        schedule_id = str(edit.schedule.id)
        edited.append({**columns_of(edit.declaration), "id": schedule_id, "next_due_at": edit.next_due_at.isoformat()})
        keeping.append({"id": schedule_id, "keeping": edit.keeping})
    return json.dumps(edited), json.dumps(keeping)
