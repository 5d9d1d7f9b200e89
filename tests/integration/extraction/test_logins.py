"""Two logins: one keeps the daemon's tables, the other one is the only one that touches a table of the application."""

from collections.abc import AsyncIterator
from dataclasses import replace

import anyio
import asyncpg
import pytest
import structlog

from exportd.capture.installer import CaptureInstaller, capture_is_intact
from exportd.capture.script import role_sql
from exportd.database.connector import Connector
from exportd.database.setup_checker import doubts_about_logins, warn_of_rights
from exportd.extraction.copier import Copier
from exportd.extraction.snapshot_opener import SnapshotOpener
from exportd.model.errors import Reason, TransientError
from exportd.settings.schema import DatabaseSettings, LimitSettings
from tests.integration.capture.source_database import CapturedTable, SourceDatabase

pytestmark = pytest.mark.every_postgres


@pytest.fixture
async def reading(source: SourceDatabase) -> AsyncIterator[SourceDatabase]:
    """The source with a login of its own for reading."""
    reader = f"reader_{source.schema}"
    owner = f"owner_{source.schema}"
    await source.app.execute(f"CREATE ROLE {owner} LOGIN; GRANT USAGE, CREATE ON SCHEMA {source.schema} TO {owner}")
    database = DatabaseSettings(dsn=source.dsn, reader_user=reader)
    connector = Connector.of(database)
    assert connector.reader == reader
    yield replace(
        source,
        connector=connector,
        installer=CaptureInstaller(connector, pause=anyio.sleep),
        opener=SnapshotOpener(connector, is_intact=capture_is_intact, pause=anyio.sleep),
        copier=Copier(connector, LimitSettings(streams=3, stream_threshold=8192, silence_timeout_s=1)),
    )


async def captured(source: SourceDatabase) -> CapturedTable:
    """A table of an owner who is not trusted, with the roles that the DBA is given."""
    await source.app.execute(f"""
        CREATE TABLE things (id int PRIMARY KEY, organization_id text, note text);
        ALTER TABLE things OWNER TO owner_{source.schema};
        INSERT INTO things SELECT i, 'acme', repeat('x', 200) FROM generate_series(1, 2000) AS i""")
    things = CapturedTable(source, await source.entity("things", tenant="organization_id"))
    name = await source.app.fetchval("SELECT current_database()")
    # Before the log is there, and after it.
    script = role_sql(
        "postgres",
        database=name,
        tables=[things.entity.table],
        reader=source.connector.reader,
        entities=[things.entity.code],
    )
    await source.app.execute(script)
    await things.install()
    await source.app.execute(script)
    return things


async def test_exports_are_read_by_the_login_that_reads(reading: SourceDatabase) -> None:
    """Several connections share a snapshot, and nothing but the log and the table is looked at."""
    things = await captured(reading)
    assert len((await things.export()).present) == 2000
    await reading.app.execute("UPDATE things SET note = 'y' WHERE id = 1; DELETE FROM things WHERE id = 2")
    assert (await things.export()).keys == ([(1,)], [(2,)])


async def test_a_new_log_is_granted_to_the_login_that_reads(reading: SourceDatabase) -> None:
    things = await captured(reading)
    await reading.app.execute(f"REVOKE SELECT ON {things.log} FROM {reading.connector.reader}")
    assert await things.findings() == f"the role {reading.connector.reader} may not read the change log"
    await things.install()
    assert await things.findings() == ""
    await things.export()
    await reading.app.execute(f"DROP TABLE {things.log}")
    (planned,) = await reading.installer.status([things.entity])
    assert any("GRANT SELECT" in statement for statement in planned.statements)
    await things.install()
    await things.export()


async def test_the_login_that_reads_may_read_tables_and_logs_and_nothing_else(reading: SourceDatabase) -> None:
    things = await captured(reading)
    await reading.app.execute("CREATE TABLE others (id int PRIMARY KEY)")
    rows = await reading.app.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = 'exportd'::regnamespace AND relkind IN ('r', 'S', 'v', 'm')"
    )
    names = [row["relname"] for row in rows]
    assert {"job", "api_client", "schedule", "destination", "audit", "position"} <= set(names)
    async with reading.connector.reading("test") as reader:
        for name in names:
            if f'"{name}"' in things.log:
                await reader.fetch(f'SELECT * FROM exportd."{name}"')
                for statement in ("DELETE FROM", "TRUNCATE"):
                    with pytest.raises(asyncpg.InsufficientPrivilegeError):
                        await reader.execute(f'{statement} exportd."{name}"')
            elif not name.startswith("log_"):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await reader.fetch(f'SELECT * FROM exportd."{name}"')
        await reader.fetch(f"SELECT * FROM {reading.schema}.things")
        for statement in (
            f"SELECT * FROM {reading.schema}.others",
            f"DELETE FROM {reading.schema}.things",
            f"CREATE TABLE {reading.schema}.mine ()",
            "CREATE TABLE exportd.mine ()",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await reader.execute(statement)


SPY = """
CREATE FUNCTION {schema}.spy(int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  found text := '';
  attempt text;
BEGIN
  IF current_user <> '{reader}' THEN RETURN true; END IF;
  FOREACH attempt IN ARRAY ARRAY[
    'SELECT count(*) FROM exportd.api_client', 'SELECT count(*) FROM exportd.job',
    'SELECT count(*) FROM exportd.destination', 'SET ROLE postgres', 'SET SESSION AUTHORIZATION postgres',
    'DELETE FROM exportd.schedule', 'CREATE TABLE exportd.mine ()',
    'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = ''postgres''',
    'SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE usename = ''postgres'''
  ] LOOP
    BEGIN
      EXECUTE 'RESET ROLE';
      EXECUTE attempt;
      found := found || attempt || '; ';
    EXCEPTION WHEN OTHERS THEN
    END;
  END LOOP;
  PERFORM set_config('application_name', 'spy: ' || found, false);
  RETURN true;
END $$;
CREATE INDEX ON {schema}.things (id) WHERE {schema}.spy(1);
"""


async def test_code_of_an_owner_that_an_export_runs_reaches_nothing_of_ours(reading: SourceDatabase) -> None:
    """The planner folds a function of constants in the predicate of an index, with the rights of who reads."""
    things = await captured(reading)
    owner = await reading.session(user=f"owner_{reading.schema}")
    await owner.execute(SPY.format(schema=reading.schema, reader=reading.connector.reader))
    async with reading.connector.connection("test") as ours:
        seen: list[str] = []

        async def look(_: object) -> None:
            """Plan as COPY does, on a connection that reads; what the function found is its application_name."""
            async with reading.connector.export_session() as reader:
                await reader.execute("BEGIN READ ONLY")
                await reader.fetch(f"SELECT * FROM {reading.schema}.things WHERE id < 10")
                seen.append(await reader.fetchval("SELECT current_setting('application_name')"))

        snapshot, content = await things.run(while_open=look)
        assert content.count(b"\n") == 2000
        assert seen == ["spy: "], "it ran, and found nothing"
        assert await ours.fetchval("SELECT 1") == 1, "nor could it end another connection of ours"
    assert snapshot.windows


@pytest.mark.parametrize("catches", [False, True])
async def test_a_function_that_sleeps_holds_an_export_no_longer_than_the_limit(
    reading: SourceDatabase, *, catches: bool
) -> None:
    """Also one that catches a cancel: the daemon does not wait for the server's consent."""
    things = await captured(reading)
    owner = await reading.session(user=f"owner_{reading.schema}")
    caught = "EXCEPTION WHEN query_canceled THEN PERFORM pg_sleep(3600);" if catches else ""
    await owner.execute(f"""
        CREATE FUNCTION {reading.schema}.sleep(int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
        BEGIN
          IF current_user = '{reading.connector.reader}' THEN PERFORM pg_sleep(3600); END IF;
          RETURN true;
        {caught}
        END $$;
        CREATE INDEX ON {reading.schema}.things (id) WHERE {reading.schema}.sleep(1)""")
    with anyio.fail_after(30), pytest.raises(ExceptionGroup) as failure:
        await things.run()
    error: BaseException = failure.value
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, TransientError)
    assert error.reason is Reason.COPY_SILENT
    assert "raise limits.silence_timeout_s" in error.sentence
    left = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1"
    with anyio.fail_after(30):
        while await reading.app.fetchval(left, reading.connector.reader):
            await anyio.lowlevel.checkpoint()


async def test_what_the_logins_give_up_is_said(reading: SourceDatabase) -> None:
    await captured(reading)

    async def doubts(connector: Connector) -> list[str]:
        return [sentence async for sentence in doubts_about_logins(connector)]

    (about_superuser,) = await doubts(reading.connector)
    assert "postgres of database.dsn is a superuser" in about_superuser
    superuser, one_login = await doubts(Connector(reading.dsn))
    assert "superuser" in superuser
    assert "the role postgres keeps" in one_login
    reader = reading.connector.reader
    await reading.app.execute(f"ALTER ROLE {reader} BYPASSRLS; GRANT SELECT ON exportd.job TO {reader}")
    _, bypasses, reads = await doubts(reading.connector)
    assert f"{reader} of database.reader_user bypasses row security" in bypasses
    assert "may also read 1 of exportd's tables" in reads
    with structlog.testing.capture_logs() as logs:
        await warn_of_rights(reading.connector)
    assert [log["error"] for log in logs] == [about_superuser, bypasses], "the daemon says the same of them"
    await reading.app.execute(f"ALTER ROLE {reader} NOBYPASSRLS; REVOKE SELECT ON exportd.job FROM {reader}")
