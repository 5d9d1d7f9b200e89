"""The schedules in Postgres: kept equal to their declarations, and fired.

A firing moves the schedule's next due time and queues a job, both or neither. Of two daemons that fire the same
schedule, the second finds it moved. Every change sends an event. All methods raise TransientError when the
database is out of reach and PermanentError when it refuses.

The functions write schedules set by set, for there may be thousands: each is part of a transaction of the caller's,
which holds the lock ``LOCK`` and the rows that it edits or deletes.
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
"""Reconciling and editing hold it: two at once would both insert a new schedule, or take a free code."""


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


@dataclass(frozen=True, slots=True)
class ReconcileResult:
    """What became of the schedules; ``deleted`` ones as they last were."""

    created: tuple[Schedule, ...]
    changed: tuple[Schedule, ...]
    deleted: tuple[Schedule, ...]
    unchanged: tuple[Schedule, ...]


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


class ScheduleTable:
    """``exportd.schedule``: it alone queues a schedule's jobs. ``OwnedScheduleTable`` writes what the API makes."""

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool

    async def reconcile(
        self, declarations: Iterable[ScheduleDeclaration], *, now: datetime, daemon: UUID | None = None
    ) -> ReconcileResult:
        """Make the schedules those that are declared, all or none.

        A new one is due at once. A changed one keeps its positions, but for entities that it did not have
        before or has no longer. One that is no longer declared is deleted; declared again later, it is new.
        Those that the API made stay, but for one that is declared: it belongs to the configuration then.

        ``daemon`` is the spool of the daemon that declares them; see ``database.declaration_table``. What others
        declare stays, and of two ways to declare a schedule the one that was written last: see ``model.declared``.
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
        """Those of them that are not deleted."""
        async with statements(self._pool, "reading some schedules") as connection:
            return [schedule_from_row(row) for row in await connection.fetch(_SQL["some"], list(schedule_ids))]

    async def fire(self, firings: Sequence[Firing], *, now: datetime) -> dict[ScheduleId, JobId]:
        """For each of different schedules, queue a job and let the schedule be due next, both or neither.

        Returns the jobs; each keeps what its schedule says now. Nothing is queued for a schedule that has an unfinished
        job, and stays due until that has ended; nor for one that was fired, edited or deleted since it was read.
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
    """One more job of a locked schedule, due now. Raises TransientError JOB_UNFINISHED while one is unfinished."""
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
        # It ended in between.


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
    """New schedules, due at once; in no particular order."""
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
    """Give schedules other declarations; in no particular order. Entities that are new in one start in full."""
    documents, keeping = await anyio.to_thread.run_sync(_edited, edits)
    edited = await _read(connection, _SQL["edit"], documents, now, origin, actor)
    await connection.execute(_SQL["drop_positions"], keeping)
    return edited


async def delete_schedules(connection: "Connection", schedule_ids: Iterable[ScheduleId], *, now: datetime) -> None:
    """Take schedules away, with their positions. Their jobs stay, and one that runs goes on."""
    await connection.execute(_SQL["delete"], [*schedule_ids], now)


def _declared(declarations: Sequence[ScheduleDeclaration]) -> str:
    return json.dumps([columns_of(declaration) for declaration in declarations])


def _edited(edits: Sequence[ScheduleEdit]) -> tuple[str, str]:
    """What the schedules are now, and which positions they keep."""
    edited, keeping = [], []
    for edit in edits:
        schedule_id = str(edit.schedule.id)
        edited.append({**columns_of(edit.declaration), "id": schedule_id, "next_due_at": edit.next_due_at.isoformat()})
        keeping.append({"id": schedule_id, "keeping": edit.keeping})
    return json.dumps(edited), json.dumps(keeping)
