"""Reads what tables are like, in one query whatever their number; no row of them is read."""

from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from exportd.catalog.live_table import LiveTable
from exportd.database import queries
from exportd.database.translator import translated
from exportd.model.entity import Entity, TableName

if TYPE_CHECKING:
    from exportd.database.connector import Connection

_SQL = queries.load("catalog")


@asynccontextmanager
async def reading(connection: "Connection", *, doing: str) -> AsyncIterator[None]:
    """A read-only transaction in which unqualified names mean pg_catalog, as in exports.

    Raises TransientError or PermanentError for what goes wrong with the database meanwhile.
    """
    with translated(doing):
        async with connection.transaction(readonly=True):
            await connection.execute(_SQL["look_from_pg_catalog"])
            yield


async def read_tables(connection: "Connection", names: Collection[TableName]) -> dict[TableName, LiveTable]:
    """The tables of these names; those that do not exist are left out."""
    wanted = list(dict.fromkeys(names))
    rows = await connection.fetch(
        _SQL["describe_tables"], [name.schema for name in wanted], [name.name for name in wanted]
    )
    tables = (LiveTable.from_json(row["described"]) for row in rows)
    return {table.name: table for table in tables}


async def list_tables(connection: "Connection", schemas: Sequence[str] | None = None) -> list[TableName]:
    """The application's tables, in these schemas or all, sorted by name; without partitions and children."""
    rows = await connection.fetch(_SQL["list_tables"], None if schemas is None else list(schemas))
    return [TableName(row["schema_name"], row["table_name"]) for row in rows]


async def list_schemas(connection: "Connection") -> list[str]:
    """The schemas that can hold the application's tables, sorted by name."""
    return [row["schema_name"] for row in await connection.fetch(_SQL["list_schemas"])]


async def unreadable_members(connection: "Connection", names: Collection[TableName]) -> tuple[TableName, ...]:
    """The partitions and inheritance children of these tables that the connection's role may not read.

    Exports read them all the same, by the right on their root. Raises TransientError or PermanentError.
    """
    async with reading(connection, doing="looking at partitions"):
        rows = await connection.fetch(
            _SQL["unreadable_members"], [name.schema for name in names], [name.name for name in names]
        )
    return tuple(TableName(row["schema_name"], row["table_name"]) for row in rows)


async def tables_without_tenant_index(
    connection: "Connection", entities: Iterable[Entity], *, min_bytes: int
) -> tuple[tuple[TableName, str], ...]:
    """The tables of at least that size whose tenant column begins no index, and the column.

    A first export of one organization reads such a table whole. Raises TransientError or PermanentError.
    """
    columns = {entity.table: entity.tenant for entity in entities if entity.tenant}
    async with reading(connection, doing="looking for indexes"):
        rows = await connection.fetch(
            _SQL["without_index"],
            [name.schema for name in columns],
            [name.name for name in columns],
            [*columns.values()],
        )
    return tuple(
        (TableName(row["schema_name"], row["table_name"]), row["column_name"])
        for row in rows
        if row["size_bytes"] >= min_bytes
    )
