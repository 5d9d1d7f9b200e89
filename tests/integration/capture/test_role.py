"""The script that makes the daemon's role, and what ``check`` says of parts that came later."""

import pytest

from exportd.capture.role import role_sql
from exportd.catalog.table_reader import unreadable_members
from exportd.model.entity import TableName
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
