"""Which values may be large, and the SQL that measures them without reading them. Pure.

No value of Postgres may take more than 1 GB, neither a row as text nor an array of keys; a row itself may be larger.
What would exceed it fails the application's statement, so it is measured before, by the size that is stored: a long
value is not fetched for that. lz4 makes a value at most 255 times smaller.

``pg_column_size`` takes any type, so an ALTER TABLE does not break the measuring.
"""

from collections.abc import Iterable

from exportd.catalog.shape import Column

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
