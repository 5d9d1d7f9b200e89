"""The destinations in Postgres: those of the configuration, and those that the API made.

Schedules, jobs and deliveries know a destination by its code, which therefore is never edited. When the place behind a
code becomes another one (it was edited, or deleted and made anew), the schedules that use it forget what it has: their
next run is full.

All methods raise TransientError when the database is out of reach; an edit raises PermanentError:

    NOT_FOUND      there is no such destination (of this organization)
    DECLARED       it stands in the configuration
    VERSION_STALE  somebody else has edited it since it was read
    CODE_TAKEN     another destination of the organization has the code; or the code was edited
    IN_USE         a schedule refers to it, or a job is delivering to it
"""

import json
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from exportd.database import queries
from exportd.database.audit_writer import write_audit
from exportd.database.declaration_table import DESTINATION, read_declared, write_declared
from exportd.database.translator import translated
from exportd.destinations.reconciliation import compare, put_into_effect
from exportd.destinations.record import (
    DestinationDeclaration,
    DestinationHealth,
    DestinationRecord,
    declaration_to_json,
    destination_from_row,
    health_from_row,
    place,
)
from exportd.model.declared import Document, Key
from exportd.model.entity import OrganizationId
from exportd.model.errors import PermanentError
from exportd.model.reason import Reason
from exportd.model.schedule import Origin, Pause

if TYPE_CHECKING:
    import asyncpg

    from exportd.database.connector import Connection, Pool

_SQL = queries.load("destinations")
_LOCK_EDITS = _SQL["lock_edits"]
_PAGE = _SQL["page"]
_ALL = _SQL["all"]
_GET = _SQL["get"]
_HOLD = _SQL["hold"]
_CODE_IS_TAKEN = _SQL["code_is_taken"]
_INSERT = _SQL["insert"]
_EDIT = _SQL["edit"]
_DELETE = _SQL["delete"]
_PAUSE = _SQL["pause"]
_PAUSE_OF = _SQL["pause_of"]
_PAUSES = _SQL["pauses"]
_RESUME = _SQL["resume"]
_HOLD_ANY = _SQL["hold_any"]
_HEALTH = _SQL["health"]
_ORGANIZATIONS = _SQL["organizations"]
_SCHEDULES_USING = _SQL["schedules_using"]
_JOB_USING = _SQL["job_using"]
_FORGET_POSITIONS = _SQL["forget_positions"]
_TELL_CHANGED = _SQL["tell_changed"]
_TELL_WAITING_JOBS = _SQL["tell_waiting_jobs"]


class DestinationTable:
    """``exportd.destination``: nobody else writes it."""

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool

    async def reconcile(
        self, declared: Iterable[DestinationDeclaration], *, now: datetime, daemon: UUID | None = None
    ) -> None:
        """Have a row for each destination of the configuration, and for no other but those of the API.

        One that the API made and that is declared now belongs to the configuration from here on.

        ``daemon`` is the spool of the daemon that declares them, which has a row; what it declares is kept. What others
        declare stays, and of two ways to declare a destination the one that was written last: see ``model.declared``.
        """
        declared = tuple(declared)
        async with self._holding("reconciling the destinations") as connection:
            others = await read_declared(connection, DESTINATION, daemon)
            plan = compare(declared, [destination_from_row(row) for row in await connection.fetch(_ALL)], others)
            await put_into_effect(connection, plan, now=now)
            if daemon is not None:
                documents: dict[Key, Document] = {
                    (each.organization, each.code): declaration_to_json(each) for each in declared
                }
                await write_declared(connection, DESTINATION, daemon, before=others.before, now=documents)
            if plan:
                await connection.execute(_TELL_CHANGED)

    async def all(self) -> list[DestinationRecord]:
        """Every destination of every organization."""
        async with self._reading() as connection:
            return [destination_from_row(row) for row in await connection.fetch(_ALL)]

    async def page(
        self,
        organization: OrganizationId | None,
        *,
        ids: Sequence[UUID] | None = None,
        after: tuple[datetime, UUID] | None = None,
        limit: int,
    ) -> list[DestinationRecord]:
        """Of an organization (None: of all) the newest first, at most ``limit``: of those ids, if given, and behind
        ``after`` (created at, id).
        """
        created_at, destination_id = after or (None, None)
        async with self._reading() as connection:
            rows = await connection.fetch(_PAGE, organization, ids, created_at, destination_id, limit)
        return [destination_from_row(row) for row in rows]

    async def get(self, organization: OrganizationId, destination_id: UUID) -> DestinationRecord:
        """Raises PermanentError NOT_FOUND."""
        async with self._reading() as connection:
            return _found(await connection.fetchrow(_GET, organization, destination_id), destination_id)

    async def create(self, declaration: DestinationDeclaration, *, actor: str, now: datetime) -> DestinationRecord:
        """A new destination. Nothing is touched there yet."""
        async with self._editing("creating a destination") as connection:
            if await connection.fetchval(_CODE_IS_TAKEN, declaration.organization, declaration.code):
                raise PermanentError(
                    f"code: the organization has a destination {declaration.code!r} already. Choose another code.",
                    reason=Reason.CODE_TAKEN,
                )
            await _require_no_job(connection, declaration, "made")
            created = await _insert(connection, declaration, actor, now)
            await _note(connection, "destination created", created, actor)
        return created

    async def update(
        self,
        destination_id: UUID,
        declaration: DestinationDeclaration,
        *,
        version: int,
        actor: str,
        now: datetime,
    ) -> DestinationRecord:
        """Replace what a destination says. Its code and its type stay."""
        async with self._editing("editing a destination") as connection:
            before = await _hold(connection, declaration.organization, destination_id)
            _require_same(before, declaration, version)
            if place(before.declaration) != place(declaration):
                await _require_no_job(connection, declaration, "edited")
            after = await _edit(connection, before, declaration, actor=actor, now=now)
            await _note(connection, "destination edited", after, actor)
        return after

    async def delete(
        self, organization: OrganizationId, destination_id: UUID, *, actor: str, now: datetime
    ) -> DestinationRecord:
        """Take a destination away, unless a schedule refers to it; returns it as it last was.

        What was delivered there stays.
        """
        async with self._editing("deleting a destination") as connection:
            before = await _hold(connection, organization, destination_id)
            rows = await connection.fetch(_SCHEDULES_USING, organization, before.declaration.code)
            if rows:
                schedules = ", ".join(repr(row["code"]) for row in rows[:5]) + (" and others" if len(rows) > 5 else "")
                raise PermanentError(
                    f"The destination {before.declaration.code!r} is used by the schedule {schedules}: take it out of"
                    " there first.",
                    reason=Reason.IN_USE,
                )
            await _require_no_job(connection, before.declaration, "deleted")
            await connection.execute(_DELETE, destination_id, now)
            await _note(connection, "destination deleted", before, actor)
        return before

    async def pause(self, destination_id: UUID, *, actor: str) -> None:
        """Have the jobs that deliver there wait, whoever owns it; one that runs goes on."""
        await self._operate(destination_id, "destination paused", _PAUSE, destination_id, actor, actor=actor)

    async def pause_of(self, destination_id: UUID) -> Pause | None:
        """Whether it is paused, whoever owns it. Raises PermanentError NOT_FOUND."""
        async with self._reading() as connection:
            row = await connection.fetchrow(_PAUSE_OF, destination_id)
        if row is None:
            raise _missing(destination_id)
        return None if row["paused_at"] is None else Pause(row["paused_at"], row["paused_by"])

    async def pauses(self) -> dict[Key, Pause]:
        """The destinations of all organizations that are paused."""
        async with self._reading() as connection:
            rows = await connection.fetch(_PAUSES)
        return {(row["organization"], row["code"]): Pause(row["paused_at"], row["paused_by"]) for row in rows}

    async def resume(self, destination_id: UUID, *, actor: str) -> None:
        """Let the jobs that waited go on."""
        await self._operate(destination_id, "destination resumed", _RESUME, destination_id, actor=actor)

    async def health(self, *, limit: int) -> list[DestinationHealth]:
        """How the destinations of all organizations are, the paused ones first, at most ``limit``."""
        async with self._reading() as connection:
            return [health_from_row(row) for row in await connection.fetch(_HEALTH, limit)]

    async def organizations(self) -> list[OrganizationId]:
        """The organizations that have a destination or a schedule, in the order of their names."""
        async with self._reading() as connection:
            return [OrganizationId(row["organization"]) for row in await connection.fetch(_ORGANIZATIONS)]

    async def _operate(self, destination_id: UUID, action: str, statement: str, *arguments: object, actor: str) -> None:
        async with self._editing("pausing or resuming a destination") as connection:
            row = await connection.fetchrow(_HOLD_ANY, destination_id)
            if row is None:
                raise _missing(destination_id)
            await connection.execute(statement, *arguments)
            await connection.execute(_TELL_WAITING_JOBS)
            await write_audit(
                connection,
                actor=actor,
                action=action,
                organization=OrganizationId(row["organization"]),
                object_id=destination_id,
                details={"code": row["code"]},
            )

    @asynccontextmanager
    async def _reading(self) -> "AsyncIterator[Connection]":
        with translated("reading the destinations"):
            async with self._pool.acquire() as connection:
                yield connection

    @asynccontextmanager
    async def _editing(self, doing: str) -> "AsyncIterator[Connection]":
        async with self._holding(doing) as connection:
            yield connection
            await connection.execute(_TELL_CHANGED)

    @asynccontextmanager
    async def _holding(self, doing: str) -> "AsyncIterator[Connection]":
        with translated(doing):
            async with self._pool.acquire() as connection, connection.transaction(isolation="read_committed"):
                await connection.execute(_LOCK_EDITS)
                yield connection


async def _insert(
    connection: "Connection", declaration: DestinationDeclaration, actor: str, now: datetime
) -> DestinationRecord:
    row = await connection.fetchrow(
        _INSERT,
        declaration.organization,
        declaration.code,
        declaration.name,
        Origin.API,
        json.dumps(declaration.settings),
        now,
        actor,
    )
    # One of the same code may have been deleted: what that one has, this one has not.
    await connection.execute(_FORGET_POSITIONS, declaration.organization, declaration.code)
    return _found(row, None)


async def _edit(
    connection: "Connection",
    before: DestinationRecord,
    declaration: DestinationDeclaration,
    *,
    actor: str,
    now: datetime,
) -> DestinationRecord:
    row = await connection.fetchrow(
        _EDIT, before.id, declaration.name, Origin.API, json.dumps(declaration.settings), now, actor
    )
    if place(before.declaration) != place(declaration):
        await connection.execute(_FORGET_POSITIONS, declaration.organization, declaration.code)
    return _found(row, before.id)


async def _hold(connection: "Connection", organization: OrganizationId, destination_id: UUID) -> DestinationRecord:
    """The destination, locked, if it may be edited here."""
    found = _found(await connection.fetchrow(_HOLD, organization, destination_id), destination_id)
    if found.origin is Origin.CONFIGURATION:
        raise PermanentError(
            f"The destination {found.declaration.code!r} stands in the daemon's configuration: edit it there.",
            reason=Reason.DECLARED,
        )
    return found


def _require_same(before: DestinationRecord, declaration: DestinationDeclaration, version: int) -> None:
    if before.version != version:
        raise PermanentError(
            f"version: the destination is at version {before.version}, not {version}: somebody has edited it since."
            " Read it again and repeat the edit.",
            reason=Reason.VERSION_STALE,
        )
    if before.declaration.code != declaration.code:
        raise PermanentError(
            f"code: stays {before.declaration.code!r}, for schedules and deliveries know the destination by it."
            " Create another destination instead.",
            reason=Reason.CODE_TAKEN,
        )
    if before.declaration.settings["type"] != declaration.settings["type"]:
        raise PermanentError(
            f"destinationType: stays {before.declaration.settings['type']}. Create another destination instead.",
            reason=Reason.IN_USE,
        )


async def _require_no_job(connection: "Connection", declaration: DestinationDeclaration, edited: str) -> None:
    job_id = await connection.fetchval(_JOB_USING, declaration.organization, declaration.code)
    if job_id is not None:
        raise PermanentError(
            f"The job {job_id} is delivering to the destination {declaration.code!r}: it can be {edited} when that has"
            " ended.",
            reason=Reason.IN_USE,
        )


def _found(row: "asyncpg.Record | None", destination_id: UUID | None) -> DestinationRecord:
    if row is None:
        raise _missing(destination_id)
    return destination_from_row(row)


def _missing(destination_id: UUID | None) -> PermanentError:
    return PermanentError(
        f"There is no destination {destination_id}. Look at the list of destinations for its id.",
        reason=Reason.NOT_FOUND,
    )


async def _note(connection: "Connection", action: str, subject: DestinationRecord, actor: str) -> None:
    declaration = subject.declaration
    await write_audit(
        connection,
        actor=actor,
        action=action,
        organization=declaration.organization,
        object_id=subject.id,
        details={
            "version": subject.version,
            "code": declaration.code,
            "name": declaration.name,
            **declaration.settings,
        },
    )
