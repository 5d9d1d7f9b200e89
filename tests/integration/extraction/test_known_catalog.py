"""A run leaves out comparing the catalog while its fingerprint is that of an earlier run: nothing may change unseen."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from exportd.capture.installer import read_installed
from exportd.catalog.table_reader import read_fingerprint, read_shapes
from exportd.database.connector import Connection, Connector
from exportd.extraction.guards import CatalogMemory, Guards, KnownCatalog
from exportd.extraction.snapshot_reader import OpenSnapshot, Reader
from exportd.model.change_log import log_name
from exportd.model.entity import Entity, EntityCode, TableName
from exportd.model.errors import FullReason, PermanentError, Reason
from exportd.model.job import JobProgress
from tests.integration.capture.source_database import CapturedTable, SourceDatabase, a_job
from tests.integration.extraction.test_guards import REASONS

SCHEMA = """
CREATE COLLATION loose FROM "C";
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE TYPE city AS (name text, zip text);
CREATE TYPE address AS (street text, city city);
CREATE DOMAIN amount AS numeric(10, 2) CHECK (VALUE > 0);
CREATE TYPE weekdays AS RANGE (subtype = date);
CREATE FUNCTION doubled(i int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 2 * i';
CREATE TABLE things (
    id int PRIMARY KEY, organization_id text, note text COLLATE loose, mood mood, addresses address[], paid amount,
    open weekdays, spare int, width int, twice int GENERATED ALWAYS AS (doubled(width)) STORED);
CREATE FUNCTION own() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER own AFTER INSERT ON things EXECUTE FUNCTION own();
CREATE TABLE measurements (id int, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE y2024 PARTITION OF measurements FOR VALUES FROM ('2024-01-01') TO ('2025-01-01') PARTITION BY RANGE (day);
CREATE TABLE m2024_01 PARTITION OF y2024 FOR VALUES FROM ('2024-01-01') TO ('2024-02-01');
CREATE TABLE y2025 PARTITION OF measurements FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE apart (id int, day date, PRIMARY KEY (id, day))
"""

CHANGES = [
    *(statement for statement, reason in REASONS.values() if reason is not FullReason.CHANGES_UNKNOWN),
    # Columns
    "ALTER TABLE things ADD added int",
    "ALTER TABLE things DROP COLUMN spare CASCADE",
    "ALTER TABLE things RENAME note TO remark",
    "ALTER TABLE things ALTER id TYPE bigint",
    "ALTER TABLE things ALTER note TYPE text",
    'ALTER TABLE things ALTER note TYPE text COLLATE "C"',
    "ALTER TABLE things ALTER organization_id SET NOT NULL",
    "ALTER TABLE things ALTER spare TYPE numeric(4, 1)",
    "ALTER TABLE things ALTER twice DROP EXPRESSION",
    # The table itself
    "ALTER TABLE things RENAME TO others",
    "ALTER TABLE things RENAME TO others; CREATE TABLE things (LIKE others INCLUDING ALL)",
    "CREATE SCHEMA elsewhere; ALTER TABLE things SET SCHEMA elsewhere",
    "ALTER SCHEMA {schema} RENAME TO elsewhere",
    "ALTER TABLE things SET UNLOGGED",
    "TRUNCATE things",
    "DROP TABLE things",
    "DROP TABLE things; CREATE TABLE things (id int PRIMARY KEY)",
    # Keys
    "ALTER TABLE things DROP CONSTRAINT things_pkey",
    "CREATE UNIQUE INDEX ON things (organization_id, note)",
    "ALTER TABLE things ADD UNIQUE (mood) DEFERRABLE INITIALLY DEFERRED",
    "UPDATE pg_catalog.pg_index SET indisvalid = false WHERE indrelid = 'things'::regclass",
    # Types
    "ALTER TYPE mood ADD VALUE 'so so'",
    "ALTER TYPE mood ADD VALUE 'better' BEFORE 'good'",
    "ALTER TYPE mood RENAME VALUE 'bad' TO 'worse'",
    "ALTER TYPE mood RENAME TO temper",
    "CREATE SCHEMA elsewhere; ALTER TYPE mood SET SCHEMA elsewhere",
    "ALTER TYPE city RENAME ATTRIBUTE zip TO postcode",
    "ALTER TYPE city RENAME TO town",
    "ALTER DOMAIN amount RENAME TO sum_of_money",
    "ALTER TYPE weekdays RENAME TO opening_days",
    "ALTER COLLATION loose RENAME TO looser",
    "CREATE SCHEMA elsewhere; ALTER COLLATION loose SET SCHEMA elsewhere",
    # The tree
    "CREATE TABLE child () INHERITS (things)",
    "CREATE TABLE m2024_02 PARTITION OF y2024 FOR VALUES FROM ('2024-02-01') TO ('2024-03-01')",
    "ALTER TABLE measurements ATTACH PARTITION apart FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')",
    "ALTER TABLE measurements DETACH PARTITION y2025",
    "ALTER TABLE y2024 DETACH PARTITION m2024_01",
    "DROP TABLE m2024_01",
    "ALTER TABLE m2024_01 RENAME TO january",
    "TRUNCATE y2025",
    "CREATE SCHEMA elsewhere; ALTER TABLE m2024_01 SET SCHEMA elsewhere",
    # Capture
    "ALTER TABLE things DISABLE TRIGGER USER",
    "ALTER TABLE things ENABLE TRIGGER ALL",
    "ALTER TABLE things ENABLE REPLICA TRIGGER {trigger}",
    "ALTER TABLE y2025 DISABLE TRIGGER USER",
    "DROP TRIGGER {trigger} ON things",
    "ALTER TRIGGER {trigger} ON things RENAME TO quiet",
    "CREATE TRIGGER more AFTER INSERT ON things FOR EACH ROW WHEN (NEW.id > 1) EXECUTE FUNCTION {function}()",
    "CREATE TRIGGER stray AFTER INSERT ON apart FOR EACH ROW EXECUTE FUNCTION {function}()",
    "CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    "ALTER FUNCTION {function}() SECURITY INVOKER",
    "ALTER FUNCTION {function}() SET work_mem = '4MB'",
    "ALTER FUNCTION {function}() RESET ALL",
    "ALTER FUNCTION {function}() RENAME TO gone",
    "DROP FUNCTION {function}() CASCADE",
    "ALTER FUNCTION own() SET SCHEMA exportd",
    "CREATE FUNCTION {log}_key_1(text) RETURNS text LANGUAGE sql AS 'SELECT $1'",
    # The log
    "COMMENT ON TABLE {log} IS 'of another table'",
    "COMMENT ON TABLE {log} IS NULL",
    "ALTER TABLE {log} SET UNLOGGED",
    "ALTER TABLE {log} ALTER xid DROP DEFAULT",
    "ALTER TABLE {log} ADD more int",
    "ALTER TABLE {log} RENAME TO lost",
    "DROP TABLE {log} CASCADE",
    "DROP INDEX {log_index}",
    "ALTER SEQUENCE {sequence} RENAME TO lost",
    "ALTER SCHEMA exportd RENAME TO exported",
    # Rights of the login that reads
    "REVOKE ALL ON {log} FROM PUBLIC; GRANT SELECT ON {log} TO PUBLIC",
    "GRANT USAGE ON SCHEMA exportd TO PUBLIC",
]


THERE_AND_BACK = [
    ("ALTER TABLE things RENAME note TO remark", "ALTER TABLE things RENAME remark TO note"),
    ("ALTER TABLE things DISABLE TRIGGER {trigger}", "ALTER TABLE things ENABLE ALWAYS TRIGGER {trigger}"),
    ("ALTER TABLE things SET UNLOGGED", "ALTER TABLE things SET LOGGED"),
    ("ALTER TYPE mood RENAME VALUE 'bad' TO 'x'", "ALTER TYPE mood RENAME VALUE 'x' TO 'bad'"),
    ("ALTER FUNCTION {function}() RENAME TO x", "ALTER FUNCTION exportd.x() RENAME TO {bare}"),
    ("ALTER TYPE city RENAME ATTRIBUTE zip TO x", "ALTER TYPE city RENAME ATTRIBUTE x TO zip"),
]


class Answers:
    """All that a job reads of the catalog, of the entities of one source, and the fingerprint of it."""

    def __init__(self, connection: Connection, entities: Sequence[Entity]) -> None:
        self._connection = connection
        self._entities = entities

    async def fingerprint(self) -> str:
        return await read_fingerprint(self._connection, self._entities)

    async def read(self) -> tuple[Any, Any]:
        path = await self._connection.fetchval("SELECT current_setting('search_path')")
        await self._connection.execute("SET search_path = pg_catalog")
        shapes = await read_shapes(self._connection, self._entities)
        installed = await read_installed(self._connection, [log_name(entity.code) for entity in self._entities])
        await self._connection.execute("SELECT set_config('search_path', $1, false)", path)
        return {code: _without_sizes(shape) for code, shape in shapes.items()}, installed


def _without_sizes(shape: Any) -> str:
    relations = [{name: value for name, value in _slots(relation) if name != "pages"} for relation in shape.relations]
    return repr((relations, shape.log_oid, shape.log_columns))


def _slots(value: Any) -> list[tuple[str, Any]]:
    return [(name, getattr(value, name)) for name in value.__slots__]


@pytest.fixture
async def things(source: SourceDatabase) -> CapturedTable:
    await source.app.execute(SCHEMA)
    await source.capture("measurements", key=("id", "day"))
    captured = await source.capture("things", tenant="organization_id")
    await captured.run()
    return captured


async def _names(things: CapturedTable) -> dict[str, str]:
    row = await things.source.app.fetchrow(
        "SELECT t.tgname AS trigger, t.tgfoid::regproc::text AS function,"
        " (SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = $1::text::regclass LIMIT 1) AS log_index"
        " FROM pg_trigger AS t WHERE t.tgrelid = 'things'::regclass AND t.tgfoid::regproc::text LIKE 'exportd.%insert'",
        things.log,
    )
    assert row is not None
    log = f"exportd.{log_name(things.entity.code)}"
    sequence = log.replace(".log_", ".seq_")
    return {**dict(row), "log": log, "sequence": sequence, "schema": things.source.schema}


_OF_THE_TREE = ("measurements", "y20", "m2024")


@pytest.mark.every_postgres
async def test_whatever_changes_what_is_read_changes_the_fingerprint(things: CapturedTable) -> None:
    changes = [change for change in CHANGES if not any(name in change for name in _OF_THE_TREE)]
    unseen, unread = await _effects(things, things.entity, changes)
    assert unseen == [], "fingerprint is equal"
    assert len(unread) < 8, f"these changes prove nothing: {unread}"


@pytest.mark.every_postgres
async def test_whatever_changes_a_tree_changes_its_fingerprint(things: CapturedTable) -> None:
    tree = await things.source.entity("measurements", key=("id", "day"))
    changes = [change for change in CHANGES if any(name in change for name in _OF_THE_TREE)]
    assert len(changes) > 6
    assert await _effects(things, tree, changes) == ([], [])


async def _effects(things: CapturedTable, entity: Entity, changes: Sequence[str]) -> tuple[list[str], list[str]]:
    """The changes after which the fingerprint is equal, and those after which all answers are."""
    connection, names = things.source.app, await _names(things)
    answers = Answers(connection, [entity])
    before, known = await answers.fingerprint(), await answers.read()
    unseen, unread = [], []
    for change in changes:
        async with _undone(connection):
            await connection.execute(change.format(**names))
            if await answers.fingerprint() == before:
                unseen.append(change)
            if await answers.read() == known:
                unread.append(change)
    assert await answers.fingerprint() == before, "what was rolled back counts"
    return unseen, unread


@asynccontextmanager
async def _undone(connection: Connection) -> AsyncIterator[None]:
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("SET LOCAL allow_system_table_mods = on")
    try:
        yield
    finally:
        await transaction.rollback()


@pytest.mark.every_postgres
async def test_what_is_changed_and_changed_back_is_seen(things: CapturedTable) -> None:
    """Every answer is the old one, but for versions, by which a guard may have to know of it."""
    names = await _names(things)
    names["bare"] = names["function"].partition(".")[2]
    answers = Answers(things.source.app, [things.entity])
    seen = {await answers.fingerprint()}
    for number, (there, back) in enumerate(THERE_AND_BACK, start=1):
        for change in (there, back):
            await things.source.app.execute(change.format(**names))
            seen.add(await answers.fingerprint())
        assert len(seen) == 2 * number + 1, there


async def test_what_changes_no_answer_is_quiet(things: CapturedTable) -> None:
    """Work of every day, and of vacuum, must not make each run compare everything."""
    answers = Answers(things.source.app, [things.entity])
    before = await answers.fingerprint()
    for statement in (
        "INSERT INTO things (id, organization_id) SELECT i, 'acme' FROM generate_series(1, 50) AS i",
        "DELETE FROM things WHERE id > 40",
        "ANALYZE things",
        "VACUUM (FREEZE) things",
        "VACUUM (FREEZE) pg_catalog.pg_attribute",
        "VACUUM (FREEZE) pg_catalog.pg_class",
        "VACUUM (FREEZE) pg_catalog.pg_trigger",
        "CREATE TABLE unrelated (id int PRIMARY KEY, mood mood)",
        "CREATE FUNCTION unrelated() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    ):
        await things.source.app.execute(statement)
        assert await answers.fingerprint() == before, statement


class CountedCompletions:
    """Completes capture as jobs do, and counts; ``then`` runs once it has."""

    def __init__(self, things: CapturedTable) -> None:
        self._things = things
        self.calls = 0
        self.then: Callable[[], Awaitable[object]] | None = None

    async def __call__(self, entities: Sequence[Entity], progress: JobProgress) -> str:
        self.calls += 1
        fingerprint = await self._things.source.installer.complete(entities, progress)
        if self.then is not None:
            await self.then()
        return fingerprint

    async def reads(self, **forced: FullReason) -> OpenSnapshot:
        """What one more run finds; entities are full for the reasons given by their codes."""
        things = self._things
        job = a_job([things.entity.code])
        opener = things.source.opener
        reasons = {EntityCode(code): reason for code, reason in forced.items()}
        reader = Reader(job, [things.entity], things.positions(), reasons)
        async with opener.open_captured(self, reader) as snapshot:
            return snapshot

    async def compares(self) -> bool:
        """Whether one more run compares everything."""
        calls = self.calls
        await self.reads()
        return self.calls > calls


@pytest.mark.every_postgres
async def test_a_second_run_does_not_compare_until_something_has_changed(things: CapturedTable) -> None:
    completions = CountedCompletions(things)
    assert [await completions.compares() for _ in range(3)] == [True, False, False]
    app, names = things.source.app, await _names(things)
    for change in (
        "ALTER TABLE things ADD added int",
        "ALTER TABLE things DISABLE TRIGGER {trigger}",
        "CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "ALTER TYPE mood ADD VALUE 'so so'",
        "DROP INDEX {log_index}",
    ):
        await app.execute(change.format(**names))
        assert await completions.compares(), change
        await completions.reads()
        assert not await completions.compares(), change
        names = await _names(things)
    assert await things.findings() == ""


async def test_a_known_catalog_gives_the_windows_and_guards_that_a_compared_one_gives(things: CapturedTable) -> None:
    completions = CountedCompletions(things)
    await completions.reads()
    await things.run()
    await things.source.app.execute("INSERT INTO things (id, organization_id) VALUES (1, 'acme')")
    known = await completions.reads()
    job = a_job([things.entity.code])
    async with things.source.opener.open(Reader(job, [things.entity], things.positions())) as compared:
        assert completions.calls == 1
        assert (known.guards, known.windows, known.keys) == (compared.guards, compared.windows, compared.keys)


async def test_a_large_table_is_cut_by_its_size_of_now(things: CapturedTable) -> None:
    completions = CountedCompletions(things)
    before = await completions.reads()
    await things.source.app.execute(
        "INSERT INTO things (id, note) SELECT i, repeat('x', 900) FROM generate_series(1, 99) AS i"
    )
    code = things.entity.code
    now = await completions.reads(**{code: FullReason.REQUESTED})
    assert completions.calls == 1
    assert (before.shapes[code].pages, now.shapes[code].pages) == (0, 13)


async def test_what_changes_between_the_comparison_and_the_snapshot_is_not_taken_for_compared(
    things: CapturedTable,
) -> None:
    completions = CountedCompletions(things)
    comment = f"COMMENT ON TABLE {things.log} IS 'of another table'"
    completions.then = lambda: things.source.app.execute(comment)
    await completions.reads()
    completions.then = None
    assert await completions.compares(), "the log is to be made anew"
    assert await things.findings() == ""


async def test_rights_that_are_gone_are_told_by_the_ordinary_way(things: CapturedTable) -> None:
    source, completions = things.source, CountedCompletions(things)
    await source.app.execute(
        "DO 'BEGIN CREATE ROLE known_reader LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END';"
        f"GRANT USAGE ON SCHEMA exportd, {source.schema} TO known_reader; GRANT SELECT ON things TO known_reader"
    )
    source.connector.reader_dsn = source.server.dsn("shared", "known_reader").replace(
        "/shared", f"/{Connector(source.dsn).address.database}"
    )
    assert [await completions.compares() for _ in range(3)] == [True, True, False], "the first grants the log"
    await source.app.execute(f"REVOKE SELECT ON {things.log} FROM known_reader")
    assert await completions.compares(), "which grants the log again"
    await source.app.execute("REVOKE SELECT ON things FROM known_reader")
    with pytest.raises(PermanentError) as caught:
        await completions.reads()
    assert caught.value.reason is Reason.PRIVILEGE_MISSING


async def test_a_daemon_that_has_just_started_compares(things: CapturedTable) -> None:
    await CountedCompletions(things).reads()
    things.source.opener = type(things.source.opener)(
        things.source.connector, is_intact=lambda *_: True, pause=things.source.opener._pause
    )
    assert await CountedCompletions(things).compares()


async def test_versions_of_rows_are_trusted_for_half_a_round_of_transactions(things: CapturedTable) -> None:
    guards = Guards.from_json(things.positions()[things.entity.code].guards)
    assert guards is not None
    here, elsewhere = guards.cluster, replace(guards.cluster, timeline="00000002")
    known = KnownCatalog((things.entity,), "f", 1000, {}, {things.entity.code: guards})
    assert known.holds("f", here, 1000)
    assert known.holds("f", here, 999 + (1 << 31))
    assert not known.holds("f", here, 1000 + (1 << 31)), "a row may bear a number once more"
    assert not known.holds("f", here, 999), "the database was put back"
    assert not known.holds("g", here, 1001)
    assert not known.holds("f", elsewhere, 1001)


def test_the_sets_of_entities_that_are_remembered_are_bounded() -> None:
    memory = CatalogMemory()
    catalogs = [KnownCatalog((_entity(number),), "f", 1, {}, {}) for number in range(100)]
    for catalog in catalogs:
        memory.remember(catalog)
    assert [memory.of(catalog.entities) for catalog in catalogs[-64:]] == catalogs[-64:]
    assert memory.of(catalogs[0].entities) is None
    assert memory.of([replace(catalogs[-1].entities[0], label="edited")]) is None
    memory.forget(catalogs[-1])
    assert memory.of(catalogs[-1].entities) is None


def _entity(number: int) -> Entity:
    return Entity(EntityCode(f"E{number}"), "", "t", TableName("public", "t"), ("id",), None, ())
