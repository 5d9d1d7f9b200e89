"""How a trigger function reads and measures the rows that were written; no ALTER TABLE can break it. Pure: SQL.

**The application's write never fails because of us.** A renamed, dropped or retyped column must not break a trigger
function, and catching an exception would cost every statement a subtransaction. So the columns are fetched in a way
that always parses: SQL looks an unqualified name up in the innermost FROM first and in outer ones after, so
``SELECT "id" FROM (SELECT r.*) AS present`` finds the row's column where it exists and otherwise the column of the same
name in ``absent``, a subquery around it whose columns have the type ``exportd.absent``. The value then goes through
``exportd.log_…_key_1(value)``, which exists twice: for the key's own type it returns the value, for anything else NULL.
The planner inlines all of it away. A row whose key or tenant is unknown is logged as T, which makes the entity's next
run full.

Each of the two functions takes the value twice, and a constant whose type decides for the second unless the first fits
exactly. Otherwise a column whose new type has an implicit cast to the old, as text has to varchar, would fit both, and
the write would fail.

A type that is not Postgres's own is named nowhere, so that the application can drop it: the first function takes the
missing column, the second turns any value into text.

**A value that may be large is measured before it is read.** No value of Postgres may take more than 1 GB, neither a row
as text nor an array of keys; a row itself may be larger. What would exceed it fails the application's statement, so it
is measured before, by the size that is stored: a long value is not fetched for that. lz4 makes a value at most 255
times smaller. ``pg_column_size`` takes any type, so an ALTER TABLE does not break the measuring.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from exportd.capture.log_definition import LogDefinition, logged_type
from exportd.catalog.shape import Column, Shape
from exportd.database.quoting import identifier, literal, table
from exportd.model.change_log import SCHEMA, TENANT_COLUMN
from exportd.model.entity import TableName

MAX_LONG_KEY_BYTES = 6_000
"""A longer key has a row of the log for itself: 10,000 keys of this size are 60 MB."""

MAX_KEY_BYTES = 64_000_000
"""A longer key is not logged: T instead. An index, which makes keys unique, takes some 700 kB at most."""

MAX_TENANT_BYTES = 1_000
"""A longer tenant is no organization's id. The index of the log takes some 2,700 bytes."""

_MAX_PLAIN_BYTES = 256_000
"""Texts of so many stored bytes are at most 65 MB, and 400 MB as an escaped image in JSON."""

_MAX_NESTED_BYTES = 8_192
"""Of a value that may print a number of 131,072 digits for every 12 bytes, as jsonb and arrays do: 90 MB."""

_MAX_STORED_BYTES = 160_000_000
"""A row that is stored larger has no image; putting it together may already be too much."""

_COMPRESSED = 255

_SHORT_TYPES = frozenset({
    "bool", "char", "name", "int2", "int4", "int8", "float4", "float8", "oid", "date", "time", "timetz", "timestamp",
    "timestamptz", "interval", "uuid", "money", "macaddr", "macaddr8", "inet", "cidr", "point", "lseg", "box", "circle",
    "line", "pg_lsn", "xid", "xid8", "cid", "tid", "regclass", "regtype", "regproc",
})  # fmt: skip
_PLAIN_TYPES = frozenset({"text", "varchar", "bpchar", "bytea", "json", "xml"})
_LIMITED_TYPES = frozenset({"varchar", "bpchar"})
_MAX_SHORT_CHARACTERS = 1_000
_MODIFIER_HEADER = 4
"""pg_attribute.atttypmod of varchar(n) is n + 4."""


def is_short(column: Column) -> bool:
    """Whether no value of the column takes more than 4 kB."""
    if column.base_type in _LIMITED_TYPES:
        return 0 <= column.type_modifier - _MODIFIER_HEADER <= _MAX_SHORT_CHARACTERS
    return column.base_kind == "e" or (column.base_type in _SHORT_TYPES and not column.element_type)


def weight(values: Iterable[str]) -> str:
    """SQL: an upper bound of the bytes of several values together; bigint, never NULL."""
    return _sum(
        f"CASE WHEN pg_catalog.pg_column_compression({value}) IS NULL THEN {_stored(value)} "
        f"ELSE {_stored(value)} OPERATOR(pg_catalog.*) {_COMPRESSED} END"
        for value in values
    )


def image_may_be_large(columns: Iterable[tuple[Column, str]]) -> str:
    """SQL: whether the text of a row may be too long. ``columns`` come with the SQL of their values."""
    listed = list(columns)
    conditions = []
    if plain := [value for column, value in listed if column.base_type in _PLAIN_TYPES]:
        conditions.append(f"{_sum(map(_stored, plain))} OPERATOR(pg_catalog.>) {_MAX_PLAIN_BYTES}")
    for column, value in listed:
        if column.base_type not in _PLAIN_TYPES:
            conditions.append(f"pg_catalog.pg_column_compression({value}) IS NOT NULL")
            conditions.append(f"{_stored(value)} OPERATOR(pg_catalog.>) {_MAX_NESTED_BYTES}")
    return " OR ".join(conditions)


def row_can_be_tried(values: Iterable[str]) -> str:
    """SQL: whether the row may be put together, to find out how long its text is."""
    return f"{_sum(map(_stored, values))} OPERATOR(pg_catalog.<=) {_MAX_STORED_BYTES}"


def record_can_be_tried(record: str) -> str:
    """plpgsql: the same of a row trigger's OLD or NEW. The size of one above 2 GB is negative."""
    return f"pg_catalog.pg_column_size({record}) BETWEEN 0 AND {_MAX_STORED_BYTES}"


def _stored(value: str) -> str:
    return f"coalesce(pg_catalog.pg_column_size({value}), 0)::pg_catalog.int8"


def _sum(terms: Iterable[str]) -> str:
    return f"({' OPERATOR(pg_catalog.+) '.join(terms)})"


@dataclass(frozen=True, slots=True)
class PassingFunction:
    """One of the two functions that fetch a column: for its own type, or for every other.

    A function is STABLE when it turns values into text, or it would not be inlined.
    """

    name: str
    arguments: str
    result: str
    body: str
    volatility: str = "IMMUTABLE"

    def create(self) -> str:
        """The statement that creates it, or replaces it."""
        return (
            f"CREATE OR REPLACE FUNCTION {table(TableName(SCHEMA, self.name))}({self.arguments}) "
            f"RETURNS {self.result} LANGUAGE sql {self.volatility} PARALLEL SAFE AS {literal(self.body)}"
        )


def passing_functions(log: LogDefinition) -> Iterator[PassingFunction]:
    """The functions through which an entity's key and tenant are fetched."""
    # The NULL has its type from the log. Naming the type would trust the writer's search_path.
    for name, column in zip(log.keys, log.key_shapes, strict=True):
        null = f"((NULL::{log.table}).{name})[1]"
        yield from _overloads(f"{log.name}_{name}", column, logged_type(column), known=_logged(column), other=null)
    if log.tenant_shape:
        column = log.tenant_shape
        null = f"(NULL::{log.table}).{TENANT_COLUMN}"
        value = _logged(column)
        if not is_short(column):
            text = value if column.base_type in {"text", "varchar"} else f"pg_catalog.concat({value})"
            length = f"pg_catalog.octet_length({text})"
            value = f"CASE WHEN {length} OPERATOR(pg_catalog.<=) {MAX_TENANT_BYTES} THEN {value} END"
        yield from _overloads(f"{log.name}_{TENANT_COLUMN}", column, logged_type(column), known=value, other=null)
        yield from _overloads(f"{log.name}_has_tenant", column, "pg_catalog.bool", known="true", other="false")


def written_rows(
    log: LogDefinition, shape: Shape, source: str, alias: str, *, reordered: bool = False, measured: bool = False
) -> str:
    """Rows of ``source`` as (key_1…, tenant, known, row), by the fetch that always parses.

    ``row`` is the whole row as an anonymous record, which the rows of transition tables and subqueries are (those of a
    table are not); with ``reordered``, its columns in the root table's order. ROW(written.*) would be the same, but the
    server refuses to read a virtual generated column in a transition table. Where keys may be long there is
    ``key_bytes``, and a row whose key is too long for the log is not known. With ``measured`` there are
    ``may_be_large`` (the row's text may be) and ``can_be_tried`` (it may be made, to see).
    """
    entity = log.entity
    stored = [column for column in shape.root.columns if not column.is_virtual]
    weighed = large_columns(shape) if measured else []
    names = [*entity.key, *([entity.tenant] if entity.tenant else [])]
    names += [column.name for column in (stored if reordered else weighed)]
    absent = ", ".join(f"NULL::exportd.absent AS {identifier(name)}" for name in dict.fromkeys(names))
    fetched = [f"{_passed(log, key, name)} AS {key}" for key, name in zip(log.keys, entity.key, strict=True)]
    known = [f"fetched.{key} IS NOT NULL" for key in log.keys]
    if entity.tenant:
        fetched.append(f"{_passed(log, TENANT_COLUMN, entity.tenant)} AS {TENANT_COLUMN}")
        fetched.append(f"{_passed(log, 'has_tenant', entity.tenant)} AS has_tenant")
        known.append("fetched.has_tenant")
    if reordered:
        values = ("NULL" if column.is_virtual else identifier(column.name) for column in shape.root.columns)
        fetched.append(f"ROW({', '.join(values)}) AS reordered")
    if measured:
        listed = [(column, identifier(column.name)) for column in weighed]
        fetched.append(f"{image_may_be_large(listed)} AS may_be_large")
        fetched.append(f"{row_can_be_tried(value for _, value in listed)} AS can_be_tried")
    others = ""
    if long_keys := _long_keys(log):
        key_bytes = weight(f"fetched.{key}" for key in long_keys)
        known.append(f"{key_bytes} OPERATOR(pg_catalog.<=) {MAX_KEY_BYTES}")
        others = f", {key_bytes} AS key_bytes"
    # Without the cast, .* would be all columns. It does not make a table's row anonymous.
    row = "fetched.reordered" if reordered else "(written.*)::pg_catalog.record"
    return (
        f"(SELECT fetched.*, {' AND '.join(known)} AS known{others}, {row} AS row\n"
        f"          FROM (SELECT {absent}) AS absent\n"
        f"          CROSS JOIN {source} AS written\n"
        f"          CROSS JOIN LATERAL (SELECT {', '.join(fetched)} FROM (SELECT written.*) AS present) AS fetched"
        f") AS {alias}"
    )


def large_columns(shape: Shape) -> list[Column]:
    """The columns of a table that may make a row too large."""
    return [column for column in shape.root.columns if not column.is_virtual and not is_short(column)]


def keys_may_be_long(log: LogDefinition) -> bool:
    """Whether ``written_rows`` has ``key_bytes``."""
    return bool(_long_keys(log))


def is_long_key(alias: str) -> str:
    """SQL: whether the row's key has a row of the log for itself."""
    return f"{alias}.key_bytes OPERATOR(pg_catalog.>) {MAX_LONG_KEY_BYTES}"


def is_too_long_key(alias: str) -> str:
    """SQL: whether the row is unknown because its key is too long."""
    return f"{alias}.key_bytes OPERATOR(pg_catalog.>) {MAX_KEY_BYTES}"


def _long_keys(log: LogDefinition) -> list[str]:
    return [key for key, column in zip(log.keys, log.key_shapes, strict=True) if not is_short(column)]


def _passed(log: LogDefinition, function: str, column: str) -> str:
    value = identifier(column)
    return f"{table(TableName(SCHEMA, f'{log.name}_{function}'))}({value}, {value}, 1)"


def _logged(column: Column) -> str:
    # IS NULL is true of a composite value of NULLs, too.
    text = "CASE WHEN pg_catalog.num_nulls($1) OPERATOR(pg_catalog.=) 0 THEN pg_catalog.concat($1) END"
    return text if column.is_logged_as_text else "$1"


def _overloads(name: str, column: Column, result: str, *, known: str, other: str) -> Iterator[PassingFunction]:
    volatility = "STABLE" if "concat" in known else "IMMUTABLE"
    if column.is_logged_as_text:
        yield PassingFunction(name, "exportd.absent, exportd.absent, bigint", result, f"SELECT {other}")
        yield PassingFunction(name, "anyelement, anyelement, integer", result, f"SELECT {known}", volatility)
    else:
        argument = column.type_name
        yield PassingFunction(name, f"{argument}, {argument}, bigint", result, f"SELECT {known}", volatility)
        yield PassingFunction(name, "anyelement, anyelement, integer", result, f"SELECT {other}")
