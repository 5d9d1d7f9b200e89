"""The one way to the daemon's own tables: single statements, or a transaction with its lock, audit rows and events.

The changes of a transaction, its entries in the audit log and its events take effect together or not at all. ``doing``
("reading a schedule") is used in error sentences. Everything here raises TransientError when the database is out of
reach and PermanentError when it refuses.
"""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from exportd.database import queries
from exportd.database.translator import translated
from exportd.model.entity import OrganizationId

if TYPE_CHECKING:
    import asyncpg

    from exportd.database.connector import Connection, Pool

_SQL = queries.load("unit_of_work")


_MAX_EXAMINED = 1000
"""How many rows of the audit log a search examines by filters that no index supports."""

_SLICE_ROWS = 250
"""How many rows are decoded at once, and handled by the caller, in a few milliseconds."""


@asynccontextmanager
async def statements(pool: "Pool", doing: str) -> "AsyncIterator[Connection]":
    """A connection of the pool. Each statement takes effect by itself."""
    with translated(doing):
        async with pool.acquire() as connection:
            yield connection


@asynccontextmanager
async def transaction(pool: "Pool", doing: str, *, lock: str | None = None) -> "AsyncIterator[Connection]":
    """The same in one transaction.

    With ``lock``, blocks with that name run one after the other, in all daemons. Raises TransientError
    LOCK_NOT_AVAILABLE when others hold the lock for half a minute.
    """
    # READ COMMITTED, because a statement after a lock must see what was committed while it waited for the lock.
    async with statements(pool, doing) as connection, connection.transaction(isolation="read_committed"):
        if lock is not None:
            await connection.execute(_SQL["bound_waits"])
            await connection.execute(_SQL["lock"], lock)
        yield connection


async def slices(connection: "Connection", query: str, *arguments: object) -> "AsyncIterator[list[asyncpg.Record]]":
    """Read thousands of rows of a query, in slices, without blocking the event loop. The query may also write.

    Must be called in a transaction.
    """
    cursor = await connection.cursor(query, *arguments)
    while rows := await cursor.fetch(_SLICE_ROWS):
        yield rows


async def write_audit(
    connection: "Connection",
    action: str,
    *,
    actor: str,
    organization: OrganizationId | None = None,
    object_id: UUID | None = None,
    details: Mapping[str, object],
) -> None:
    """Add to the audit log who did what, in the transaction that does it.

    ``action`` is a short fixed phrase ("schedule created"); ``details`` hold no secret.
    """
    document = json.dumps(details, default=str)
    await connection.execute(_SQL["write_audit"], actor, organization, action, object_id, document)


async def notify(connection: "Connection", kind: str, **about: object) -> None:
    """Send all daemons an event ("schedule_changed") when the transaction commits."""
    await connection.execute(_SQL["notify"], json.dumps({"kind": kind, **about}, default=str))


@dataclass(frozen=True, slots=True)
class AuditRow:
    """Who did what, and when (aware UTC). ``number`` grows from row to row; ``details`` are as they were written."""

    number: int
    at: datetime
    actor: str
    organization: OrganizationId | None
    action: str
    object_id: UUID | None
    details: Mapping[str, Any]


class Auditor:
    """Reads the audit log, and writes the operations that change no row: on capture and on the log level.

    The entry is written before the operation, which is not carried out if that fails.
    """

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool

    async def write(self, action: str, *, actor: str, **details: object) -> None:
        """Add an entry; see ``write_audit``."""
        async with statements(self._pool, "writing the audit log") as connection:
            await write_audit(connection, action, actor=actor, details=details)

    async def page(
        self,
        *,
        organization: OrganizationId | None = None,
        object_id: UUID | None = None,
        action: str | None = None,
        before: int | None = None,
        limit: int,
    ) -> list[AuditRow]:
        """The newest rows first, at most ``limit``: those of an organization and of an object, if given, and older than
        the row ``before``. Rows whose ``action`` begins with a given text are searched among the newest 1,000.
        """
        async with statements(self._pool, "reading the audit log") as connection:
            if action is not None:
                rows = await connection.fetch(
                    _SQL["audit_of_action"], before, limit, action, _MAX_EXAMINED, object_id, organization
                )
            elif object_id is not None:
                rows = await connection.fetch(_SQL["audit_of_object"], before, limit, object_id, organization)
            elif organization is not None:
                rows = await connection.fetch(_SQL["audit_of_organization"], before, limit, organization)
            else:
                rows = await connection.fetch(_SQL["audit"], before, limit)
        return [
            AuditRow(
                number=row["id"],
                at=row["at"],
                actor=row["actor"],
                organization=row["organization"],
                action=row["action"],
                object_id=row["object_id"],
                details=json.loads(row["details"]),
            )
            for row in rows
        ]
