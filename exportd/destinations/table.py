"""The destinations in Postgres: kept equal to their declarations, and edited by their organizations.

Schedules, jobs and deliveries know a destination by its code, which therefore is never edited. When the place behind a
code becomes another one (it was edited, or deleted and made anew), the schedules that use it forget what it has: their
next run is full.

All methods raise TransientError when the database is out of reach; an edit raises a PermanentError:

    NOT_FOUND      there is no such destination (of this organization)
    DECLARED       it stands in the configuration
    VERSION_STALE  it was edited since it was read
    CODE_TAKEN     another destination of the organization has the code; or the code was edited
    IN_USE         a schedule refers to it, or a job is delivering to it
"""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Literal
from uuid import UUID

from exportd.database import queries
from exportd.database.declaration_table import DESTINATION, declare
from exportd.database.quota_table import Quota, require_room
from exportd.database.unit_of_work import notify, statements, transaction, write_audit
from exportd.destinations.record import DestinationDeclaration, DestinationRecord, destination_from_row
from exportd.model.declared import code_taken, columns_of, key_of, missing, require_editable, require_version
from exportd.model.entity import OrganizationId
from exportd.model.errors import PermanentError, Reason
from exportd.model.schedule import CONFIGURATION, DestinationCode, Origin
from exportd.settings.schema import DEFAULT_QUOTAS, QuotaSettings

if TYPE_CHECKING:
    import asyncpg

    from exportd.database.connector import Connection, Pool

_SQL = queries.load("destinations")

DestinationOrder = Literal[
    "name", "code", "organization", "kind", "place", "lastSuccess", "lastFailure", "origin", "state"
]
"""The fields by which destinations can be sorted."""

LOCK = "exportd destinations"
"""The lock of reconciling and editing: without it, two at once could insert the same destination or take the same code.
"""


class DestinationTable:
    """``exportd.destination``. Only this class writes it, except for the pauses, which ``DestinationOperator``
    writes.
    """

    def __init__(self, pool: "Pool", quotas: QuotaSettings = DEFAULT_QUOTAS) -> None:
        self._pool = pool
        self._quotas = quotas

    async def reconcile(
        self, declared: Iterable[DestinationDeclaration], *, now: datetime, daemon: UUID | None = None
    ) -> None:
        """Make the rows equal to the destinations of the configuration. Those of the API are left alone.

        A destination of the API that is now declared belongs to the configuration from then on.

        ``daemon`` is the spool id of the daemon that declares them; see ``database.declaration_table``. Destinations of
        other daemons stay. If two daemons declare a destination differently, the declaration that was written last
        holds: see ``model.declared``.
        """
        declared = tuple(declared)
        async with transaction(self._pool, "reconciling the destinations", lock=LOCK) as connection:
            records = [destination_from_row(row) for row in await connection.fetch(_SQL["all"])]
            plan = await declare(connection, DESTINATION, declared, records, daemon=daemon)
            await _insert(connection, plan.new, now=now)
            await _edit(connection, plan.edits, now=now)
            await _delete(connection, (record.id for record in plan.gone), now=now)
            if plan:
                await notify(connection, "destination_changed")

    async def all(self) -> list[DestinationRecord]:
        """Every destination of every organization."""
        async with statements(self._pool, "reading the destinations") as connection:
            return [destination_from_row(row) for row in await connection.fetch(_SQL["all"])]

    async def page(
        self,
        organization: OrganizationId | None,
        *,
        ids: Sequence[UUID] | None = None,
        text: str | None = None,
        after: tuple[datetime, UUID] | None = None,
        limit: int,
    ) -> list[DestinationRecord]:
        """The destinations of an organization (None: of all), the newest first, at most ``limit``, after ``after``
        (created at, id); only those with the given ids, if there are any. ``text`` is a part of the name, the code or
        the bucket.
        """
        created_at, destination_id = after or (None, None)
        async with statements(self._pool, "reading the destinations") as connection:
            rows = await connection.fetch(
                _SQL["page"], organization, ids, created_at, destination_id, limit, text and text.lower()
            )
        return [destination_from_row(row) for row in rows]

    async def sorted_page(
        self,
        organization: OrganizationId | None,
        *,
        text: str | None,
        by: DestinationOrder,
        descending: bool,
        start: int,
        limit: int,
    ) -> list[DestinationRecord]:
        """The same in another order, without the first ``start``. A destination that is edited meanwhile may be left
        out or occur twice.
        """
        async with statements(self._pool, "sorting the destinations") as connection:
            rows = await connection.fetch(
                _SQL["sorted"], organization, text and text.lower(), by, descending, start, limit
            )
        ids = [row["id"] for row in rows]
        found = {record.id: record for record in await self.page(organization, ids=ids, limit=limit)}
        return [found[destination_id] for destination_id in ids if destination_id in found]

    async def get(self, organization: OrganizationId | None, destination_id: UUID) -> DestinationRecord:
        """A destination of an organization (None: of any). Raises PermanentError NOT_FOUND."""
        async with statements(self._pool, "reading the destinations") as connection:
            return _found(await connection.fetchrow(_SQL["get"], organization, destination_id), destination_id)

    async def note_check(
        self,
        organization: OrganizationId | None,
        destination_id: UUID,
        *,
        actor: str,
        action: str = "destination checked",
    ) -> DestinationRecord:
        """Write into the audit log that a destination of an organization (None: of any) is checked. Returns the
        destination.

        It counts as a change. Raises PermanentError NOT_FOUND, and QUOTA_BUSY after too many changes.
        """
        record = await self.get(organization, destination_id)
        owner = record.declaration.organization
        async with transaction(self._pool, "checking a destination") as connection:
            await require_room(connection, owner, self._quotas, Quota.CHANGES_PER_HOUR)
            await write_audit(
                connection,
                action,
                actor=actor,
                organization=owner,
                object_id=record.id,
                details={"code": record.declaration.code},
            )
        return record

    async def create(self, declaration: DestinationDeclaration, *, actor: str, now: datetime) -> DestinationRecord:
        """Make a new destination. No request is made to it yet."""
        async with transaction(self._pool, "creating a destination", lock=LOCK) as connection:
            await require_room(
                connection, declaration.organization, self._quotas, Quota.DESTINATIONS, Quota.CHANGES_PER_HOUR
            )
            if await connection.fetchval(_SQL["code_is_taken"], declaration.organization, declaration.code):
                raise code_taken(DESTINATION, declaration.code)
            await _require_no_job(connection, declaration, "made")
            (created,) = await _insert(connection, [declaration], now=now, origin=Origin.API, actor=actor)
            # A destination of the same code may have been deleted. The new one has none of its files.
            await _forget_positions(connection, [declaration])
            await _record(connection, "destination created", created, actor)
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
        """Replace the settings of a destination. Its code and its type stay."""
        async with transaction(self._pool, "editing a destination", lock=LOCK) as connection:
            await require_room(connection, declaration.organization, self._quotas, Quota.CHANGES_PER_HOUR)
            before = await _hold(connection, declaration.organization, destination_id)
            _require_same(before, declaration, version)
            if before.declaration.place != declaration.place:
                await _require_no_job(connection, declaration, "edited")
            (after,) = await _edit(connection, [(before, declaration)], now=now, origin=Origin.API, actor=actor)
            await _record(connection, "destination edited", after, actor)
        return after

    async def delete(
        self, organization: OrganizationId, destination_id: UUID, *, actor: str, now: datetime
    ) -> DestinationRecord:
        """Delete a destination, unless a schedule refers to it. Returns it as it last was.

        What was delivered there stays.
        """
        async with transaction(self._pool, "deleting a destination", lock=LOCK) as connection:
            await require_room(connection, organization, self._quotas, Quota.CHANGES_PER_HOUR)
            before = await _hold(connection, organization, destination_id)
            rows = await connection.fetch(_SQL["schedules_using"], organization, before.declaration.code)
            if rows:
                schedules = ", ".join(repr(row["code"]) for row in rows[:5]) + (" and others" if len(rows) > 5 else "")
                raise PermanentError(
                    f"The destination {before.declaration.code!r} is used by the schedule {schedules}: take it out of"
                    " there first.",
                    reason=Reason.IN_USE,
                )
            await _require_no_job(connection, before.declaration, "deleted")
            await _delete(connection, [destination_id], now=now)
            await _record(connection, "destination deleted", before, actor)
        return before


async def hold_destinations(
    connection: "Connection", organization: OrganizationId, destination_ids: Sequence[UUID]
) -> tuple[DestinationCode, ...]:
    """Lock an organization's destinations until the transaction ends. Returns their codes, in the given order.

    Raises PermanentError DESTINATION_MISSING for an id that is unknown or belongs to another organization.
    """
    rows = await connection.fetch(_SQL["hold_for_reference"], organization, destination_ids)
    codes = {row["id"]: DestinationCode(row["code"]) for row in rows}
    for destination_id in destination_ids:
        if destination_id not in codes:
            raise PermanentError(
                f"destinationIds: there is no destination {destination_id}. Take an id from the list of destinations.",
                reason=Reason.DESTINATION_MISSING,
            )
    return tuple(codes[destination_id] for destination_id in destination_ids)


async def _hold(connection: "Connection", organization: OrganizationId, destination_id: UUID) -> DestinationRecord:
    """Lock and return the destination, if it may be edited here."""
    found = _found(await connection.fetchrow(_SQL["hold"], organization, destination_id), destination_id)
    require_editable(DESTINATION, found.declaration.code, found.origin)
    return found


def _require_same(before: DestinationRecord, declaration: DestinationDeclaration, version: int) -> None:
    require_version(DESTINATION, before.version, read=version)
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
    job_id = await connection.fetchval(_SQL["job_using"], declaration.organization, declaration.code)
    if job_id is not None:
        raise PermanentError(
            f"The job {job_id} is delivering to the destination {declaration.code!r}: it can be {edited} when that has"
            " ended.",
            reason=Reason.IN_USE,
        )


def _found(row: "asyncpg.Record | None", destination_id: UUID) -> DestinationRecord:
    if row is None:
        raise missing(DESTINATION, destination_id)
    return destination_from_row(row)


async def _record(connection: "Connection", action: str, subject: DestinationRecord, actor: str) -> None:
    """Add to the audit log, and send all daemons an event."""
    declaration = subject.declaration
    await write_audit(
        connection,
        action,
        actor=actor,
        organization=declaration.organization,
        object_id=subject.id,
        details={
            "version": subject.version,
            "code": declaration.code,
            "name": declaration.name,
            **declaration.settings,
        },
    )
    await notify(connection, "destination_changed")


async def _insert(
    connection: "Connection",
    declarations: Sequence[DestinationDeclaration],
    *,
    now: datetime,
    origin: Origin = Origin.CONFIGURATION,
    actor: str = CONFIGURATION,
) -> list[DestinationRecord]:
    """New destinations, in no particular order."""
    documents = json.dumps([columns_of(declaration) for declaration in declarations])
    rows = await connection.fetch(_SQL["insert"], documents, origin, now, actor)
    return [destination_from_row(row) for row in rows]


async def _edit(
    connection: "Connection",
    edits: Sequence[tuple[DestinationRecord, DestinationDeclaration]],
    *,
    now: datetime,
    origin: Origin = Origin.CONFIGURATION,
    actor: str = CONFIGURATION,
) -> list[DestinationRecord]:
    """Replace the declarations of destinations, in no particular order. A destination whose place changes counts as
    empty.
    """
    documents = json.dumps([{**columns_of(declaration), "id": str(record.id)} for record, declaration in edits])
    rows = await connection.fetch(_SQL["edit"], documents, origin, now, actor)
    await _forget_positions(
        connection, [declaration for record, declaration in edits if record.declaration.place != declaration.place]
    )
    return [destination_from_row(row) for row in rows]


async def _forget_positions(connection: "Connection", declarations: Iterable[DestinationDeclaration]) -> None:
    """Make the next run full for the schedules that use these codes, because the places behind them are empty."""
    documents = json.dumps([key_of(declaration)._asdict() for declaration in declarations])
    await connection.execute(_SQL["forget_positions"], documents)


async def _delete(connection: "Connection", destination_ids: Iterable[UUID], *, now: datetime) -> None:
    """Delete destinations. What was delivered there stays."""
    await connection.execute(_SQL["delete"], [*destination_ids], now)
