import hashlib
from io import BytesIO
from pathlib import Path

import anyio.to_thread
import asyncpg
import pytest

from benchmarks.bills import fill_bills
from exportd.catalog import document
from exportd.database.connector import Connection
from exportd.demo.generator import SHARES, create_tables, fill, organization_ids
from exportd.model.entity import EntityCode
from tests.fixtures.postgres import Database, Servers

ROWS = 1500
CATALOG = document.load(Path(__file__).parents[3] / "config" / "entities.toml")

FOREIGN_KEYS = """
SELECT conrelid::regclass::text AS child, confrelid::regclass::text AS parent, attname AS column, convalidated
FROM pg_constraint JOIN pg_attribute ON attrelid = conrelid AND attnum = conkey[1] WHERE contype = 'f'
"""

DEFINITIONS = """
SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid IN
    (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace)
UNION ALL
SELECT conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
WHERE connamespace = 'public'::regnamespace
ORDER BY 1
"""


async def demo(database: Database) -> Connection:
    connection = await database.connect()
    await create_tables(connection)
    return connection


async def digests(connection: Connection, *, order: str = "id") -> dict[str, str]:
    result: dict[str, str] = {}
    for code in SHARES:
        content = BytesIO()
        query = f"SELECT * FROM public.{code.lower()} ORDER BY {order}"
        await connection.copy_from_query(query, output=content, format="csv")
        result[code] = hashlib.sha256(content.getvalue()).hexdigest()
    return result


async def count(connection: Connection, table: str) -> int:
    return int(await connection.fetchval(f"SELECT count(*) FROM public.{table}"))


async def test_every_organization_has_records_of_every_entity(empty_database: Database) -> None:
    connection = await demo(empty_database)
    done = await fill(connection, rows=60, organizations=3)
    assert sum(done.values()) == 60
    for code in SHARES:
        assert await count(connection, code.lower()) == done[code]
        found = await connection.fetch(f"SELECT DISTINCT organization_id FROM public.{code.lower()}")
        assert {row[0] for row in found} == set(organization_ids(3)), code


async def test_the_same_seed_makes_the_same_bytes_on_every_postgres(servers: Servers) -> None:
    contents = []
    for major in (*servers.majors, servers.majors[-1]):
        server = await anyio.to_thread.run_sync(servers.of, major)
        connection = await asyncpg.connect(await server.create_database("same_bytes"))
        try:
            await create_tables(connection)
            await fill(connection, rows=ROWS, seed=7)
            contents.append(await digests(connection, order="ctid"))
        finally:
            await connection.close()
            await server.drop_database("same_bytes")
    assert all(content == contents[0] for content in contents)


async def test_another_seed_makes_other_records_of_the_same_number(empty_database: Database) -> None:
    connection = await demo(empty_database)
    first = await fill(connection, rows=ROWS, seed=1)
    before = await digests(connection)
    for code in reversed(list(SHARES)):
        await connection.execute(f"DELETE FROM public.{code.lower()}")
    assert await fill(connection, rows=ROWS, seed=2) == first
    after = await digests(connection)
    assert not set(before.values()) & set(after.values())


@pytest.mark.every_postgres
async def test_keys_and_indexes_are_as_before_and_every_reference_leads_somewhere(empty_database: Database) -> None:
    connection = await demo(empty_database)
    before = await connection.fetch(DEFINITIONS)
    await fill(connection, rows=ROWS)
    assert await connection.fetch(DEFINITIONS) == before
    keys = await connection.fetch(FOREIGN_KEYS)
    assert len(keys) == 60
    for key in keys:
        assert key["convalidated"]
        child, parent, column = key["child"], key["parent"], key["column"]
        lost = await connection.fetchval(
            f"SELECT count(*) FROM {child} AS c WHERE {column} IS NOT NULL"
            f" AND NOT EXISTS (SELECT FROM {parent} AS p WHERE p.id = c.{column}"
            " AND p.organization_id = c.organization_id)"
        )
        assert lost == 0, f"{child}.{column}"


async def test_every_column_holds_a_value_somewhere(empty_database: Database) -> None:
    connection = await demo(empty_database)
    await fill(connection, rows=4 * ROWS)
    never = set()
    for entity in CATALOG.entities.values():
        columns = [field.column for field in entity.fields]
        filled = await connection.fetchrow(
            "SELECT " + ", ".join(f'count("{column}") AS "{column}"' for column in columns) + f" FROM {entity.table}"
        )
        assert filled is not None
        never |= {f"{entity.table.name}.{name}" for name, number in filled.items() if not number}
    # What the service itself has given up, and what the demo has no use for.
    assert never == {
        "bill_line_items.credit_type_id",
        "charges.schedule_id",
        "commitments.drawdowns_accounting_product_id",
        "commitments.fees_accounting_product_id",
        "pricing_bands.credit_type_id",
    }


async def test_line_items_add_up_to_their_bill(empty_database: Database) -> None:
    connection = await demo(empty_database)
    await fill(connection, rows=ROWS)
    bills = await connection.fetch(
        "SELECT bill_total, sum(subtotal) AS total, array_agg(sequence_number ORDER BY sequence_number) AS numbers"
        " FROM public.bills AS b JOIN public.bill_line_items ON bill_id = b.id GROUP BY b.id"
    )
    assert len(bills) > 100
    for bill in bills:
        assert bill["total"] == bill["bill_total"]
        assert bill["numbers"] == list(range(1, len(bill["numbers"]) + 1))
    assert len({len(bill["numbers"]) for bill in bills}) > 5


async def test_texts_hold_what_files_find_hard(empty_database: Database) -> None:
    connection = await demo(empty_database)
    await fill(connection, rows=ROWS)
    names = "\n".join(row[0] for row in await connection.fetch("SELECT name FROM public.accounts"))
    for piece in ('"', ",", "'", "é", "日"):
        assert piece in names
    orders = {row[0] for row in await connection.fetch("SELECT DISTINCT purchase_order_number FROM public.accounts")}
    assert {None, ""} < orders
    assert await connection.fetchval("SELECT count(*) FROM public.charges WHERE description LIKE E'%\n%'")


async def test_bills_alone_can_be_added_to_a_filled_demo(empty_database: Database) -> None:
    connection = await demo(empty_database)
    before = await fill(connection, rows=200)
    done = await fill_bills(connection, rows=501, organizations=2)
    assert done == {"ACCOUNTS": 22, "BILLS": 501}
    assert await count(connection, "bills") == before[EntityCode("BILLS")] + 501
    keys = await connection.fetchval("SELECT count(DISTINCT id) FROM public.bills")
    assert keys == before[EntityCode("BILLS")] + 501


async def test_a_failure_leaves_the_tables_as_they_were(empty_database: Database) -> None:
    connection = await demo(empty_database)
    await fill(connection, rows=100)
    before = (await digests(connection), await connection.fetch(DEFINITIONS))
    with pytest.raises(asyncpg.UniqueViolationError):
        await fill(connection, rows=100)
    assert (await digests(connection), await connection.fetch(DEFINITIONS)) == before
