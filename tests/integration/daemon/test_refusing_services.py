"""Every reason for which Postgres refuses a connection or a statement, times every service of the daemon.

The services are the daemon's own, on a real database; what refuses is put before the driver. Each service has to meet
the refusal, to be there afterwards, and to reach the database when the cause is gone.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import asyncpg
import pytest
from asyncpg import connection as asyncpg_connection

from exportd.catalog.checker import examine
from exportd.catalog.document import loads
from exportd.daemon.assembly import Components, assembled
from exportd.daemon.current import Configuration
from exportd.daemon.runner import _services as services_of
from exportd.database.connector import Connector
from exportd.model.job import JobId
from exportd.settings.schema import Settings
from tests.fixtures.daemon import until
from tests.fixtures.postgres import Database

CATALOG = """
[[entity]]
code = "THINGS"
label = "Things"
type_token = "thing"
table = "public.things"
key = ["id"]
tenant = false
fields = ["id"]
"""

REASONS = {
    "wrong password": "28P01",
    "no such role, or no login": "28000",
    "no such database": "3D000",
    "database dropped": "57P04",
    "no right to connect, or to a table": "42501",
    "database not allowed": "55000",
    "too many connections": "53300",
    "disk full": "53100",
    "out of memory": "53200",
    "starting up": "57P03",
    "shutting down": "57P01",
    "crashed": "57P02",
    "idle for too long": "57P05",
    "cancelled": "57014",
    "no changes accepted": "25006",
    "idle in transaction for too long": "25P03",
    "lock not available": "55P03",
    "deadlock": "40P01",
    "not serializable": "40001",
    "schema away": "3F000",
    "table away": "42P01",
    "column away": "42703",
    "function away": "42883",
    "unknown setting": "42704",
    "input or output error": "58030",
    "data corrupted": "XX001",
    "internal error": "XX000",
    "connection failure": "08006",
    "protocol violation": "08P01",
    "configuration of the server": "F0000",
}
OTHERS: dict[str, Callable[[], Exception]] = {
    "no server there": lambda: ConnectionRefusedError(111, "Connection refused"),
    "no socket": lambda: FileNotFoundError(2, "No such file or directory"),
    "no answer": TimeoutError,
    "reset": lambda: ConnectionResetError(104, "Connection reset by peer"),
    "closed": lambda: asyncpg.InterfaceError("connection is closed"),
    "driver confused": lambda: asyncpg.InternalClientError("unexpected protocol state"),
}
SILENT = {"loop delay", "verifier"}
"""They do not need the database."""

STATEMENTS = ("execute", "fetch", "fetchrow", "fetchval", "executemany", "add_listener")


@dataclass
class Refusals:
    """Refuses while ``error`` is set. Notes which task met a refusal, and which one got through."""

    error: Callable[[], Exception] | None = None
    refused: set[str] = field(default_factory=set)
    served: set[str] = field(default_factory=set)

    def look(self) -> None:
        task = asyncio.current_task()
        name = task.get_name() if task is not None else ""
        if self.error is None:
            self.served.add(name)
        else:
            self.refused.add(name)
            raise self.error()


@pytest.fixture
def refusals(monkeypatch: pytest.MonkeyPatch) -> Refusals:
    refusals = Refusals()

    def before(function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def guarded(*arguments: Any, **options: Any) -> Any:
            refusals.look()
            return await function(*arguments, **options)

        return guarded

    guarded_connect = before(asyncpg_connection.connect)
    monkeypatch.setattr(asyncpg_connection, "connect", guarded_connect)
    monkeypatch.setattr(asyncpg, "connect", guarded_connect)
    for name in STATEMENTS:
        monkeypatch.setattr(asyncpg.Connection, name, before(getattr(asyncpg.Connection, name)))
    return refusals


def settings_of(dsn: str, folder: Path) -> Settings:
    return Settings.model_validate(
        {
            "database": {"dsn": dsn},
            "spool": {"directory": folder / "spool", "free_space_floor": 1},
            "capture": {"poll_interval_s": 1, "prune_interval_s": 1},
            "control": {"socket": folder / "control.sock"},
        }
    )


@asynccontextmanager
async def components_of(database: Database, folder: Path) -> AsyncIterator[Components]:
    connection = await database.connect()
    await connection.execute("CREATE TABLE public.things (id bigint PRIMARY KEY)")
    connector, written = Connector(database.dsn), loads(CATALOG, name="entities.toml")
    settings = settings_of(database.dsn, folder)
    async with assembled(Configuration(settings, await examine(written, connection), written), connector) as components:
        await components.presence.declare(settings, components.current.catalog())
        await components.spool.begin_job(JobId(uuid4()))  # or there is nothing to ask about
        yield components


def refusal_of(code: str) -> Callable[[], Exception]:
    return lambda: asyncpg.PostgresError.new({"C": code, "M": "refused by the test"})


ERRORS = {name: refusal_of(code) for name, code in REASONS.items()} | OTHERS


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
async def test_every_service_outlives_the_refusal(
    database: Database, tmp_path: Path, refusals: Refusals, error: Callable[[], Exception]
) -> None:
    async with components_of(database, tmp_path) as components:
        services = services_of(components)
        expected = services.keys() - SILENT

        async def met(names: set[str]) -> bool:
            # What waits for an event, or for minutes.
            for service in (components.dispatcher, components.ticker, components.cleaner, components.refresher):
                service.wake()
            components.presence.wake()
            components.entities.wake()
            components.history.wake()
            return expected <= names

        async def follow() -> None:
            async for _ in components.watcher.stream():
                pass

        async with anyio.create_task_group() as group:
            refusals.error = error
            for name, service in services.items():
                group.start_soon(components.services.run, name, service, name=name)
            group.start_soon(follow, name="follower")
            await until(lambda: met(refusals.refused), what=f"refusals; missing: {expected - refusals.refused}")
            refusals.served.clear()
            refusals.error = None
            expected -= {"retention"}  # it looks again in five minutes
            await until(lambda: met(refusals.served), what=f"answers; missing: {expected - refusals.served}")
            await components.retention.run_once()
            assert all(state.running for state in components.services.states.values())
            group.cancel_scope.cancel()
