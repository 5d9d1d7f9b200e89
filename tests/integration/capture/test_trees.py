"""Partitioned tables and inheritance trees: writes to the root, to a member, and to the tree's own shape."""

import pytest

from exportd.model.entity import CaptureLevel
from exportd.model.errors import FullReason
from exportd.model.extraction import Mode
from tests.integration.capture.source_database import CapturedTable, SourceDatabase

pytestmark = pytest.mark.every_postgres

# low: 0-99, in the layout of the root; high: 100-199, columns in another order, one dropped; wide: 200-299, divided.
TREE = """
CREATE TABLE sales (id int NOT NULL, organization_id text, note text, amount numeric, PRIMARY KEY (id))
    PARTITION BY RANGE (id);
CREATE TABLE low PARTITION OF sales FOR VALUES FROM (0) TO (100);
CREATE TABLE high (amount numeric, junk int, note text, id int NOT NULL, organization_id text);
ALTER TABLE high DROP junk;
ALTER TABLE sales ATTACH PARTITION high FOR VALUES FROM (100) TO (200);
CREATE TABLE wide PARTITION OF sales FOR VALUES FROM (200) TO (300) PARTITION BY LIST (id);
CREATE TABLE wide_even (organization_id text, amount numeric, id int NOT NULL, note text);
ALTER TABLE wide ATTACH PARTITION wide_even FOR VALUES IN (200, 202);
CREATE TABLE wide_rest PARTITION OF wide DEFAULT;
"""
ROWS = "INSERT INTO sales SELECT i, 'acme', 'n' || i, i FROM unnest(ARRAY[1, 2, 3, 101, 102, 200, 201, 202]) AS i"


@pytest.fixture
async def sales(source: SourceDatabase) -> CapturedTable:
    await source.app.execute(TREE)
    captured = await source.capture("sales", tenant="organization_id")
    await source.app.execute(ROWS)
    assert len((await captured.export()).present) == 8
    await captured.forget_log()
    return captured


async def keys_after(captured: CapturedTable, statements: str) -> tuple[list[int], list[int]]:
    await captured.source.app.execute(statements)
    export = await captured.export()
    assert export.mode is Mode.INCREMENTAL, export.reason
    return [key[0] for key in export.keys[0]], [key[0] for key in export.keys[1]]


async def test_writes_through_the_root_are_seen_once(sales: CapturedTable) -> None:
    statements = "UPDATE sales SET note = 'x' WHERE id IN (1, 101, 201); DELETE FROM sales WHERE id IN (2, 102, 202);"
    assert await keys_after(
        sales, statements + "INSERT INTO sales VALUES (5, 'acme'), (105, 'acme'), (205, 'acme')"
    ) == (
        [1, 5, 101, 105, 201, 205],
        [2, 102, 202],
    )
    ops = await sales.ops()
    assert len(ops) == len(set(ops)) == 9


async def test_writes_straight_into_partitions_are_seen(sales: CapturedTable) -> None:
    statements = """
        INSERT INTO low VALUES (6, 'acme', 'n', 1); INSERT INTO high (id, organization_id) VALUES (106, 'acme');
        UPDATE high SET note = 'x' WHERE id = 101; DELETE FROM low WHERE id = 1; DELETE FROM high WHERE id = 102;
        UPDATE wide SET note = 'x' WHERE id = 201; UPDATE wide_even SET note = 'x' WHERE id = 200;
        DELETE FROM wide_even WHERE id = 202; INSERT INTO wide_rest (id, organization_id) VALUES (207, 'acme')"""
    assert await keys_after(sales, statements) == ([6, 101, 106, 200, 201, 207], [1, 102, 202])


async def test_the_image_of_a_partition_with_another_layout_reads_like_the_roots(sales: CapturedTable) -> None:
    await sales.source.app.execute(
        "DELETE FROM high WHERE id = 101; DELETE FROM wide_even WHERE id = 200; DELETE FROM wide WHERE id = 202"
    )
    export = await sales.export()
    assert [list(row.values()) for _, row in sorted(export.deleted.items())] == [
        [id_, "acme", f"n{id_}", id_, True] for id_ in (101, 200, 202)
    ]


async def test_a_row_may_move_between_partitions(sales: CapturedTable) -> None:
    statements = "UPDATE sales SET id = id + 150 WHERE id IN (1, 2); UPDATE sales SET id = 4 WHERE id = 202;"
    moved = await keys_after(sales, statements + "UPDATE wide SET id = 202 WHERE id = 201")
    assert moved == ([4, 151, 152, 202], [1, 2, 201])


async def test_truncate_of_the_root_leaves_every_image_once(sales: CapturedTable) -> None:
    assert await keys_after(sales, "TRUNCATE sales") == ([], [1, 2, 3, 101, 102, 200, 201, 202])
    assert len(await sales.ops()) == 8


async def test_truncate_of_partitions_is_seen(sales: CapturedTable) -> None:
    assert await keys_after(sales, "TRUNCATE high; TRUNCATE wide") == ([], [101, 102, 200, 201, 202])


async def test_merge_and_on_conflict_work_through_the_root(sales: CapturedTable) -> None:
    statements = """
        INSERT INTO sales VALUES (1, 'acme'), (150, 'acme') ON CONFLICT (id) DO UPDATE SET note = 'again';
        MERGE INTO sales AS t USING (VALUES (2), (101), (250)) AS s (id) ON t.id = s.id
            WHEN MATCHED AND t.id = 2 THEN DELETE
            WHEN MATCHED THEN UPDATE SET note = 'merged'
            WHEN NOT MATCHED THEN INSERT VALUES (s.id, 'acme')"""
    assert await keys_after(sales, statements) == ([1, 101, 150, 250], [2])


async def test_foreign_keys_act_on_partitioned_tables(source: SourceDatabase) -> None:
    await source.app.execute(
        "CREATE TABLE parents (id int PRIMARY KEY); INSERT INTO parents SELECT generate_series(1, 4)"
    )
    await source.app.execute(
        """CREATE TABLE children (id int PRIMARY KEY, parent int REFERENCES parents ON DELETE CASCADE ON UPDATE CASCADE)
               PARTITION BY RANGE (id);
           CREATE TABLE children_low PARTITION OF children FOR VALUES FROM (0) TO (10);
           CREATE TABLE children_high PARTITION OF children FOR VALUES FROM (10) TO (20);
           INSERT INTO children VALUES (1, 1), (2, 2), (11, 1), (12, 2), (13, 3)"""
    )
    children = await source.capture("children")
    await children.export()
    assert await keys_after(children, "DELETE FROM parents WHERE id = 1; UPDATE parents SET id = 9 WHERE id = 2") == (
        [2, 12],
        [1, 11],
    )


async def test_a_new_partition_forces_a_full_run_and_is_captured_from_then_on(sales: CapturedTable) -> None:
    app = sales.source.app
    await app.execute("CREATE TABLE later (LIKE low); INSERT INTO later VALUES (301, 'acme'), (302, 'acme')")
    await app.execute("ALTER TABLE sales ATTACH PARTITION later FOR VALUES FROM (300) TO (400)")
    assert "on " + sales.source.schema + ".later" in await sales.findings()
    await sales.install()
    export = await sales.export()
    assert (export.mode, export.reason) == (Mode.FULL, FullReason.PARTITIONS_CHANGED)
    assert await keys_after(sales, "DELETE FROM later WHERE id = 301; UPDATE later SET note = 'x'") == ([302], [301])


# What another session does before the next run has captured the partitions that are new.
GROWN = {
    "it is empty": "CREATE TABLE later PARTITION OF sales FOR VALUES FROM (300) TO (400)",
    "it was written through the root": """
        CREATE TABLE later PARTITION OF sales FOR VALUES FROM (300) TO (400);
        INSERT INTO sales VALUES (301, 'acme'), (302, 'acme'), (303, 'other'), (304, NULL);
        UPDATE sales SET id = id + 320 WHERE id IN (1, 3); UPDATE sales SET note = 'x' WHERE id = 301;
        DELETE FROM sales WHERE id = 2""",
    "it is divided itself": """
        CREATE TABLE later PARTITION OF sales FOR VALUES FROM (300) TO (400) PARTITION BY LIST (id);
        CREATE TABLE latest PARTITION OF later DEFAULT; INSERT INTO sales VALUES (301, 'acme')""",
    "its columns stand in another order": """
        CREATE TABLE later (amount numeric, id int NOT NULL, note text, organization_id text);
        ALTER TABLE sales ATTACH PARTITION later FOR VALUES FROM (300) TO (400);
        INSERT INTO sales VALUES (301, 'acme'), (302, 'acme'); DELETE FROM sales WHERE id = 1""",
    "a partition of a partition": """
        CREATE TABLE wide_odd PARTITION OF wide FOR VALUES IN (205, 207);
        INSERT INTO wide (id, organization_id) VALUES (205, 'acme')""",
    "it was emptied again": """
        CREATE TABLE later PARTITION OF sales FOR VALUES FROM (300) TO (400);
        INSERT INTO later VALUES (301, 'acme'); TRUNCATE later""",
    "rows were in it that are another organization's": """
        CREATE TABLE later PARTITION OF sales FOR VALUES FROM (300) TO (400);
        INSERT INTO later VALUES (301, 'other')""",
    "rows of the default partition were moved by hand": """
        ALTER TABLE wide DETACH PARTITION wide_rest; CREATE TABLE wide_201 PARTITION OF wide FOR VALUES IN (201);
        WITH gone AS (DELETE FROM wide_rest RETURNING *) INSERT INTO wide_201 SELECT * FROM gone;
        ALTER TABLE wide ATTACH PARTITION wide_rest DEFAULT""",
    "rows were in it that are logged": """
        CREATE TABLE later (LIKE low); INSERT INTO later SELECT 301, organization_id, note, 0 FROM low WHERE id = 1;
        ALTER TABLE sales ATTACH PARTITION later FOR VALUES FROM (300) TO (400); UPDATE sales SET note = 'x'""",
}


@pytest.mark.parametrize("event", GROWN)
async def test_a_partition_whose_rows_are_all_logged_forces_no_full_run(sales: CapturedTable, event: str) -> None:
    await sales.source.app.execute(GROWN[event])
    await sales.install()
    assert (await sales.export()).mode is Mode.INCREMENTAL
    statements = "UPDATE sales SET note = 'y' WHERE id > 200; DELETE FROM sales WHERE id IN (200, 301)"
    await sales.source.app.execute(statements)
    assert (await sales.export()).mode is Mode.INCREMENTAL


UNLOGGED = {
    "a row that was written is gone": """
        CREATE TABLE later PARTITION OF sales FOR VALUES FROM (300) TO (400);
        INSERT INTO sales VALUES (301, 'acme'); DELETE FROM sales WHERE id = 301""",
    "a row was written straight into it": """
        CREATE TABLE later PARTITION OF sales FOR VALUES FROM (300) TO (400);
        INSERT INTO sales VALUES (301, 'acme'); INSERT INTO later VALUES (302, 'acme')""",
    "another is gone": """
        CREATE TABLE later PARTITION OF sales FOR VALUES FROM (300) TO (400);
        ALTER TABLE sales DETACH PARTITION high""",
    "it took the place of another": """
        DROP TABLE low; CREATE TABLE low PARTITION OF sales FOR VALUES FROM (0) TO (100)""",
    "triggers of another were off for a moment": """
        CREATE TABLE later PARTITION OF sales FOR VALUES FROM (300) TO (400);
        ALTER TABLE low DISABLE TRIGGER ALL; ALTER TABLE low ENABLE TRIGGER ALL""",
    "it does not survive a crash": """
        CREATE UNLOGGED TABLE later PARTITION OF sales FOR VALUES FROM (300) TO (400)""",
    "it hides rows": """
        CREATE TABLE later PARTITION OF sales FOR VALUES FROM (300) TO (400);
        ALTER TABLE later ENABLE ROW LEVEL SECURITY""",
}


@pytest.mark.parametrize("event", UNLOGGED)
async def test_a_partition_of_which_the_log_does_not_say_everything_forces_one(
    sales: CapturedTable, event: str
) -> None:
    await sales.source.app.execute(UNLOGGED[event])
    await sales.install()
    assert (await sales.export()).mode is Mode.FULL
    await sales.source.app.execute("UPDATE sales SET note = 'y' WHERE id > 200")
    assert (await sales.export()).reason is not FullReason.PARTITIONS_CHANGED


@pytest.mark.parametrize(
    "loss", ["DELETE FROM late", "TRUNCATE late", "DELETE FROM late; INSERT INTO late VALUES (9, 200)"]
)
async def test_a_row_that_moved_into_a_new_partition_and_was_deleted_there_is_not_kept(
    source: SourceDatabase, loss: str
) -> None:
    """The key does not say where a row lies, so moving it is no deletion; and nothing saw the row go."""
    await source.app.execute("""
        CREATE TABLE visits (id int, at int) PARTITION BY RANGE (at);
        CREATE TABLE early PARTITION OF visits FOR VALUES FROM (0) TO (100);
        INSERT INTO visits VALUES (1, 1), (2, 2)""")
    visits = await source.capture("visits")
    await visits.export()
    await source.app.execute(
        "CREATE TABLE late PARTITION OF visits FOR VALUES FROM (100) TO (300); UPDATE visits SET at = 101 WHERE id = 1;"
        + loss
    )
    await visits.install()
    assert (await visits.export()).mode is Mode.FULL


async def test_a_new_partition_captured_by_row_is_full_if_it_was_written_before(source: SourceDatabase) -> None:
    await source.app.execute(TREE)
    sales = await source.capture("sales", tenant="organization_id", level=CaptureLevel.ROW)
    await source.app.execute(ROWS)
    await sales.export()
    new = "CREATE TABLE part_{0} PARTITION OF sales FOR VALUES FROM ({0}) TO ({1});"
    await source.app.execute(new.format(300, 400))
    await sales.install()
    await source.app.execute("INSERT INTO sales VALUES (301, 'acme')")
    assert (await sales.export()).mode is Mode.INCREMENTAL
    await source.app.execute(new.format(400, 500) + "INSERT INTO sales VALUES (401, 'acme')")
    await sales.install()
    assert (await sales.export()).reason is FullReason.PARTITIONS_CHANGED


async def test_a_partition_that_left_and_came_back(source: SourceDatabase) -> None:
    """Its triggers log what is written meanwhile, until they are removed."""
    await source.app.execute(TREE + ROWS)
    sales = await source.capture("sales", tenant="organization_id")
    await sales.export()
    await source.app.execute("CREATE TABLE later PARTITION OF sales FOR VALUES FROM (300) TO (400)")
    await sales.install()
    away, back = (
        "ALTER TABLE sales DETACH PARTITION later;",
        "ALTER TABLE sales ATTACH PARTITION later FOR VALUES FROM (300) TO (400);",
    )
    await source.app.execute(f"{away} INSERT INTO later VALUES (301, 'acme'); {back}")
    assert (await sales.export()).keys == ([(301,)], [])
    await source.app.execute(away)
    await sales.install()
    assert (await sales.export()).mode is Mode.FULL
    await source.app.execute("INSERT INTO later VALUES (302, 'acme');" + back)
    await sales.install()
    assert (await sales.export()).reason is FullReason.PARTITIONS_CHANGED


async def test_a_new_partition_is_captured_without_waiting_for_writers_of_the_others(sales: CapturedTable) -> None:
    writer = await sales.source.session()
    transaction = writer.transaction()
    await transaction.start()
    await writer.execute("UPDATE sales SET note = 'slow' WHERE id = 1")
    await sales.source.app.execute("CREATE TABLE later (LIKE low INCLUDING ALL)")
    # ATTACH does not wait for writers.
    await sales.source.app.execute("ALTER TABLE sales ATTACH PARTITION later FOR VALUES FROM (300) TO (400)")
    await sales.install()
    assert await sales.findings() == ""
    assert (await sales.export()).keys == ([], [])
    await transaction.commit()
    assert (await sales.export()).keys == ([(1,)], [])


async def test_a_detached_partition_forces_a_full_run_and_loses_its_triggers(sales: CapturedTable) -> None:
    app = sales.source.app
    await app.execute("ALTER TABLE sales DETACH PARTITION high; DELETE FROM high WHERE id = 101")
    assert "no longer captured" in await sales.findings()
    await sales.install()
    assert await sales.findings() == ""
    export = await sales.export()
    assert (export.mode, export.reason) == (Mode.FULL, FullReason.PARTITIONS_CHANGED)
    await sales.forget_log()
    await app.execute("DELETE FROM high")
    assert await sales.ops() == []


async def test_a_partition_dropped_and_made_again_forces_a_full_run(sales: CapturedTable) -> None:
    await sales.source.app.execute("DROP TABLE low; CREATE TABLE low PARTITION OF sales FOR VALUES FROM (0) TO (100)")
    await sales.install()
    assert (await sales.export()).reason is FullReason.PARTITIONS_CHANGED


async def test_children_of_an_inheritance_tree_are_captured_with_their_own_columns(source: SourceDatabase) -> None:
    await source.app.execute("""
        CREATE TABLE animals (id int PRIMARY KEY, organization_id text, name text);
        CREATE TABLE cats (lives int, PRIMARY KEY (id)) INHERITS (animals);
        CREATE TABLE kittens (age int, PRIMARY KEY (id)) INHERITS (cats);
        INSERT INTO animals VALUES (1, 'acme', 'a'), (2, 'acme', 'b');
        INSERT INTO cats VALUES (11, 'acme', 'c', 9), (12, 'acme', 'd', 8);
        INSERT INTO kittens VALUES (21, 'acme', 'e', 9, 1), (22, 'acme', 'f', 9, 2)""")
    animals = await source.capture("animals", tenant="organization_id")
    assert len((await animals.export()).present) == 6
    statements = "UPDATE animals SET name = 'x' WHERE id IN (1, 11, 21); DELETE FROM cats WHERE id IN (12, 22);"
    assert await keys_after(animals, statements + "INSERT INTO kittens VALUES (23, 'acme', 'k', 9, 0)") == (
        [1, 11, 21, 23],
        [12, 22],
    )
    assert await keys_after(animals, "UPDATE ONLY cats SET lives = 1; TRUNCATE ONLY animals") == ([11], [1, 2])
    assert await keys_after(animals, "TRUNCATE cats") == ([], [11, 21, 23])
