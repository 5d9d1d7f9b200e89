"""A table as the database has it now. Pure values.

A ``LiveTable`` is what the catalog is compared with: everything that can prevent the table's export, and the types of
its columns as consumers see them. The catalog may declare less strict types. A ``Shape`` is what capture and reading
are made from: columns, key types, partitions, capture triggers.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import StrEnum
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

# Other types that a declared type accepts: less strict ones that do not mislead a reader.
_ALSO: dict[str, frozenset[str]] = {
    "integer": frozenset({"numeric"}),  # numeric(20,0) is how some spell a large integer
    "float": frozenset({"int2", "int4", "int8"}),
    "json": _TEXTS,  # JSON kept as text
}

_NO_MODIFIER = -1
"""pg_attribute.atttypmod of a type without modifiers, such as numeric, whose values each have their own scale."""

_ALIKE_TYPES = frozenset(
    {
        *("bool", "char", "int2", "int4", "int8", "oid", "money", "uuid", "name", "text", "varchar", "bytea"),
        *("date", "time", "timetz", "timestamp", "timestamptz"),
        *("bit", "varbit", "inet", "cidr", "macaddr", "macaddr8", "pg_lsn", "xid8"),
        *("int4range", "int8range", "daterange", "tsrange", "tstzrange"),
    }
)
"""Types of pg_catalog whose equal values are always written alike. All others have equal values that are written
differently: float8 0 and -0, interval 1 day and 24:00:00, jsonb 1 and 1.0, and whatever contains numbers or is unknown.
"""

_MODIFIED_ALIKE_TYPES = frozenset({"numeric", "bpchar"})
"""Types whose equal values are written alike if the column has a modifier: numeric(10,2), char(3)."""

_ENUM = "e"
_FLOATS = frozenset({"float4", "float8", "interval"})
_HOLDING_KINDS = frozenset({"c", "r", "m"})
"""Composite types, ranges and multiranges, which may hold floats."""


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
    """Whether the values may have the ``declared`` format: a text may have any, but a date is never a uuid."""
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
        """The reason why it does not identify every row at the end of each transaction; None when it does.

        A deferrable index does, because exports see only committed rows.
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
        """Read a row of the query ``describe_tables``."""
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


class RelationKind(StrEnum):
    """pg_class.relkind, as far as it can be captured."""

    TABLE = "r"
    PARTITIONED = "p"


@dataclass(frozen=True, slots=True)
class Column:
    """A live column of a table.

    ``type_name`` is what format_type says of its type below domains: without modifiers, with its schema where that
    is not pg_catalog. ``base_type`` is the pg_catalog name below domains (``bool``, ``timestamptz``, ``json``, …)
    or the qualified name of another type; ``base_kind`` its pg_type.typtype, ``element_kind`` the typtype of an
    array's element or "". ``collation`` is a quoted name, or None for the base type's default; ``deterministic`` is
    False when it calls different texts equal. ``equality`` is the schema of the type's default ``=`` operator.
    ``version`` is pg_attribute's xmin: it changes with every ALTER of the column, also with one that rewrites its
    values and leaves its type, and with others that touch no value. ``type_parts`` are the labels and attributes that
    enums and composite types in it have. ``is_virtual``: generated when read (Postgres 18), and not there in triggers.
    """

    number: int
    name: str
    type_name: str
    type_oid: int
    type_modifier: int
    base_type: str
    base_kind: str
    element_type: str
    element_kind: str
    collation: str | None
    equality: str
    deterministic: bool = True
    version: str = ""
    is_virtual: bool = False
    type_parts: tuple[tuple[str, str], ...] = ()

    @property
    def spelling_depends_on_session(self) -> bool:
        """Whether two different values may be written alike in a session with unusual settings, such as floats with
        fewer digits.
        """
        return not self.equal_means_alike and (
            self.base_type in _FLOATS or self.base_kind in _HOLDING_KINDS or self.element_type != ""
        )

    @property
    def is_user_defined(self) -> bool:
        """Whether its type below domains belongs to an extension or to the application, not to Postgres itself."""
        return "." in self.base_type

    @property
    def is_logged_as_text(self) -> bool:
        """Whether the change log holds its values as text.

        The log must not depend on a type that can be dropped, and an array of arrays cannot hold keys.
        """
        return self.is_user_defined or bool(self.element_type)

    @property
    def equal_means_alike(self) -> bool:
        """Whether equal values have equal texts, as a consumer sees them. They do not in citext, and 1 = 1.0."""
        if self.base_type in _MODIFIED_ALIKE_TYPES:
            return self.type_modifier != _NO_MODIFIER
        return self.deterministic and (self.base_type in _ALIKE_TYPES or self.base_kind == _ENUM)


@dataclass(frozen=True, slots=True)
class CaptureTrigger:
    """A trigger that calls a function of exportd.

    ``enabled`` is pg_trigger.tgenabled, ``xmin`` the row's version, ``fires`` its tgtype: when and at what level.
    ``conditional``: it has a WHEN or a list of columns, so it does not fire for every change.
    """

    oid: int
    xmin: str
    name: str
    enabled: str
    function: str
    fires: int
    conditional: bool = False


@dataclass(frozen=True, slots=True)
class Relation:
    """One table of a tree: the root itself, a partition, or an inheritance child.

    ``is_logged`` is False for a table that is empty after a crash. ``file`` is pg_class.relfilenode: another one when
    the table was rewritten. ``unique_keys`` are the columns of its unique indexes.
    """

    oid: int
    name: TableName
    kind: RelationKind
    pages: int
    columns: tuple[Column, ...]
    triggers: tuple[CaptureTrigger, ...]
    is_logged: bool = True
    file: int = 0
    unique_keys: tuple[frozenset[str], ...] = ()

    def column(self, name: str) -> Column | None:
        return next((column for column in self.columns if column.name == name), None)


@dataclass(frozen=True, slots=True)
class Shape:
    """A table with everything below it. ``members`` excludes the root and is sorted by name.

    ``log_oid`` is the oid of its entity's change log, None when capture is not installed.
    """

    root: Relation
    members: tuple[Relation, ...]
    log_oid: int | None
    log_columns: tuple[tuple[str, str], ...]

    @property
    def relations(self) -> tuple[Relation, ...]:
        return (self.root, *self.members)

    def up_to(self, last_member: int) -> "Shape":
        """The tree without the members that were added later, which have a higher oid."""
        return replace(self, members=tuple(member for member in self.members if member.oid <= last_member))

    @property
    def pages(self) -> int:
        """The size of the largest table of the tree in pages of 8 KiB: the range of ctid."""
        return max(relation.pages for relation in self.relations)

    @property
    def is_logged(self) -> bool:
        """Whether all rows survive a crash of the server."""
        return all(relation.is_logged for relation in self.relations)

    def ensures_unique(self, key: Collection[str]) -> bool:
        """Whether the database lets no two rows of the whole tree have the same key."""
        if self.root.kind is not RelationKind.PARTITIONED and self.members:
            return False  # an inheritance child has indexes of its own, which know nothing of its parent's rows
        return any(columns <= set(key) for columns in self.root.unique_keys)

    def same_layout(self, member: Relation) -> bool:
        """Whether the member's rows have the same text form as the root's."""
        return [(column.name, column.type_oid) for column in member.columns] == [
            (column.name, column.type_oid) for column in self.root.columns
        ]
