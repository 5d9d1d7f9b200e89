"""A connection pooler before the database: what it drops is set again, and what cannot work is said."""

import tempfile
from collections.abc import Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from exportd.database.connector import Connection, Connector
from exportd.database.session_settings import EXACT_SETTINGS
from exportd.database.setup_checker import Pooling, detect_pooling
from exportd.database.translator import translated
from exportd.model.errors import PermanentError, Reason
from tests.fixtures.pooler import Pooler
from tests.fixtures.postgres import Database
from tests.integration.capture.source_database import SourceDatabase

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_ODD = ("quote_all_identifiers = on", "synchronous_commit = off", "extra_float_digits = -3", "search_path = exportd")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="pooler-", dir="/tmp") as name:
        yield Path(name)


@pytest.mark.every_postgres
async def test_what_a_pooler_drops_is_set_after_connecting(database: Database, folder: Path) -> None:
    admin = await database.connect()
    for setting in _ODD:
        await admin.execute(f"ALTER DATABASE {database.name} SET {setting}")
    async with Pooler(database.dsn, folder) as pooler:
        connector = Connector(pooler.dsn)
        async with connector.export_session() as connection:
            found = {name: await connection.fetchval("SELECT current_setting($1)", name) for name in EXACT_SETTINGS}
            assert found == EXACT_SETTINGS
        async with connector.pool(1) as pool:
            for _ in range(2):
                async with pool.acquire() as connection:
                    assert await connection.fetchval("SELECT current_setting('synchronous_commit')") == "on"
                    assert await connection.fetchval("SELECT current_setting('search_path')") == "pg_catalog"
                    await connection.execute("SET synchronous_commit = off")
        assert await detect_pooling(connector) is Pooling.SESSION
    assert await detect_pooling(Connector(database.dsn)) is Pooling.DIRECT


async def test_a_pooler_in_transaction_mode_is_recognized_and_refused(database: Database, folder: Path) -> None:
    async with Pooler(database.dsn, folder, shared=2) as pooler:
        connector = Connector(pooler.dsn)
        assert await detect_pooling(connector) is Pooling.TRANSACTION
        async with connector.pool(2) as pool, pool.acquire() as one, pool.acquire() as other:
            await one.fetchval("SELECT 1")
            async with other.transaction():
                await other.fetchval("SELECT 2")
                with pytest.raises(PermanentError, match="transaction mode") as caught, translated("asking"):
                    await one.fetchval("SELECT 1")
        assert caught.value.reason is Reason.DATABASE_REFUSED


class _Forgetful(Connector):
    """What it sets is gone when the transaction begins, as with a pooler in transaction mode."""

    @asynccontextmanager
    async def export_session(self) -> "AsyncIterator[Connection]":
        async with Connector.export_session(self) as connection:
            await connection.execute("SET TimeZone = 'Asia/Tokyo'; SET bytea_output = 'escape'")
            yield connection


async def test_a_snapshot_with_other_settings_is_refused(source: SourceDatabase) -> None:
    things = await source.capture("things", "id int PRIMARY KEY")
    await things.export()
    source.opener._connector = _Forgetful(source.dsn)
    with pytest.raises(PermanentError, match=r"other settings.*\(TimeZone, bytea_output\).*transaction mode"):
        await things.run()


async def test_whatever_the_role_sets_runs_stay_incremental(source: SourceDatabase) -> None:
    name = await source.app.fetchval("SELECT current_database()")
    things = await source.capture("things", "id int PRIMARY KEY, at timestamptz(3), v varchar(9)")
    await things.export()
    await source.app.execute(f"ALTER DATABASE {name} SET quote_all_identifiers = on")
    try:
        await source.app.execute("INSERT INTO things VALUES (1)")
        await things.install()
        assert await things.findings() == ""
        assert (await things.export()).reason is None
    finally:
        await source.app.execute(f"ALTER DATABASE {name} RESET quote_all_identifiers")
