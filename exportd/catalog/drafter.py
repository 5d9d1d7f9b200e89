"""Reads a database's tables and proposes a catalog for them: three queries, no row of a table is read."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from exportd.catalog.draft import ForeignKey, render
from exportd.catalog.table_reader import list_tables, read_tables, reading
from exportd.database import queries
from exportd.model.entity import TableName

if TYPE_CHECKING:
    from exportd.database.connector import Connection

_SQL = queries.load("catalog")


async def draft(
    connection: "Connection", *, tenant_column: str | None = None, schemas: Sequence[str] | None = None
) -> str:
    """The TOML text of a catalog with an entity for each table with a primary key, in these schemas or all.

    Raises TransientError or PermanentError when the database cannot be read.
    """
    async with reading(connection, doing="drafting a catalog"):
        names = await list_tables(connection, schemas)
        tables = await read_tables(connection, names)
        rows = await connection.fetch(_SQL["list_references"], None if schemas is None else list(schemas))
    references = [
        ForeignKey(
            table=TableName(row["schema_name"], row["table_name"]),
            columns=tuple(row["columns"]),
            other_table=TableName(row["other_schema_name"], row["other_table_name"]),
        )
        for row in rows
    ]
    return render([tables[name] for name in names if name in tables], references, tenant_column=tenant_column)
