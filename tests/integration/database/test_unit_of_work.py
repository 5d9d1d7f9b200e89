"""A unit of work on the daemon's tables: with its lock, audit rows and events it takes effect as a whole, or not."""

import json
from collections.abc import AsyncIterator
from uuid import uuid4

import anyio
import asyncpg
import pytest

from exportd.database import unit_of_work
from exportd.database.connector import Connector, Pool
from exportd.database.migrator import migrate
from exportd.database.unit_of_work import Auditor, notify, statements, transaction, write_audit
from exportd.model.change_log import EVENTS_CHANNEL
from exportd.model.entity import OrganizationId
from exportd.model.errors import Reason, TransientError
from tests.fixtures.postgres import Database

ACME = OrganizationId("acme")
_WAITS = """
    SELECT EXISTS (
        SELECT FROM pg_locks JOIN pg_stat_activity USING (pid)
        WHERE NOT granted AND datname = current_database())
"""


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    async with Connector(database.dsn).pool(2) as pool:
        yield pool


async def test_a_change_its_audit_row_and_its_event_come_together(pool: Pool, database: Database) -> None:
    events: list[object] = []
    listening = await database.connect()
    await listening.add_listener(EVENTS_CHANNEL, lambda *event: events.append(json.loads(str(event[3]))))
    subject = uuid4()
    async with transaction(pool, "pausing") as connection:
        await connection.execute("INSERT INTO exportd.pause (paused_by) VALUES ('ann')")
        await write_audit(
            connection, "thing paused", actor="ann", organization=ACME, object_id=subject, details={"code": "lake"}
        )
        await notify(connection, "schedule_changed", schedule=subject)
    await listening.fetchval("SELECT 1")  # notifications come before the answer
    assert events == [{"kind": "schedule_changed", "schedule": str(subject)}]
    row = await pool.fetchrow("SELECT * FROM exportd.audit")
    assert row is not None
    assert (row["actor"], row["action"], row["organization"], row["object_id"]) == (
        "ann",
        "thing paused",
        "acme",
        subject,
    )
    assert json.loads(row["details"]) == {"code": "lake"}


async def test_of_a_unit_that_fails_nothing_is_left(pool: Pool, database: Database) -> None:
    events: list[object] = []
    listening = await database.connect()
    await listening.add_listener(EVENTS_CHANNEL, lambda *event: events.append(event[3]))
    with pytest.raises(ZeroDivisionError):
        async with transaction(pool, "pausing") as connection:
            await connection.execute("INSERT INTO exportd.pause (paused_by) VALUES ('ann')")
            await write_audit(connection, "daemon paused", actor="ann", details={})
            await notify(connection, "job_queued")
            raise ZeroDivisionError
    await listening.fetchval("SELECT 1")
    assert events == []
    assert await pool.fetchval("SELECT count(*) FROM exportd.audit") == 0
    assert await pool.fetchval("SELECT count(*) FROM exportd.pause") == 0


async def test_units_with_the_same_lock_run_one_after_the_other(pool: Pool, database: Database) -> None:
    watching = await database.connect()
    order: list[str] = []

    async def second() -> None:
        async with transaction(pool, "editing", lock="exportd things"):
            order.append("second")

    async with anyio.create_task_group() as group, transaction(pool, "editing", lock="exportd things"):
        group.start_soon(second)
        while not await watching.fetchval(_WAITS):
            await anyio.lowlevel.checkpoint()
        order.append("first")
    assert order == ["first", "second"]


async def test_errors_say_what_was_done(pool: Pool) -> None:
    with pytest.raises(TransientError, match="while counting things") as raised:
        async with statements(pool, "counting things") as connection:
            await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    assert raised.value.reason is Reason.DATABASE_CONNECTION_LOST


async def test_what_changes_no_row_is_written_down_too(pool: Pool) -> None:
    await Auditor(pool).write("log level set", actor="ann", level="debug")
    row = await pool.fetchrow("SELECT actor, action, organization, object_id, details FROM exportd.audit")
    assert row is not None
    assert (row["actor"], row["action"], row["organization"], row["object_id"]) == ("ann", "log level set", None, None)
    assert json.loads(row["details"]) == {"level": "debug"}


async def test_a_role_that_only_connects_holds_up_nothing(pool: Pool, database: Database) -> None:
    """It may take whatever advisory lock it likes: ours are rows and tables of our own schema."""
    admin = await database.connect()
    squatter = f"squatter_{database.name}"
    await admin.execute(f"CREATE ROLE {squatter} LOGIN")
    stranger = await database.connect(user=squatter)
    names = ("exportd schedules", "exportd destinations", "exportd things")
    for name in names:
        await stranger.execute("SELECT pg_advisory_lock(hashtextextended($1, 0))", name)
    await stranger.execute("SELECT pg_advisory_lock(7235101694330891)")
    for statement in (
        "LOCK TABLE exportd.lock",
        "LOCK TABLE exportd.migration IN ACCESS SHARE MODE",
        "SELECT FROM exportd.lock FOR UPDATE",
        "INSERT INTO exportd.lock VALUES ('exportd schedules')",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await stranger.execute(f"BEGIN; {statement}")
        await stranger.execute("ROLLBACK")
    with anyio.fail_after(5):
        assert await migrate(admin) == []
        for name in names:
            async with transaction(pool, "editing", lock=name) as connection:
                await write_audit(connection, "thing edited", actor="ann", details={})


async def test_a_lock_is_waited_for_so_long_and_no_longer(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "'30s'" in unit_of_work._SQL["bound_waits"]
    bounded = {**unit_of_work._SQL, "bound_waits": "SET LOCAL lock_timeout = '20ms'"}
    monkeypatch.setattr(unit_of_work, "_SQL", bounded)
    async with transaction(pool, "editing", lock="exportd things"):
        with pytest.raises(TransientError) as raised:
            async with transaction(pool, "editing", lock="exportd things"):
                pass
    assert raised.value.reason is Reason.LOCK_NOT_AVAILABLE
