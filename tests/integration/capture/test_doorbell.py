"""The doorbell: a listener as the daemon has it, and a server whose queue of notifications is small.

Only newer servers can be given a small queue; on older ones it takes gigabytes to fill.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta

import anyio
import asyncpg
import pytest
import structlog

from exportd.capture.listener import Listener
from exportd.database.connector import Connection, Connector
from exportd.database.migrator import migrate
from exportd.model.change_log import EVENTS_CHANNEL
from exportd.model.clock import SystemClock
from exportd.model.entity import EntityCode
from exportd.postgres.postgres_server import PostgresServer
from tests.fixtures.postgres import installed
from tests.fixtures.settings import live_settings
from tests.integration.capture.source_database import CapturedTable, SourceDatabase, open_source_database

PAYLOAD = "x" * 7_000
TIMEOUT_S = 60


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """The newest, with the smallest queue: 512 kB. Prepared transactions are off, or the doorbell would be."""
    settings = {"fsync": "off", "max_notify_queue_pages": "64", "max_prepared_transactions": "0"}
    server = PostgresServer(binaries=installed()[max(installed())], settings=settings)
    server.start_blocking()
    try:
        yield server
    finally:
        server.close_blocking()


@pytest.fixture
async def source(server: PostgresServer) -> AsyncIterator[SourceDatabase]:
    dsn = await server.create_database("doorbell")
    try:
        connection = await asyncpg.connect(dsn)
        await migrate(connection)
        await connection.close()
        async with open_source_database(server, dsn) as source:
            yield source
    finally:
        await server.drop_database("doorbell")


@pytest.fixture
async def things(source: SourceDatabase) -> CapturedTable:
    return await source.capture("things", "id int PRIMARY KEY, note text")


@asynccontextmanager
async def listening(source: SourceDatabase, *entities: str) -> AsyncIterator[Listener]:
    connected = anyio.Event()
    listener = Listener(
        Connector(source.dsn),
        on_event=lambda *_: connected.set(),
        settings=live_settings(capture={"doorbell": True}),
        entities=lambda: [EntityCode(entity) for entity in entities],
        clock=SystemClock(),
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.run)
        with anyio.fail_after(TIMEOUT_S):
            await connected.wait()
        yield listener
        tasks.cancel_scope.cancel()


async def wait_for(condition: Callable[[], Awaitable[object]]) -> None:
    """What is waited for happens in the server, without a sign."""
    with anyio.fail_after(TIMEOUT_S):
        while not await condition():  # noqa: ASYNC110
            await anyio.sleep(0.05)


async def armed(source: SourceDatabase, *, wanted: bool = True) -> None:
    async def condition() -> bool:
        return bool(await source.app.fetchval(ARMED)) == wanted

    await wait_for(condition)


async def waiting(listener: Listener, entity: EntityCode, *, wanted: bool = True) -> None:
    async def condition() -> bool:
        return (entity in listener.changes_waiting) == wanted

    await wait_for(condition)


ARMED = "SELECT last_value > extract(epoch FROM now()) FROM exportd.doorbell"


@asynccontextmanager
async def stuck_listener(source: SourceDatabase) -> AsyncIterator[Connection]:
    """A session of the application that listens and never ends its transaction, so that the queue keeps everything."""
    session = await source.session()
    await session.execute("LISTEN anything")
    await session.execute("BEGIN; SELECT 1")
    yield session
    await session.execute("ROLLBACK")
    await session.execute("UNLISTEN *")


async def fill(source: SourceDatabase, *, share: float) -> None:
    """Send notifications until the queue is as full as that; 1: until it is full."""
    session = await source.session()
    try:
        while await session.fetchval("SELECT pg_notification_queue_usage()") < share:
            await session.execute(f"NOTIFY anything, '{PAYLOAD}'")
    except asyncpg.PostgresError as error:
        assert "too many notifications" in str(error)


async def test_a_full_queue_fails_no_write_though_the_doorbell_is_armed(
    source: SourceDatabase, things: CapturedTable
) -> None:
    """Armed before the queue filled up, and not yet disarmed: the triggers look for themselves."""
    async with stuck_listener(source):
        await source.app.execute("SELECT setval('exportd.doorbell', extract(epoch FROM now())::bigint + 3600)")
        await fill(source, share=1)
        with pytest.raises(asyncpg.PostgresError, match="too many notifications"):
            await source.app.execute(f"NOTIFY anything, '{PAYLOAD}'")
        await source.app.execute("""INSERT INTO things VALUES (1, 'x'), (2, 'x');
            UPDATE things SET note = 'y' WHERE id = 1; DELETE FROM things WHERE id = 1; TRUNCATE things""")
    await source.app.execute("SELECT setval('exportd.doorbell', 0)")


async def test_the_listener_disarms_while_the_queue_fills_up_and_arms_again(
    source: SourceDatabase, things: CapturedTable
) -> None:
    with structlog.testing.capture_logs() as lines:
        async with listening(source, things.entity.code) as listener:
            await armed(source)
            async with stuck_listener(source):
                await fill(source, share=0.2)
                await armed(source, wanted=False)
                await source.app.execute("INSERT INTO things VALUES (1, 'x')")
                assert listener.changes_waiting == {}
            await armed(source)
            await source.app.execute("INSERT INTO things VALUES (2, 'x')")
            await waiting(listener, things.entity.code)
    warnings = [line for line in lines if "the doorbell is off" in line["event"]]
    assert len(warnings) == 1, "one line, however often it looks"


async def test_forged_notifications_take_no_memory_and_write_one_line(
    source: SourceDatabase, things: CapturedTable
) -> None:
    code = things.entity.code
    with structlog.testing.capture_logs() as lines:
        async with listening(source, code) as listener:
            await source.app.execute(
                "SELECT pg_notify('exportd_doorbell', 'F' || n) FROM generate_series(1, 2000) AS n"
            )
            await source.app.execute(
                f"SELECT pg_notify('{EVENTS_CHANNEL}', 'F' || n) FROM generate_series(1, 2000) AS n"
            )
            await source.app.execute("SELECT pg_notify('exportd_doorbell', $1)", code)
            await waiting(listener, code)
            assert list(listener.changes_waiting) == [code]
    assert len([line for line in lines if line["event"] == "notification not understood"]) == 1


async def test_what_a_run_has_read_waits_no_longer(source: SourceDatabase, things: CapturedTable) -> None:
    """Two rounds of changes: after the first run, the second round is heard of again."""
    code = things.entity.code
    async with listening(source, code) as listener:
        for number in 1, 2:
            await armed(source)
            await source.app.execute("INSERT INTO things VALUES ($1, 'x')", number)
            await waiting(listener, code)
            heard = listener.changes_waiting[code]
            await read_until(source, code, heard + timedelta(milliseconds=1))
            await waiting(listener, code, wanted=False)


async def read_until(source: SourceDatabase, code: str, moment: object) -> None:
    """A schedule's position at that moment, as a run leaves it."""
    await source.app.execute("DELETE FROM exportd.schedule")
    await source.app.execute(
        """WITH schedule AS (
               INSERT INTO exportd.schedule
                   (organization, code, name, entities, format, destinations, rule, next_due_at)
               VALUES ('acme', 'daily', 'Daily', '{}', 'CSV', '{}', '{}', now()) RETURNING id)
           INSERT INTO exportd.position (schedule_id, entity, job_id, snapshot, taken_at, guards, destinations)
           SELECT id, $1, gen_random_uuid(), pg_current_snapshot(), $2, '{}', '{}' FROM schedule""",
        code,
        moment,
    )
