"""Every named query is understood by Postgres: no misspelt column reaches a person."""

from pathlib import Path

import pytest

from exportd.database import queries
from tests.fixtures.postgres import Database

_QUERIES = {
    f"{file.name}: {name}": statement
    for file in (Path(queries.__file__).parent / "queries").glob("*.sql")
    for name, statement in queries.load(file.stem).items()
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
