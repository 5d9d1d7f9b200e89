"""What can be exported: an entity is a kind of record, backed by one table."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

EntityCode = NewType("EntityCode", str)
"""The name of an entity in schedules and manifests, such as ``ACCOUNTS``."""

OrganizationId = NewType("OrganizationId", str)
"""A tenant: ``orgId`` in paths, the value of an entity's tenant column in the database."""

DELETED_FIELD = "deleted"
"""The last field of every record: true for a record that was deleted in the window."""


@dataclass(frozen=True, slots=True, order=True)
class TableName:
    """A table, always with its schema. Quoting is ``database.quoting``'s job."""

    schema: str
    name: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class Field:
    """One field of an exported record: a column of the table, or an SQL expression over its columns.

    Exactly one of ``column`` and ``expression`` is set. An expression sees the table's columns unqualified and must
    qualify functions that are not in ``pg_catalog``. ``type`` is documentation for consumers (``string``, ``integer``,
    ``float``, ``boolean``, ``json``); ``format`` refines it (``uuid``, ``date``, ``date-time``).
    """

    name: str
    column: str | None = None
    expression: str | None = None
    type: str = "string"
    format: str | None = None
    reference: EntityCode | None = None


class CaptureLevel(StrEnum):
    """What the triggers that record changes fire for: each statement, or each row."""

    STATEMENT = "statement"
    ROW = "row"


@dataclass(frozen=True, slots=True)
class Entity:
    """A kind of record that can be exported.

    ``key`` are the columns that identify a record (not null, unique). ``tenant`` is the column that holds the
    organization; None means that every organization may read every row. ``type_token`` is the ``type=`` segment of
    object keys. ``fields`` excludes the ``deleted`` field, which every record gets as its last. ``modified`` is the
    column with the time of a row's last change, which only exports with a start date look at; None: there is none.
    """

    code: EntityCode
    label: str
    type_token: str
    table: TableName
    key: tuple[str, ...]
    tenant: str | None
    fields: tuple[Field, ...] = field(repr=False)
    capture: CaptureLevel = CaptureLevel.STATEMENT
    modified: str | None = None

    @property
    def field_names(self) -> tuple[str, ...]:
        """The header of its files, ``deleted`` last."""
        return (*(exported.name for exported in self.fields), DELETED_FIELD)
