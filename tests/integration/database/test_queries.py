"""Every named query is understood by Postgres: no misspelt column reaches a person."""

import pytest

from exportd.database import queries
from tests.fixtures.postgres import Database

_QUERIES = {
    f"{station}.sql: {name}": statement
    for station in queries.stations()
    for name, statement in queries.load(station).items()
}


@pytest.mark.every_postgres
async def test_every_named_query_can_be_prepared(database: Database) -> None:
    connection = await database.connect()
    await connection.execute("SET search_path = pg_catalog")  # as the daemon's own connections have it
    problems = []
    for name, statement in _QUERIES.items():
        try:
            await connection.prepare(statement)
        except Exception as error:
            problems.append(f"{name}: {error}")
    assert not problems
