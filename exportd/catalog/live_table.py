"""A table as the database has it, with what can prevent its export, and what its columns' values are. Pure values.

A column's type and format are those that the consumer sees; the catalog may declare them looser.
"""

import json
from dataclasses import dataclass
from typing import Any

from exportd.model.entity import TableName

_TYPES = {
    "int2": "integer",
    "int4": "integer",
    "int8": "integer",
    "float4": "float",
    "float8": "float",
    "numeric": "float",
    "bool": "boolean",
    "json": "json",
    "jsonb": "json",
}
_FORMATS = {"uuid": "uuid", "date": "date", "timestamp": "date-time", "timestamptz": "date-time"}
_TEXTS = frozenset({"text", "varchar", "bpchar", "name", "citext"})

INSTANTS = frozenset({"date", "timestamp", "timestamptz"})
"""Types of pg_catalog whose values are points in time: days, or times with or without a zone."""

# What a declared type accepts beside its own: looser, where no reader is misled.
_ALSO: dict[str, frozenset[str]] = {
    "integer": frozenset({"numeric"}),  # numeric(20,0) is how some spell a large integer
    "float": frozenset({"int2", "int4", "int8"}),
    "json": _TEXTS,  # JSON kept as text
}


@dataclass(frozen=True, slots=True)
class ValueType:
    """A type as the database has it. ``name`` is for people, ``base`` the pg_type name below domains.

    ``is_nested``: an array or a composite, which is Postgres's own text in CSV and nested in JSONL.
    """

    name: str
    base: str
    is_nested: bool = False


def is_instant(type_: ValueType) -> bool:
    """Whether the values are points in time."""
    return not type_.is_nested and type_.base in INSTANTS


def field_type(type_: ValueType) -> tuple[str, str | None]:
    """The type and format to declare for such a column."""
    if type_.is_nested:
        return "string", None
    return _TYPES.get(type_.base, "string"), _FORMATS.get(type_.base)


def accepts(declared: str, type_: ValueType) -> bool:
    """Whether a field of the ``declared`` type may hold such values."""
    if type_.is_nested:
        return declared in {"string", "json"}
    return _TYPES.get(type_.base, "string") == declared or type_.base in _ALSO.get(declared, ())


def accepts_format(declared: str | None, type_: ValueType) -> bool:
    """Whether the ``declared`` format is not contradicted: a text may hold anything, a date is no uuid."""
    if declared is None or type_.base in _TEXTS:
        return True
    return not type_.is_nested and _FORMATS.get(type_.base) == declared


@dataclass(frozen=True, slots=True)
class LiveColumn:
    """A column. ``generation`` is the expression of a virtual generated column, None for all others.

    ``is_ordered``: its type has a default btree operator class, so that values can be compared and indexed.
    ``is_array``: its type is an array below domains.
    """

    name: str
    type: ValueType
    is_nullable: bool
    is_ordered: bool
    generation: str | None = None
    is_array: bool = False


@dataclass(frozen=True, slots=True)
class LiveIndex:
    """A unique index. ``columns`` leaves out included columns; a None is an expression."""

    name: str
    columns: tuple[str | None, ...]
    is_primary: bool = False
    is_valid: bool = True
    is_partial: bool = False

    @property
    def weakness(self) -> str | None:
        """Why it does not identify every row at the end of each transaction; None when it does.

        One that is deferrable does: exports see what was committed.
        """
        if None in self.columns:
            return "is on an expression"
        if self.is_partial:
            return "covers a part of the rows only"
        return None if self.is_valid else "is not valid (its CREATE INDEX CONCURRENTLY failed)"


@dataclass(frozen=True, slots=True)
class LiveTable:
    """A table, view or foreign table. ``kind`` is pg_class.relkind, ``persistence`` pg_class.relpersistence.

    ``partition_root`` is set for a partition, ``parents`` for an inheritance child. The three tuples of members are the
    tables below it that cannot be captured; ``has_children`` says that tables inherit from it which are no partitions,
    so that its unique indexes do not hold for all rows. ``role`` is the role that read this, and whose rights are
    meant by ``is_readable`` (SELECT on the table), ``is_reachable`` (USAGE of the schema) and ``is_filtered`` (row
    level security hides rows from it).
    """

    name: TableName
    kind: str
    persistence: str
    role: str
    columns: tuple[LiveColumn, ...]
    indexes: tuple[LiveIndex, ...]
    partition_root: TableName | None = None
    parents: tuple[TableName, ...] = ()
    foreign_members: tuple[TableName, ...] = ()
    unlogged_members: tuple[TableName, ...] = ()
    shared_members: tuple[TableName, ...] = ()
    has_children: bool = False
    is_readable: bool = True
    is_reachable: bool = True
    is_filtered: bool = False

    def column(self, name: str) -> LiveColumn | None:
        return next((column for column in self.columns if column.name == name), None)

    @property
    def primary_key(self) -> LiveIndex | None:
        return next((index for index in self.indexes if index.is_primary), None)

    @classmethod
    def from_json(cls, text: str) -> "LiveTable":
        """The table that a row of the query ``describe_tables`` describes."""
        given: dict[str, Any] = json.loads(text)
        given["name"] = TableName(*given["name"])
        given["columns"] = tuple(_column(column) for column in given["columns"])
        given["indexes"] = tuple(_index(index) for index in given["indexes"])
        root = given["partition_root"]
        given["partition_root"] = None if root is None else TableName(*root)
        for key in ("parents", "foreign_members", "unlogged_members", "shared_members"):
            given[key] = tuple(TableName(*pair) for pair in given[key])
        return cls(**given)


def _index(given: dict[str, Any]) -> LiveIndex:
    return LiveIndex(**{**given, "columns": tuple(given["columns"])})


def _column(given: dict[str, Any]) -> LiveColumn:
    type_ = ValueType(given.pop("type"), given.pop("base"), given.pop("is_nested"))
    return LiveColumn(type=type_, **given)
