"""Reads the definitions of tables, in few queries however many tables there are. No row is read.

One query reads what the catalog is compared with. Six queries read the shapes of entities' tables, from which their
capture is made, and one checks whether the shapes are unchanged.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from asyncpg import Record

from exportd.catalog.shape import CaptureTrigger, Column, LiveTable, Relation, RelationKind, Shape
from exportd.database import queries
from exportd.database.translator import translated
from exportd.model.change_log import log_name
from exportd.model.entity import Entity, EntityCode, TableName

if TYPE_CHECKING:
    from exportd.database.connector import Connection


_SQL = queries.load("catalog")
_SHAPE_SQL = queries.load("shape")


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
    rows = await connection.fetch(_SQL["describe_tables"], *_columns(wanted))
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

    Exports can read them nevertheless, with the right on their root. Raises TransientError or PermanentError.
    """
    async with reading(connection, doing="looking at partitions"):
        rows = await connection.fetch(_SQL["unreadable_members"], *_columns(names))
    return tuple(TableName(row["schema_name"], row["table_name"]) for row in rows)


async def tables_without_tenant_index(
    connection: "Connection", entities: Iterable[Entity], *, min_bytes: int
) -> tuple[tuple[TableName, str], ...]:
    """The tables of at least this size of which no index begins with the tenant column, and that column.

    The first export of each organization reads such a table completely. Raises TransientError or PermanentError.
    """
    columns = {entity.table: entity.tenant for entity in entities if entity.tenant}
    async with reading(connection, doing="looking for indexes"):
        rows = await connection.fetch(_SQL["without_index"], *_columns(columns), [*columns.values()])
    return tuple(
        (TableName(row["schema_name"], row["table_name"]), row["column_name"])
        for row in rows
        if row["size_bytes"] >= min_bytes
    )


async def read_shapes(connection: "Connection", entities: Sequence[Entity]) -> dict[EntityCode, Shape]:
    """The shape of each entity's table; an entity whose table does not exist is left out.

    The connection's search_path must be pg_catalog, so that type names come out qualified. Inside a snapshot's
    transaction the answer is that snapshot's.
    """
    found = await connection.fetch(
        _SHAPE_SQL["relations"],
        *_columns(entity.table for entity in entities),
        [log_name(entity.code) for entity in entities],
    )
    oids = sorted({row["oid"] for row in found} | {row["log_oid"] for row in found if row["log_oid"] is not None})
    parts: dict[int, list[tuple[str, str]]] = defaultdict(list)
    for row in await connection.fetch(_SHAPE_SQL["type_parts"], oids):
        parts[row["type_oid"]].append((row["part"], row["value"]))
    columns: dict[int, list[Column]] = defaultdict(list)
    for row in await connection.fetch(_SHAPE_SQL["columns"], oids):
        columns[row["table_oid"]].append(_column(row, tuple(parts.get(row["type_oid"], ()))))
    triggers = _grouped(await connection.fetch(_SHAPE_SQL["triggers"], oids))
    unique_keys = _grouped(await connection.fetch(_SHAPE_SQL["unique_keys"], oids))
    trees = _grouped(found, by="position")
    return {
        entity.code: _shape(trees[position], columns, triggers, unique_keys)
        for position, entity in enumerate(entities, start=1)
        if position in trees and _capturable(trees[position])
    }


async def read_row_estimates(connection: "Connection", entities: Sequence[Entity]) -> dict[EntityCode, int]:
    """The planner's estimate of the rows in each entity's table, of all organizations.

    An entity whose table does not exist, or was never analysed, is left out.
    """
    found = await connection.fetch(
        _SHAPE_SQL["row_estimates"],
        *_columns(entity.table for entity in entities),
    )
    return {entities[row["position"] - 1].code: row["rows"] for row in found}


async def read_fingerprint(connection: "Connection", entities: Sequence[Entity]) -> str:
    """A text that stays equal as long as the entities' shapes and their installed capture are the same.

    ``pages`` does not count. Inside a snapshot's transaction the text is that of the snapshot.
    """
    row = await connection.fetchrow(
        _SHAPE_SQL["fingerprint"],
        *_columns(entity.table for entity in entities),
        [log_name(entity.code) for entity in entities],
    )
    return " ".join(map(str, queries.only_row(row).values()))


def _columns(tables: Iterable[TableName]) -> tuple[list[str], list[str]]:
    """Their schemas and their names, as ``unnest`` takes them."""
    named = list(tables)
    return [table.schema for table in named], [table.name for table in named]


def _capturable(tree: Iterable[Record]) -> bool:
    return all(row["kind"] in set(RelationKind) for row in tree)


def _grouped(rows: Iterable[Record], *, by: str = "table_oid") -> Mapping[int, list[Record]]:
    groups: dict[int, list[Record]] = defaultdict(list)
    for row in rows:
        groups[row[by]].append(row)
    return groups


def _shape(
    tree: Sequence[Record],
    columns: Mapping[int, list[Column]],
    triggers: Mapping[int, list[Record]],
    unique_keys: Mapping[int, list[Record]],
) -> Shape:
    root, *members = (
        Relation(
            oid=row["oid"],
            name=TableName(row["schema_name"], row["table_name"]),
            kind=RelationKind(row["kind"]),
            pages=row["pages"],
            columns=tuple(columns.get(row["oid"], ())),
            triggers=tuple(CaptureTrigger(**_of_table(trigger)) for trigger in triggers.get(row["oid"], ())),
            is_logged=row["persistence"] == "p",
            file=row["file"],
            unique_keys=tuple(frozenset(index["columns"] or ()) for index in unique_keys.get(row["oid"], ())),
        )
        for row in tree
    )
    log_oid = tree[0]["log_oid"]
    return Shape(
        root=root,
        members=tuple(members),
        log_oid=log_oid,
        log_columns=tuple((column.name, column.type_name) for column in columns.get(log_oid or 0, ())),
    )


def _column(row: Record, type_parts: tuple[tuple[str, str], ...]) -> Column:
    described = _of_table(row)
    return Column(collation=described.pop("collation_name"), type_parts=type_parts, **described)


def _of_table(row: Record) -> dict[str, Any]:
    """What a row says, but for the table that it belongs to."""
    return {name: value for name, value in row.items() if name != "table_oid"}
