"""The script that makes the daemon's role, and what ``check`` says of parts that came later."""

import subprocess
from pathlib import Path

import anyio.to_thread
import pytest

from exportd.capture.script import role_sql
from exportd.catalog.table_reader import unreadable_members
from exportd.database.setup_checker import note_on_dumps
from exportd.model.entity import TableName
from tests.fixtures.postgres import Database
from tests.integration.capture.source_database import SourceDatabase


@pytest.mark.every_postgres
async def test_the_role_may_read_partitions_and_those_that_came_later_are_named(source: SourceDatabase) -> None:
    app, schema = source.app, source.schema
    role, elsewhere = f'reader\'s "{schema}"', f"{schema} -- \n else'where"
    name, other = await app.fetchrow("SELECT current_database(), quote_ident($1)", elsewhere) or ("", "")
    await app.execute(
        f"""CREATE SCHEMA {other};
        CREATE TABLE things (id int PRIMARY KEY) PARTITION BY RANGE (id);
        CREATE TABLE low PARTITION OF things FOR VALUES FROM (0) TO (10) PARTITION BY RANGE (id);
        CREATE TABLE {other}."lo $$ west" PARTITION OF low FOR VALUES FROM (0) TO (5);
        CREATE TABLE parents (id int PRIMARY KEY); CREATE TABLE children () INHERITS (parents);"""
    )
    tables = [TableName(schema, "things"), TableName(schema, "parents")]
    await app.execute(role_sql(role, database=name, tables=tables))
    session = await source.session()
    await session.execute(f"SELECT set_config('role', '{role.replace(chr(39), chr(39) * 2)}', false)")
    assert await unreadable_members(session, tables) == ()
    await app.execute("CREATE TABLE high PARTITION OF things FOR VALUES FROM (10) TO (20)")
    assert await unreadable_members(session, tables) == (TableName(schema, "high"),)
    await app.execute(role_sql(role, database=name, tables=tables))
    assert await unreadable_members(session, tables) == ()
    assert await session.fetchval(f'SELECT count(*) FROM {other}."lo $$ west"') == 0


@pytest.mark.every_postgres
async def test_a_dump_by_the_databases_owner_needs_a_grant_or_leaves_the_schema_out(
    database: Database, tmp_path: Path
) -> None:
    connection = await database.connect()
    owner, keeper = f"owner_of_{database.name}", f"keeper_of_{database.name}"
    await connection.execute(f"""
        CREATE ROLE "{owner}" LOGIN; CREATE ROLE "{keeper}";
        ALTER DATABASE {database.name} OWNER TO "{owner}"; ALTER SCHEMA exportd OWNER TO "{keeper}"
    """)
    relations = await connection.fetch("""
        SELECT c.oid::regclass AS name FROM pg_class AS c
        WHERE c.relnamespace = 'exportd'::regnamespace AND (c.relkind = 'r' OR c.relkind = 'S'
            AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.objid = c.oid AND d.deptype IN ('a', 'i')))
    """)
    for relation in relations:
        await connection.execute(f'ALTER TABLE {relation["name"]} OWNER TO "{keeper}"')

    def dump(*options: str) -> "subprocess.CompletedProcess[str]":
        program = database.server.binaries / "pg_dump"
        address = database.server.dsn(database.name, user=owner)
        command = [str(program), *options, "--file", str(tmp_path / "dump.sql"), address]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    refused = await anyio.to_thread.run_sync(dump)
    assert "permission denied for schema exportd" in refused.stderr
    note = await note_on_dumps(connection)
    assert note is not None
    assert f"as the database's owner {owner} fails" in note
    assert (await anyio.to_thread.run_sync(dump, "-N", "exportd")).returncode == 0
    await connection.execute(f'GRANT "{keeper}" TO "{owner}"')
    granted = await anyio.to_thread.run_sync(dump)
    assert granted.returncode == 0, granted.stderr
    assert await note_on_dumps(connection) is None
