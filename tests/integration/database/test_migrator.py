import asyncio

import asyncpg
import pytest

from exportd.database import migrator
from exportd.model.errors import PermanentError, Reason
from tests.fixtures.postgres import Database

_ALL = [step.name for step in migrator.migrations()]


@pytest.mark.every_postgres
async def test_an_empty_database_is_migrated_once(empty_database: Database) -> None:
    connection = await empty_database.connect()
    assert await migrator.pending(connection) == _ALL
    assert await migrator.migrate(connection) == _ALL
    assert await migrator.pending(connection) == []
    assert await migrator.migrate(connection) == []
    rows = await connection.fetch("SELECT number, name FROM exportd.migration ORDER BY number")
    assert [tuple(row) for row in rows] == list(enumerate(_ALL, start=1))


async def test_two_daemons_that_start_together_migrate_once(empty_database: Database) -> None:
    connections = [await empty_database.connect() for _ in range(4)]
    done = await asyncio.gather(*(migrator.migrate(connection) for connection in connections))
    assert sorted(name for names in done for name in names) == _ALL


async def test_a_database_half_way_gets_the_rest(empty_database: Database) -> None:
    connection = await empty_database.connect()
    await migrator.migrate(connection)
    await connection.execute("DROP SCHEMA exportd CASCADE; CREATE SCHEMA exportd")
    await connection.execute("CREATE TABLE exportd.migration (number integer PRIMARY KEY, name text)")
    assert await migrator.pending(connection) == _ALL
    assert await migrator.migrate(connection) == _ALL


async def test_a_migration_that_fails_leaves_nothing_behind(
    empty_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = migrator.migrations()[0]
    broken = migrator.Migration(2, "0002_broken", "CREATE TABLE exportd.half (); SELECT nonsense")
    monkeypatch.setattr(migrator, "migrations", lambda: (first, broken))
    connection = await empty_database.connect()
    with pytest.raises(PermanentError, match="nonsense"):
        await migrator.migrate(connection)
    assert await connection.fetchval("SELECT max(number) FROM exportd.migration") == 1
    assert await connection.fetchval("SELECT to_regclass('exportd.half')") is None


async def test_a_database_newer_than_the_code_is_refused(database: Database) -> None:
    connection = await database.connect()
    newer = migrator.SCHEMA_VERSION + 1
    await connection.execute("INSERT INTO exportd.migration VALUES ($1, 'from the future')", newer)
    for check in (migrator.migrate, migrator.pending):
        with pytest.raises(PermanentError, match="newer exportd") as raised:
            await check(connection)
        assert raised.value.reason is Reason.DATABASE_NOT_MIGRATED


async def test_a_role_without_rights_on_the_database_uses_the_schema_a_dba_made(
    empty_database: Database,
) -> None:
    admin = await empty_database.connect()
    await admin.execute("DROP ROLE IF EXISTS exportd_limited")
    await admin.execute("CREATE ROLE exportd_limited LOGIN")
    try:
        limited = await empty_database.connect(user="exportd_limited")
        with pytest.raises(PermanentError) as raised:
            await migrator.migrate(limited)
        assert raised.value.reason is Reason.PRIVILEGE_MISSING
        await admin.execute("CREATE SCHEMA exportd AUTHORIZATION exportd_limited")
        assert await migrator.migrate(limited) == _ALL
        await limited.close()
    finally:
        await admin.execute("DROP OWNED BY exportd_limited CASCADE; DROP ROLE exportd_limited")


async def test_migrating_needs_no_particular_search_path(empty_database: Database) -> None:
    connection = await asyncpg.connect(empty_database.dsn, server_settings={"search_path": ""})
    try:
        assert await migrator.migrate(connection) == _ALL
    finally:
        await connection.close()
