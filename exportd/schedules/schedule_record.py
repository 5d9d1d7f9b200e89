"""A schedule as a row of ``exportd.schedule``, its rule as a JSON document. Pure."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from exportd.model.entity import EntityCode, OrganizationId
from exportd.model.schedule import (
    Cron,
    DestinationCode,
    ExportFormat,
    Interval,
    Origin,
    Rule,
    Schedule,
    ScheduleDeclaration,
    ScheduleId,
    Unit,
)


class Row(Protocol):
    """A row of a query, by column: an asyncpg.Record or a mapping."""

    def __getitem__(self, column: str, /) -> Any: ...


def rule_to_json(rule: Rule) -> str:
    """``{"cron": "0 2 * * *"}`` or ``{"unit": "DAY", "period": 1, "offset": 2}``."""
    return json.dumps(_rule_document(rule))


def rule_from_json(text: str) -> Rule:
    document = json.loads(text)
    if "cron" in document:
        return Cron(document["cron"])
    return Interval(Unit(document["unit"]), document["period"], document.get("offset"))


def declaration_to_json(declaration: ScheduleDeclaration) -> dict[str, Any]:
    """What a declaration says besides who it is, by column."""
    return {
        "name": declaration.name,
        "entities": list(declaration.entities),
        "format": declaration.file_format.value,
        "destinations": list(declaration.destinations),
        "rule": _rule_document(declaration.rule),
    }


def _rule_document(rule: Rule) -> dict[str, Any]:
    if not isinstance(rule, Interval):
        return {"cron": rule.expression}
    offset = {} if rule.offset is None else {"offset": rule.offset}
    return {"unit": rule.unit.value, "period": rule.period, **offset}


def schedule_from_row(row: Row) -> Schedule:
    return Schedule(
        id=ScheduleId(row["id"]),
        declaration=ScheduleDeclaration(
            organization=OrganizationId(row["organization"]),
            code=row["code"],
            name=row["name"],
            entities=tuple(EntityCode(entity) for entity in row["entities"]),
            file_format=ExportFormat(row["format"]),
            destinations=tuple(DestinationCode(destination) for destination in row["destinations"]),
            rule=rule_from_json(row["rule"]),
        ),
        created_at=row["created_at"],
        last_due_at=row["last_due_at"],
        next_due_at=row["next_due_at"],
        version=row["version"],
        origin=Origin(row["origin"]),
    )


@dataclass(frozen=True, slots=True)
class OwnedSchedule:
    """A schedule as its organization sees it.

    ``destination_ids`` are those of its destinations that there are. ``created_by`` and ``modified_by`` are users as
    the control API names them, or ``configuration``.
    """

    schedule: Schedule
    destination_ids: tuple[UUID, ...]
    modified_at: datetime
    created_by: str
    modified_by: str


def owned_schedule_from_row(row: Row) -> OwnedSchedule:
    return OwnedSchedule(
        schedule_from_row(row),
        tuple(row["destination_ids"]),
        row["modified_at"],
        row["created_by"],
        row["modified_by"],
    )
