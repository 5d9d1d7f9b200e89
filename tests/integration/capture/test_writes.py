"""What each kind of write leaves in the log, and what the next run exports of it."""

import re

import asyncpg
import pytest

from exportd.model.errors import FullReason
from exportd.model.extraction import Mode
from tests.integration.capture.source_database import ACME, OTHER, CapturedTable, SourceDatabase, bare_log

pytestmark = pytest.mark.every_postgres

COLUMNS = "id int PRIMARY KEY, organization_id text NOT NULL, note text"


@pytest.fixture
async def items(source: SourceDatabase) -> CapturedTable:
    """Items 1 to 5 of acme, exported already, and an empty log."""
    captured = await source.capture("items", COLUMNS, tenant="organization_id")
    await source.app.execute("INSERT INTO items SELECT i, 'acme', 'n' || i FROM generate_series(1, 5) i")
    export = await captured.export()
    assert (export.mode, export.reason) == (Mode.FULL, FullReason.FIRST_RUN)
    await captured.forget_log()
    return captured


async def write(items: CapturedTable, *statements: str) -> tuple[list[tuple[str, int]], list[int], list[int]]:
    """Run the statements; the log's ops with their keys, the exported keys, and those exported as deleted."""
    for statement in statements:
        await items.source.app.execute(statement)
    ops = [(op, key[0]) if key else (op, 0) for op, key in await items.ops()]
    export = await items.export()
    assert export.mode is Mode.INCREMENTAL, export.reason
    return ops, [key[0] for key in export.keys[0]], [key[0] for key in export.keys[1]]


async def test_plain_writes_leave_what_they_did(items: CapturedTable) -> None:
    statement = "INSERT INTO items VALUES (6, 'acme', 'new'); UPDATE items SET note = 'x' WHERE id IN (1, 2);"
    ops, present, deleted = await write(items, statement + "DELETE FROM items WHERE id IN (3, 4)")
    assert ops == [("D", 3), ("D", 4), ("I", 6), ("U", 1), ("U", 2)]
    assert (present, deleted) == ([1, 2, 6], [3, 4])


async def test_a_deleted_row_is_exported_with_its_last_values(items: CapturedTable) -> None:
    await items.source.app.execute(
        "UPDATE items SET note = E'q\"u,o\\nte' WHERE id = 1; DELETE FROM items WHERE id = 1"
    )
    export = await items.export()
    assert export.deleted == {
        (1,): {"id": 1, "organization_id": "acme", "note": 'q"u,o\nte', "deleted": True},
    }


async def test_nothing_written_exports_nothing(items: CapturedTable) -> None:
    writes = "UPDATE items SET note = '' WHERE id = 99; DELETE FROM items WHERE id = 99; "
    writes += "INSERT INTO items SELECT 1, '', '' WHERE false"
    assert await write(items, writes) == ([], [], [])


async def test_copy_from_is_an_insert(items: CapturedTable) -> None:
    await items.source.app.copy_records_to_table(
        "items", schema_name=items.source.schema, records=[(7, "acme", "a"), (8, "other", "b"), (9, "acme", None)]
    )
    ops, present, deleted = await write(items)
    assert ops == [("I", 7), ("I", 8), ("I", 9)]
    assert (present, deleted) == ([7, 9], [])
    assert (await items.export(OTHER)).keys == ([(8,)], [])


async def test_on_conflict_logs_what_it_inserted_and_what_it_updated(items: CapturedTable) -> None:
    upsert = "INSERT INTO items VALUES (1, 'acme', 'n'), (7, 'acme', 'n') ON CONFLICT (id) DO UPDATE SET note = 'again'"
    nothing = "INSERT INTO items VALUES (2, 'acme', 'n'), (8, 'acme', 'n') ON CONFLICT DO NOTHING"
    ops, present, deleted = await write(items, upsert, nothing)
    assert ops == [("I", 7), ("I", 8), ("U", 1)]
    assert (present, deleted) == ([1, 7, 8], [])


async def test_merge_logs_each_of_its_actions(items: CapturedTable) -> None:
    merge = """MERGE INTO items AS t USING (VALUES (1, 'u'), (2, 'd'), (9, 'i'), (3, 'n')) AS s (id, what)
        ON t.id = s.id
        WHEN MATCHED AND s.what = 'u' THEN UPDATE SET note = 'merged'
        WHEN MATCHED AND s.what = 'd' THEN DELETE
        WHEN MATCHED THEN DO NOTHING
        WHEN NOT MATCHED THEN INSERT VALUES (s.id, 'acme', 'merged')"""
    assert await write(items, merge) == ([("D", 2), ("I", 9), ("U", 1)], [1, 9], [2])


async def test_a_data_modifying_cte_is_seen(items: CapturedTable) -> None:
    statement = """WITH gone AS (DELETE FROM items WHERE id = 1 RETURNING *),
        made AS (INSERT INTO items SELECT id + 100, organization_id, note FROM gone RETURNING *)
        UPDATE items SET note = 'cte' WHERE id = 2"""
    assert await write(items, statement) == ([("D", 1), ("I", 101), ("U", 2)], [2, 101], [1])


async def test_an_updatable_view_is_seen(items: CapturedTable) -> None:
    await items.source.app.execute("CREATE VIEW seen AS SELECT id, organization_id, note AS remark FROM items")
    statements = "UPDATE seen SET remark = 'v' WHERE id = 1; DELETE FROM seen WHERE id = 2; "
    statements += "INSERT INTO seen VALUES (6, 'acme', 'v')"
    assert await write(items, statements) == ([("D", 2), ("I", 6), ("U", 1)], [1, 6], [2])


async def test_an_update_that_changes_nothing_is_exported_again(items: CapturedTable) -> None:
    assert await write(items, "UPDATE items SET note = note WHERE id = 1") == ([("U", 1)], [1], [])


async def test_many_changes_of_a_key_are_one_row(items: CapturedTable) -> None:
    statements = ["UPDATE items SET note = 'a' WHERE id = 1"] * 3
    _, present, deleted = await write(
        items, *statements, "DELETE FROM items WHERE id = 2", "INSERT INTO items VALUES (2, 'acme', 'back')"
    )
    assert (present, deleted) == ([1, 2], [])


async def test_created_and_deleted_inside_one_window_is_deleted_once(items: CapturedTable) -> None:
    cycle = "INSERT INTO items VALUES (6, 'acme', '{}'); DELETE FROM items WHERE id = 6"
    for note in "first", "last":
        await items.source.app.execute(cycle.format(note))
    export = await items.export()
    assert export.keys == ([], [(6,)])
    assert export.deleted[(6,)]["note"] == "last"


async def test_a_changed_key_is_a_deletion_and_a_creation(items: CapturedTable) -> None:
    ops, present, deleted = await write(items, "UPDATE items SET id = 10, note = 'moved' WHERE id = 1")
    assert ops == [("D", 1), ("U", 10)]
    assert (present, deleted) == ([10], [1])


async def test_an_overlapping_shift_of_all_keys_deletes_only_the_first(items: CapturedTable) -> None:
    source = items.source
    await source.app.execute("ALTER TABLE items DROP CONSTRAINT items_pkey, ADD PRIMARY KEY (id) DEFERRABLE")
    ops, present, deleted = await write(items, "UPDATE items SET id = id + 1")
    assert ops == [("D", 1), ("U", 2), ("U", 3), ("U", 4), ("U", 5), ("U", 6)]
    assert (present, deleted) == ([2, 3, 4, 5, 6], [1])


async def test_two_rows_may_exchange_their_keys(items: CapturedTable) -> None:
    await items.source.app.execute("ALTER TABLE items DROP CONSTRAINT items_pkey, ADD PRIMARY KEY (id) DEFERRABLE")
    _, present, deleted = await write(items, "UPDATE items SET id = 3 - id WHERE id IN (1, 2)")
    assert (present, deleted) == ([1, 2], [])


async def test_a_row_that_changes_its_tenant_leaves_the_one_and_enters_the_other(items: CapturedTable) -> None:
    await items.export(OTHER)
    await items.source.app.execute("UPDATE items SET organization_id = 'other', note = 'left' WHERE id IN (1, 2)")
    await items.source.app.execute("UPDATE items SET organization_id = 'acme' WHERE id = 2")
    mine, theirs = await items.export(ACME), await items.export(OTHER)
    assert mine.keys == ([(2,)], [(1,)])
    assert mine.deleted[(1,)]["note"] == "n1", "the image is of the row as it was in this tenant"
    assert theirs.keys == ([(1,)], [(2,)])


async def test_rows_without_a_tenant_are_in_no_file(source: SourceDatabase) -> None:
    items = await source.capture(
        "items", "id int PRIMARY KEY, organization_id text, note text", tenant="organization_id"
    )
    await source.app.execute(
        "INSERT INTO items VALUES (1, NULL, 'a'), (2, 'acme', 'b'), (3, NULL, 'c'), (4, 'acme', 'd')"
    )
    assert (await items.export()).keys == ([(2,), (4,)], [])
    await source.app.execute("UPDATE items SET note = 'x'; DELETE FROM items WHERE id = 3")
    assert (await items.export()).keys == ([(2,), (4,)], [])
    await source.app.execute(
        "UPDATE items SET organization_id = 'acme' WHERE id = 1; UPDATE items SET organization_id = NULL WHERE id >= 2"
    )
    assert (await items.export()).keys == ([(1,)], [(2,), (4,)])
    assert not [op for op in await items.ops() if op[0] == "T"]


async def test_truncate_leaves_the_image_of_every_row(items: CapturedTable) -> None:
    await items.source.app.execute("INSERT INTO items VALUES (6, 'other', '')")
    ops, present, deleted = await write(items, "TRUNCATE items")
    assert ops == [*(("D", id_) for id_ in range(1, 7)), ("I", 6)]
    assert (present, deleted) == ([], [1, 2, 3, 4, 5])


async def test_truncate_cascade_is_seen_in_the_tables_it_reaches(items: CapturedTable) -> None:
    source = items.source
    lines = await source.capture(
        "lines", "id int PRIMARY KEY, item int REFERENCES items, organization_id text", tenant="organization_id"
    )
    await source.app.execute("INSERT INTO lines VALUES (1, 1, 'acme'), (2, 2, 'acme')")
    await lines.export()
    await source.app.execute("TRUNCATE items CASCADE")
    assert (await items.export()).keys == ([], [(id_,) for id_ in range(1, 6)])
    assert (await lines.export()).keys == ([], [(1,), (2,)])


async def test_a_truncate_that_does_not_see_all_it_removes_makes_the_next_run_full(items: CapturedTable) -> None:
    app = items.source.app
    async with app.transaction(isolation="repeatable_read"):
        await app.fetch("SELECT FROM items")
        await (await items.source.session()).execute("INSERT INTO items VALUES (6, 'acme', 'unseen')")
        await app.execute("TRUNCATE items")
    assert ("T", ()) in await items.ops()
    export = await items.export()
    assert (export.mode, export.reason) == (Mode.FULL, FullReason.CHANGES_UNKNOWN)
    assert export.keys == ([], []), "a row that its snapshot shows may have changed, or been told as deleted, since"
    assert (await items.export()).mode is Mode.INCREMENTAL


async def test_foreign_keys_act_through_the_log(source: SourceDatabase) -> None:
    await source.app.execute("CREATE TABLE parents (id int PRIMARY KEY)")
    columns = """id int PRIMARY KEY, organization_id text,
        cascading int REFERENCES parents ON DELETE CASCADE ON UPDATE CASCADE,
        nulled int REFERENCES parents ON DELETE SET NULL,
        defaulted int DEFAULT 9 REFERENCES parents ON DELETE SET DEFAULT"""
    children = await source.capture("children", columns, tenant="organization_id")
    await source.app.execute("""INSERT INTO parents SELECT generate_series(1, 9);
        INSERT INTO children VALUES (1, 'acme', 1), (2, 'acme', 1), (3, 'acme', 2), (4, 'acme', 3);
        INSERT INTO children VALUES (5, 'acme', NULL, 4, 9), (6, 'acme', NULL, NULL, 5)""")
    await children.export()
    await source.app.execute("DELETE FROM parents WHERE id IN (1, 4, 5); UPDATE parents SET id = 20 WHERE id = 2")
    assert (await children.export()).keys == ([(3,), (5,), (6,)], [(1,), (2,)])


async def test_a_cascade_may_change_the_key_itself(source: SourceDatabase) -> None:
    await source.app.execute("CREATE TABLE parents (id int PRIMARY KEY); INSERT INTO parents VALUES (1), (2)")
    children = await source.capture(
        "children",
        "parent int REFERENCES parents ON UPDATE CASCADE, n int, PRIMARY KEY (parent, n)",
        key=("parent", "n"),
    )
    await source.app.execute("INSERT INTO children SELECT 1, generate_series(1, 3)")
    await children.export()
    await source.app.execute("UPDATE parents SET id = 7 WHERE id = 1")
    assert (await children.export()).keys == ([(7, 1), (7, 2), (7, 3)], [(1, 1), (1, 2), (1, 3)])


async def test_writes_in_replica_mode_are_seen(items: CapturedTable) -> None:
    await items.source.app.execute("SET session_replication_role = replica")
    ops, present, deleted = await write(items, "DELETE FROM items WHERE id = 1")
    assert (ops, present, deleted) == ([("D", 1), ("D", 1)], [], [1]), "logged for the statement and for the row"


async def test_statements_of_more_than_ten_thousand_rows_fill_several_log_rows(items: CapturedTable) -> None:
    app = items.source.app
    await app.execute(
        "INSERT INTO items SELECT i, CASE i % 2 WHEN 0 THEN 'acme' ELSE 'other' END FROM generate_series(100, 12099) i"
    )
    sizes = await app.fetch(f"SELECT cardinality(key_1) AS n FROM {items.log}")
    assert sum(row["n"] for row in sizes) == 12_000
    assert len(sizes) == 4, "two for each tenant"
    assert len((await items.export()).present) == 6_000
    await items.forget_log()
    await app.execute("UPDATE items SET id = CASE WHEN id IN (100, 9000) THEN -id ELSE id END WHERE id >= 100")
    assert [op for op in await items.ops() if op[0] != "U"] == [("D", (100,)), ("D", (9000,))]
    export = await items.export()
    assert export.mode is Mode.INCREMENTAL
    assert len(export.present) == 6_000
    assert sorted(export.deleted) == [(100,), (9000,)]
    await app.execute("DELETE FROM items WHERE id >= 100")
    assert len((await items.export()).deleted) == 5_998


@pytest.mark.parametrize("key_type", ["int", "uuid", "text", "varchar(10)", "jsonb"])
async def test_moved_records_are_found_without_comparing_each_old_row_with_each_new_one(
    source: SourceDatabase, key_type: str
) -> None:
    items = await source.capture("items", f"id {key_type} PRIMARY KEY, tenant text, note text", tenant="tenant")
    body = await source.app.fetchval("SELECT prosrc FROM pg_proc WHERE proname = $1", f"{bare_log(items)}_update")
    statements = re.findall(r"INSERT INTO \S+ \(seq,.*?;", body, re.DOTALL)
    assert len(statements) == 2
    await source.app.execute("CREATE TEMP TABLE old_rows (LIKE items); CREATE TEMP TABLE new_rows (LIKE items)")
    for statement in statements:
        plan = "\n".join(row[0] for row in await source.app.fetch(f"EXPLAIN {statement}"))
        assert "Anti Join" in plan, plan
        assert "SubPlan" not in plan, plan


async def test_disabled_triggers_are_put_right_before_a_full_run(items: CapturedTable) -> None:
    app = items.source.app
    await app.execute(
        "ALTER TABLE items DISABLE TRIGGER ALL; DELETE FROM items WHERE id = 1; ALTER TABLE items ENABLE TRIGGER ALL"
    )
    assert "not ENABLE ALWAYS" in await items.findings()
    await items.install()
    assert await items.findings() == ""
    export = await items.export()
    assert (export.mode, export.reason) == (Mode.FULL, FullReason.CAPTURE_CHANGED)
    await app.execute("SET session_replication_role = replica; UPDATE items SET note = 'x' WHERE id = 2")
    assert (await items.export()).keys == ([(2,)], [])


async def test_a_write_that_fails_or_is_rolled_back_leaves_nothing(items: CapturedTable) -> None:
    app = items.source.app
    with pytest.raises(asyncpg.UniqueViolationError):
        await app.execute("INSERT INTO items VALUES (8, 'acme', ''), (1, 'acme', '')")
    async with app.transaction():
        await app.execute(
            "UPDATE items SET note = 'x' WHERE id = 1; SAVEPOINT s; DELETE FROM items WHERE id = 2; ROLLBACK TO s"
        )
        await app.execute("DELETE FROM items WHERE id = 3; RELEASE s")
    assert await write(items) == ([("D", 3), ("U", 1)], [1], [3])


async def test_the_log_has_the_top_level_transaction_even_inside_savepoints(items: CapturedTable) -> None:
    app = items.source.app
    async with app.transaction():
        top = await app.fetchval("SELECT pg_current_xact_id()::text")
        async with app.transaction():
            await app.execute("UPDATE items SET note = 'x' WHERE id = 1")
    logged = await app.fetchval(f"SELECT xid::text FROM {items.log}")
    assert logged == top
    assert await app.fetchval("SELECT xmin::text FROM items WHERE id = 1") != top


async def test_a_prepared_transaction_is_exported_when_it_is_committed(items: CapturedTable) -> None:
    app = items.source.app
    name = items.source.schema
    async with app.transaction():
        await app.execute("DELETE FROM items WHERE id = 1; UPDATE items SET note = 'p' WHERE id = 2")
        await app.execute(f"PREPARE TRANSACTION '{name}'")
    try:
        await app.execute("UPDATE items SET note = 'x' WHERE id = 3")
        assert (await items.export()).keys == ([(3,)], [])
    finally:
        await app.execute(f"COMMIT PREPARED '{name}'")
    assert (await items.export()).keys == ([(2,)], [(1,)])


async def test_a_transaction_open_during_a_run_is_in_the_next(items: CapturedTable) -> None:
    slow = await items.source.session()
    transaction = slow.transaction()
    await transaction.start()
    await slow.execute("DELETE FROM items WHERE id = 1")
    await items.source.app.execute("DELETE FROM items WHERE id = 2")
    assert (await items.export()).keys == ([], [(2,)])
    await transaction.commit()
    assert (await items.export()).keys == ([], [(1,)])
    assert (await items.export()).keys == ([], [])


async def test_the_doorbell_rings_only_while_it_is_armed(items: CapturedTable) -> None:
    app = items.source.app
    rings: list[object] = []
    listener = await items.source.session()
    await listener.add_listener("exportd_doorbell", lambda *arguments: rings.append(arguments[3]))
    await app.execute("UPDATE items SET note = 'silent' WHERE id = 1")
    await listener.execute("SELECT")
    assert rings == []
    async with app.transaction():
        # Armed until a time that has passed: as after the end of a daemon that left it so.
        await app.execute("SELECT setval('exportd.doorbell', extract(epoch FROM now())::bigint - 1)")
        await app.execute("UPDATE items SET note = 'silent too'")
    await listener.execute("SELECT")
    assert rings == []
    async with app.transaction():
        await app.execute("SELECT setval('exportd.doorbell', extract(epoch FROM now())::bigint + 60)")
        await app.execute("UPDATE items SET note = 'loud'")
        await app.execute("SELECT setval('exportd.doorbell', 0)")
    await listener.execute("SELECT")
    assert rings == [items.entity.code]
