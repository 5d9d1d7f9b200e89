"""Writes down who changed what, in the transaction of the change: neither is ever there without the other."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING
from uuid import UUID

from exportd.database import queries
from exportd.model.entity import OrganizationId

if TYPE_CHECKING:
    from exportd.database.connector import PooledConnection

_WRITE = queries.load("audit")["write"]


async def write_audit(
    connection: "PooledConnection",
    *,
    actor: str,
    action: str,
    organization: OrganizationId | None,
    object_id: UUID | None,
    details: Mapping[str, object],
) -> None:
    """Add an entry. ``action`` is a short fixed phrase ("schedule created"); ``details`` hold no secret."""
    await connection.execute(_WRITE, actor, organization, action, object_id, json.dumps(details, default=str))
