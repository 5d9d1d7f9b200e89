"""A daemon as the database has it. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from exportd.database.queries import Row


@dataclass(frozen=True, slots=True)
class DaemonIdentity:
    """Which daemon it is. A daemon is identified by its spool; ``configuration`` is the path of its file."""

    spool_id: UUID
    host: str
    pid: int
    configuration: str
    version: str


@dataclass(frozen=True, slots=True)
class DaemonRecord:
    """A daemon as the database keeps it. Times are aware UTC, by the server's clock.

    ``running``: its last heartbeat is recent, and it has not deregistered. ``declared_at`` is when it last put a
    configuration into effect (None: not yet). ``settings`` are the values of the keys that all daemons should agree on,
    ``entities`` the fingerprints of its catalog's entities by code.
    """

    spool_id: UUID
    host: str
    pid: int
    version: str
    started_at: datetime
    seen_at: datetime
    declared_at: datetime | None
    running: bool
    settings: Mapping[str, str]
    entities: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class DeclaredDifference:
    """A destination or schedule (``kind``) that this daemon and the one of ``spool_id`` declare differently.

    Only one of them declares it, or both do with different content.
    """

    spool_id: UUID
    kind: str
    organization: str
    code: str
    is_here: bool
    is_there: bool


def daemon_from_row(row: "Row") -> DaemonRecord:
    return DaemonRecord(
        spool_id=row["spool_id"],
        host=row["host"],
        pid=row["pid"],
        version=row["version"],
        started_at=row["started_at"],
        seen_at=row["seen_at"],
        declared_at=row["declared_at"],
        running=row["running"],
        settings=json.loads(row["settings"]),
        entities=json.loads(row["entities"]),
    )


def difference_from_row(row: "Row") -> DeclaredDifference:
    return DeclaredDifference(
        row["spool_id"], row["kind"], row["organization"], row["code"], row["is_here"], row["is_there"]
    )
