"""A destination as a row: what the API tells of it, and what opens it. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from exportd.model.entity import OrganizationId
from exportd.model.schedule import DestinationCode, Origin


@dataclass(frozen=True, slots=True)
class DestinationHealth:
    """How a destination is. ``last_failure_*`` is of the newest job that delivers here and failed for good because of a
    destination; its message names the one. Times are aware UTC.
    """

    id: UUID
    organization: OrganizationId
    code: DestinationCode
    paused_at: datetime | None
    paused_by: str | None
    last_success_at: datetime | None
    last_failure_at: datetime | None
    last_failure_reason: str | None
    last_failure_message: str | None


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


def declaration_to_json(declaration: DestinationDeclaration) -> dict[str, Any]:
    """What a declaration says besides who it is."""
    return {"name": declaration.name, "settings": dict(declaration.settings)}


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


def place(declaration: DestinationDeclaration) -> dict[str, object]:
    """What of the settings says where files are; the rest says how they are called and by which right they come."""
    return {key: declaration.settings.get(key) or "" for key in ("type", "directory", "bucket", "endpoint", "prefix")}


def health_from_row(row: Row) -> DestinationHealth:
    return DestinationHealth(
        id=row["id"],
        organization=OrganizationId(row["organization"]),
        code=DestinationCode(row["code"]),
        paused_at=row["paused_at"],
        paused_by=row["paused_by"],
        last_success_at=row["last_success_at"],
        last_failure_at=row["last_failure_at"],
        last_failure_reason=row["reason"],
        last_failure_message=row["message"],
    )
