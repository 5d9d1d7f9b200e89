"""The schedules in Postgres: kept equal to their declarations, and fired.

A firing moves the schedule's next due time and queues a job, both or neither. Whoever comes second, be it another
daemon, finds the schedule moved. Every change is told on the channel ``exportd_events``. All methods raise
TransientError when the database is out of reach and PermanentError when it refuses.
"""

import json
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

import anyio.to_thread

from exportd.database import queries
from exportd.database.connector import slices
from exportd.database.declaration_table import SCHEDULE, read_declared, write_declared
from exportd.database.translator import translated
from exportd.model.declared import Document, Key
from exportd.model.entity import OrganizationId
from exportd.model.errors import PermanentError, TransientError
from exportd.model.job import JobId
from exportd.model.reason import Reason
from exportd.model.schedule import CONFIGURATION, Origin, Schedule, ScheduleDeclaration, ScheduleId
from exportd.schedules import calendar, reconciliation
from exportd.schedules.schedule_record import declaration_to_json, rule_to_json, schedule_from_row

if TYPE_CHECKING:
    import asyncpg

    from exportd.database.connector import Connection, Pool

_SQL = queries.load("schedules")
_LOCK_RECONCILING = _SQL["lock_reconciling"]
_ALL = _SQL["all"]
_SOME = _SQL["some"]
_HOLD_ALL = _SQL["hold_all"]
_GET = _SQL["get"]
_INSERT = _SQL["insert"]
_INSERT_ALL = _SQL["insert_all"]
_EDIT = _SQL["edit"]
_EDIT_ALL = _SQL["edit_all"]
_DELETE = _SQL["delete"]
_DELETE_ALL = _SQL["delete_all"]
_DROP_POSITIONS_ALL = _SQL["drop_positions_all"]
_DROP_POSITIONS = _SQL["drop_positions"]
_HOLD = _SQL["hold"]
_HOLD_NAMED = _SQL["hold_named"]
_QUEUE_JOB = _SQL["queue_job"]
_HAS_FIRED = _SQL["has_fired"]
_MOVE_ON = _SQL["move_on"]
_UNFINISHED_JOB = _SQL["unfinished_job"]
_TELL_CHANGED = _SQL["tell_changed"]


@dataclass(frozen=True, slots=True)
class ReconcileResult:
    """What became of the schedules; ``deleted`` ones as they last were."""

    created: tuple[Schedule, ...]
    changed: tuple[Schedule, ...]
    deleted: tuple[Schedule, ...]
    unchanged: tuple[Schedule, ...]


class ScheduleTable:
    """``exportd.schedule``: nobody else queues a schedule's jobs. ``OwnedScheduleTable`` writes what the API makes."""

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool

    async def reconcile(
        self, declarations: Iterable[ScheduleDeclaration], *, now: datetime, daemon: UUID | None = None
    ) -> ReconcileResult:
        """Make the schedules those that are declared, all or none.

        A new one is due at once. A changed one keeps its positions, but for entities that it did not have
        before or has no longer. One that is no longer declared is deleted; declared again later, it is new.
        Those that the API made stay, but for one that is declared: it belongs to the configuration then.

        ``daemon`` is the spool of the daemon that declares them, which has a row; what it declares is kept. What others
        declare stays, and of two ways to declare a schedule the one that was written last: see ``model.declared``.
        """
        declarations = tuple(declarations)
        async with self._transaction("reconciling the schedules") as connection:
            await connection.execute(_LOCK_RECONCILING)
            others = await read_declared(connection, SCHEDULE, daemon)
            schedules = await _read(connection, _HOLD_ALL)
            # Set by set, and what is long work in threads: there may be thousands.
            plan = await anyio.to_thread.run_sync(reconciliation.compare, declarations, schedules, others)
            if daemon is not None:
                declared = await anyio.to_thread.run_sync(_declared, declarations)
                await write_declared(connection, SCHEDULE, daemon, before=others.before, now=declared)
            documents = await anyio.to_thread.run_sync(_documents, plan)
            created = await _read(connection, _INSERT_ALL, documents.new, calendar.first_due(now), now)
            changed = await _read(connection, _EDIT_ALL, documents.edits, now, CONFIGURATION)
            await connection.execute(_DELETE_ALL, [each.id for each in plan.gone], now)
            await connection.execute(_DROP_POSITIONS_ALL, documents.kept)
            if plan.new or plan.edits or plan.gone:
                await connection.execute(_TELL_CHANGED, None)
        return ReconcileResult(tuple(created), tuple(changed), plan.gone, plan.unchanged)

    async def all(self) -> list[Schedule]:
        """The schedules that are not deleted, by organization and code."""
        async with self._transaction("reading the schedules") as connection:
            return await _read(connection, _ALL)

    async def some(self, schedule_ids: Collection[ScheduleId]) -> list[Schedule]:
        """Those of them that are not deleted."""
        async with self._connection("reading some schedules") as connection:
            return [schedule_from_row(row) for row in await connection.fetch(_SOME, list(schedule_ids))]

    async def get(self, organization: OrganizationId, code: str) -> Schedule | None:
        """The schedule of that code, unless it does not exist or is deleted."""
        async with self._connection("reading a schedule") as connection:
            row = await connection.fetchrow(_GET, organization, code)
        return None if row is None else schedule_from_row(row)

    async def fire(self, schedule: Schedule, *, due_at: datetime, next_due_at: datetime, now: datetime) -> JobId | None:
        """Queue a job due at ``due_at`` and let the schedule be due at ``next_due_at``, both or neither.

        The job gets what the schedule says, for good. None when nothing was queued: the schedule has an
        unfinished job, and stays due until that has ended; or it was fired, edited or deleted since it was
        read. Read it again to know.
        """
        async with self._transaction("firing a schedule") as connection:
            if await connection.fetchrow(_HOLD, schedule.id, schedule.version, schedule.next_due_at) is None:
                return None
            job_id = await _queue_job(connection, schedule.id, due_at=due_at, now=now)
            # A run that a person asked for can have had the same due time, to the microsecond.
            if job_id is not None or await connection.fetchval(_HAS_FIRED, schedule.id, due_at):
                await connection.execute(_MOVE_ON, schedule.id, due_at, next_due_at)
        return job_id

    async def fire_now(self, organization: OrganizationId | None, code: str) -> JobId:
        """Queue one more job of a schedule, due now; when it is due next stays as it is.

        The limits of a rule do not hold here: a person asks for it. Raises PermanentError NOT_FOUND when there
        is no such schedule, or several and no ``organization`` is given; TransientError JOB_UNFINISHED while
        the schedule has an unfinished job.
        """
        async with self._transaction("firing a schedule") as connection:
            schedule_id = _only_id(await connection.fetch(_HOLD_NAMED, organization, code), organization, code)
            return await fire_held(connection, schedule_id, code)

    @asynccontextmanager
    async def _transaction(self, doing: str) -> "AsyncIterator[Connection]":
        async with self._connection(doing) as connection, connection.transaction(isolation="read_committed"):
            yield connection

    @asynccontextmanager
    async def _connection(self, doing: str) -> "AsyncIterator[Connection]":
        with translated(doing):
            async with self._pool.acquire() as connection:
                yield connection


async def _read(connection: "Connection", query: str, *arguments: object) -> list[Schedule]:
    """What a query finds. In a transaction of the caller's."""
    return [schedule_from_row(row) async for rows in slices(connection, query, *arguments) for row in rows]


async def fire_held(connection: "Connection", schedule_id: UUID, code: str) -> JobId:
    """One more job of a locked schedule, due now. Raises TransientError JOB_UNFINISHED while one is unfinished."""
    while True:
        job_id = await _queue_job(connection, schedule_id, due_at=None, now=None)
        if job_id is not None:
            return job_id
        unfinished = await connection.fetchrow(_UNFINISHED_JOB, schedule_id)
        if unfinished is not None:
            raise TransientError(
                f"The schedule {code!r} has an unfinished job, {unfinished['id']} ({unfinished['state']}). Ask again"
                " when it has ended.",
                reason=Reason.JOB_UNFINISHED,
            )
        # It ended in between.


async def insert(
    connection: "Connection",
    declaration: ScheduleDeclaration,
    now: datetime,
    *,
    origin: Origin = Origin.CONFIGURATION,
    actor: str = CONFIGURATION,
) -> Schedule:
    """A new schedule, due at once. In a transaction of the caller's, as ``edit`` and ``delete`` are."""
    row = await connection.fetchrow(
        _INSERT,
        declaration.organization,
        declaration.code,
        *_columns(declaration),
        calendar.first_due(now),
        now,
        origin,
        actor,
    )
    return schedule_from_row(_present(row))


async def edit(
    connection: "Connection",
    plan: reconciliation.Edit,
    now: datetime,
    *,
    origin: Origin = Origin.CONFIGURATION,
    actor: str = CONFIGURATION,
) -> Schedule:
    """Give a locked schedule another declaration; its code stays."""
    row = await connection.fetchrow(
        _EDIT, plan.schedule.id, *_columns(plan.declaration), plan.next_due_at, now, origin, actor
    )
    await connection.execute(_DROP_POSITIONS, plan.schedule.id, plan.keeping)
    return schedule_from_row(_present(row))


async def delete(connection: "Connection", schedule_id: UUID, now: datetime) -> None:
    """Take a locked schedule away. Its jobs stay, and one that runs goes on."""
    await connection.execute(_DELETE, schedule_id, now)
    await connection.execute(_DROP_POSITIONS, schedule_id, [])


def _columns(declaration: ScheduleDeclaration) -> tuple[object, ...]:
    """What a declaration says besides who it is."""
    return (
        declaration.name,
        declaration.entities,
        declaration.file_format,
        declaration.destinations,
        rule_to_json(declaration.rule),
    )


def _declared(declarations: Iterable[ScheduleDeclaration]) -> dict[Key, Document]:
    return {
        (declaration.organization, declaration.code): declaration_to_json(declaration) for declaration in declarations
    }


@dataclass(frozen=True, slots=True)
class _Documents:
    """A reconciliation as the statements take it: JSON arrays."""

    new: str
    edits: str
    kept: str


def _documents(plan: reconciliation.Reconciliation) -> _Documents:
    kept = [
        *({"id": str(each.schedule.id), "keeping": each.keeping} for each in plan.edits),
        *({"id": str(each.id), "keeping": ()} for each in plan.gone),
    ]
    return _Documents(
        new=json.dumps([_document(each) for each in plan.new]),
        edits=json.dumps([_edit_document(each) for each in plan.edits]),
        kept=json.dumps(kept),
    )


def _document(declaration: ScheduleDeclaration) -> dict[str, object]:
    """All of it by column, for statements that take many."""
    return {
        "organization": declaration.organization,
        "code": declaration.code,
        **declaration_to_json(declaration),
    }


def _edit_document(plan: reconciliation.Edit) -> dict[str, object]:
    return {
        **_document(plan.declaration),
        "id": str(plan.schedule.id),
        "next_due_at": plan.next_due_at.isoformat(),
    }


def _present(row: "asyncpg.Record | None") -> "asyncpg.Record":
    """The row of a statement that always returns one."""
    if row is None:
        raise AssertionError("a row that was inserted or locked is gone")
    return row


async def _queue_job(
    connection: "Connection", schedule_id: UUID, *, due_at: datetime | None, now: datetime | None
) -> JobId | None:
    row = await connection.fetchrow(_QUEUE_JOB, schedule_id, due_at, now)
    return None if row is None else JobId(row["id"])


def _only_id(rows: "list[asyncpg.Record]", organization: OrganizationId | None, code: str) -> UUID:
    if len(rows) == 1:
        schedule_id: UUID = rows[0]["id"]
        return schedule_id
    if rows:
        organizations = ", ".join(sorted(row["organization"] for row in rows))
        sentence = f"Several organizations have a schedule {code!r}: say which one ({organizations})."
    else:
        of = "" if organization is None else f" of the organization {organization!r}"
        sentence = f"There is no schedule {code!r}{of}. Look at the list of schedules for its code."
    raise PermanentError(sentence, reason=Reason.NOT_FOUND)
