"""Installing, seeing damage, repairing, removing."""

import re
from collections.abc import Mapping
from dataclasses import replace

import anyio
import asyncpg
import pytest

from exportd.capture.installer import CaptureInstaller
from exportd.model.errors import FullReason, PermanentError, Reason, TransientError
from exportd.model.extraction import Mode
from tests.fixtures.postgres import Database
from tests.integration.capture.source_database import CapturedTable, SourceDatabase, bare_log, open_source_database

COLUMNS = "id int PRIMARY KEY, organization_id text, note text"


@pytest.fixture
async def things(source: SourceDatabase) -> CapturedTable:
    captured = await source.capture("things", COLUMNS, tenant="organization_id")
    await source.app.execute("INSERT INTO things SELECT i, 'acme', 'x' FROM generate_series(1, 3) AS i")
    await captured.export()
    return captured


async def test_installing_twice_does_nothing_the_second_time(things: CapturedTable) -> None:
    outcome = await things.install()
    assert (outcome.findings, outcome.statements) == ((), ())
    assert await things.findings() == ""
    assert (await things.export()).mode is Mode.INCREMENTAL


async def test_two_daemons_may_install_at_once(source: SourceDatabase) -> None:
    await source.app.execute(f"CREATE TABLE things ({COLUMNS})")
    things = CapturedTable(source, await source.entity("things", tenant="organization_id"))
    async with anyio.create_task_group() as daemons:
        for _ in range(4):
            daemons.start_soon(things.install)
    assert await things.findings() == ""


CHANGED = FullReason.CAPTURE_CHANGED
FUNCTIONS = "functions are missing or of another shape"
LOG = "exportd.log_{code}"
DAMAGE: Mapping[str, tuple[str, str, FullReason | None]] = {
    "trigger dropped": ("DROP TRIGGER exportd_{code}_update ON things", "exportd_{code}_update on", CHANGED),
    "trigger disabled": ("ALTER TABLE things DISABLE TRIGGER exportd_{code}_insert", "disabled", CHANGED),
    "trigger demoted": (
        "ALTER TABLE things ENABLE TRIGGER exportd_{code}_delete",
        "not ENABLE ALWAYS",
        CHANGED,
    ),
    "trigger replaced": (
        "CREATE OR REPLACE TRIGGER exportd_{code}_insert AFTER INSERT ON things REFERENCING NEW TABLE AS new_rows"
        f" FOR EACH STATEMENT WHEN (false) EXECUTE FUNCTION {LOG}_insert()",
        "otherwise changed",
        CHANGED,
    ),
    "function dropped": (f"DROP FUNCTION {LOG}_truncate CASCADE", FUNCTIONS, CHANGED),
    "function replaced": (
        f"CREATE OR REPLACE FUNCTION {LOG}_insert() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        FUNCTIONS,
        FullReason.CHANGES_UNKNOWN,
    ),
    "function without our rights": (f"ALTER FUNCTION {LOG}_insert() SECURITY INVOKER", FUNCTIONS, None),
    "function without a setting": (f"ALTER FUNCTION {LOG}_delete() RESET datestyle", FUNCTIONS, None),
    "passing function dropped": (f"DROP FUNCTION {LOG}_key_1(integer, integer, bigint)", FUNCTIONS, None),
    "log dropped": (f"DROP TABLE {LOG}", "the change log is missing", CHANGED),
    "log of another table": (
        f"COMMENT ON TABLE {LOG} IS 'public.b key id tenant -'",
        "of another table",
        CHANGED,
    ),
    "log with other columns": (
        f"ALTER TABLE {LOG} ALTER key_1 TYPE bigint[]",
        "columns are not those",
        CHANGED,
    ),
    "index dropped": (f"DROP INDEX {LOG}_tenant_xid_idx", "lost its index", None),
    "sequence dropped": ("DROP SEQUENCE exportd.seq_{code}", "lost its sequence", CHANGED),
    "stamp dropped": (f"ALTER TABLE {LOG} ALTER xid DROP DEFAULT", "the default of its xid", CHANGED),
    "log not crash safe": (f"ALTER TABLE {LOG} SET UNLOGGED", "crash safety", CHANGED),
}


@pytest.mark.parametrize("damage", DAMAGE)
async def test_each_damage_is_said_in_words_and_repaired(things: CapturedTable, damage: str) -> None:
    statement, words, reason = DAMAGE[damage]
    code = things.entity.code.lower()
    await things.source.app.execute(statement.format(code=code))
    assert words.format(code=code) in await things.findings()
    await things.install()
    assert await things.findings() == ""
    await things.source.app.execute("UPDATE things SET note = 'y' WHERE id = 1; DELETE FROM things WHERE id = 2")
    export = await things.export()
    assert export.reason is reason
    assert (await things.export()).keys == ([], [])


async def test_an_uncaptured_table_is_reported_to_have_no_log(source: SourceDatabase) -> None:
    await source.app.execute(f"CREATE TABLE things ({COLUMNS}); CREATE VIEW seen AS SELECT * FROM things")
    assert await CapturedTable(source, await source.entity("things")).findings() == "the change log is missing"
    for name in ("seen", "nothing"):
        assert "does not exist" in await CapturedTable(source, await source.entity(name)).findings()


async def test_a_column_that_is_not_there_is_named(things: CapturedTable) -> None:
    wrong = things.with_entity(replace(things.entity, key=("number",)))
    assert "has no column number" in await wrong.findings()
    with pytest.raises(PermanentError, match="has no column number"):
        await wrong.install()


async def test_another_key_in_the_catalog_makes_a_new_log(things: CapturedTable) -> None:
    app = things.source.app
    await app.execute("INSERT INTO things VALUES (4, 'acme', 'lost')")
    other = things.with_entity(replace(things.entity, key=("organization_id", "id")))
    assert "of another table, key or tenant" in await other.findings()
    await other.install()
    assert await other.ops() == []
    export = await other.export()
    assert (export.reason, len(export.present)) == (FullReason.CATALOG_CHANGED, 4)
    await app.execute("UPDATE things SET id = 40 WHERE id = 4")
    assert (await other.export()).keys == ([("acme", 40)], [("acme", 4)])


async def test_a_table_dropped_and_made_again_is_captured_again(things: CapturedTable) -> None:
    app = things.source.app
    await app.execute(
        f"DROP TABLE things; CREATE TABLE things ({COLUMNS}); INSERT INTO things VALUES (9, 'acme', 'new')"
    )
    assert "triggers missing" in await things.findings()
    await things.install()
    export = await things.export()
    assert (export.mode, export.keys) == (Mode.FULL, ([(9,)], []))
    await app.execute("DELETE FROM things")
    assert (await things.export()).keys == ([], [(9,)])


async def test_a_table_whose_place_another_takes_is_captured_no_longer(things: CapturedTable) -> None:
    app = things.source.app
    await app.execute("""
        CREATE TABLE replacement (LIKE things INCLUDING ALL); INSERT INTO replacement SELECT * FROM things WHERE id < 3;
        ALTER TABLE things RENAME TO retired; ALTER TABLE replacement RENAME TO things; DELETE FROM things WHERE id = 1
        """)
    assert "triggers left on tables that are no longer captured" in await things.findings()
    await things.install()
    assert await app.fetchval("SELECT count(*) FROM pg_trigger WHERE tgrelid = 'retired'::regclass") == 0
    export = await things.export()
    assert (export.mode, export.keys[0]) == (Mode.FULL, [(2,)])


async def test_removing_leaves_nothing_behind(database: Database) -> None:
    connection = await database.connect()
    await connection.execute(f"CREATE TABLE things ({COLUMNS}) PARTITION BY RANGE (id)")
    await connection.execute("CREATE TABLE part (note text, organization_id text, id int NOT NULL)")
    await connection.execute("ALTER TABLE things ATTACH PARTITION part DEFAULT")
    before = await everything(connection)
    async with open_source_database(database.server, database.dsn) as source:
        await source.app.execute(f"DROP SCHEMA {source.schema}; SET search_path = public")
        source.schema = "public"
        await source.capture("things", tenant="organization_id")
        await source.capture("things", key=("id", "note"))
        await source.app.execute("INSERT INTO things VALUES (1); DELETE FROM part")
        assert await everything(connection) != before
        assert len(await source.installer.uninstall()) == 2
        assert await source.installer.uninstall() == []
    assert await everything(connection) == before


async def everything(connection: "asyncpg.Connection[asyncpg.Record]") -> dict[str, list[str]]:
    """Every row of the catalogs that describe objects, so far as names tell them apart."""
    queries = {
        "relations": "SELECT relname || relkind::text FROM pg_class WHERE relnamespace <> 'pg_toast'::regnamespace",
        "functions": "SELECT oid::regprocedure::text FROM pg_proc",
        "types": "SELECT typnamespace::regnamespace || '.' || typname::text FROM pg_type",
        "triggers": "SELECT tgrelid::regclass || tgname::text FROM pg_trigger",
        "columns": "SELECT attrelid::regclass || attname::text FROM pg_attribute AS a JOIN pg_class AS c ON"
        " c.oid = a.attrelid AND c.relnamespace <> 'pg_toast'::regnamespace",
        "comments": "SELECT objoid::regclass || description FROM pg_description WHERE classoid = 'pg_class'::regclass",
        "schemas": "SELECT nspname::text FROM pg_namespace",
        "dependencies": "SELECT pg_describe_object(classid, objid, objsubid) FROM pg_depend"
        " WHERE objid > 16384 AND deptype <> 'i'",
        "defaults": "SELECT adrelid::regclass || pg_get_expr(adbin, adrelid) FROM pg_attrdef",
        "indexes": "SELECT indexrelid::regclass::text FROM pg_index",
    }
    return {name: sorted(row[0] for row in await connection.fetch(query)) for name, query in queries.items()}


async def test_removing_one_entity_leaves_the_others(source: SourceDatabase) -> None:
    first = await source.capture("first", COLUMNS)
    second = await source.capture("second", COLUMNS)
    assert await source.installer.uninstall([bare_log(first)]) == [bare_log(first)]
    assert await first.findings() == "the change log is missing"
    assert await second.findings() == ""
    await source.app.execute("INSERT INTO first VALUES (1); INSERT INTO second VALUES (1)")
    assert len(await second.ops()) == 1


@pytest.mark.every_postgres
async def test_the_printed_statements_run_by_psql_give_a_whole_capture(source: SourceDatabase) -> None:
    name = 'odd "name"; $exportd$'
    await source.app.execute("""
        CREATE TABLE "odd ""name""; $exportd$" (id varchar(5) PRIMARY KEY, "an ' $exportd$ org" text, note text)
            PARTITION BY LIST (id);
        CREATE TABLE leaf ("an ' $exportd$ org" text, id varchar(5) NOT NULL, note text);
        ALTER TABLE "odd ""name""; $exportd$" ATTACH PARTITION leaf DEFAULT""")
    things = CapturedTable(source, await source.entity(name, tenant="an ' $exportd$ org"))
    (planned,) = await source.installer.status([things.entity])
    script = "BEGIN;\n" + "".join(f"{statement};\n" for statement in planned.statements) + "COMMIT;\n"
    command = [str(source.server.binaries / "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", source.dsn]
    outcome = await anyio.run_process(command, input=script.encode(), check=False)
    assert outcome.stderr.decode() == ""
    assert await things.findings() == ""
    await source.app.execute("INSERT INTO leaf VALUES ('acme', 'a'), ('acme', 'b')")
    await things.export()
    await source.app.execute("DELETE FROM leaf WHERE id = 'a'")
    assert (await things.export()).keys == ([], [("a",)])


async def test_after_a_restore_the_old_rows_of_the_log_are_dropped(database: Database) -> None:
    async with open_source_database(database.server, database.dsn) as source:
        things = await source.capture("things", COLUMNS, tenant="organization_id")
        await source.app.execute("INSERT INTO things VALUES (1, 'acme')")
        await things.export()
        for damage in ("system_identifier = '1'", "database_oid = 1"):
            await source.app.execute("UPDATE things SET note = 'x'")
            await source.app.execute(f"UPDATE exportd.cluster SET {damage}")
            assert await things.ops() != []
            await things.install()
            assert await things.ops() == []
            recorded = await source.app.fetchval(
                "SELECT (system_identifier, database_oid) = (SELECT system_identifier::text, d.oid"
                " FROM pg_control_system(), pg_database AS d WHERE datname = current_database()) FROM exportd.cluster"
            )
            assert recorded
            await things.install()


# --- locks ----------------------------------------------------------------------------------------------------------


async def test_installing_never_queues_behind_a_long_writer(source: SourceDatabase) -> None:
    await source.app.execute(f"CREATE TABLE things ({COLUMNS})")
    things = CapturedTable(source, await source.entity("things"))
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        # Between two attempts nothing is locked, so other writers are not held up.
        other = await source.session()
        await other.execute(f"SET lock_timeout = '1ms'; INSERT INTO things VALUES ({len(pauses)})")

    installer = CaptureInstaller(source.connector, pause=pause, lock_timeout_s=0.02, attempts=3)
    writer, reader = await source.session(), await source.session()
    await writer.execute("SET application_name = 'orders\x1b'")
    async with writer.transaction(), reader.transaction():
        await reader.execute("TABLE things")
        await writer.execute("INSERT INTO things VALUES (0)")
        with pytest.raises(TransientError) as caught:
            await installer.install([things.entity])
        assert caught.value.reason is Reason.LOCK_NOT_AVAILABLE
        told = rf"Locks are held by session {writer.get_server_pid()} 'orders.*' of postgres \(idle in transaction\)"
        since = r"since 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC\. It is tried again"
        assert re.search(f"{told}, {since}", caught.value.sentence)
        assert ";" not in caught.value.sentence, "a reader is not in the way"
        assert "INSERT" not in caught.value.sentence
        assert len(pauses) == 2
    await installer.install([things.entity])
    assert await things.findings() == ""


async def test_installing_goes_on_when_the_writer_has_ended(source: SourceDatabase) -> None:
    await source.app.execute(f"CREATE TABLE things ({COLUMNS})")
    things = CapturedTable(source, await source.entity("things"))
    writer = await source.session()
    transaction = writer.transaction()
    await transaction.start()
    await writer.execute("INSERT INTO things VALUES (0)")

    async def pause(_: float) -> None:
        await transaction.commit()

    installer = CaptureInstaller(source.connector, pause=pause, lock_timeout_s=0.02)
    await installer.install([things.entity])
    assert await things.findings() == ""


async def test_the_application_never_loses_a_deadlock_against_the_installer(source: SourceDatabase) -> None:
    """The writer has the second table of the tree and then wants the first, which the installer has."""
    await source.app.execute("""
        CREATE TABLE things (id int, note text) PARTITION BY LIST (id);
        CREATE TABLE a PARTITION OF things FOR VALUES IN (1); CREATE TABLE b PARTITION OF things FOR VALUES IN (2)""")
    things = CapturedTable(source, await source.entity("things"))
    # It waits longer than allowed, if it were allowed to.
    installer = CaptureInstaller(source.connector, pause=anyio.sleep, lock_timeout_s=30)
    writer = await source.session()
    async with anyio.create_task_group() as tasks, writer.transaction():
        await writer.execute("INSERT INTO b VALUES (2)")
        tasks.start_soon(installer.install, [things.entity])
        await waiting_for_lock(source, "LOCK TABLE")
        await writer.execute("INSERT INTO a VALUES (1)")
    assert await things.findings() == ""
    await source.app.execute("DELETE FROM things")
    assert await things.ops() == [("D", (1,)), ("D", (2,))]


async def waiting_for_lock(source: SourceDatabase, command: str) -> None:
    """Until some session waits for a lock with the given command."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE $1"
    with anyio.fail_after(20):
        while not await source.app.fetchval(query, command + "%"):  # noqa: ASYNC110 - the server does not notify
            await anyio.sleep(0.005)


async def test_a_reader_who_goes_on_to_write_does_not_lose_a_deadlock_against_a_removal(things: CapturedTable) -> None:
    source = things.source
    installer = CaptureInstaller(source.connector, pause=anyio.sleep, lock_timeout_s=30)
    writer = await source.session()
    async with anyio.create_task_group() as tasks, writer.transaction():
        await writer.fetch("SELECT * FROM things")
        tasks.start_soon(installer.uninstall, [bare_log(things)])
        await waiting_for_lock(source, "LOCK TABLE")
        await writer.execute("UPDATE things SET note = 'z'")
    assert await things.findings() == "the change log is missing"


async def test_a_table_that_is_locked_for_long_is_not_waited_for(things: CapturedTable, source: SourceDatabase) -> None:
    installer = CaptureInstaller(source.connector, pause=anyio.sleep, lock_timeout_s=0.05)
    async with source.app.transaction():
        await source.app.execute("LOCK TABLE things IN ACCESS EXCLUSIVE MODE")
        for look in (installer.status, installer.install):
            with pytest.raises(TransientError) as caught:
                await look([things.entity])
            assert caught.value.reason is Reason.LOCK_NOT_AVAILABLE
