"""What a DBA is given before the first run, and to remove everything: the SQL that is printed does what it says."""

from tests.acceptance.sample_application import CATALOG, Application
from tests.fixtures.daemon import Site

TABLES = "SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace('exportd') AND relkind IN ('r', 'p')"
TRIGGERS = "SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal AND tgname LIKE 'exportd%'"


async def test_before_the_first_run_a_dba_is_given_everything(site: Site, application: Application) -> None:
    site.configure(CATALOG, {})
    connection = application.connection
    shown = await site.quickly("capture", "install", "--dry-run")
    assert shown.returncode == 0, shown.stderr
    assert "-- schema exportd: migration 0001_" in shown.stdout
    assert await connection.fetchval("SELECT to_regnamespace('exportd')") is None

    await connection.execute(shown.stdout)
    again = await site.quickly("capture", "install", "--dry-run")
    assert (again.returncode, "BEGIN" in again.stdout) == (0, False), again.stdout
    status = await site.quickly("capture", "status")
    assert status.returncode == 0, status.stdout

    # The daemon finds nothing to do.
    daemon = await site.start()
    assert daemon.events_named("migration applied") == []
    assert daemon.events_named("capture repaired") == []
    assert await daemon.stop() == 0


async def test_everything_is_removed_as_the_dry_run_says(site: Site, application: Application) -> None:
    site.configure(CATALOG, {})
    connection = application.connection
    installed = await site.quickly("capture", "install")
    assert installed.returncode == 0
    assert "warning: the role postgres of database.dsn is a superuser" in installed.stderr
    tables, triggers = await connection.fetchval(TABLES), await connection.fetchval(TRIGGERS)
    assert triggers

    shown = await site.quickly("capture", "uninstall", "--dry-run")
    assert shown.returncode == 0, shown.stderr
    assert "DROP TRIGGER" in shown.stdout
    assert (await connection.fetchval(TABLES), await connection.fetchval(TRIGGERS)) == (tables, triggers)
    await connection.execute(shown.stdout)
    assert await connection.fetchval(TRIGGERS) == 0

    assert (await site.quickly("capture", "install")).returncode == 0
    removed = await site.quickly("capture", "uninstall")
    assert (removed.returncode, await connection.fetchval(TRIGGERS)) == (0, 0), removed.stderr
    assert "nothing is captured" in (await site.quickly("capture", "uninstall")).stdout

    shown = await site.quickly("capture", "uninstall", "--drop-schema", "--dry-run")
    assert await connection.fetchval("SELECT to_regnamespace('exportd')") is not None
    await connection.execute(shown.stdout)
    assert await connection.fetchval("SELECT to_regnamespace('exportd')") is None


async def test_a_table_that_is_missing_does_not_keep_the_others_from_being_captured(
    site: Site, application: Application
) -> None:
    site.configure(CATALOG, {})
    await application.connection.execute("ALTER TABLE public.accounts RENAME TO away")
    installed = await site.quickly("capture", "install")
    assert installed.returncode == 1
    assert "ACCOUNTS: failed: Entity ACCOUNTS: public.accounts does not exist" in installed.stdout
    assert "ORDERS: installed: " in installed.stdout
    assert installed.stderr.splitlines()[-1] == "exportd: 1 of 3 entities are not captured: ACCOUNTS"
    assert (await site.quickly("capture", "install", "ORDERS", "COUNTRIES")).returncode == 0
    alone = await site.quickly("capture", "install", "ACCOUNTS")
    assert (alone.returncode, "does not exist" in alone.stderr) == (1, True)
