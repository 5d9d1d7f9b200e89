"""What all databases have in common: an entity's records go to a staging table, and from there into its table. Pure.

``full`` replaces the table, whatever its columns were; ``incremental`` removes the records with the keys of the run and
adds those that are not deleted. Loading a run again changes nothing.

A table holds every value exactly. If the database has no type for all values of a field (numbers of any precision,
times of infinity and BC), the column is text. The view ``<table>_typed`` casts it, and is NULL for a value that does
not fit.

This is also the only module that quotes identifiers and literals by other rules than those of Postgres.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from exportd.database import quoting
from exportd.manifest.document import ManifestEntity, ManifestField
from exportd.model.entity import DELETED_FIELD
from exportd.model.errors import PermanentError, Reason
from exportd.model.extraction import Mode
from exportd.model.schedule import ExportFormat
from exportd.settings.destination_schema import Scheme
from exportd.stores.location import Location


class Dialect(ABC):
    """How one database loads files and merges them: the statements, and the types of columns."""

    text: ClassVar[str]
    boolean: ClassVar[str] = "BOOLEAN"
    casts: ClassVar[Mapping[str, str]] = {}
    """The cast of a column, ``{}``, by the field's type or else its format; no cast where there is none."""

    begin: ClassVar[tuple[str, ...]] = ("BEGIN",)
    end: ClassVar[tuple[str, ...]] = ("COMMIT",)
    """The statements before and after those of the entities."""

    was_run: ClassVar[bool] = True
    """Whether its scripts are run in the database by our tests; the first line of the others says that they are not."""

    remarks: ClassVar[tuple[str, ...]] = ()
    """Remarks for the person who runs the script."""

    def column_type(self, field: ManifestField) -> str:
        """The type of the column, which holds every value of the field exactly."""
        return self.boolean if field.type == "boolean" else self.text

    def cast(self, field: ManifestField, column: str) -> str:
        """The column as the field's own type: cast, or NULL where that type cannot hold the value."""
        cast = self.casts.get(field.type) or self.casts.get(field.format or "", "{}")
        return cast.format(column)

    def identifier(self, name: str) -> str:
        return quoting.identifier(name)

    @abstractmethod
    def stage(
        self, entity: ManifestEntity, file_format: ExportFormat, location: Location, keys: Sequence[str]
    ) -> Iterator[str]:
        """Load the objects ``keys`` at ``location`` into the staging table: every field, and ``deleted``.

        Without any the table is made empty.
        """

    def create(self, entity: ManifestEntity) -> Iterator[str]:
        """Make the table, empty, if there is none."""
        yield f"CREATE TABLE IF NOT EXISTS {self.table(entity)} (\n    {self.definitions(fields_of(entity))}\n)"

    def replace(self, entity: ManifestEntity) -> Iterator[str]:
        """Make the table anew, from the staging table."""
        yield (
            f"CREATE OR REPLACE TABLE {self.table(entity)} AS\n"
            f"SELECT {self.columns(entity)} FROM {self.staging(entity)} WHERE {self._lives()}"
        )

    def upsert(self, entity: ManifestEntity) -> Iterator[str]:
        """Remove the records with the keys of the staging table, and add its living ones."""
        names = [self.identifier(name) for name in key_of(entity)]
        same = " AND ".join(f"{self.table(entity)}.{name} = staged.{name}" for name in names)
        yield f"DELETE FROM {self.table(entity)} USING {self.staging(entity)} AS staged\nWHERE {same}"
        yield self.insert(entity)

    def insert(self, entity: ManifestEntity, source: str | None = None) -> str:
        """Add the living records of ``source``, the staging table when there is none."""
        columns = self.columns(entity)
        return (
            f"INSERT INTO {self.table(entity)} ({columns})\n"
            f"SELECT {columns} FROM {source or self.staging(entity)} WHERE {self._lives()}"
        )

    def view(self, entity: ManifestEntity) -> Iterator[str]:
        """The view that casts, where there is something to cast."""
        values = [(self.cast(field, self.identifier(field.name)), field) for field in fields_of(entity)]
        if any(value != self.identifier(field.name) for value, field in values):
            selected = ",\n    ".join(f"{value} AS {self.identifier(field.name)}" for value, field in values)
            name = self.identifier(f"{entity.code}_typed")
            yield f"CREATE OR REPLACE VIEW {name} AS\nSELECT\n    {selected}\nFROM {self.table(entity)}"

    def unstage(self, entity: ManifestEntity) -> Iterator[str]:
        yield f"DROP TABLE {self.staging(entity)}"

    def table(self, entity: ManifestEntity) -> str:
        return self.identifier(entity.code)

    def staging(self, entity: ManifestEntity) -> str:
        return self.identifier(f"{entity.code}_staging")

    def columns(self, entity: ManifestEntity) -> str:
        return ", ".join(self.identifier(field.name) for field in fields_of(entity))

    def definitions(self, fields: Sequence[ManifestField]) -> str:
        return ",\n    ".join(f"{self.identifier(field.name)} {self.column_type(field)}" for field in fields)

    def _lives(self) -> str:
        return f"NOT {self.identifier(DELETED_FIELD)}"


def fields_of(entity: ManifestEntity) -> tuple[ManifestField, ...]:
    """The fields of a record, without ``deleted``."""
    return tuple(field for field in entity.fields if field.name != DELETED_FIELD)


def key_of(entity: ManifestEntity) -> tuple[str, ...]:
    """The fields that identify a record. Raises PermanentError when one of them is not exported."""
    names = {field.name for field in entity.fields}
    missing = [name for name in entity.key if name not in names]
    if missing or not entity.key:
        raise PermanentError(
            f"{entity.code} cannot be merged: its key {missing[0] if missing else ''} is no field of the export. "
            "Add it to the entity's fields in the catalog; the next run is full then.",
            reason=Reason.CATALOG_MISMATCH,
        )
    return entity.key


def reader_of(readers: Mapping[Scheme, str], location: Location, database: str) -> str:
    """The function or clause of a database that reads from such a location. Raises PermanentError when there
    is none.
    """
    reader = readers.get(location.scheme)
    if reader is None:
        raise PermanentError(
            f"{database} cannot read from {location.scheme}:// by itself: copy the objects to a directory, and run "
            "`exportd loader` there.",
            reason=Reason.CATALOG_MISMATCH,
        )
    return reader


def url_of(location: Location, key: str) -> str:
    """Where an object is: a path, or a URL of its bucket."""
    root = location.root.rstrip("/") if location.scheme is Scheme.DIRECTORY else f"{location.scheme}://{location.root}"
    return f"{root}/{key}"


def merge(dialect: Dialect, entity: ManifestEntity) -> Iterator[str]:
    """From the staging table into the table, as the entity's mode says."""
    yield from dialect.replace(entity) if entity.mode is Mode.FULL else dialect.upsert(entity)


def backquoted(name: str) -> str:
    """The name as an identifier of BigQuery and ClickHouse. Raises ValueError for an empty one."""
    if not name:
        raise ValueError("an identifier cannot be empty")
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def escaped_literal(value: str) -> str:
    """The text as a string constant where a backslash escapes: Snowflake, BigQuery, ClickHouse."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\r", "\\r") + "'"


def doubled_literal(value: str) -> str:
    """The text as a string constant where a backslash is a character like others: DuckDB, and psql's own commands."""
    return "'" + value.replace("'", "''") + "'"
