"""What is printed for a DBA, run through psql: names are names, and nothing runs with more rights than it needs."""

import os
from pathlib import Path
from subprocess import PIPE

import anyio
import pytest

from exportd.capture.installer import CaptureInstaller
from exportd.capture.script import role_sql, script_of
from exportd.catalog.document import loads
from exportd.catalog.drafter import draft
from exportd.database.connector import Connection, Connector
from exportd.database.migrator import migrate
from exportd.database.quoting import identifier, literal, table
from exportd.model.change_log import log_name
from exportd.model.entity import TableName
from tests.fixtures.postgres import Database
from tests.integration.capture.source_database import CapturedTable, SourceDatabase, open_source_database

HOSTILE = {
    "line feed": "x\n\\! touch pwned\n",
    "carriage return": "x\r\\! touch pwned\r",
    "both": "x\r\n\\! touch pwned\r\n",
    "sql": "x\nCREATE TABLE public.pwned();",
    "literal": "x'\n;CREATE TABLE public.pwned();",
    "identifier": 'x"\n;CREATE TABLE public.pwned();',
    "dollars": "x$$;CREATE TABLE public.pwned();$$",
    "our dollars": "x$exportd$;CREATE TABLE public.pwned();",
    "comment": "x*/\n\\! touch pwned\n/*",
    "line separator": "x\u2028\\! touch pwned",
    "next line": "x\u0085\\! touch pwned",
    "form feed": "x\f\v\\! touch pwned",
    "backslash": "x\\",
    "braces": "x {relation} {0} %s",
    "variables": "x :a :'a' :\"a\" `touch pwned`",
    "bidirectional": "x\u202e\u2066 \\! touch pwned",
}

OWNERS = """
    SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE relnamespace = 'exportd'::regnamespace
    UNION SELECT pg_get_userbyid(proowner) FROM pg_proc WHERE pronamespace = 'exportd'::regnamespace"""


@pytest.fixture(params=list(HOSTILE.values()), ids=list(HOSTILE))
def hostile(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def psql(source: SourceDatabase | Database, script: str, folder: Path) -> str:
    """Run it as a DBA does; what psql says. Fails when it ran anything that a name holds."""
    command = [source.server.binaries / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", source.dsn]
    environment = {**os.environ, "PGCLIENTENCODING": "UTF8"}
    done = await anyio.run_process(
        list(map(str, command)), input=script.encode(), cwd=folder, env=environment, check=False, stderr=PIPE
    )
    assert not [entry async for entry in anyio.Path(folder).iterdir()], "a command of the shell was run"
    return done.stderr.decode()


async def assert_nothing_ran(connection: Connection) -> None:
    assert await connection.fetchval("SELECT to_regclass('public.pwned')") is None


async def test_names_in_the_script_of_capture_stay_names(database: Database, hostile: str, tmp_path: Path) -> None:
    """Names of the schema, the table, the columns, a partition and a stale trigger."""
    async with open_source_database(database.server, database.dsn) as source:
        schema = hostile + "s"
        root, leaf, other = (table(TableName(schema, hostile + end)) for end in ("t", "p", "o"))
        column, tenant = identifier(hostile + "k"), identifier(hostile + "c")
        await source.app.execute(f"""
            CREATE SCHEMA {identifier(schema)};
            CREATE TABLE {root} ({column} text PRIMARY KEY, {tenant} text, note text) PARTITION BY LIST ({column});
            CREATE TABLE {leaf} PARTITION OF {root} DEFAULT;
            CREATE TABLE {other} (id int)""")
        source.schema = schema
        things = CapturedTable(source, await source.entity(hostile + "t", key=(hostile + "k",), tenant=hostile + "c"))
        for _ in range(2):
            (planned,) = await source.installer.status([things.entity])
            script = script_of(things.entity.code, planned.findings, planned.statements)
            assert await psql(source, script, tmp_path) == ""
            await assert_nothing_ran(source.app)
            assert await things.findings() == ""
            await source.app.execute(f"""
                CREATE TRIGGER {identifier(hostile + "g")} AFTER INSERT ON {other}
                    REFERENCING NEW TABLE AS new_rows
                    EXECUTE FUNCTION exportd.log_{things.entity.code.lower()}_insert();
                ALTER TABLE {leaf} DISABLE TRIGGER USER""")
            assert "left on tables" in await things.findings()
        drafted = await draft(await database.connect())
        assert loads(drafted, name="draft.toml").entities
        await source.app.execute(f"DROP SCHEMA {identifier(schema)} CASCADE")


async def test_names_in_the_script_of_roles_stay_names(database: Database, hostile: str, tmp_path: Path) -> None:
    """Names of the role, the database, a schema and a table; run twice."""
    app = await database.connect()
    name, schema = hostile + "r", hostile + "s"
    await app.execute(f"CREATE SCHEMA {identifier(schema)}; CREATE TABLE {table(TableName(schema, hostile))} ()")
    renamed = hostile + "d"
    await app.execute(f"CREATE DATABASE {identifier(renamed)}")
    try:
        script = role_sql(name, database=renamed, tables=[TableName(schema, hostile)])
        for _ in range(2):
            assert "ERROR" not in await psql(database, script, tmp_path)
        await assert_nothing_ran(app)
        granted = f"has_table_privilege({literal(name)}, {literal(table(TableName(schema, hostile)))}, 'SELECT')"
        assert await app.fetchval(f"SELECT {granted} AND NOT rolsuper FROM pg_roles WHERE rolname = $1", name)
    finally:
        await app.execute(f"DROP DATABASE {identifier(renamed)}")
        await app.execute("DROP SCHEMA exportd CASCADE")
        await app.execute(f"DROP OWNED BY {identifier(name)}")
        await app.execute(f"DROP ROLE {identifier(name)}")


async def test_a_script_runs_nothing_that_the_role_of_exportd_arranged(database: Database, tmp_path: Path) -> None:
    """The role has a trigger on its own log that takes the DBA's rights, and broke a function so that the log needs
    a mark."""
    role = f"modest_{database.name}"
    app = await database.connect()
    await app.execute(f"DROP SCHEMA exportd CASCADE; CREATE ROLE {role} LOGIN")
    await app.execute("CREATE TABLE things (id int PRIMARY KEY)")
    printed = role_sql(role, database=database.name, tables=[TableName("public", "things")])
    assert await psql(database, printed, tmp_path) == ""
    async with open_source_database(database.server, database.server.dsn(database.name, user="postgres")) as source:
        connector = Connector(database.server.dsn(database.name, user=role))
        async with connector.connection("test") as modest:
            await migrate(modest)
            source.schema, source.installer = "public", CaptureInstaller(connector, pause=anyio.sleep)
            things = CapturedTable(source, await source.entity("things"))
            (planned,) = await source.installer.status([things.entity])
            script = script_of(things.entity.code, planned.findings, planned.statements)
            assert await psql(database, script, tmp_path) == ""
            assert await things.findings() == ""
            # A superuser's functions of an earlier installation are handed over.
            await app.execute(f"ALTER FUNCTION exportd.log_{things.entity.code.lower()}_insert OWNER TO postgres")
            await modest.execute(f"""
                CREATE FUNCTION exportd.climb() RETURNS trigger LANGUAGE plpgsql AS
                    $$ BEGIN RESET ROLE; CREATE TABLE public.pwned(); RETURN NULL; END $$;
                CREATE CONSTRAINT TRIGGER later AFTER INSERT ON {things.log} DEFERRABLE INITIALLY DEFERRED
                    FOR EACH ROW EXECUTE FUNCTION exportd.climb();
                CREATE TRIGGER now AFTER INSERT ON {things.log} EXECUTE FUNCTION exportd.climb();
                CREATE OR REPLACE FUNCTION exportd.log_{things.entity.code.lower()}_update() RETURNS trigger
                    LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$""")
            before = await app.fetchval("SELECT max(xmin::text::bigint) FROM pg_trigger")
            (planned,) = await source.installer.status([things.entity])
            script = script_of(things.entity.code, planned.findings, planned.statements)
            assert await psql(database, script, tmp_path) == ""
            await assert_nothing_ran(app)
            assert await things.findings() == ""
            assert (
                await app.fetchval("SELECT min(xmin::text::bigint) FROM pg_trigger WHERE tgname ~ 'exportd'") > before
            )
    assert [row[0] for row in await app.fetch(OWNERS)] == [role]


async def test_only_locks_and_triggers_run_with_a_dbas_rights(source: SourceDatabase) -> None:
    things = await source.capture("things", "id int PRIMARY KEY")
    await source.installer.uninstall([log_name(things.entity.code)])
    (planned,) = await source.installer.status([things.entity])
    own: list[str] = []
    assumed = False
    for statement in planned.statements:
        if statement in {'SET LOCAL ROLE "postgres"', "RESET ROLE"}:
            assumed = statement != "RESET ROLE"
        elif not assumed:
            own.append(statement)
    assert not assumed
    assert {" ".join(statement.split()[:2]) for statement in own} == {"LOCK TABLE", "CREATE OR"}
    assert all('"exportd"."log_' not in statement.split("EXECUTE FUNCTION")[0] for statement in own)
