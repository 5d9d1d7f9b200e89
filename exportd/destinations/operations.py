"""The operations on destinations of any origin: pause, resume, and see their health.

A pause and its end are written into the audit log in the same transaction, and all daemons get an event. A program acts
for its own ``organization``: it does not see other destinations, and its quotas apply. Users of the machine pass None
and may name any. All methods raise TransientError when the database is out of reach.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from uuid import UUID

from exportd.database import queries
from exportd.database.declaration_table import DESTINATION
from exportd.database.quota_table import admit_program
from exportd.database.unit_of_work import notify, statements, transaction, write_audit
from exportd.destinations.record import DestinationHealth
from exportd.destinations.table import LOCK
from exportd.model.declared import Key, missing
from exportd.model.entity import OrganizationId
from exportd.model.schedule import Pause
from exportd.settings.schema import DEFAULT_QUOTAS, QuotaSettings

if TYPE_CHECKING:
    from exportd.database.connector import Connection, Pool

_SQL = queries.load("destination_operations")


class DestinationOperator:
    """Pauses destinations and reads their health."""

    def __init__(self, pool: "Pool", quotas: QuotaSettings = DEFAULT_QUOTAS) -> None:
        self._pool = pool
        self._quotas = quotas

    async def pause(self, destination_id: UUID, *, actor: str, organization: OrganizationId | None = None) -> None:
        """Let the jobs that deliver there wait. A running job goes on. Raises PermanentError NOT_FOUND, QUOTA_BUSY."""
        async with self._held(destination_id, "destination paused", actor, organization) as connection:
            await connection.execute(_SQL["pause"], destination_id, actor)

    async def resume(self, destination_id: UUID, *, actor: str, organization: OrganizationId | None = None) -> None:
        """Let the jobs that waited go on. Raises PermanentError NOT_FOUND, QUOTA_BUSY."""
        async with self._held(destination_id, "destination resumed", actor, organization) as connection:
            await connection.execute(_SQL["resume"], destination_id)

    async def pause_of(self, destination_id: UUID, *, organization: OrganizationId | None = None) -> Pause | None:
        """The pause of a destination, if it is paused. Raises PermanentError NOT_FOUND."""
        async with statements(self._pool, "reading the destinations") as connection:
            row = await connection.fetchrow(_SQL["pause_of"], destination_id, organization)
        if row is None:
            raise missing(DESTINATION, destination_id)
        return None if row["paused_at"] is None else Pause(row["paused_at"], row["paused_by"])

    async def pauses(self) -> dict[Key, Pause]:
        """The destinations of all organizations that are paused."""
        async with statements(self._pool, "reading the destinations") as connection:
            rows = await connection.fetch(_SQL["pauses"])
        return {Key(row["organization"], row["code"]): Pause(row["paused_at"], row["paused_by"]) for row in rows}

    async def health(self, *, limit: int) -> list[DestinationHealth]:
        """The health of the destinations of all organizations, the paused ones first, at most ``limit``."""
        async with statements(self._pool, "reading the destinations") as connection:
            return [DestinationHealth(**row) for row in await connection.fetch(_SQL["health"], limit)]

    async def organizations(self) -> list[OrganizationId]:
        """The organizations that have a destination or a schedule, in the order of their names."""
        async with statements(self._pool, "reading the destinations") as connection:
            return [OrganizationId(row["organization"]) for row in await connection.fetch(_SQL["organizations"])]

    @asynccontextmanager
    async def _held(
        self, destination_id: UUID, action: str, actor: str, organization: OrganizationId | None
    ) -> "AsyncIterator[Connection]":
        """Lock the destination until the block ends. Then the operation is written into the audit log, and all daemons
        get an event.
        """
        async with transaction(self._pool, "pausing or resuming a destination", lock=LOCK) as connection:
            await admit_program(connection, organization, self._quotas)
            row = await connection.fetchrow(_SQL["hold"], destination_id, organization)
            if row is None:
                raise missing(DESTINATION, destination_id)
            yield connection
            await write_audit(
                connection,
                action,
                actor=actor,
                organization=OrganizationId(row["organization"]),
                object_id=destination_id,
                details={"code": row["code"]},
            )
            # Jobs that waited for the destination may be taken now.
            await notify(connection, "job_queued")
            await notify(connection, "destination_changed")
