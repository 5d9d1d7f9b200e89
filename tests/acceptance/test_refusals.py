"""The database refuses in every way that Postgres has: the daemon is there afterwards, and works."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import asyncpg
import pytest

from exportd.postgres.postgres_server import PostgresServer
from tests.acceptance.declarations import destination, schedule
from tests.acceptance.delivered_files import DeliveredFiles
from tests.acceptance.sample_application import CATALOG, Application
from tests.fixtures.control_clients import bare
from tests.fixtures.daemon import Site, until
from tests.fixtures.postgres import Database

PASSWORD = "first-secret"


@dataclass(frozen=True)
class Cause:
    """What a DBA does, and undoes. ``reason`` is what status and metric say meanwhile."""

    damage: str
    repair: str
    reason: str


CAUSES = {
    "no login": Cause("ALTER ROLE exporter NOLOGIN", "ALTER ROLE exporter LOGIN", "DATABASE_REFUSED"),
    "password": Cause(
        "ALTER ROLE exporter PASSWORD 'other'", f"ALTER ROLE exporter PASSWORD '{PASSWORD}'", "DATABASE_REFUSED"
    ),
    "role renamed": Cause(
        "ALTER ROLE exporter RENAME TO former",
        f"ALTER ROLE former RENAME TO exporter; ALTER ROLE exporter PASSWORD '{PASSWORD}'",
        "DATABASE_REFUSED",
    ),
    "too many connections of the role": Cause(
        "ALTER ROLE exporter CONNECTION LIMIT 0", "ALTER ROLE exporter CONNECTION LIMIT -1", "DATABASE_UNREACHABLE"
    ),
    "no changes by this role": Cause(
        "ALTER ROLE exporter SET default_transaction_read_only = on",
        "ALTER ROLE exporter RESET default_transaction_read_only",
        "DATABASE_READ_ONLY",
    ),
    "no changes in this database": Cause(
        "ALTER DATABASE shop SET default_transaction_read_only = on",
        "ALTER DATABASE shop RESET default_transaction_read_only",
        "DATABASE_READ_ONLY",
    ),
    "schema away": Cause("ALTER SCHEMA exportd RENAME TO away", "ALTER SCHEMA away RENAME TO exportd", "TABLE_MISSING"),
    "no right to the schema": Cause(
        "ALTER SCHEMA exportd OWNER TO postgres", "ALTER SCHEMA exportd OWNER TO exporter", "PRIVILEGE_MISSING"
    ),
}
TROUBLE = "database cannot be listened to"
CUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename IN ('exporter', 'former')"


@pytest.fixture
async def refusing(tmp_path: Path) -> AsyncIterator[tuple[Site, Application]]:
    """A site with a server of its own, which asks the daemon's role for a password; the shop has another role."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(PostgresServer(settings={"fsync": "off"}))
        dsn = await server.create_database("shop")
        connection = await asyncpg.connect(dsn)
        application = Application(connection)
        await application.open()
        await connection.execute(f"""
            CREATE ROLE exporter LOGIN PASSWORD '{PASSWORD}';
            GRANT CREATE ON DATABASE shop TO exporter;
            GRANT ALL ON SCHEMA public TO exporter;
            ALTER TABLE accounts OWNER TO exporter;
            ALTER TABLE orders OWNER TO exporter;
            ALTER TABLE countries OWNER TO exporter;
        """)
        hba = Path(await connection.fetchval("SHOW hba_file"))
        await asyncio.to_thread(hba.write_text, "local all postgres trust\nlocal all all scram-sha-256\n")
        await connection.execute("SELECT pg_reload_conf()")
        site = Site(tmp_path, Database(server, "shop", stack), dsn.replace("postgres@", f"exporter:{PASSWORD}@"))
        stack.callback(site.close)
        site.configure(CATALOG, {"destination": [destination("lake", site.destination())], "schedule": [schedule()]})
        yield site, application
        await application.connection.close()


@pytest.mark.slow
async def test_no_refusal_ends_the_daemon_and_it_works_afterwards(refusing: tuple[Site, Application]) -> None:
    site, application = refusing
    administrator = application.connection
    daemon = await site.start()
    await site.succeeded(administrator, await site.first_job(administrator))
    for name, cause in CAUSES.items():
        seen = len(daemon.events_named(TROUBLE, reason=cause.reason))
        await administrator.execute(cause.damage)
        await administrator.execute(CUT)
        await daemon.wait_for_event(TROUBLE, reason=cause.reason, times=seen + 1)
        line = f'exportd_database_trouble{{reason="{cause.reason}"}} 1.0'
        await until(partial(_metrics_say, site, line), what=f"the metric for {name}")
        listened = len(daemon.events_named("listening"))
        await administrator.execute(cause.repair)
        await daemon.wait_for_event("listening", times=listened + 1)
        await application.change()
        await site.succeeded(administrator, await site.fire())
    # The server itself goes and comes, by order and by accident.
    for stop in (site.database.server.stop, site.database.server.kill):
        await administrator.close()
        seen, listened = (
            len(daemon.events_named(TROUBLE, reason="DATABASE_UNREACHABLE")),
            len(daemon.events_named("listening")),
        )
        await stop()
        await daemon.wait_for_event(TROUBLE, reason="DATABASE_UNREACHABLE", times=seen + 1)
        await site.database.server.start()
        await daemon.wait_for_event("listening", times=listened + 1)
        administrator = await asyncpg.connect(site.database.dsn)
        application.connection = administrator
        await application.change()
        await site.succeeded(administrator, await site.fire())

    services = json.loads((await site.quickly("status", "--json")).stdout)["services"]
    assert all(service["running"] for service in services.values()), services
    await until(partial(_metrics_are_without, site, "exportd_database_trouble{"), what="the end of the trouble")
    assert "Traceback" not in daemon.text
    assert PASSWORD not in daemon.text
    bucket = DeliveredFiles.of(site.destination())
    bucket.assert_whole()
    assert bucket.replayed() == await application.contents()
    assert await daemon.stop() == 0


@pytest.mark.slow
async def test_a_password_that_is_rotated_in_the_database_first_is_taken_from_the_file(
    refusing: tuple[Site, Application],
) -> None:
    """No reload is asked for, and what else the file says by then is not put into effect."""
    site, application = refusing
    administrator = application.connection
    daemon = await site.start()
    await site.succeeded(administrator, await site.first_job(administrator))
    await administrator.execute("ALTER ROLE exporter PASSWORD 'second-secret'")
    await administrator.execute(CUT)
    await daemon.wait_for_event(TROUBLE, reason="DATABASE_REFUSED")
    text = site.config.read_text(encoding="utf-8").replace(PASSWORD, "second-secret")
    site.config.write_text(text.replace('format = "json"', 'format = "json"\nlevel = "error"'), encoding="utf-8")
    await daemon.wait_for_event("login renewed from the configuration")
    await daemon.wait_for_event("listening", times=2)
    await site.succeeded(administrator, await site.fire())
    assert "secret" not in daemon.text
    assert await daemon.stop() == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", CAUSES)
async def test_a_start_waits_until_the_database_lets_it_in(refusing: tuple[Site, Application], name: str) -> None:
    (site, application), cause = refusing, CAUSES[name]
    administrator = application.connection
    if "SCHEMA exportd" in cause.damage:
        daemon = await site.start()
        assert await daemon.stop() == 0
    await administrator.execute(cause.damage)
    daemon = site.fork()
    if name != "schema away":  # otherwise it makes another one
        await daemon.wait_for_event("waiting for the database", reason=cause.reason)
        await administrator.execute(cause.repair)
    await daemon.wait_for_event("daemon ready")
    await site.succeeded(administrator, await site.first_job(administrator))
    assert await daemon.stop() == 0


async def _metrics_say(site: Site, line: str) -> bool:
    return line in await _metrics(site)


async def _metrics_are_without(site: Site, words: str) -> bool:
    return words not in await _metrics(site)


async def _metrics(site: Site) -> str:
    def read() -> str:
        with bare(site.folder / "control.sock") as client:
            return client.get("/metrics").text

    return await asyncio.to_thread(read)
