import asyncpg
import pytest

from tests.fixtures.postgres import Database


@pytest.mark.every_postgres
async def test_each_test_gets_a_migrated_database_of_its_own(database: Database) -> None:
    connection = await database.connect()
    await connection.execute("CREATE TABLE mine (id integer)")
    assert await connection.fetchval("SELECT count(*) FROM exportd.job") == 0
    assert connection.get_server_version().major == database.server.version


@pytest.mark.every_postgres
async def test_the_next_test_does_not_see_it(database: Database) -> None:
    connection = await database.connect()
    with pytest.raises(asyncpg.UndefinedTableError):
        await connection.execute("TABLE mine")


async def test_an_empty_database_has_no_schema_of_ours(empty_database: Database) -> None:
    connection = await empty_database.connect()
    assert await connection.fetchval("SELECT to_regnamespace('exportd')") is None
