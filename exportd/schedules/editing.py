"""Schedules as one organization sees and edits them.

Whatever is edited is locked, changed, written into the audit log and told, all or nothing. A schedule of another
organization is never found. All methods raise TransientError when the database is out of reach; an edit raises
PermanentError:

    NOT_FOUND            there is no such schedule (of this organization)
    DECLARED             it stands in the configuration
    VERSION_STALE        somebody else has edited it since it was read
    CODE_TAKEN           another schedule of the organization has the code
    DESTINATION_MISSING  one of the destinations does not exist (in this organization)
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from exportd.database import queries
from exportd.database.audit_writer import write_audit
from exportd.database.translator import translated
from exportd.destinations.reference import hold_destinations
from exportd.model.entity import OrganizationId
from exportd.model.errors import PermanentError
from exportd.model.reason import Reason
from exportd.model.schedule import Origin, ScheduleDeclaration
from exportd.schedules import firing_table, reconciliation
from exportd.schedules.schedule_record import OwnedSchedule, owned_schedule_from_row

if TYPE_CHECKING:
    from exportd.database.connector import Connection, Pool

_SHARED = queries.load("schedules")
_LOCK_EDITS = _SHARED["lock_reconciling"]
_TELL_CHANGED = _SHARED["tell_changed"]
_SQL = queries.load("owned_schedules")
_PAGE = _SQL["page"]
_HOLD = _SQL["hold"]
_CODE_IS_TAKEN = _SQL["code_is_taken"]
_RENAME = _SQL["rename"]


class OwnedScheduleTable:
    """``exportd.schedule``, by organization and id."""

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool

    async def page(
        self,
        organization: OrganizationId | None,
        *,
        ids: Sequence[UUID] | None = None,
        after: tuple[datetime, UUID] | None = None,
        limit: int,
    ) -> list[OwnedSchedule]:
        """Of an organization (None: of all) the newest first, at most ``limit``: of those ids, if given, and behind
        ``after`` (created at, id).
        """
        created_at, schedule_id = after or (None, None)
        with translated("reading the schedules"):
            async with self._pool.acquire() as connection:
                rows = await connection.fetch(_PAGE, organization, ids, created_at, schedule_id, limit)
        return [owned_schedule_from_row(row) for row in rows]

    async def get(self, organization: OrganizationId, schedule_id: UUID) -> OwnedSchedule:
        """Raises PermanentError NOT_FOUND."""
        with translated("reading a schedule"):
            async with self._pool.acquire() as connection:
                return await _get(connection, organization, schedule_id)

    async def create(
        self, declaration: ScheduleDeclaration, *, destination_ids: Sequence[UUID], actor: str, now: datetime
    ) -> OwnedSchedule:
        """A new schedule, due at once. The destinations are those of the ids, whatever the declaration says."""
        organization = declaration.organization
        async with self._editing("creating a schedule") as connection:
            await _require_free_code(connection, declaration, None)
            codes = await hold_destinations(connection, organization, destination_ids)
            schedule = await firing_table.insert(
                connection, replace(declaration, destinations=codes), now, origin=Origin.API, actor=actor
            )
            created = await _get(connection, organization, schedule.id)
            await _note(connection, "schedule created", created, actor)
            await connection.execute(_TELL_CHANGED, schedule.id)
        return created

    async def update(
        self,
        schedule_id: UUID,
        declaration: ScheduleDeclaration,
        *,
        version: int,
        destination_ids: Sequence[UUID],
        actor: str,
        now: datetime,
    ) -> OwnedSchedule:
        """Replace what a schedule says. It keeps the positions of the entities that it had and has; a new rule
        counts from the last due time.
        """
        organization = declaration.organization
        async with self._editing("editing a schedule") as connection:
            before = await _hold(connection, organization, schedule_id)
            if before.schedule.version != version:
                raise PermanentError(
                    f"version: the schedule is at version {before.schedule.version}, not {version}: somebody has edited"
                    " it since. Read it again and repeat the edit.",
                    reason=Reason.VERSION_STALE,
                )
            await _require_free_code(connection, declaration, schedule_id)
            codes = await hold_destinations(connection, organization, destination_ids)
            plan = reconciliation.edit(before.schedule, replace(declaration, destinations=codes))
            await connection.execute(_RENAME, schedule_id, declaration.code)
            await firing_table.edit(connection, plan, now, origin=Origin.API, actor=actor)
            after = await _get(connection, organization, schedule_id)
            await _note(connection, "schedule edited", after, actor)
            await connection.execute(_TELL_CHANGED, schedule_id)
        return after

    async def delete(
        self, organization: OrganizationId, schedule_id: UUID, *, actor: str, now: datetime
    ) -> OwnedSchedule:
        """Take a schedule away; returns it as it last was. A job of it that runs goes on."""
        async with self._editing("deleting a schedule") as connection:
            before = await _hold(connection, organization, schedule_id)
            await firing_table.delete(connection, schedule_id, now)
            await _note(connection, "schedule deleted", before, actor)
            await connection.execute(_TELL_CHANGED, schedule_id)
        return before

    @asynccontextmanager
    async def _editing(self, doing: str) -> "AsyncIterator[Connection]":
        with translated(doing):
            async with self._pool.acquire() as connection, connection.transaction(isolation="read_committed"):
                await connection.execute(_LOCK_EDITS)
                yield connection


async def _get(connection: "Connection", organization: OrganizationId, schedule_id: UUID) -> OwnedSchedule:
    row = await connection.fetchrow(_PAGE, organization, [schedule_id], None, None, 1)
    if row is None:
        raise PermanentError(
            f"There is no schedule {schedule_id}. Look at the list of schedules for its id.", reason=Reason.NOT_FOUND
        )
    return owned_schedule_from_row(row)


async def _hold(connection: "Connection", organization: OrganizationId, schedule_id: UUID) -> OwnedSchedule:
    """The schedule, locked, if it may be edited here."""
    await connection.execute(_HOLD, organization, schedule_id)
    found = await _get(connection, organization, schedule_id)
    if found.schedule.origin is Origin.CONFIGURATION:
        raise PermanentError(
            f"The schedule {found.schedule.declaration.code!r} stands in the daemon's configuration: edit it there.",
            reason=Reason.DECLARED,
        )
    return found


async def _require_free_code(
    connection: "Connection", declaration: ScheduleDeclaration, schedule_id: UUID | None
) -> None:
    if await connection.fetchval(_CODE_IS_TAKEN, declaration.organization, declaration.code, schedule_id):
        raise PermanentError(
            f"code: the organization has a schedule {declaration.code!r} already. Choose another code.",
            reason=Reason.CODE_TAKEN,
        )


async def _note(connection: "Connection", action: str, subject: OwnedSchedule, actor: str) -> None:
    declaration = subject.schedule.declaration
    await write_audit(
        connection,
        actor=actor,
        action=action,
        organization=declaration.organization,
        object_id=subject.schedule.id,
        details={"version": subject.schedule.version, **asdict(declaration)},
    )
