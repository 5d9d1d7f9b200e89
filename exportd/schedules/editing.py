"""Reads and edits schedules for one organization.

An edit changes the schedule, writes the audit log and notifies the daemons, all or nothing. A schedule of another
organization is never found. All methods raise TransientError when the database is out of reach, and an edit raises a
PermanentError with one of these reasons:

    NOT_FOUND            there is no such schedule (of this organization)
    DECLARED             it stands in the configuration
    VERSION_STALE        it was edited since it was read
    CODE_TAKEN           another schedule of the organization has the code
    DESTINATION_MISSING  one of the destinations does not exist (in this organization)
    QUOTA_REACHED        the organization has as many schedules as it may have
    QUOTA_BUSY           so many of its jobs wait, or it has made so many changes of late, that it has to wait
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Literal
from uuid import UUID

from exportd.database import queries
from exportd.database.declaration_table import SCHEDULE
from exportd.database.quota_table import Quota, require_room
from exportd.database.unit_of_work import notify, statements, transaction, write_audit
from exportd.destinations.table import hold_destinations
from exportd.model.declared import code_taken, missing, require_editable, require_version
from exportd.model.entity import OrganizationId
from exportd.model.schedule import Origin, Schedule, ScheduleDeclaration
from exportd.schedules.firing_table import (
    LOCK,
    ScheduleEdit,
    delete_schedules,
    edit_schedules,
    insert_schedules,
    schedule_from_row,
)
from exportd.settings.schema import DEFAULT_QUOTAS, QuotaSettings

if TYPE_CHECKING:
    from exportd.database.connector import Connection, Pool
    from exportd.database.queries import Row

_SQL = queries.load("owned_schedules")


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
class ScheduleSearch:
    """Selects schedules; None selects any. ``text`` is a part of the name or the code."""

    text: str | None = None
    destination: str | None = None
    entity: str | None = None
    is_paused: bool | None = None

    @property
    def arguments(self) -> tuple[object, ...]:
        """The arguments of the statements."""
        return self.text and self.text.lower(), self.destination, self.entity, self.is_paused


ScheduleOrder = Literal[
    "name", "code", "organization", "frequency", "nextDue", "lastRun", "rows", "lag", "destinations", "format", "origin"
]
"""The fields by which schedules can be sorted. ``rows`` are those of the last run. A paused schedule has no
``nextDue``, and one with a cron expression no ``frequency``.
"""

_ANY = ScheduleSearch()


class OwnedScheduleTable:
    """``exportd.schedule``, by organization and id."""

    def __init__(self, pool: "Pool", quotas: QuotaSettings = DEFAULT_QUOTAS) -> None:
        self._pool = pool
        self._quotas = quotas

    async def page(
        self,
        organization: OrganizationId | None,
        *,
        ids: Sequence[UUID] | None = None,
        wanted: ScheduleSearch = _ANY,
        after: tuple[datetime, UUID] | None = None,
        limit: int,
    ) -> list[OwnedSchedule]:
        """The schedules of an organization (None: of all), the newest first, at most ``limit``, after ``after``
        (created at, id): the ``wanted`` ones, and only those with the given ids, if there are any.
        """
        created_at, schedule_id = after or (None, None)
        async with statements(self._pool, "reading the schedules") as connection:
            rows = await connection.fetch(
                _SQL["page"], organization, ids, created_at, schedule_id, limit, *wanted.arguments
            )
        return [_from_row(row) for row in rows]

    async def sorted_page(
        self,
        organization: OrganizationId | None,
        *,
        wanted: ScheduleSearch,
        by: ScheduleOrder,
        descending: bool,
        start: int,
        limit: int,
    ) -> list[OwnedSchedule]:
        """The same in another order, without the first ``start``. A schedule that is edited meanwhile may be left out
        or occur twice.
        """
        async with statements(self._pool, "sorting the schedules") as connection:
            rows = await connection.fetch(_SQL["sorted"], organization, *wanted.arguments, by, descending, start, limit)
        ids = [row["id"] for row in rows]
        found = {owned.schedule.id: owned for owned in await self.page(organization, ids=ids, limit=limit)}
        return [found[schedule_id] for schedule_id in ids if schedule_id in found]

    async def get(self, organization: OrganizationId | None, schedule_id: UUID) -> OwnedSchedule:
        """A schedule of an organization (None: of any). Raises PermanentError NOT_FOUND."""
        async with statements(self._pool, "reading a schedule") as connection:
            return await _get(connection, organization, schedule_id)

    async def create(
        self, declaration: ScheduleDeclaration, *, destination_ids: Sequence[UUID], actor: str, now: datetime
    ) -> OwnedSchedule:
        """Make a new schedule, due at once. Its destinations are those of the ids, whatever the declaration says."""
        organization = declaration.organization
        async with transaction(self._pool, "creating a schedule", lock=LOCK) as connection:
            await require_room(
                connection,
                organization,
                self._quotas,
                Quota.SCHEDULES,
                Quota.WAITING_JOBS,  # its first run is at once
                Quota.CHANGES_PER_HOUR,
            )
            await _require_free_code(connection, declaration, None)
            codes = await hold_destinations(connection, organization, destination_ids)
            declaration = replace(declaration, destinations=codes)
            (schedule,) = await insert_schedules(connection, [declaration], now=now, origin=Origin.API, actor=actor)
            created = await _get(connection, organization, schedule.id)
            await _record(connection, "schedule created", created, actor)
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
        """Replace the declaration of a schedule.

        The positions stay for entities that it had before and still has. A new rule counts from the last due time.
        """
        organization = declaration.organization
        async with transaction(self._pool, "editing a schedule", lock=LOCK) as connection:
            await require_room(connection, organization, self._quotas, Quota.CHANGES_PER_HOUR)
            before = await _hold(connection, organization, schedule_id)
            require_version(SCHEDULE, before.schedule.version, read=version)
            await _require_free_code(connection, declaration, schedule_id)
            codes = await hold_destinations(connection, organization, destination_ids)
            edit = ScheduleEdit.of(before.schedule, replace(declaration, destinations=codes))
            await edit_schedules(connection, [edit], now=now, origin=Origin.API, actor=actor)
            after = await _get(connection, organization, schedule_id)
            await _record(connection, "schedule edited", after, actor)
        return after

    async def delete(
        self, organization: OrganizationId, schedule_id: UUID, *, actor: str, now: datetime
    ) -> OwnedSchedule:
        """Delete a schedule. Returns it as it last was. A running job of it goes on."""
        async with transaction(self._pool, "deleting a schedule", lock=LOCK) as connection:
            await require_room(connection, organization, self._quotas, Quota.CHANGES_PER_HOUR)
            before = await _hold(connection, organization, schedule_id)
            await delete_schedules(connection, [before.schedule.id], now=now)
            await _record(connection, "schedule deleted", before, actor)
        return before


def _from_row(row: "Row") -> OwnedSchedule:
    return OwnedSchedule(
        schedule_from_row(row),
        tuple(row["destination_ids"]),
        row["modified_at"],
        row["created_by"],
        row["modified_by"],
    )


async def _get(connection: "Connection", organization: OrganizationId | None, schedule_id: UUID) -> OwnedSchedule:
    row = await connection.fetchrow(_SQL["page"], organization, [schedule_id], None, None, 1, *_ANY.arguments)
    if row is None:
        raise missing(SCHEDULE, schedule_id)
    return _from_row(row)


async def _hold(connection: "Connection", organization: OrganizationId, schedule_id: UUID) -> OwnedSchedule:
    """Lock and return the schedule, if it may be edited here."""
    await connection.execute(_SQL["hold"], organization, schedule_id)
    found = await _get(connection, organization, schedule_id)
    require_editable(SCHEDULE, found.schedule.declaration.code, found.schedule.origin)
    return found


async def _require_free_code(
    connection: "Connection", declaration: ScheduleDeclaration, schedule_id: UUID | None
) -> None:
    if await connection.fetchval(_SQL["code_is_taken"], declaration.organization, declaration.code, schedule_id):
        raise code_taken(SCHEDULE, declaration.code)


async def _record(connection: "Connection", action: str, subject: OwnedSchedule, actor: str) -> None:
    """Add to the audit log, and send all daemons an event."""
    schedule, declaration = subject.schedule, subject.schedule.declaration
    await write_audit(
        connection,
        action,
        actor=actor,
        organization=declaration.organization,
        object_id=schedule.id,
        details={"version": schedule.version, "code": declaration.code, **declaration.to_json()},
    )
    await notify(connection, "schedule_changed", schedule=schedule.id)
