"""What a database allows its applications must not end an export, which may read for hours."""

import pytest

from exportd.database.connector import Connector
from tests.fixtures.postgres import Database


@pytest.mark.every_postgres
async def test_no_timeout_of_the_database_reaches_an_export(database: Database) -> None:
    names = ["statement_timeout", "idle_in_transaction_session_timeout"]
    if database.server.version >= 17:
        names.append("transaction_timeout")
    connection = await database.connect()
    for name in names:
        await connection.execute(f"ALTER DATABASE {database.name} SET {name} = '1h'")
    async with Connector(database.dsn).export_session() as session:
        assert {name: await session.fetchval(f"SHOW {name}") for name in names} == dict.fromkeys(names, "0")
