"""Writes down who changed what, in the transaction of the change: neither is ever there without the other."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING
from uuid import UUID

from exportd.database import queries
from exportd.database.translator import translated
from exportd.model.entity import OrganizationId

if TYPE_CHECKING:
    from exportd.database.connector import Connection, Pool


_WRITE = queries.load("audit")["write"]


async def write_audit(
    connection: "Connection",
    *,
    actor: str,
    action: str,
    organization: OrganizationId | None,
    object_id: UUID | None,
    details: Mapping[str, object],
) -> None:
    """Add an entry. ``action`` is a short fixed phrase ("schedule created"); ``details`` hold no secret."""
    await connection.execute(_WRITE, actor, organization, action, object_id, json.dumps(details, default=str))


# MERGED: Writes down what operators do that changes no row of ours: to capture, to the log level of this daemon.


class Auditor:
    """``exportd.audit``. Written before the deed: what cannot be written down is not done."""

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool

    async def write(self, action: str, *, actor: str, **details: object) -> None:
        """Add an entry. Raises TransientError when the database is out of reach."""
        with translated("writing the audit log"):
            async with self._pool.acquire() as connection:
                await write_audit(
                    connection, actor=actor, action=action, organization=None, object_id=None, details=details
                )
