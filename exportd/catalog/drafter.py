"""Reads a database's tables and proposes a catalog for them: three queries, no row of a table is read."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from exportd.catalog.draft import ForeignKey, render
from exportd.catalog.live_table import LiveTable
from exportd.catalog.table_reader import list_schemas, list_tables, read_tables, reading
from exportd.database import queries
from exportd.model.entity import TableName
from exportd.model.errors import Problem, SettingsError
from exportd.settings.sentences import did_you_mean

if TYPE_CHECKING:
    from exportd.database.connector import Connection

_SQL = queries.load("catalog")


async def draft(
    connection: "Connection", *, tenant_column: str | None = None, schemas: Sequence[str] | None = None
) -> str:
    """The TOML text of a catalog with an entity for each table with a primary key, in these schemas or all.

    Raises SettingsError for a schema that does not exist and a column that no table has, TransientError or
    PermanentError when the database cannot be read.
    """
    async with reading(connection, doing="drafting a catalog"):
        if schemas is not None:
            _check_schemas(schemas, await list_schemas(connection))
        names = await list_tables(connection, schemas)
        tables = await read_tables(connection, names)
        rows = await connection.fetch(_SQL["list_references"], None if schemas is None else list(schemas))
    references = [
        ForeignKey(
            table=TableName(row["schema_name"], row["table_name"]),
            columns=tuple(row["columns"]),
            other_table=TableName(row["other_schema_name"], row["other_table_name"]),
            other_columns=tuple(row["other_columns"]),
        )
        for row in rows
    ]
    found = [tables[name] for name in names if name in tables]
    if tenant_column is not None:
        _check_tenant_column(tenant_column, found)
    return render(found, references, tenant_column=tenant_column)


def _check_schemas(schemas: Sequence[str], known: Sequence[str]) -> None:
    problems = [
        Problem("--schema", f"the database has no schema {name}; {did_you_mean(name, known, what='schemas')}")
        for name in schemas
        if name not in known
    ]
    if problems:
        raise SettingsError(problems)


def _check_tenant_column(name: str, tables: Sequence[LiveTable]) -> None:
    known = dict.fromkeys(column.name for live in tables for column in live.columns)
    if name not in known:
        hint = did_you_mean(name, known, what="columns")
        raise SettingsError.of(f"no table has a column {name}; {hint}", where="--tenant-column")
