"""What can be exported: entities, their fields, and which of them refer to which. Pure."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from exportd.api.schemas.fields import Answer, Moment
from exportd.model.entity import DELETED_FIELD, Entity, EntityCode, Field

CaptureState = Literal["WHOLE", "DAMAGED", "NONE"]
"""DAMAGED: triggers are missing, disabled or others. NONE: there is no change log. The next run repairs either."""


@dataclass(frozen=True, slots=True)
class EntityStanding:
    """The state of an entity's table when the daemon last looked (``looked_at``, aware UTC).

    ``rows`` is the planner's estimate, of every organization; None for a table that was never analysed. ``capture`` is
    None for a table that is not there.
    """

    rows: int | None
    capture: CaptureState | None
    looked_at: datetime


class FieldDocument(Answer):
    """A field. ``column`` is null for one that is computed; ``reference`` is the entity whose key it holds."""

    name: str
    type: str
    format: str | None = None
    column: str | None = None
    reference: str | None = None


class IncomingReference(Answer):
    """``field`` of another ``entity`` holds the key of this one."""

    entity: str
    field: str


class EntityDocument(Answer):
    """An entity of the catalog. ``key`` are columns; every file has the field ``deleted`` last, which is not listed.
    ``modified`` is the column that a ``startDate`` is compared with; without one there is no export from a date on.

    ``outOfOrder``: why it cannot be exported at the moment. ``estimatedRows`` is what the database's planner takes the
    table to have, with the rows of every organization; it and ``capture`` are as of ``lookedAt``, and null where they
    are not known. Programs do not see these three, nor ``table`` and ``column``.
    """

    entity: str
    label: str
    type_token: str
    table: str | None = None
    key: list[str]
    modified: str | None = None
    fields: list[FieldDocument]
    referenced_by: list[IncomingReference]
    out_of_order: str | None = None
    estimated_rows: int | None = None
    capture: CaptureState | None = None
    looked_at: Moment | None = None


class EntityList(Answer):
    """The entities of the catalog, in its order."""

    data: list[EntityDocument]


_VALUES: Mapping[str, dict[str, Any]] = {
    "integer": {"type": ["integer", "null"]},
    "float": {"anyOf": [{"type": ["number", "null"]}, {"enum": ["NaN", "Infinity", "-Infinity"]}]},
    "boolean": {"type": ["boolean", "null"]},
    "json": {},
    # Arrays, composites and what an extension casts to JSON are declared as strings, and are nested in JSONL.
    "string": {"type": ["string", "array", "object", "null"]},
}


def record_schema(entity: Entity) -> dict[str, Any]:
    """The JSON Schema (2020-12) of a record: a line of the entity's JSONL files. It names no table and no column.

    ``format`` is an annotation, as the standard has it: a column of text may hold anything, and a time may be before
    Christ or infinite.
    """
    fields: dict[str, dict[str, Any]] = {field.name: _value_schema(field) for field in entity.fields}
    fields[DELETED_FIELD] = {
        "type": "boolean",
        "description": "Whether the record was deleted; its other fields are as they were.",
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": entity.code,
        "description": f"A record of {entity.label}, as a line of a JSONL file has it.",
        "type": "object",
        "properties": fields,
        "required": list(fields),
        "additionalProperties": False,
    }


def _value_schema(field: Field) -> dict[str, Any]:
    schema = dict(_VALUES[field.type])
    if field.format is not None:
        schema = {"type": ["string", "null"], "format": field.format}
    if field.reference is not None:
        schema["description"] = f"The key of a record of {field.reference}."
    return schema


_TROUBLE_FOR_PROGRAMS = "It does not fit its table at the moment. The operators of exportd see why."


def entity_documents(
    shown: Iterable[Entity],
    catalog: Collection[Entity],
    out_of_order: Mapping[EntityCode, str],
    *,
    standings: Mapping[EntityCode, EntityStanding] | None = None,
    shows_tables: bool = True,
) -> list[EntityDocument]:
    """``shown`` are some of the ``catalog``; ``out_of_order`` has why some cannot be exported. ``shows_tables``: for
    users of the machine, and so are the ``standings``.
    """
    known = (standings or {}) if shows_tables else {}
    incoming: dict[str, list[IncomingReference]] = defaultdict(list)
    for entity in catalog:
        for field in entity.fields:
            if field.reference is not None:
                incoming[field.reference].append(IncomingReference(entity=entity.code, field=field.name))
    documents = []
    for entity in shown:
        fields = [FieldDocument.of(field) for field in entity.fields]
        trouble, standing = out_of_order.get(entity.code), known.get(entity.code)
        documents.append(
            EntityDocument(
                entity=entity.code,
                label=entity.label,
                type_token=entity.type_token,
                table=str(entity.table) if shows_tables else None,
                key=list(entity.key),
                modified=entity.modified,
                fields=fields if shows_tables else [field.model_copy(update={"column": None}) for field in fields],
                referenced_by=incoming[entity.code],
                out_of_order=trouble if trouble is None or shows_tables else _TROUBLE_FOR_PROGRAMS,
                estimated_rows=None if standing is None else standing.rows,
                capture=None if standing is None else standing.capture,
                looked_at=None if standing is None else standing.looked_at,
            )
        )
    return documents
