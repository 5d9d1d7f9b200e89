"""A destination as a person declares it, and as a row of ``exportd.destination``. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from exportd.model.entity import OrganizationId
from exportd.model.errors import PermanentError, Reason
from exportd.model.schedule import DestinationCode, Origin
from exportd.settings.destination_schema import SETTABLE

if TYPE_CHECKING:
    from exportd.database.queries import Row


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

    def to_json(self) -> dict[str, Any]:
        """The declaration without its organization and code, by the names of the database's columns."""
        return {"name": self.name, "settings": dict(self.settings)}

    @property
    def place(self) -> dict[str, object]:
        """The settings that say where files are. Settings that only say how files are named or with which rights they
        are written are left out.
        """
        return {key: self.settings.get(key) or "" for key in ("type", "directory", "bucket", "endpoint", "prefix")}


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


def check_origin(record: DestinationRecord) -> None:
    """Raises PermanentError for a destination of the API with settings that the API does not allow: its row was not
    written by exportd.
    """
    if record.origin is not Origin.API:
        return
    declaration = record.declaration
    kind = str(declaration.settings.get("type"))
    settable = SETTABLE.get(kind, frozenset())
    foreign = sorted(set(declaration.settings) - settable)
    if foreign or not settable:
        what = f"has {', '.join(foreign)}" if settable else f"is of the kind {kind}"
        raise PermanentError(
            f"The destination {declaration.code} of {declaration.organization} was made through the API and {what}, "
            "which the API cannot set. It is not opened: find out who changed the row, and delete it.",
            reason=Reason.DESTINATION_REFUSED,
        )


@dataclass(frozen=True, slots=True)
class DestinationHealth:
    """How a destination is, by the columns of the query ``health``. Times are aware UTC.

    ``last_failure_*`` describes the newest job that delivers here and failed for good because of a destination, which
    its message names.
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


def destination_from_row(row: "Row") -> DestinationRecord:
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
