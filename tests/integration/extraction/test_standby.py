"""A standby is refused: its snapshots list no open transactions, so changes would be missed."""

import shutil
import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from exportd.model.errors import FullReason, PermanentError, Reason
from exportd.postgres.postgres_server import PostgresServer
from exportd.postgres.server_process import Account
from tests.integration.capture.source_database import SourceDatabase

STANDBY = {"fsync": "off", "max_connections": "60", "max_prepared_transactions": "20", "wal_level": "logical"}


@pytest.fixture
async def standby(server: PostgresServer) -> AsyncIterator[PostgresServer]:
    """A standby of the server, made by pg_basebackup."""
    account = Account.for_server()
    home = Path(tempfile.mkdtemp(prefix="standby-"))
    account.give(home)
    try:
        command = ["pg_basebackup", "-D", str(home / "data"), "-d", server.dsn(), "-R", "-X", "stream", "-c", "fast"]
        command[0] = str(server.binaries / command[0])
        arguments = account.popen_arguments()
        await anyio.run_process(command, cwd="/", **arguments)
        async with PostgresServer(binaries=server.binaries, directory=home, settings=STANDBY) as standby:
            yield standby
    finally:
        shutil.rmtree(home)


async def test_a_standby_is_refused_and_after_its_promotion_the_run_is_full(
    source: SourceDatabase, standby: PostgresServer
) -> None:
    things = await source.capture("things", "id int PRIMARY KEY")
    await things.export()
    await source.app.execute("SET synchronous_commit = on; INSERT INTO things VALUES (1)")
    name, written = await source.app.fetchrow("SELECT current_database(), pg_current_wal_lsn()::text") or ("", "")
    there = replace(source.connector, dsn=standby.dsn(name))
    async with there.connection("look") as connection:
        replayed = "SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn"
        with anyio.fail_after(20):
            while not await connection.fetchval(replayed, written):  # noqa: ASYNC110 - it does not notify
                await anyio.sleep(0.01)
        for opener_or_copier in (source.opener, source.copier):
            opener_or_copier._connector = there
        with pytest.raises(PermanentError, match=r"standby.*point the configuration at the primary") as caught:
            await things.run()
        assert caught.value.reason is Reason.DATABASE_IS_STANDBY
        await connection.fetch("SELECT pg_promote()")
        with anyio.fail_after(20):
            while await connection.fetchval("SELECT pg_is_in_recovery()"):  # noqa: ASYNC110 - it does not notify
                await anyio.sleep(0.01)
    assert (await things.export()).reason is FullReason.TIMELINE_CHANGED
