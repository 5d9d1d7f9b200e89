"""No write of the application ever fails because of capture, whatever becomes of its tables.

Sessions that live through all of it write all the time, with plans of their own in every trigger function, while the
table changes under them. After each change nothing has failed, and once capture is put right the consumer's copy is
right too.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import anyio
import asyncpg
import pytest

from exportd.database.connector import Connection
from exportd.model.entity import CaptureLevel, TableName
from exportd.model.errors import FullReason, PermanentError, Reason
from exportd.model.extraction import Mode
from tests.integration.capture.source_database import CapturedTable, SourceDatabase

pytestmark = pytest.mark.every_postgres

COLUMNS = "organization_id varchar(20), note text, amount int, spare int"
PLAIN = f"CREATE TABLE things (id varchar(20) PRIMARY KEY, {COLUMNS})"
# Every update of the note moves the row to a partition with another layout.
PARTITIONED = f"""
    CREATE TABLE things (id varchar(20) NOT NULL, {COLUMNS}) PARTITION BY LIST (note);
    CREATE TABLE fresh PARTITION OF things FOR VALUES IN ('new', 'one');
    CREATE TABLE rest (note text, junk int, id varchar(20) NOT NULL, spare int, amount int,
                       organization_id varchar(20));
    ALTER TABLE rest DROP junk;
    ALTER TABLE things ATTACH PARTITION rest DEFAULT"""
WRITES = (
    """INSERT INTO {table} ({key}, {tenant}, note)
       SELECT left((random() * 9)::int || md5(random()::text), 12), 'acme', 'new' FROM generate_series(1, 3)""",
    "INSERT INTO {table} ({key}, {tenant}, note) SELECT left('7' || md5(random()::text), 12), 'acme', 'new'",
    "UPDATE {table} SET note = 'one' WHERE {key} IN (SELECT {key} FROM {table} ORDER BY random() LIMIT 1)",
    "UPDATE {table} SET note = 'some' WHERE {key} IN (SELECT {key} FROM {table} ORDER BY random() LIMIT 3)",
    """UPDATE {table} SET {key} = left(md5(random()::text), 12)
       WHERE {key} IN (SELECT {key} FROM {table} ORDER BY random() LIMIT 2)""",
    "DELETE FROM {table} WHERE {key} IN (SELECT {key} FROM {table} ORDER BY random() LIMIT 2)",
)


class Application:
    """Two sessions that write in rounds. Between rounds, each can be stopped."""

    def __init__(self) -> None:
        self.words = {"table": "things", "key": "id", "tenant": "organization_id"}
        self._turns = [anyio.Lock(), anyio.Lock()]
        self._rounds = 0
        self._round_ended = anyio.Condition()

    async def write(self, session: Connection, turn: anyio.Lock) -> None:
        while True:
            async with turn:
                for statement in WRITES:
                    await self._execute(session, statement)
            async with self._round_ended:
                self._rounds += 1
                self._round_ended.notify_all()

    async def _execute(self, session: Connection, statement: str) -> None:
        # While a column is renamed, a statement may still use its old name. What must not fail is a trigger.
        try:
            await session.execute(statement.format(**self.words))
        except (
            asyncpg.UndefinedColumnError,
            asyncpg.UndefinedTableError,
            asyncpg.InvalidSchemaNameError,
            asyncpg.DeadlockDetectedError,
            asyncpg.SerializationError,  # a row that moved to another partition
            asyncpg.UniqueViolationError,
        ) as error:
            assert "PL/pgSQL" not in str(getattr(error, "context", "")), error

    async def rounds(self, count: int = 2) -> None:
        async with self._round_ended:
            goal = self._rounds + count
            while self._rounds < goal:
                await self._round_ended.wait()

    @asynccontextmanager
    async def stopped(self) -> AsyncIterator[None]:
        async with self._turns[0], self._turns[1]:
            yield


@asynccontextmanager
async def writing(source: SourceDatabase) -> AsyncIterator[Application]:
    application = Application()
    async with anyio.create_task_group() as writers:
        for turn in application._turns:
            writers.start_soon(application.write, await source.session(), turn)
        await application.rounds()
        yield application
        await application.rounds()
        writers.cancel_scope.cancel()


@dataclass(frozen=True)
class Change:
    """DDL and the words with which the application goes on after it; ``dropped`` and ``expected`` are for the test."""

    statement: str
    words: tuple[tuple[str, str], ...] = ()
    dropped: str = ""
    expected: frozenset[FullReason | None] = frozenset({FullReason.COLUMNS_CHANGED})


CATALOG = frozenset({FullReason.CATALOG_CHANGED})
CHANGES = (
    Change("ALTER TABLE {table} ADD COLUMN added int DEFAULT 7"),
    Change("ALTER TABLE {table} DROP COLUMN spare", dropped="spare", expected=CATALOG),
    Change("ALTER TABLE {table} ALTER amount TYPE numeric(20, 4)"),
    Change("ALTER TABLE {table} ALTER {tenant} TYPE text"),
    Change("ALTER TABLE {table} RENAME {tenant} TO org", (("tenant", "org"),), expected=CATALOG),
    Change("ALTER TABLE {table} ALTER {tenant} TYPE public.citext"),
    Change("ALTER TABLE {table} RENAME {key} TO code", (("key", "code"),), expected=CATALOG),
    Change("ALTER TABLE {table} ALTER {key} TYPE text"),
    Change("ALTER TABLE {table} DROP {key}; ALTER TABLE {table} ADD {key} varchar DEFAULT md5(random()::text)"),
    Change("ALTER TABLE {table} DROP {tenant}; ALTER TABLE {table} ADD {tenant} varchar DEFAULT 'acme'"),
    Change("ALTER TABLE {table} RENAME TO stuff", (("table", "stuff"),), expected=CATALOG),
    Change(
        "CREATE SCHEMA {schema}_moved; ALTER TABLE {table} SET SCHEMA {schema}_moved",
        (("table", "{schema}_moved.stuff"),),
        expected=CATALOG,
    ),
)


@pytest.mark.parametrize("level", CaptureLevel)
@pytest.mark.parametrize("layout", [PLAIN, PARTITIONED], ids=["plain", "partitioned"])
async def test_the_application_goes_on_while_its_table_changes(
    source: SourceDatabase, layout: str, level: CaptureLevel
) -> None:
    await source.app.execute(layout)
    things = await source.capture("things", tenant="organization_id", level=level)
    deployment = await source.session()
    async with writing(source) as application:
        async with application.stopped():
            assert (await things.export()).present
        for change in CHANGES:
            # The deployment and the application are not in step: that is the point.
            await deployment.execute(change.statement.format(**application.words, schema=source.schema))
            application.words |= {name: word.format(schema=source.schema) for name, word in change.words}
            await application.rounds()
            async with application.stopped():
                things = await follow(things, application.words, dropped=change.dropped)
                await things.install()
                assert await things.findings() == ""
                export = await things.export()
                assert export.reason in change.expected, change.statement
            await application.rounds()
            async with application.stopped():
                export = await things.export()
                assert (export.mode, export.reason) == (Mode.INCREMENTAL, None), change.statement
                assert export.present


async def follow(things: CapturedTable, words: dict[str, str], *, dropped: str) -> CapturedTable:
    """The catalog after the change: what a person would write into it."""
    entity = things.entity
    schema, _, name = words["table"].rpartition(".")
    renamed = {entity.key[0]: words["key"], str(entity.tenant): words["tenant"]}
    fields = tuple(
        replace(field, name=renamed.get(field.name, field.name), column=renamed.get(field.name, field.name))
        for field in entity.fields
        if field.name != dropped
    )
    changed = replace(
        entity,
        table=TableName(schema or things.source.schema, name),
        key=(words["key"],),
        tenant=words["tenant"],
        fields=fields,
    )
    if (changed.table, changed.key, changed.tenant) != (entity.table, entity.key, entity.tenant):
        assert await things.findings(), "a catalog that no longer fits must be seen"
    return things.with_entity(changed)


async def test_while_the_key_cannot_be_told_the_next_run_is_full(source: SourceDatabase) -> None:
    things = await source.capture(
        "things", "id int PRIMARY KEY, organization_id text, note text", tenant="organization_id"
    )
    await source.app.execute("INSERT INTO things SELECT i, 'acme', 'x' FROM generate_series(1, 3) AS i")
    await things.export()
    await source.app.execute("ALTER TABLE things RENAME id TO code; UPDATE things SET note = 'y' WHERE code = 1")
    await source.app.execute("ALTER TABLE things RENAME code TO id; DELETE FROM things WHERE id = 2")
    assert [op for op in await things.ops() if op[0] != "I"] == [("D", (2,)), ("T", ())]
    # Two renames leave the column and its values as they were: only the log says that something is missing.
    export = await things.export()
    assert (export.mode, export.reason) == (Mode.FULL, FullReason.CHANGES_UNKNOWN)
    assert (await things.export()).mode is Mode.INCREMENTAL


TYPES = (
    "smallint", "integer", "bigint", "numeric", "real", "double precision", "text", "varchar(40)", "char(10)", "citext",
    "name", '"char"', "date", "timestamp", "timestamptz", "time", "interval", "uuid", "oid", "inet", "bit(3)", "varbit",
    "jsonb", "int[]",
)  # fmt: skip


async def test_a_key_may_become_any_other_type(source: SourceDatabase) -> None:
    """Also one with an implicit cast to the old one, for which two functions would do."""
    session = await source.session()
    for old in ("bigint", "numeric", "varchar(40)", "citext", "timestamp", "uuid"):
        await source.app.execute(f"CREATE TABLE things (id {old}, organization_id {old}, note text)")
        things = await source.capture("things", tenant="organization_id")
        for new in TYPES:
            await source.app.execute(f"""
                ALTER TABLE things DROP id, DROP organization_id, ADD id {new}, ADD organization_id {new};
                INSERT INTO things (note) VALUES ('a'), ('b')""")
            await session.execute(
                "UPDATE things SET note = 'x'; INSERT INTO things (note) VALUES ('c'); DELETE FROM things"
            )
        await source.app.execute("DROP TABLE things")
        assert ("T", ()) in await things.ops()


async def test_a_dropped_table_does_not_stop_the_others(source: SourceDatabase) -> None:
    things = await source.capture("things", "id int PRIMARY KEY")
    await source.app.execute("INSERT INTO things VALUES (1), (2)")
    await things.export()
    await source.app.execute("DROP TABLE things")
    assert "does not exist" in await things.findings()
    with pytest.raises(PermanentError, match="does not exist") as caught:
        await things.install()
    assert caught.value.reason is Reason.TABLE_MISSING
    await source.app.execute("CREATE TABLE things (id int PRIMARY KEY); INSERT INTO things VALUES (2), (3)")
    assert "triggers missing" in await things.findings()
    await things.install()
    export = await things.export()
    assert (export.reason, export.keys) == (FullReason.COLUMNS_CHANGED, ([(2,), (3,)], []))
    await source.app.execute("DELETE FROM things WHERE id = 2")
    assert (await things.export()).keys == ([], [(2,)])


async def test_an_extension_may_move_to_another_schema(source: SourceDatabase) -> None:
    await source.app.execute("CREATE SCHEMA extensions_elsewhere; GRANT USAGE ON SCHEMA extensions_elsewhere TO PUBLIC")
    things = await source.capture(
        "things", "id citext PRIMARY KEY, organization_id citext, note text", tenant="organization_id"
    )
    await source.app.execute("INSERT INTO things VALUES ('a', 'acme', 'x'), ('b', 'acme', 'x')")
    await things.export()
    try:
        await source.app.execute("ALTER EXTENSION citext SET SCHEMA extensions_elsewhere")
        session = await source.session()
        await session.execute(
            "UPDATE things SET note = 'y'; UPDATE things SET id = 'c' WHERE note = 'y' AND ctid > '(0,3)'"
        )
        await things.install()
        assert (await things.export()).keys == ([("a",), ("c",)], [("b",)])
    finally:
        await source.app.execute("ALTER EXTENSION citext SET SCHEMA public; DROP SCHEMA extensions_elsewhere")
