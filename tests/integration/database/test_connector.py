import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from operator import attrgetter
from urllib.parse import parse_qs, urlsplit

import pytest

from exportd.database.connector import Connection, Connector
from exportd.database.translator import translated
from exportd.model.errors import ExportdError, PermanentError, Reason, TransientError
from exportd.settings.schema import DatabaseSettings
from tests.fixtures.postgres import Database

_PINNED = {
    "client_min_messages": "error",
    "row_security": "off",
    "jit": "off",
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "xmlbinary": "base64",
    "lc_monetary": "C",
    "search_path": "pg_catalog",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "lock_timeout": "1500ms",
    "application_name": "exportd export",
}


@pytest.mark.every_postgres
async def test_an_export_connection_has_the_same_settings_whatever_the_database_says(
    database: Database,
) -> None:
    admin = await database.connect()
    for setting in (
        "statement_timeout = '1min'",
        "extra_float_digits = -3",
        "search_path = exportd",
        "jit = on",
    ):
        await admin.execute(f"ALTER DATABASE {database.name} SET {setting}")
    connection = await Connector(database.dsn, lock_timeout_s=1.5).export_connection()
    try:
        found = {name: await connection.fetchval("SELECT current_setting($1)", name) for name in _PINNED}
    finally:
        await connection.close()
    assert found == _PINNED


@pytest.mark.every_postgres
async def test_no_session_compiles_its_statements_whatever_the_database_says(database: Database) -> None:
    admin = await database.connect()
    for setting in ("jit = on", "jit_above_cost = 0"):
        await admin.execute(f"ALTER DATABASE {database.name} SET {setting}")
    connector = Connector(database.dsn)
    async with connector.pool(1) as pool, connector.connection("listener") as listener:
        assert await pool.fetchval("SHOW jit") == "off"
        async with pool.acquire() as connection:
            await connection.execute("SET jit = on")
        assert await pool.fetchval("SHOW jit") == "off"
        assert await listener.fetchval("SHOW jit") == "off"


async def test_row_security_is_an_error_instead_of_rows_silently_missing(database: Database) -> None:
    admin = await database.connect()
    await admin.execute(
        "CREATE ROLE reader LOGIN; CREATE TABLE public.secret (id integer); GRANT SELECT ON secret TO reader;"
        "ALTER TABLE public.secret ENABLE ROW LEVEL SECURITY"
    )
    connector = Connector(database.server.dsn(database.name, user="reader"))
    try:
        connection = await connector.export_connection()
        try:
            with pytest.raises(PermanentError) as raised, translated("reading SECRET"):
                await connection.fetch("SELECT * FROM public.secret")
            assert raised.value.reason is Reason.PRIVILEGE_MISSING
        finally:
            await connection.close()
    finally:
        await admin.execute("DROP OWNED BY reader; DROP ROLE reader")


async def test_the_purpose_is_seen_in_pg_stat_activity(database: Database) -> None:
    async with Connector(database.dsn, application_name="daemon 7").connection("listener") as connection:
        assert await connection.fetchval("SHOW application_name") == "daemon 7 listener"
    assert connection.is_closed()


async def test_the_pool_forgets_what_its_users_set(database: Database) -> None:
    async with Connector(database.dsn).pool(1) as pool:
        async with pool.acquire() as connection:
            await connection.execute("SET search_path = public; SET timezone = 'Asia/Tokyo'")
        assert await pool.fetchval("SHOW search_path") == "pg_catalog"
        assert await pool.fetchval("SHOW application_name") == "exportd tables"


@pytest.mark.every_postgres
async def test_the_pool_resets_no_session_in_which_nothing_was_set(database: Database) -> None:
    admin = await database.connect()
    last = "SELECT query FROM pg_stat_activity WHERE application_name = 'exportd tables'"
    async with Connector(database.dsn).pool(1) as pool:
        for _ in range(2):
            async with pool.acquire() as connection, connection.transaction():
                await connection.fetchval("SELECT $1::int + 1", 1)
                async with connection.transaction():
                    await connection.execute("SELECT $1::int + 2", 1)
        assert await admin.fetchval(last) == "COMMIT;"
        async with pool.acquire() as connection:
            await connection.execute("SET work_mem = '5MB'")
        assert "RESET ALL" in await admin.fetchval(last)
        async with pool.acquire() as connection:
            with pytest.raises(ZeroDivisionError):
                async with connection.transaction():
                    await connection.fetchval("SELECT set_config('work_mem', '6MB', false)")
                    raise ZeroDivisionError
        async with pool.acquire() as connection:
            assert await connection.fetchval("SHOW work_mem") == "4MB"


async def test_no_server_there_is_worth_another_try() -> None:
    connector = Connector("postgresql://ann:hunter2@/app?host=/nowhere/at/all")
    error = await _refusal(connector)
    assert isinstance(error, TransientError)
    assert error.reason is Reason.DATABASE_UNREACHABLE
    assert "database app on /nowhere/at/all as ann" in error.sentence
    _assert_no_password(connector, error)


async def test_a_server_that_never_answers_is_worth_another_try() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        connector = Connector(f"postgresql://ann:hunter2@127.0.0.1:{port}/app", connect_timeout_s=0.1)
        error = await _refusal(connector)
    assert isinstance(error, TransientError)
    assert error.reason is Reason.DATABASE_UNREACHABLE
    _assert_no_password(connector, error)


@pytest.mark.parametrize(
    ("user", "database_name", "reason"),
    [
        ("postgres", "no_such_database", Reason.DATABASE_REFUSED),
        ("no_such_user", None, Reason.DATABASE_REFUSED),
        ("pg_monitor", None, Reason.DATABASE_REFUSED),  # a role that may not log in
    ],
)
async def test_a_refusal_is_permanent_and_names_what_was_refused(
    database: Database, user: str, database_name: str | None, reason: Reason
) -> None:
    dsn = database.server.dsn(database_name or database.name, user=user)
    connector = Connector(dsn.replace("@", ":hunter2@"))
    error = await _refusal(connector)
    assert isinstance(error, PermanentError)
    assert error.reason is reason
    assert user in error.sentence
    assert (database_name or database.name) in error.sentence
    _assert_no_password(connector, error)


async def test_a_role_without_the_right_to_connect_is_told_so(database: Database) -> None:
    admin = await database.connect()
    await admin.execute(f"CREATE ROLE stranger LOGIN; REVOKE CONNECT ON DATABASE {database.name} FROM public")
    try:
        error = await _refusal(Connector(database.server.dsn(database.name, user="stranger")))
        assert isinstance(error, PermanentError)
        assert error.reason is Reason.PRIVILEGE_MISSING
    finally:
        await admin.execute("DROP ROLE stranger")


async def test_a_dsn_that_makes_no_sense_is_permanent() -> None:
    connector = Connector("mysql://ann:hunter2@db/app")
    error = await _refusal(connector)
    assert isinstance(error, PermanentError)
    _assert_no_password(connector, error)


async def test_a_connection_that_is_cut_is_worth_another_try(database: Database) -> None:
    admin = await database.connect()
    for _ in range(20):  # how far the server's farewell has come makes a difference to the driver
        async with Connector(database.dsn).connection("victim") as connection:
            await admin.execute("SELECT pg_terminate_backend($1)", connection.get_server_pid())
            while not connection.is_closed():  # one query may still get through
                with suppress(TransientError), translated("reading"):
                    await connection.fetchval("SELECT 1")
            with pytest.raises(TransientError) as raised, translated("reading"):
                await connection.fetchval("SELECT 1")
            assert raised.value.reason is Reason.DATABASE_CONNECTION_LOST


async def test_a_silent_line_is_watched_by_the_kernel(database: Database) -> None:
    async with _tcp_relay(database.dsn) as port:
        connector = Connector(f"postgresql://postgres@127.0.0.1:{port}/{database.name}?sslmode=disable")
        async with connector.connection("listener") as connection:
            line = attrgetter("_transport")(connection).get_extra_info("socket")
            assert line.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert line.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30


async def _process_of_a_session(connector: Connector) -> int:
    async with connector.export_session() as connection:
        return connection.get_server_pid()


@pytest.mark.every_postgres
async def test_a_session_that_is_kept_is_as_new(database: Database) -> None:
    admin = await database.connect()
    await admin.execute("CREATE TABLE public.things (id int); GRANT SELECT ON public.things TO PUBLIC")
    connector = Connector(database.dsn, lock_timeout_s=1.5)
    async with connector.keeping_sessions(2):
        async with connector.export_session() as connection:
            process = connection.get_server_pid()
            await connection.execute(
                "SET TimeZone = 'Asia/Tokyo'; SET client_min_messages = notice; SET row_security = on;"
                "SET my.own = 'x'; CREATE TEMP TABLE things (id text); PREPARE asked AS SELECT 1;"
                "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY; SET SESSION AUTHORIZATION pg_monitor"
            )
            await connection.execute("LISTEN heard; SELECT pg_advisory_lock(7); BEGIN; SELECT id FROM public.things")
        assert await admin.fetchval("SELECT count(*) FROM pg_locks WHERE pid = $1", process) == 0
        async with connector.export_session() as connection:
            assert connection.get_server_pid() == process
            assert {name: await connection.fetchval("SELECT current_setting($1)", name) for name in _PINNED} == _PINNED
            assert await connection.fetchval("SELECT current_setting('my.own', true)") in {"", None}
            assert await connection.fetchval("SELECT current_setting('transaction_read_only')") == "off"
            assert await connection.fetchval("SELECT to_regclass('pg_temp.things')") is None
            assert await connection.fetchval("SELECT current_user") == "postgres"
            assert await connection.fetch("SELECT name FROM pg_prepared_statements WHERE name = 'asked'") == []
            assert await connection.fetch("SELECT pg_listening_channels()") == []
    await _gone(admin, process)


async def _gone(admin: "Connection", process: int) -> None:
    query = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1"
    while await admin.fetchval(query, process):  # noqa: ASYNC110 - the server does not say when
        await asyncio.sleep(0)


async def test_no_more_sessions_are_kept_than_wanted_and_none_after_an_error(database: Database) -> None:
    connector = Connector(database.dsn)
    async with connector.keeping_sessions(1):
        async with connector.export_session() as one, connector.export_session() as other:
            first, second = one.get_server_pid(), other.get_server_pid()
        assert first != second
        assert await _process_of_a_session(connector) == second, "the first to be given back"
        admin = await database.connect()
        await _gone(admin, first)
        with pytest.raises(ZeroDivisionError):
            async with connector.export_session() as connection:
                assert connection.get_server_pid() == second
                raise ZeroDivisionError
        await _gone(admin, second)
        assert await _process_of_a_session(connector) not in {first, second}


async def test_a_session_that_was_ended_or_is_of_earlier_settings_is_not_used_again(database: Database) -> None:
    admin = await database.connect()
    connector = Connector(database.dsn)
    async with connector.keeping_sessions(1):
        ended = await _process_of_a_session(connector)
        await admin.execute("SELECT pg_terminate_backend($1)", ended)
        await _gone(admin, ended)
        kept = await _process_of_a_session(connector)
        assert kept != ended
        async with connector.export_session() as connection:
            assert connection.get_server_pid() == kept
            await connector.use(DatabaseSettings(dsn=database.dsn, lock_timeout_s=9))
        await _gone(admin, kept)
        async with connector.export_session() as connection:
            assert await connection.fetchval("SHOW lock_timeout") == "9s"
            renewed = connection.get_server_pid()
        await connector.expire()
        await _gone(admin, renewed)


async def test_a_session_without_use_is_closed(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exportd.database.connector._IDLE_S", 0.0)
    connector, ended = Connector(database.dsn), asyncio.Event()
    async with connector.keeping_sessions(1):
        async with connector.export_session() as connection:
            connection.add_termination_listener(lambda _: ended.set())
        await ended.wait()
        assert connection.is_closed()


async def _refusal(connector: Connector) -> ExportdError:
    """What all ways to connect raise; they raise the same."""
    with pytest.raises(ExportdError) as raised:
        async with connector.connection("test"):
            pass
    with pytest.raises(type(raised.value)):
        async with connector.pool(1):
            pass
    return raised.value


def _assert_no_password(connector: Connector, error: ExportdError) -> None:
    assert "hunter2" not in error.sentence + repr(connector)


@asynccontextmanager
async def _tcp_relay(dsn: str) -> AsyncIterator[int]:
    """Makes the server's Unix socket reachable by TCP on the port that it yields."""
    options = parse_qs(urlsplit(dsn).query)
    path = f"{options['host'][0]}/.s.PGSQL.{options['port'][0]}"

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back_reader, back_writer = await asyncio.open_unix_connection(path)
        await asyncio.gather(pump(reader, back_writer), pump(back_reader, writer))

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as relay:
        yield relay.sockets[0].getsockname()[1]
