"""The real daemon with the role that ``exportd role sql`` makes: it exports, and cannot write what it exports."""

import asyncpg
import pytest

from exportd.database.connector import Connector
from exportd.model.extraction import Mode
from tests.acceptance.declarations import destination, schedule
from tests.acceptance.delivered_files import DeliveredFiles
from tests.acceptance.sample_application import CATALOG, Application
from tests.fixtures.daemon import Site

TABLES = ("public.accounts", "public.orders", "public.countries")


@pytest.mark.every_postgres
@pytest.mark.parametrize("logins", [1, 2])
async def test_a_role_that_only_reads_exports_everything(site: Site, application: Application, logins: int) -> None:
    """The DBA runs what is printed; the daemon gets no other rights. A second login is added to what is there."""
    role, database = f"exportd_{site.database.name}", site.database
    reader = f"reader_{database.name}"
    logging_in = {"dsn": database.server.dsn(database.name, user=role)}
    lake = site.destination("lake")
    site.dsn = database.server.dsn(database.name, user=role)
    site.configure(CATALOG, {"destination": [destination("lake", lake)]})
    await application.connection.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")

    for _ in range(2):  # may be run again
        printed = await site.quickly("role", "sql")
        assert printed.returncode == 0, printed.stderr
        await application.connection.execute(printed.stdout)
    daemon = await site.start()  # makes its own tables
    assert await daemon.stop() == 0
    refused = await site.quickly("capture", "install")
    assert refused.returncode == 1
    assert "permission denied" in refused.stdout, refused
    printed = await site.quickly("capture", "install", "--dry-run")
    assert printed.returncode == 0, printed.stderr
    await application.connection.execute(printed.stdout)
    checked = await site.quickly("check")
    assert checked.returncode == 0, checked.stdout

    assert "is a superuser" not in checked.stdout
    assert "keeps exportd's tables and reads the application's" in checked.stdout
    if logins == 2:
        logging_in["reader_user"] = reader
        site.configure(CATALOG, {"database": logging_in, "destination": [destination("lake", lake)]})
        for _ in range(2):
            printed = await site.quickly("role", "sql")
            assert printed.returncode == 0, printed.stderr
            await application.connection.execute(printed.stdout)
        checked = await site.quickly("check")
        assert checked.returncode == 0, checked.stdout
        assert "warn" not in checked.stdout

    sections = {"destination": [destination("lake", lake)], "schedule": [schedule("often")]}
    site.configure(CATALOG, {"database": logging_in, **sections})
    await site.restart()
    await site.succeeded(application.connection, await site.first_job(application.connection))
    await application.change()
    await application.connection.execute("TRUNCATE public.countries")
    await site.succeeded(application.connection, await site.fire())
    bucket = DeliveredFiles.of(lake)
    bucket.assert_whole()
    assert bucket.replayed() == await application.contents()
    assert {entity.mode for entity in bucket.run(1).entities} == {Mode.INCREMENTAL}

    async with Connector(site.dsn).connection("test") as daemons:
        for statement in (
            *(f"DELETE FROM {table}" for table in TABLES),
            *(f"TRUNCATE {table}" for table in TABLES),
            "UPDATE public.accounts SET note = 'x'",
            "INSERT INTO public.countries VALUES ('XX', 'x')",
            "ALTER TABLE public.accounts DISABLE TRIGGER ALL",
            "CREATE TABLE public.mine ()",
            "CREATE SCHEMA mine",
            "CREATE ROLE another",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await daemons.execute(statement)
    if logins == 2:
        users = await application.connection.fetch(
            "SELECT DISTINCT usename FROM pg_stat_activity WHERE datname = $1 AND usename <> 'postgres'", database.name
        )
        assert {row["usename"] for row in users} <= {role, reader}
    owners = await application.connection.fetch(
        "SELECT pg_get_userbyid(relowner) AS owner FROM pg_class WHERE relnamespace = 'exportd'::regnamespace UNION"
        " SELECT pg_get_userbyid(proowner) FROM pg_proc WHERE pronamespace = 'exportd'::regnamespace"
    )
    assert [row["owner"] for row in owners] == [role], "nothing runs with a DBA's rights"


async def test_a_dsn_without_a_role_is_told_so(site: Site) -> None:
    site.dsn = "postgresql:///product"
    site.configure(CATALOG, {})
    printed = await site.quickly("role", "sql")
    assert printed.returncode == 2
    assert "should name the user and the database" in printed.stderr
