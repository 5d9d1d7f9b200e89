"""The proof: exportd's own consumer verifies and rebuilds what was delivered, which is then compared with the tables.

``verify`` reads every object that was delivered, ``replay`` rebuilds an organization's tables in a DuckDB file. That
file holds the text of every value but booleans. So each record is compared by its texts with what Postgres gives for
the same record, in the order of keys, and memory does not grow with the tables. The SQL here is deliberately not the
exporter's. It is exact for the types in ``_EXACT_TYPES``; a table with another type is refused.

Imports duckdb, which comes with the extra ``replay``.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio.to_thread
import duckdb

from exportd.catalog.document import Catalog
from exportd.consumer.findings import examine_manifests
from exportd.consumer.inventory_reader import read_inventory
from exportd.consumer.rebuilder import rebuild
from exportd.consumer.replay_plan import plan
from exportd.consumer.verifier import Verification, verify
from exportd.database.connector import Connection
from exportd.database.quoting import identifier, table
from exportd.model.entity import Entity, EntityCode, Field, OrganizationId
from exportd.model.errors import PermanentError, Reason
from exportd.settings.destination_schema import Scheme
from exportd.stores.location import Location
from exportd.stores.opener import open_location
from exportd.stores.store import Store

_BATCH_ROWS = 10_000

_EXACT_TYPES = frozenset(
    {"text", "varchar", "uuid", "bool", "int2", "int4", "int8", "numeric", "date", "timestamptz", "jsonb"}
)
"""Types whose text in a file is their text in Postgres; of ``timestamptz`` it is the text in JSON."""

_SETTINGS = {"TimeZone": "UTC", "DateStyle": "ISO, YMD"}
"""The settings that the texts of these types depend on."""

Record = tuple[str | None, ...]
"""A record's texts in the order of its fields, NULL as None."""


@dataclass(frozen=True, slots=True)
class RecordDifference:
    """A record that the exports and the table do not have in common."""

    entity: EntityCode
    key: tuple[str | None, ...]
    what: str

    def __str__(self) -> str:
        return " ".join(filter(None, (self.entity, "/".join(cell or "" for cell in self.key), self.what)))


async def verify_exports(directory: Path) -> Verification:
    """What ``exportd verify`` finds in the directory of a destination."""
    async with _opened(directory) as (store, location):
        return await verify(store, location)


async def compare(
    connection: Connection, catalog: Catalog, directory: Path, organization: OrganizationId, *, into: Path
) -> list[RecordDifference]:
    """Rebuild an organization's tables in the new file ``into``, and compare each record; none when they are equal.

    The tables are read in one snapshot; what changed after the last export is a difference. Raises PermanentError for
    files that cannot be replayed, and for a table with a type that cannot be compared exactly.
    """
    async with _opened(directory) as (store, location):
        inventory = await read_inventory(store, location, organization)
        counts = await rebuild(store, plan(examine_manifests(inventory.manifests)), into)
    differences: list[RecordDifference] = []
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        for name, value in _SETTINGS.items():
            await connection.execute("SELECT set_config($1, $2, true)", name, value)
        with await anyio.to_thread.run_sync(lambda: duckdb.connect(str(into), read_only=True)) as rebuilt:
            for entity in catalog.entities.values():
                if entity.code in counts:
                    differences += await _compare_entity(connection, rebuilt, entity, organization)
                else:
                    differences.append(RecordDifference(entity.code, (), "was not exported"))
    return differences


@asynccontextmanager
async def _opened(directory: Path) -> AsyncIterator[tuple[Store, Location]]:
    location = Location(Scheme.DIRECTORY, str(directory))
    store = open_location(location)
    try:
        yield store, location
    finally:
        await store.aclose()


async def _compare_entity(
    connection: Connection, rebuilt: duckdb.DuckDBPyConnection, entity: Entity, organization: OrganizationId
) -> list[RecordDifference]:
    key = _key_positions(entity)
    differences = []
    last_key: Record | None = None
    async for exported, stored in _paired(
        _exported(rebuilt, entity, key), _stored(connection, entity, key, organization), key
    ):
        record_key = _cells(exported or stored or (), key)
        if exported is None:
            differences.append(RecordDifference(entity.code, record_key, "is in the table but was not exported"))
        elif stored is None:
            repeated = record_key == last_key
            what = "was exported more than once" if repeated else "was exported but is not in the table"
            differences.append(RecordDifference(entity.code, record_key, what))
        elif exported != stored:
            differences.append(RecordDifference(entity.code, record_key, _unequal_fields(entity, exported, stored)))
        last_key = record_key
    return differences


async def _paired(
    exported: AsyncIterator[Record], stored: AsyncIterator[Record], key: Sequence[int]
) -> AsyncIterator[tuple[Record | None, Record | None]]:
    """The records of both sides by their keys, in whose order they come; None where one side has none."""
    right, left = await anext(stored, None), await anext(exported, None)
    while left is not None or right is not None:
        if left is not None and right is not None and _cells(left, key) == _cells(right, key):
            yield left, right
            left, right = await anext(exported, None), await anext(stored, None)
        elif right is None or (left is not None and _order(left, key) < _order(right, key)):
            yield left, None
            left = await anext(exported, None)
        else:
            yield None, right
            right = await anext(stored, None)


async def _exported(rebuilt: duckdb.DuckDBPyConnection, entity: Entity, key: Sequence[int]) -> AsyncIterator[Record]:
    """The rebuilt records in the order of their keys."""
    names = [identifier(field.name) for field in entity.fields]
    cells = ", ".join(f"{name}::VARCHAR" for name in names)
    query = f"SELECT {cells} FROM {identifier(entity.code)} ORDER BY {', '.join(names[position] for position in key)}"
    cursor = await anyio.to_thread.run_sync(rebuilt.execute, query)
    while records := await anyio.to_thread.run_sync(cursor.fetchmany, _BATCH_ROWS):
        for record in records:
            yield record


async def _stored(
    connection: Connection, entity: Entity, key: Sequence[int], organization: OrganizationId
) -> AsyncIterator[Record]:
    """The table's records in the order of their keys."""
    values = [_value(field) for field in entity.fields]
    source = f"FROM {table(entity.table)} AS t"
    sample = await connection.prepare(f"SELECT {', '.join(values)} {source} LIMIT 0")
    cells = []
    for field, value, attribute in zip(entity.fields, values, sample.get_attributes(), strict=True):
        type_name = attribute.type.name
        if type_name not in _EXACT_TYPES:
            raise PermanentError(
                f"{entity.code} cannot be proved equal: {field.name} has the type {type_name}, which may be written "
                "in other ways than Postgres shows it",
                reason=Reason.CATALOG_MISMATCH,
            )
        cells.append(f"to_json({value}) #>> '{{}}'" if type_name == "timestamptz" else f"{value}::text")
    where = f"WHERE t.{identifier(entity.tenant)}::text = $1" if entity.tenant else ""
    order = ", ".join(f'({cells[position]}) COLLATE "C"' for position in key)
    arguments = [organization] if entity.tenant else []
    cursor = await connection.cursor(f"SELECT {', '.join(cells)} {source} {where} ORDER BY {order}", *arguments)
    while records := await cursor.fetch(_BATCH_ROWS):
        for record in records:
            yield tuple(record)


def _key_positions(entity: Entity) -> list[int]:
    columns = [field.column for field in entity.fields]
    missing = [column for column in entity.key if column not in columns]
    if missing:
        raise PermanentError(
            f"{entity.code} cannot be compared: its key column {missing[0]} is not a field of the catalog",
            reason=Reason.CATALOG_MISMATCH,
        )
    return [columns.index(column) for column in entity.key]


def _value(field: Field) -> str:
    return f"({field.expression})" if field.column is None else f"t.{identifier(field.column)}"


def _cells(record: Record, positions: Sequence[int]) -> Record:
    return tuple(record[position] for position in positions)


def _order(record: Record, key: Sequence[int]) -> list[bytes]:
    """Both databases order by bytes."""
    return [(cell or "").encode() for cell in _cells(record, key)]


def _unequal_fields(entity: Entity, exported: Record, stored: Record) -> str:
    values = zip(entity.fields, exported, stored, strict=True)
    return "differs: " + "; ".join(
        f"{field.name} was exported as {one!r} and is {other!r}" for field, one, other in values if one != other
    )
