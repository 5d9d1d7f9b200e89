"""A daemon as the others know it. Pure."""

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
    """Which daemon it is: it keeps its spool's id, wherever that is. ``configuration`` is the path of its file."""

    spool_id: UUID
    host: str
    pid: int
    configuration: str
    version: str


@dataclass(frozen=True, slots=True)
class DaemonRecord:
    """A daemon as the database keeps it. Times are aware UTC, by the server's clock.

    ``running``: it was seen a moment ago, and has not left. ``declared_at`` is when it last put a configuration into
    effect (None: not yet); ``settings`` are the values of that which all should agree on, by key, ``entities``
    fingerprints of its catalog's, by code.
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
    """A destination or schedule (``kind``) that this daemon and the one of ``spool_id`` do not declare alike: only one
    of them does, or both in another way.
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
