"""A table that a logical replication subscription writes into: its worker fires row triggers only."""

from collections.abc import AsyncIterator
from dataclasses import replace

import anyio
import pytest

from exportd.database.connector import Connection
from exportd.model.entity import CaptureLevel
from exportd.model.errors import FullReason
from exportd.model.extraction import Mode
from tests.fixtures.postgres import Database
from tests.integration.capture.source_database import SourceDatabase

pytestmark = pytest.mark.every_postgres

TABLES = """
    CREATE TABLE items (id int PRIMARY KEY, organization_id text, note text);
    ALTER TABLE items REPLICA IDENTITY FULL;
    CREATE TABLE sales (id int PRIMARY KEY, note text) PARTITION BY RANGE (id);
    CREATE TABLE low PARTITION OF sales FOR VALUES FROM (0) TO (100);
    CREATE TABLE high (note text, id int NOT NULL);
    ALTER TABLE sales ATTACH PARTITION high FOR VALUES FROM (100) TO (200);"""


@pytest.fixture
async def publisher(source: SourceDatabase, empty_database: Database) -> AsyncIterator[Connection]:
    """Another database of the same server, to whose tables the source database subscribes."""
    publisher = await empty_database.connect()
    schema = f"CREATE SCHEMA {source.schema}; SET search_path = {source.schema};"
    await publisher.execute(schema + TABLES)
    await publisher.execute("CREATE PUBLICATION everything FOR ALL TABLES WITH (publish_via_partition_root = true)")
    await publisher.execute("""
        INSERT INTO items SELECT i, 'acme', 'old' FROM generate_series(1, 3) AS i;
        INSERT INTO sales VALUES (1), (101)""")
    slot = f"slot_{source.schema}"
    # CREATE SUBSCRIPTION would wait for itself if it had to make the slot on its own server.
    await publisher.execute(f"SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')")
    await source.app.execute(TABLES)
    socket = await source.app.fetchval("SELECT current_setting('unix_socket_directories')")
    await source.app.execute(
        f"CREATE SUBSCRIPTION {slot} CONNECTION 'host={socket} dbname={empty_database.name} user=postgres'"
        f" PUBLICATION everything WITH (create_slot = false, slot_name = '{slot}')"
    )
    try:
        yield publisher
    finally:
        await drop_subscription(source)
        active = "SELECT active FROM pg_replication_slots WHERE slot_name = $1"
        with anyio.fail_after(20):
            while await publisher.fetchval(active, slot):  # noqa: ASYNC110 - the server does not notify
                await anyio.sleep(0.02)
        await publisher.fetch("SELECT pg_drop_replication_slot($1::text::name)", slot)


async def drop_subscription(source: SourceDatabase) -> None:
    """Drop it if it is there."""
    slot = f"slot_{source.schema}"
    if await source.app.fetchval("SELECT EXISTS (SELECT FROM pg_subscription WHERE subname = $1)", slot):
        await source.app.execute(f"ALTER SUBSCRIPTION {slot} DISABLE; ALTER SUBSCRIPTION {slot} SET (slot_name = NONE)")
        await source.app.execute(f"DROP SUBSCRIPTION {slot}")


async def applied(source: SourceDatabase, publisher: Connection) -> None:
    """Until the subscriber has everything that the publisher has written."""
    contents = """SELECT (SELECT json_agg(i ORDER BY id) FROM items AS i)::text,
                         (SELECT json_agg(s ORDER BY id) FROM sales AS s)::text"""
    wanted = await publisher.fetchrow(contents)
    with anyio.fail_after(30):
        while await source.app.fetchrow(contents) != wanted:  # noqa: ASYNC110 - replication does not notify
            await anyio.sleep(0.02)


async def test_what_replication_applies_is_captured(source: SourceDatabase, publisher: Connection) -> None:
    items = await source.capture("items", tenant="organization_id")
    sales = await source.capture("sales")
    await applied(source, publisher)
    assert len((await items.export()).present) == 3
    assert len((await sales.export()).present) == 2
    await publisher.execute("""
        INSERT INTO items VALUES (4, 'acme', 'new'), (5, 'acme', 'new');
        UPDATE items SET id = 10 WHERE id = 1; UPDATE items SET note = 'x' WHERE id = 2;
        UPDATE items SET organization_id = 'other' WHERE id = 3; DELETE FROM items WHERE id = 5;
        INSERT INTO sales VALUES (2); UPDATE sales SET id = 102 WHERE id = 1; DELETE FROM sales WHERE id = 101""")
    await applied(source, publisher)
    export = await items.export()
    assert export.keys == ([(2,), (4,), (10,)], [(1,), (3,), (5,)])
    assert export.deleted[(1,)]["note"] == "old"
    assert (await sales.export()).keys == ([(2,), (102,)], [(1,), (101,)])
    # The application may write there too.
    await source.app.execute("UPDATE items SET note = 'here'; DELETE FROM items WHERE id = 4; DELETE FROM high")
    assert (await items.export()).keys == ([(2,), (10,)], [(4,)])
    assert (await sales.export()).keys == ([], [(102,)])
    await publisher.execute("TRUNCATE items")
    await source.app.execute("TRUNCATE sales")  # it has rows here that the publisher has not
    await publisher.execute("TRUNCATE sales")
    await applied(source, publisher)
    assert (await items.export()).keys == ([], [(2,), (10,)])


async def test_a_subscription_that_comes_and_goes_between_two_runs_is_seen(
    source: SourceDatabase, publisher: Connection
) -> None:
    """What its worker wrote is in the next run, though nothing was repaired meanwhile and the subscription is gone."""
    await applied(source, publisher)
    items = await source.capture("items", tenant="organization_id")
    sales = await source.capture("sales")
    await items.export()
    await sales.export()
    await publisher.execute("""
        INSERT INTO items VALUES (4, 'acme', 'new'); UPDATE items SET id = 10 WHERE id = 1;
        DELETE FROM items WHERE id = 2; UPDATE sales SET id = 102 WHERE id = 1; DELETE FROM sales WHERE id = 101""")
    await applied(source, publisher)
    await drop_subscription(source)
    export = await items.export()
    assert (export.mode, export.keys) == (Mode.INCREMENTAL, ([(4,), (10,)], [(1,), (2,)]))
    export = await sales.export()
    assert (export.mode, export.keys) == (Mode.INCREMENTAL, ([(102,)], [(1,), (101,)]))


async def test_a_row_trigger_that_was_disabled_is_put_right_before_a_full_run(source: SourceDatabase) -> None:
    things = await source.capture("things", "id int PRIMARY KEY, note text")
    await things.export()
    row = f"exportd_{things.entity.code.lower()}_row"
    await source.app.execute(f"ALTER TABLE things DISABLE TRIGGER {row}")
    assert "triggers missing, disabled" in await things.findings()
    await things.install()
    export = await things.export()
    assert (export.mode, export.reason) == (Mode.FULL, FullReason.CAPTURE_CHANGED)


async def test_a_session_in_replica_mode_is_logged_twice_and_told_once(source: SourceDatabase) -> None:
    things = await source.capture("things", "id int PRIMARY KEY, note text")
    await source.app.execute("INSERT INTO things VALUES (1, 'x'), (2, 'x'), (3, 'x')")
    await things.export()
    await source.app.execute("""SET session_replication_role = replica; UPDATE things SET note = 'y' WHERE id = 1;
        UPDATE things SET id = 4 WHERE id = 2; DELETE FROM things WHERE id = 3""")
    assert (await things.export()).keys == ([(1,), (4,)], [(2,), (3,)])


async def test_the_level_of_capture_may_be_changed(source: SourceDatabase) -> None:
    things = await source.capture("things", "id int PRIMARY KEY, note text")
    await things.export()
    for level in CaptureLevel.ROW, CaptureLevel.STATEMENT:
        things = things.with_entity(replace(things.entity, capture=level))
        await things.install()
        assert await things.findings() == ""
        assert (await things.export()).reason is FullReason.CAPTURE_CHANGED
        await source.app.execute("INSERT INTO things VALUES (1), (2); UPDATE things SET id = 3 WHERE id = 1")
        assert (await things.export()).keys == ([(2,), (3,)], [(1,)])
        await source.app.execute("DELETE FROM things")
        assert (await things.export()).keys == ([], [(2,), (3,)])
