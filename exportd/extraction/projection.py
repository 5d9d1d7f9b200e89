"""Writes each field of an entity in SQL such that the bytes of COPY are the exported bytes. Pure.

CSV: Postgres's own text, except that timestamps are ISO 8601 (``2026-01-31T12:00:00+00:00``; BC and infinity survive)
and booleans are ``true``/``false``. ``split_part(to_json(x)::text, '"', 2)`` is the cheapest exact ISO form: a seventh
of a microsecond a value; btrim takes 1.6 times as long, because it measures each character, and ``to_json(x) #>> '{}'``
still more; to_char would lose infinity and BC.

JSONL: row_to_json writes everything right by itself, except that it copies ``json`` text raw. A line break in JSON text
can only be white space between tokens, so it becomes a space; otherwise it would cut the record in two.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from exportd.catalog.shape import Relation
from exportd.database.quoting import identifier
from exportd.model.entity import DELETED_FIELD, Entity, Field
from exportd.model.errors import InvariantError
from exportd.model.schedule import ExportFormat

_TIMESTAMPS = frozenset({"timestamptz", "timestamp"})
_JSON = "json"


@dataclass(frozen=True, slots=True)
class ProjectedType:
    """What the projection of a value depends on: its type below domains, and whether it may contain ``json`` text."""

    base_type: str
    may_hold_json: bool


def column_types(root: Relation) -> dict[str, ProjectedType]:
    """The value type of each column of a table."""
    return {
        column.name: ProjectedType(
            column.base_type,
            may_hold_json=column.base_kind == "c"
            or column.element_kind in {"c", "d"}
            or column.element_type == _JSON
            or ("." in column.base_type and column.base_kind == "b"),
        )
        for column in root.columns
    }


def csv_header(entity: Entity) -> bytes:
    """The header line of a CSV file, quoted like COPY would."""
    return ",".join(_csv_cell(name) for name in entity.field_names).encode() + b"\n"


def record_bytes(entity: Entity, file_format: ExportFormat, row_bytes: int) -> int:
    """A record's size in bytes in a file: its values and the separators. The last comma stands for the line feed."""
    names = entity.field_names
    if file_format is ExportFormat.CSV:
        return row_bytes + len(names) + len("false")
    return row_bytes + sum(len(name.encode()) + len('"":,') for name in names) + len("{false}")


@dataclass(frozen=True, slots=True)
class Projection:
    """The select lists of an entity in a snapshot. They are made once for all jobs that share the snapshot.

    ``types`` maps columns and expressions to their value types.
    """

    entity: Entity
    types: Mapping[str, ProjectedType]
    _made: dict[tuple[ExportFormat, bool], str] = field(default_factory=dict, init=False, compare=False)

    def select_list(self, file_format: ExportFormat, *, deleted: bool) -> str:
        """The select list over ``t``."""
        form = (file_format, deleted)
        if form not in self._made:
            values = [
                f"{_value(field, file_format, self.types)} AS {identifier(field.name)}" for field in self.entity.fields
            ]
            marker = f"'{str(deleted).lower()}'" if file_format is ExportFormat.CSV else str(deleted).lower()
            self._made[form] = ", ".join([*values, f"{marker} AS {identifier(DELETED_FIELD)}"])
        return self._made[form]


def expressions(entity: Entity) -> Sequence[str]:
    """The catalog's expressions, whose types only the server knows."""
    return [field.expression for field in entity.fields if field.expression is not None]


def _value(field: Field, file_format: ExportFormat, types: Mapping[str, ProjectedType]) -> str:
    if field.expression is not None:
        value, kind = f"({field.expression})", types[field.expression]
    else:
        if field.column is None:
            raise InvariantError("a field has a column or an expression")
        value, kind = f"t.{identifier(field.column)}", types[field.column]
    return _csv(value, kind) if file_format is ExportFormat.CSV else _json(value, kind)


def _csv(value: str, kind: ProjectedType) -> str:
    if kind.base_type in _TIMESTAMPS:
        return f"split_part(to_json({value})::text, '\"', 2)"
    if kind.base_type == "bool":
        return f"{value}::text"
    return value


def _json(value: str, kind: ProjectedType) -> str:
    if kind.base_type == _JSON:
        return f"translate({value}::text, E'\\n\\r', '  ')::json"
    if kind.may_hold_json:
        return f"translate(to_json({value})::text, E'\\n\\r', '  ')::json"
    return value


def _csv_cell(text: str) -> str:
    if any(character in text for character in ',"\r\n'):
        return '"' + text.replace('"', '""') + '"'
    return text
