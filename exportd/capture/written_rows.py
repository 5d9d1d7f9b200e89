"""Defines an entity's change log, and writes the SQL by which a trigger function reads and measures the written rows.
Pure.

The log has one row for each statement and tenant: ``op`` is I, U or D, or T where the changed records are unknown (the
entity's next run is full then). ``key_1``… are arrays, one element for each changed record. A D has one record only and
its ``image``, the deleted row as text; ``seq`` orders the images of a key.

Keys and tenants are logged in their own types. Arrays, and types that are not Postgres's own, are logged as text: the
application could not drop a type on which the log depends.

**The application's write never fails because of us.** A renamed, dropped or retyped column must not break a trigger
function, and catching an exception would cost every statement a subtransaction. So the columns are fetched in a way
that always parses: SQL looks an unqualified name up in the innermost FROM first and in outer ones after, so
``SELECT "id" FROM (SELECT r.*) AS present`` finds the row's column where it exists and otherwise the column of the same
name in ``absent``, a subquery around it whose columns have the type ``exportd.absent``. The value then goes through
``exportd.log_…_key_1(value)``, which exists twice: for the key's own type it returns the value, for anything else NULL.
The planner inlines all of it away. A row whose key or tenant is unknown is logged as T.

Each of the two functions takes the value twice, and a constant whose type decides for the second unless the first fits
exactly. Otherwise a column whose new type has an implicit cast to the old, as text has to varchar, would fit both, and
the write would fail.

A type that is not Postgres's own is named nowhere: the first function takes the missing column, the second turns any
value into text.

**A value that may be large is measured before it is read.** No value of Postgres may take more than 1 GB, neither a row
as text nor an array of keys; a row itself may be larger. What would exceed it fails the application's statement, so it
is measured before, by the size that is stored: a long value is not fetched for that. lz4 makes a value at most 255
times smaller. ``pg_column_size`` takes any type, so an ALTER TABLE does not break the measuring.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from exportd.catalog.shape import Column, Relation, Shape
from exportd.database.quoting import identifier, literal, table
from exportd.model.change_log import SCHEMA, TENANT_COLUMN, key_columns, log_name, log_table
from exportd.model.entity import Entity, TableName
from exportd.model.errors import PermanentError, Reason

MAX_LONG_KEY_BYTES = 6_000
"""A longer key gets a log row of its own: 10,000 keys of this size are 60 MB."""

MAX_KEY_BYTES = 64_000_000
"""Instead of a longer key, a T is logged. A unique index takes keys of some 700 kB at most."""

MAX_TENANT_BYTES = 1_000
"""A longer tenant cannot be an organization's id. The log's index takes values of some 2,700 bytes at most."""

_MAX_PLAIN_BYTES = 256_000
"""Text of this stored size is at most 65 MB long, and 400 MB as an escaped image in JSON."""

_MAX_NESTED_BYTES = 8_192
"""The limit for jsonb and arrays, which may print 131,072 digits for every 12 stored bytes: 90 MB."""

_MAX_STORED_BYTES = 160_000_000
"""A row with a larger stored size gets no image, because building its text may already exceed the limits of Postgres.
"""

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


class LogDefinition:
    """The names and columns of an entity's log.

    ``name`` is bare, ``table`` and ``sequence`` are quoted for SQL. ``keys`` are the log's key columns; ``key_shapes``
    and ``tenant_shape`` the columns of the entity's table that they are made from, ``shapes`` all of these. Raises
    PermanentError when the table does not have them, or the tenant is an array.
    """

    def __init__(self, entity: Entity, shape: Shape) -> None:
        self.entity = entity
        self.name = log_name(entity.code)
        self.table = table(log_table(entity.code))
        self.sequence = table(_sequence_of(self.name))
        self.keys = key_columns(entity)
        self.key_shapes = [_present(shape.root, name) for name in entity.key]
        self.tenant_shape = _present(shape.root, entity.tenant) if entity.tenant else None
        self.shapes = [*self.key_shapes, *([self.tenant_shape] if self.tenant_shape else [])]
        if self.tenant_shape and self.tenant_shape.element_type:
            raise PermanentError(
                f"The column {entity.tenant} of {shape.root.name} is an array, which holds no single organization. "
                "Correct the catalog.",
                reason=Reason.CATALOG_MISMATCH,
            )

    def columns(self) -> Iterator[tuple[str, str]]:
        """The columns by name and type, to compare an installed log with."""
        yield "seq", "bigint"
        yield "xid", "xid8"
        yield "op", '"char"'
        for name, column in zip(self.keys, self.key_shapes, strict=True):
            yield name, f"{logged_type(column)}[]"
        if self.tenant_shape:
            yield TENANT_COLUMN, logged_type(self.tenant_shape)
        yield "image", "text"

    def create(self) -> str:
        """The statements that create the table and its sequence."""
        columns = [
            # Orders the images of a key. CACHE 1, because a session must not reserve numbers while another one deletes
            # the key.
            "seq bigint",
            "xid xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id()",
            'op pg_catalog."char" NOT NULL',
            *(
                f"{name} {logged_type(column)}[]{_collate(column)}"
                for name, column in zip(self.keys, self.key_shapes, strict=True)
            ),
        ]
        if self.tenant_shape:
            columns.append(f"{TENANT_COLUMN} {logged_type(self.tenant_shape)}{_collate(self.tenant_shape)}")
        columns.append("image text")
        # Store long arrays out of line and uncompressed: compressing keys costs the writer time and saves little.
        storage = "".join(f"ALTER TABLE {self.table} ALTER {name} SET STORAGE EXTERNAL;\n" for name in self.keys)
        # Rows are only inserted and, in batches, deleted: vacuum by inserts and soon, so that space is reused.
        return (
            f"CREATE TABLE {self.table} (\n    " + ",\n    ".join(columns) + "\n) WITH (\n"
            "    autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.1,\n"
            "    autovacuum_analyze_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0\n);\n"
            f"{storage}"
            f"CREATE SEQUENCE {self.sequence} CACHE 1 OWNED BY {self.table}.seq"
        )

    def create_index(self) -> str:
        """The statement that creates the index by which windows find their rows."""
        # A tenant of an extension's type, such as citext, is compared as that type, so an index on text cannot be used.
        tenant = self.tenant_shape
        by_tenant = tenant is not None and not (tenant.is_user_defined and tenant.base_kind == "b")
        indexed = f"{TENANT_COLUMN}, xid" if by_tenant else "xid"
        return f"CREATE INDEX ON {self.table} ({indexed})"


@dataclass(frozen=True, slots=True)
class PassingFunction:
    """One of the two functions that fetch a column: for its own type, or for every other.

    A function that turns values into text is STABLE, because otherwise it would not be inlined.
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


def logged_type(column: Column) -> str:
    """The type that the column's values have in the log."""
    return "text" if column.is_logged_as_text else column.type_name


def _sequence_of(log: str) -> TableName:
    """The sequence of a log (bare name). Not log_…_seq, which may be the log of another entity."""
    return TableName(SCHEMA, log.replace("log_", "seq_", 1))


def _present(root: Relation, name: str) -> Column:
    column = root.column(name)
    if column is None:
        raise PermanentError(
            f"{root.name} has no column {name}, which the catalog names as key or tenant column.",
            reason=Reason.CATALOG_MISMATCH,
        )
    return column


def _collate(column: Column) -> str:
    return f" COLLATE {column.collation}" if column.collation and not column.is_logged_as_text else ""


def is_short(column: Column) -> bool:
    """Whether no value of the column takes more than 4 kB."""
    if column.base_type in _LIMITED_TYPES:
        return 0 <= column.type_modifier - _MODIFIER_HEADER <= _MAX_SHORT_CHARACTERS
    return column.base_kind == "e" or (column.base_type in _SHORT_TYPES and not column.element_type)


def weight(values: Iterable[str]) -> str:
    """SQL: an upper bound of the bytes of several values together, a bigint that is never NULL."""
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
    """SQL: whether the row may be built to find out how long its text is."""
    return f"{_sum(map(_stored, values))} OPERATOR(pg_catalog.<=) {_MAX_STORED_BYTES}"


def record_can_be_tried(record: str) -> str:
    """plpgsql: the same for OLD or NEW in a row trigger. The size of a record above 2 GB is negative."""
    return f"pg_catalog.pg_column_size({record}) BETWEEN 0 AND {_MAX_STORED_BYTES}"


def _stored(value: str) -> str:
    return f"coalesce(pg_catalog.pg_column_size({value}), 0)::pg_catalog.int8"


def _sum(terms: Iterable[str]) -> str:
    return f"({' OPERATOR(pg_catalog.+) '.join(terms)})"


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
    """Whether ``written_rows`` has a column ``key_bytes``."""
    return bool(_long_keys(log))


def is_long_key(alias: str) -> str:
    """SQL: whether the row's key gets a log row of its own."""
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
