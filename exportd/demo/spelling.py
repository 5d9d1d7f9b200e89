"""How the database itself spells a record's values as text, to be compared with the cells of files. Pure.

This is on purpose not the exporter's own SQL.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from exportd.database.quoting import identifier, table
from exportd.model.entity import Entity, Field
from exportd.model.errors import PermanentError
from exportd.model.reason import Reason
from exportd.model.schedule import ExportFormat

SEPARATOR, NULL = "\x1f", "\x1e"
"""Between the cells of a record, and instead of a cell that is NULL, where a record is one text."""

SETTINGS = {
    "search_path": "pg_catalog",
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "xmlbinary": "base64",
}
"""What the spelling of some types depends on."""

# Their cast to text is their output, and their JSON is that text or that number.
_PLAIN = frozenset({"text", "varchar", "uuid", "int2", "int4", "int8", "numeric", "float4", "float8", "date", "time"})


@dataclass(frozen=True, slots=True)
class Spelling:
    """The queries of an entity's records for a format. ``types`` are the base types of its fields, in their order."""

    entity: Entity
    file_format: ExportFormat
    types: Sequence[str]

    @property
    def same_in_all_formats(self) -> bool:
        return set(self.types) <= _PLAIN | {"bool", "timestamp", "timestamptz", "jsonb"}

    @property
    def digests(self) -> str:
        """Each record's key and the MD5 of its cells. Parameter: the organization, if the entity has a tenant."""
        return f"SELECT {self._key}, decode(md5(convert_to({_joined(self._cells)}, 'UTF8')), 'hex') {self._from}"

    @property
    def records(self) -> str:
        """Key and cells of the records with the keys of the last parameter (text[])."""
        clause = f"{'AND' if self.entity.tenant else 'WHERE'} {self._key} = ANY (${2 if self.entity.tenant else 1})"
        return f"SELECT {self._key}, ARRAY[{', '.join(self._cells)}] {self._from} {clause}"

    @property
    def _key(self) -> str:
        return _joined([self._cells[position] for position in key_positions(self.entity)])

    @property
    def _cells(self) -> list[str]:
        spell = _csv if self.file_format is ExportFormat.CSV else _json
        return [spell(value_of(each), kind) for each, kind in zip(self.entity.fields, self.types, strict=True)]

    @property
    def _from(self) -> str:
        tenant = self.entity.tenant
        where = f" WHERE t.{identifier(tenant)}::text = $1" if tenant else ""
        return f"FROM {table(self.entity.table)} AS t{where}"


def sample(entity: Entity) -> str:
    """A query whose columns are the entity's fields, to learn their types."""
    values = ", ".join(value_of(field) for field in entity.fields)
    return f"SELECT {values} FROM {table(entity.table)} AS t LIMIT 0"


def key_positions(entity: Entity) -> list[int]:
    """Which fields are the key. Raises PermanentError when a key column is not exported as it is."""
    columns = [field.column for field in entity.fields]
    missing = [each for each in entity.key if each not in columns]
    if missing:
        raise PermanentError(
            f"{entity.code} cannot be replayed: its key column {missing[0]} is not a field of the catalog",
            reason=Reason.CATALOG_MISMATCH,
        )
    return [columns.index(each) for each in entity.key]


def value_of(field: Field) -> str:
    """The field's value as SQL."""
    return f"({field.expression})" if field.column is None else f"t.{identifier(field.column)}"


def _joined(cells: Sequence[str]) -> str:
    return f"array_to_string(ARRAY[{', '.join(cells)}], E'\\x1f', E'\\x1e')"


def _csv(value: str, kind: str) -> str:
    if kind in _PLAIN or kind in {"bool", "json", "jsonb"}:
        return f"{value}::text"
    if kind in {"timestamp", "timestamptz"}:
        return f"to_json({value}) #>> '{{}}'"
    # The output of any type; its cast to text may be something else (char(n), inet).
    return f"CASE WHEN {value} IS DISTINCT FROM NULL THEN format('%s', {value}) END"


def _json(value: str, kind: str) -> str:
    if kind in _PLAIN or kind == "bool":
        return f"{value}::text"
    if kind in {"timestamp", "timestamptz"}:
        return f"to_json({value}) #>> '{{}}'"
    # JSON's own null is null in a file, as is NULL.
    document = value if kind == "jsonb" else f"to_jsonb({value})"
    return (
        f"CASE jsonb_typeof({document}) WHEN 'string' THEN {document} #>> '{{}}'"
        f" ELSE nullif({document}::text, 'null') END"
    )
