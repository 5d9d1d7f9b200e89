import pytest

from exportd.database import quoting
from exportd.model.entity import TableName
from tests.fixtures.postgres import Database

_AWKWARD = ["select", "Capitals", 'a"b', "it's", "back\\slash", "new\nline", "dot.ted", "ünïcode", "'; --"]


@pytest.mark.every_postgres
@pytest.mark.parametrize("conforming", ["on", "off"])
async def test_the_server_reads_quoted_names_and_texts_as_they_were(empty_database: Database, conforming: str) -> None:
    connection = await empty_database.connect()
    await connection.execute(f"SET standard_conforming_strings = {conforming}")
    for text in _AWKWARD:
        name = TableName(text, text)
        await connection.execute(f"CREATE SCHEMA {quoting.identifier(text)}")
        await connection.execute(f"CREATE TABLE {quoting.table(name)} ({quoting.identifier(text)} integer)")
        assert await connection.fetchval(f"SELECT {quoting.literal(text)}") == text
        query = f"SELECT attrelid::regclass::oid FROM pg_attribute WHERE attname = {quoting.literal(text)}"
        oid = await connection.fetchval(query)
        assert await connection.fetchval("SELECT relname FROM pg_class WHERE oid = $1", oid) == text
