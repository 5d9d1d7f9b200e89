"""A TRUNCATE runs our trigger function with our rights: nothing that the table's owner has defined may run in it."""

from collections.abc import Sequence
from dataclasses import dataclass

import anyio
import asyncpg
import pytest

from exportd.capture.installer import CaptureInstaller
from exportd.database.connector import Connection, Connector
from exportd.database.migrator import migrate
from exportd.database.quoting import identifier
from exportd.model.entity import Entity, EntityCode, Field, TableName
from tests.fixtures.postgres import Database

pytestmark = pytest.mark.every_postgres

TABLES = """
CREATE TABLE things (id int PRIMARY KEY, note text);
CREATE TABLE parts (id int, note text) PARTITION BY RANGE ((id + folded(4)));
"""

# What tells who walked into it, and uses the rights it then has. An IMMUTABLE function may call one that is not.
TRAP = """
CREATE TABLE caught (who text, what text);
CREATE FUNCTION spring(what text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO app.caught VALUES (current_user, what);
  IF current_user <> '{owner}' THEN
    GRANT ALL ON SCHEMA exportd TO {owner};
    INSERT INTO exportd.cluster (system_identifier, database_oid) VALUES ('forged', 1)
        ON CONFLICT (only_row) DO UPDATE SET system_identifier = 'forged';
  END IF;
  RETURN true;
END $$;
CREATE FUNCTION trap(what text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
    $$ BEGIN RETURN app.spring(what); END $$;
CREATE FUNCTION folded(number int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
    $$ BEGIN PERFORM app.spring('folded ' || number); RETURN number; END $$;
CREATE FUNCTION same(int, int) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$ SELECT app.trap('operator') $$;
CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = same);
CREATE TYPE pair AS (one int, two int);
CREATE FUNCTION to_pair(int) RETURNS pair LANGUAGE plpgsql IMMUTABLE AS
    $$ BEGIN PERFORM app.spring('cast'); RETURN ROW($1, $1); END $$;
CREATE CAST (int AS pair) WITH FUNCTION to_pair(int);
CREATE DOMAIN watched AS int CHECK (app.trap('domain'));
GRANT ALL ON caught TO PUBLIC;
"""


@dataclass(frozen=True)
class Attack:
    """What the owner does to the tables before the TRUNCATE."""

    name: str
    statements: Sequence[str]
    truncated: str = "things"


ATTACKS = (
    Attack(
        "policy",
        (
            "ALTER TABLE things ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
            "CREATE POLICY all_rows ON things USING (app.spring('policy'))",
        ),
    ),
    Attack(
        "policy, with row_security off",
        (
            "ALTER TABLE things ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
            "CREATE POLICY all_rows ON things USING (app.spring('policy'))",
            "SET row_security = off",
        ),
    ),
    Attack("index predicate", ("CREATE INDEX ON things (note) WHERE app.trap('predicate')",)),
    Attack("index expression", ("CREATE INDEX ON things ((id + app.folded(1)))",)),
    Attack("unique index", ("CREATE UNIQUE INDEX ON things ((id + app.folded(1)), note)",)),
    Attack(
        "exclusion constraint",
        ("ALTER TABLE things ADD EXCLUDE USING btree ((id + app.folded(1)) WITH =) WHERE (app.trap('exclusion'))",),
    ),
    Attack("check", ("ALTER TABLE things ADD CHECK (app.trap('check'))", "SET constraint_exclusion = on")),
    Attack(
        "check that was not validated",
        ("ALTER TABLE things ADD CHECK (app.trap('check')) NOT VALID", "SET constraint_exclusion = on"),
    ),
    Attack("statistics", ("CREATE STATISTICS guess ON (id + app.folded(2)), note FROM things",)),
    Attack("generated column", ("ALTER TABLE things ADD twice int GENERATED ALWAYS AS (app.folded(3)) STORED",)),
    Attack("operator", ("CREATE INDEX ON things (note) WHERE 1 OPERATOR(app.===) 1",)),
    Attack("cast", ("CREATE INDEX ON things (note) WHERE (1::app.pair) IS NOT NULL",)),
    Attack("domain", ("CREATE INDEX ON things (note) WHERE (1::app.watched) IS NOT NULL",)),
    Attack("rule", ("CREATE RULE deny AS ON INSERT TO things WHERE app.spring('rule') DO ALSO NOTHING",)),
    Attack("partition key", ("SET constraint_exclusion = on",), truncated="parts"),
    Attack("partition key, of the partition", ("SET constraint_exclusion = on",), truncated="low"),
)


@dataclass(frozen=True)
class Scene:
    """A database whose tables ``owner`` has, and a role of exportd that may read them and nothing more."""

    database: Database
    admin: Connection
    owner: str
    exporter: str

    async def attacker(self) -> Connection:
        """A session of the owner."""
        session = await self.database.connect(user=self.owner)
        await session.execute("SET search_path = app, public")
        return session

    async def capture(self, *tables: str) -> None:
        """Install capture as an administrator does who runs what is printed."""
        entities = [_entity(name) for name in tables]
        installer = CaptureInstaller(
            Connector(self.database.server.dsn(self.database.name, user=self.exporter)), pause=anyio.sleep
        )
        for outcome in await installer.status(entities):
            async with self.admin.transaction():
                for statement in outcome.statements:
                    await self.admin.execute(statement)

    async def ops(self, name: str) -> str:
        """The ops of a table's log, in order."""
        query = f"SELECT coalesce(string_agg(op::text, '' ORDER BY op::text), '') FROM exportd.log_{name}"
        return str(await self.admin.fetchval(query))

    async def nothing_was_gained(self) -> bool:
        """Whether no trap ran with our rights, and none of what it tries has happened."""
        found = await self.admin.fetchrow(
            """SELECT (SELECT array_agg(DISTINCT what) FROM app.caught WHERE who <> $1) AS caught,
                      has_schema_privilege($1, 'exportd', 'USAGE') AS granted,
                      EXISTS (SELECT FROM exportd.cluster WHERE system_identifier = 'forged') AS forged""",
            self.owner,
        )
        assert found is not None
        return (found["caught"], found["granted"], found["forged"]) == (None, False, False)


def _entity(name: str) -> Entity:
    fields = (Field("id", column="id"), Field("note", column="note"))
    return Entity(EntityCode(name.upper()), name, "t", TableName("app", name), ("id",), None, fields)


@pytest.fixture
async def scene(empty_database: Database) -> Scene:
    owner, exporter = f"owner_{empty_database.name}", f"exporter_{empty_database.name}"
    admin = await empty_database.connect()
    await admin.execute(f"""
        CREATE ROLE {owner} LOGIN; CREATE ROLE {exporter} LOGIN; CREATE EXTENSION citext;
        GRANT CREATE ON DATABASE {identifier(empty_database.name)} TO {exporter};
        CREATE SCHEMA app AUTHORIZATION {owner}; GRANT USAGE ON SCHEMA app TO {exporter};
        SET ROLE {owner}; SET search_path = app, public""")
    await admin.execute(TRAP.format(owner=owner) + TABLES)
    await admin.execute("""
        CREATE TABLE low PARTITION OF parts FOR VALUES FROM (0) TO (1000);
        INSERT INTO things VALUES (1, 'a'), (2, 'b'); INSERT INTO parts VALUES (1, 'a'), (2, 'b');
        RESET ROLE; RESET search_path""")
    await admin.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA app TO {exporter}")
    await migrate(await empty_database.connect(user=exporter))
    return Scene(empty_database, admin, owner, exporter)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
async def test_a_truncate_runs_nothing_of_the_owner_with_our_rights(scene: Scene, attack: Attack) -> None:
    await scene.capture("things", "parts")
    attacker = await scene.attacker()
    for statement in attack.statements:
        await attacker.execute(statement)
    await attacker.execute(f"TRUNCATE {attack.truncated}")
    assert await scene.nothing_was_gained()
    assert await scene.ops("things" if attack.truncated == "things" else "parts") == "T", "the next run is full"


async def test_a_snapshot_that_is_older_than_the_trap_does_not_hide_it(scene: Scene) -> None:
    await scene.capture("things")
    attacker, other = await scene.attacker(), await scene.attacker()
    for isolation in "repeatable_read", "serializable":
        async with attacker.transaction(isolation=isolation):
            await attacker.fetch("SELECT FROM caught")
            await other.execute("CREATE INDEX ON things (note) WHERE app.trap('predicate')")
            await attacker.execute("TRUNCATE things")
        await other.execute("DROP INDEX things_note_idx")
    assert await scene.nothing_was_gained()
    assert await scene.ops("things") == "TT"


async def test_a_function_of_the_owner_is_not_trusted_on_a_superusers_table(scene: Scene) -> None:
    await scene.capture("things")
    attacker = await scene.attacker()
    await attacker.execute("CREATE INDEX ON things (note) WHERE app.trap('predicate')")
    await scene.admin.execute("ALTER TABLE app.things OWNER TO postgres")
    await scene.admin.execute("TRUNCATE app.things")
    assert await scene.ops("things") == "T"


ORDINARY = """
CREATE FUNCTION app.now_or_later() RETURNS timestamptz LANGUAGE plpgsql AS 'BEGIN RETURN clock_timestamp(); END';
CREATE FUNCTION app.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE DOMAIN app.email AS public.citext CHECK (VALUE OPERATOR(public.~) '@');
CREATE TYPE app.kind AS ENUM ('one', 'two');
ALTER TABLE app.things
    ADD made timestamptz DEFAULT app.now_or_later(), ADD email app.email DEFAULT 'a@b', ADD kind app.kind DEFAULT 'one',
    ADD parent int REFERENCES app.things, ADD CHECK (length(note) < 100), ADD CHECK (kind IN ('one', 'two')),
    ADD length int GENERATED ALWAYS AS (length(note)) STORED;
CREATE INDEX ON app.things (lower(note)) WHERE note <> '';
CREATE UNIQUE INDEX ON app.things (email, id) WHERE email OPERATOR(public.<>) 'x@y';
CREATE STATISTICS app.guess ON (id % 10), note FROM app.things;
CREATE TRIGGER touch BEFORE INSERT ON app.things FOR EACH ROW EXECUTE FUNCTION app.touch();
"""


async def test_an_ordinary_table_gets_the_images_of_its_rows(scene: Scene) -> None:
    """With defaults and triggers of the owner's functions, which reading does not run, and an extension's types."""
    attacker = await scene.attacker()
    await attacker.execute(ORDINARY)
    await scene.capture("things")
    await attacker.execute("TRUNCATE things")
    assert await scene.ops("things") == "DD"


async def test_no_role_may_ask_for_itself(scene: Scene) -> None:
    await scene.admin.execute(f"GRANT USAGE ON SCHEMA exportd TO {scene.owner}")
    attacker = await scene.attacker()
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await attacker.fetch("SELECT exportd.runs_no_foreign_code('app.things'::regclass)")
