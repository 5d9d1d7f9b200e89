"""A destination as a row: what the API tells of it, and what opens it. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from exportd.model.entity import OrganizationId
from exportd.model.schedule import DestinationCode, Origin


class Row(Protocol):
    """A row of a query, by column: an asyncpg.Record or a mapping."""

    def __getitem__(self, column: str, /) -> Any: ...


@dataclass(frozen=True, slots=True)
class DestinationDeclaration:
    """A destination as a person declares it; identified by organization and ``code``.

    ``settings`` are the keys of the configuration that say where files go (``type``, ``bucket``, ``prefix``, …); they
    hold no secret.
    """

    organization: OrganizationId
    code: DestinationCode
    name: str
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DestinationRecord:
    """A destination as the database keeps it. Times are aware UTC; ``version`` counts the edits, from 1."""

    id: UUID
    declaration: DestinationDeclaration
    origin: Origin
    version: int
    created_at: datetime
    modified_at: datetime
    created_by: str
    modified_by: str


def destination_from_row(row: Row) -> DestinationRecord:
    return DestinationRecord(
        id=row["id"],
        declaration=DestinationDeclaration(
            OrganizationId(row["organization"]),
            DestinationCode(row["code"]),
            row["name"],
            json.loads(row["settings"]),
        ),
        origin=Origin(row["origin"]),
        version=row["version"],
        created_at=row["created_at"],
        modified_at=row["modified_at"],
        created_by=row["created_by"],
        modified_by=row["modified_by"],
    )
