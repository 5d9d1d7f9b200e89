"""What COPY delivers: whole rows, each once, or an error."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import replace

import anyio
import pytest

from exportd.extraction.copier import Copier, CopyTask, ImagesUnreadableError
from exportd.extraction.snapshot_reader import OpenSnapshot, Reader
from exportd.model.entity import Field
from exportd.model.errors import ExportdError, FullReason, PermanentError, Reason, TransientError
from exportd.model.schedule import ExportFormat
from exportd.settings.schema import LimitSettings
from tests.integration.capture.source_database import ACME, CapturedTable, SourceDatabase, a_job


async def chunks_of(things: CapturedTable, file_format: ExportFormat, copier: Copier | None = None) -> list[bytes]:
    """The chunks of a full run, as the sink gets them; the row counts that COPY reports must match."""
    chunks: list[bytes] = []
    reported: list[int] = []

    async def sink(chunk: bytes) -> None:
        chunks.append(chunk)

    async def done(_: CopyTask, rows: int) -> None:
        reported.append(rows)

    source = things.source
    job = a_job([things.entity.code], file_format=file_format)
    async with source.opener.open(Reader(job, [things.entity])) as snapshot:
        await (copier or source.copier).copy(snapshot, file_format, lambda _: sink, done)
    assert sum(reported) == sum(len(rows_of(chunk, file_format)) for chunk in chunks)
    return chunks


def rows_of(chunk: bytes, file_format: ExportFormat) -> Sequence[Sequence[object]]:
    """A chunk parsed on its own; an error when it is not whole rows."""
    text = chunk.decode()
    assert text.endswith("\n")
    if file_format is ExportFormat.JSONL:
        return [list(json.loads(line).values()) for line in text[:-1].split("\n")]
    csv.field_size_limit(10_000_000)
    rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    assert len({len(row) for row in rows}) == 1
    return rows


@pytest.mark.parametrize("file_format", ExportFormat)
async def test_every_chunk_is_whole_rows(source: SourceDatabase, file_format: ExportFormat) -> None:
    """asyncpg promises it nowhere. Narrow rows and rows of 3 MB, with all that could be taken for a row's end."""
    things = await source.capture("things", "id int PRIMARY KEY, note text, meta json")
    await source.app.execute(r"""
        INSERT INTO things SELECT i, NULL, NULL FROM generate_series(1, 20000) AS i;
        INSERT INTO things SELECT 20000 + i, repeat(E'"a",b\r\nc\n\x01\x02\t\\.\n' || i, i % 40),
               ('{' || E'\n\r "k" : "v\\n",\n' || '"n":' || i || '}')::json FROM generate_series(1, 8000) AS i;
        INSERT INTO things SELECT 30000 + i, repeat(E'wide "x"\r\n', i * 50000) FROM generate_series(1, 6) AS i""")
    chunks = await chunks_of(things, file_format)
    assert len(chunks) > 20
    rows = [row for chunk in chunks for row in rows_of(chunk, file_format)]
    assert sorted(int(str(row[0])) for row in rows) == [*range(1, 28001), *range(30001, 30007)]
    assert max((str(row[1]) for row in rows), key=len) == 'wide "x"\r\n' * 300_000


async def test_json_text_with_line_breaks_stays_in_its_line(source: SourceDatabase) -> None:
    """row_to_json copies json raw, wherever it hides."""
    await source.app.execute("CREATE TYPE pair AS (a int, j json); CREATE DOMAIN doc AS json")
    things = await source.capture("things", "id int PRIMARY KEY, j json, js json[], p pair, ps pair[], d doc, ds doc[]")
    await source.app.execute(r"""
        INSERT INTO things SELECT 1, j, ARRAY[j], ROW(1, j)::pair, ARRAY[ROW(1, j)::pair], j, ARRAY[j::doc]
        FROM (SELECT json E'{"a":\r\n[1,\n"x\\ny"]}' AS j) AS x""")
    things = with_expression(things, "json_build_object('j', j)")
    (line,) = b"".join(await chunks_of(things, ExportFormat.JSONL)).decode().splitlines()
    value = {"a": [1, "x\ny"]}
    record = json.loads(line)
    assert [record[name] for name in ("j", "js", "d", "ds", "computed")] == [
        value,
        [value],
        value,
        [value],
        {"j": value},
    ]
    assert [record["p"], record["ps"]] == [{"a": 1, "j": value}, [{"a": 1, "j": value}]]


@pytest.mark.parametrize("streams", [1, 2, 5])
async def test_streams_hold_every_row_once_while_the_table_grows(source: SourceDatabase, streams: int) -> None:
    things = await source.capture("things", "id int PRIMARY KEY, note text", tenant=None)
    await source.app.execute("INSERT INTO things SELECT i, repeat('x', 500) FROM generate_series(1, 3000) AS i")
    copier = Copier(source.connector, LimitSettings(streams=streams, stream_threshold=1))
    writer = await source.session()
    seen: list[int] = []

    async def sink(chunk: bytes) -> None:
        seen.extend(int(line.split(b",", 1)[0]) for line in chunk.splitlines())

    async def done(_: CopyTask, __: int) -> None:
        await writer.execute("UPDATE things SET note = 'moved' WHERE id % 3 = 0")

    job = a_job([things.entity.code], file_format=ExportFormat.CSV)
    async with source.opener.open(Reader(job, [things.entity])) as snapshot:
        await writer.execute("INSERT INTO things SELECT 10000 + i, repeat('y', 500) FROM generate_series(1, 3000) AS i")
        await writer.execute("UPDATE things SET note = repeat('z', 600); DELETE FROM things WHERE id % 5 = 0")
        await copier.copy(snapshot, ExportFormat.CSV, lambda _: sink, done)
    assert sorted(seen) == list(range(1, 3001))


async def test_streams_share_one_snapshot_over_partitions_of_different_sizes(source: SourceDatabase) -> None:
    await source.app.execute("""
        CREATE TABLE things (id int PRIMARY KEY, note text) PARTITION BY RANGE (id);
        CREATE TABLE empty PARTITION OF things FOR VALUES FROM (0) TO (1);
        CREATE TABLE small PARTITION OF things FOR VALUES FROM (1) TO (100);
        CREATE TABLE large PARTITION OF things FOR VALUES FROM (100) TO (100000);
        INSERT INTO things SELECT i, repeat('x', 300) FROM generate_series(1, 5000) AS i""")
    things = await source.capture("things")
    copier = Copier(source.connector, LimitSettings(streams=3, stream_threshold=1))
    chunks = await chunks_of(things, ExportFormat.JSONL, copier)
    ids = [json.loads(line)["id"] for chunk in chunks for line in chunk.splitlines()]
    assert sorted(ids) == list(range(1, 5001))


async def test_several_connections_are_opened_only_when_they_are_worth_it(source: SourceDatabase) -> None:
    things = await source.capture("things", "id int PRIMARY KEY, note text")
    await source.app.execute("ALTER TABLE things ALTER note SET STORAGE PLAIN")
    await source.app.execute("INSERT INTO things SELECT i, repeat('x', 5000) FROM generate_series(1, 4500) AS i")
    assert await connections_used(things, stream_threshold_bytes=1) == 3
    assert await connections_used(things, stream_threshold_bytes=10**12) == 1
    await source.app.execute("TRUNCATE things")
    assert await connections_used(things, stream_threshold_bytes=1) == 1


async def connections_used(things: CapturedTable, *, stream_threshold_bytes: int) -> int:
    source = things.source
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE '% export' AND datname = current_database()"
    )
    counts: list[int] = []

    async def sink(_: bytes) -> None:
        pass

    async def done(_: CopyTask, __: int) -> None:
        async with one_at_a_time:
            counts.append(await source.app.fetchval(query))

    one_at_a_time = anyio.Lock()
    copier = Copier(source.connector, LimitSettings(streams=3, stream_threshold=stream_threshold_bytes))
    async with source.opener.open(Reader(a_job([things.entity.code]), [things.entity])) as snapshot:
        await copier.copy(snapshot, ExportFormat.JSONL, lambda _: sink, done)
    return max(counts)


# --- errors ---------------------------------------------------------------------------------------------------------


async def failure_of(things: CapturedTable, **options: object) -> ExportdError | ImagesUnreadableError:
    """The one error of a run."""
    with pytest.raises((ExportdError, ExceptionGroup)) as caught:
        await things.run(ACME, **options)  # type: ignore[arg-type]
    error: BaseException = caught.value
    while isinstance(error, BaseExceptionGroup):
        (error,) = error.exceptions
    assert isinstance(error, ExportdError | ImagesUnreadableError)
    return error


async def test_a_message_of_the_server_during_copy_fails_the_run(source: SourceDatabase) -> None:
    """asyncpg would silently drop rows. INFO is sent whatever client_min_messages says."""
    await source.app.execute("""
        CREATE FUNCTION chatty(id int) RETURNS text LANGUAGE plpgsql AS
            $$ BEGIN IF id = 2500 THEN RAISE INFO 'look at %', id; END IF; RETURN 'x'; END $$;
        CREATE FUNCTION quiet(id int) RETURNS text LANGUAGE plpgsql AS
            $$ BEGIN RAISE WARNING 'look at %', id; RETURN 'x'; END $$""")
    things = await source.capture("things", "id int PRIMARY KEY")
    await source.app.execute("INSERT INTO things SELECT generate_series(1, 5000)")
    error = await failure_of(with_expression(things, f"{source.schema}.chatty(id)"))
    assert isinstance(error, TransientError)
    assert error.reason is Reason.NOTICE_DURING_COPY
    assert "look at 2500" in error.sentence
    _, content = await with_expression(things, f"{source.schema}.quiet(id)").run()
    assert content.count(b"\n") == 5000


def with_expression(things: CapturedTable, expression: str) -> CapturedTable:
    fields = (*things.entity.fields, Field("computed", expression=expression))
    return things.with_entity(replace(things.entity, fields=fields))


async def test_an_alter_that_waits_does_not_hang_the_read(source: SourceDatabase) -> None:
    """It waits for our lock, and our second connection would wait for it: for ever, if it were not bounded."""
    things = await source.capture("things", "id int PRIMARY KEY, note text")
    await source.app.execute("INSERT INTO things SELECT i, repeat('x', 500) FROM generate_series(1, 40000) AS i")
    copier = Copier(source.connector, LimitSettings(streams=2, stream_threshold=1))
    deployment = await source.session()
    job = a_job([things.entity.code])

    async def sink(_: bytes) -> None:
        pass

    async def done(_: CopyTask, __: int) -> None:
        pass

    with anyio.fail_after(20):
        async with (
            anyio.create_task_group() as tasks,
            source.opener.open(Reader(job, [things.entity])) as snapshot,
        ):
            tasks.start_soon(deployment.execute, "ALTER TABLE things ADD added int")
            await until_waiting(source, "ALTER TABLE things")
            with pytest.RaisesGroup(
                pytest.RaisesExc(TransientError, check=lambda error: error.reason is Reason.LOCK_NOT_AVAILABLE)
            ):
                await copier.copy(snapshot, ExportFormat.JSONL, lambda _: sink, done)
    assert await source.app.fetchval("SELECT count(added) FROM things") == 0, "the ALTER went through"


async def until_waiting(source: SourceDatabase, statement: str) -> None:
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE $1"
    while not await source.app.fetchval(query, statement + "%"):  # noqa: ASYNC110 - the server does not notify
        await anyio.sleep(0.005)


@pytest.mark.every_postgres
async def test_images_that_cannot_be_read_back_are_told_apart_from_other_errors(source: SourceDatabase) -> None:
    await source.app.execute(
        "CREATE TYPE mood AS ENUM ('good', 'bad'); CREATE DOMAIN positive AS int CHECK (VALUE > 0)"
    )
    things = await source.capture("things", "id int PRIMARY KEY, mood mood, n positive, spare mood", fields=("id", "n"))
    await source.app.execute("INSERT INTO things VALUES (1, 'good', 1), (2, 'good', 5), (3, 'bad', 7)")
    await things.export()
    await source.app.execute("DELETE FROM things WHERE id = 1; ALTER TYPE mood RENAME VALUE 'good' TO 'great'")
    error = await failure_of(things)
    assert isinstance(error, ImagesUnreadableError)
    assert (error.entity, error.reason) == (things.entity.code, FullReason.IMAGES_UNREADABLE)
    assert (await things.export(forced=FullReason.IMAGES_UNREADABLE)).keys == ([(2,), (3,)], [])
    await source.app.execute("""
        DELETE FROM things WHERE id = 2;
        ALTER DOMAIN positive DROP CONSTRAINT positive_check; ALTER DOMAIN positive ADD CHECK (VALUE > 6)""")
    assert isinstance(await failure_of(things), ImagesUnreadableError)


async def test_row_level_security_is_an_error_and_never_missing_rows(source: SourceDatabase) -> None:
    things = await source.capture("things", "id int PRIMARY KEY")
    role = f"role_of_{source.schema}"
    await source.app.execute(f"""
        CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA {source.schema}, exportd TO {role};
        GRANT SELECT ON ALL TABLES IN SCHEMA exportd TO {role}; GRANT SELECT ON things TO {role};
        INSERT INTO things VALUES (1); ALTER TABLE things ENABLE ROW LEVEL SECURITY""")
    connector = replace(source.connector, dsn=source.dsn.replace("postgres@", f"{role}@", 1))
    source.opener._connector = connector
    source.copier._connector = connector
    error = await failure_of(things)
    assert isinstance(error, PermanentError)
    assert error.reason is Reason.PRIVILEGE_MISSING
    assert "row-level security" in error.sentence
    await source.app.execute(f"ALTER TABLE things DISABLE ROW LEVEL SECURITY; REVOKE SELECT ON things FROM {role}")
    error = await failure_of(things)
    assert isinstance(error, PermanentError)
    assert (error.reason, "things" in error.sentence) == (Reason.PRIVILEGE_MISSING, True)


async def test_what_is_missing_is_named(source: SourceDatabase) -> None:
    things = await source.capture("things", "id int PRIMARY KEY, note text")
    code = things.entity.code.lower()

    async def reason() -> tuple[Reason, str]:
        error = await failure_of(things)
        assert isinstance(error, ExportdError)
        return error.reason, error.sentence

    await source.app.execute("ALTER TABLE things DROP note")
    assert (await reason())[0] is Reason.CATALOG_MISMATCH
    await source.app.execute(f"DROP TRIGGER exportd_{code}_insert ON things")
    assert (await reason())[0] is Reason.CAPTURE_DAMAGED
    await source.installer.uninstall([f"log_{code}"])
    found, sentence = await reason()
    assert (found, "exportd capture install" in sentence) == (Reason.CAPTURE_MISSING, True)
    await source.app.execute("DROP TABLE things")
    found, sentence = await reason()
    assert (found, "things does not exist" in sentence) == (Reason.TABLE_MISSING, True)


async def test_an_expression_that_does_not_work_is_named(source: SourceDatabase) -> None:
    things = await source.capture("things", "id int PRIMARY KEY")
    error = await failure_of(with_expression(things, "nothing + 1"))
    assert isinstance(error, PermanentError)
    assert error.reason is Reason.CATALOG_MISMATCH
    assert '"nothing" does not exist' in error.sentence


async def test_a_lost_connection_is_worth_another_attempt(source: SourceDatabase) -> None:
    things = await source.capture("things", "id int PRIMARY KEY")

    async def cut(snapshot: OpenSnapshot) -> None:
        await source.app.fetch("SELECT pg_terminate_backend($1)", snapshot.connection.get_server_pid())

    error = await failure_of(things, while_open=cut)
    assert isinstance(error, TransientError)
    assert error.reason is Reason.DATABASE_CONNECTION_LOST


async def test_a_table_locked_for_long_is_tried_again_and_then_given_back(source: SourceDatabase) -> None:
    things = await source.capture("things", "id int PRIMARY KEY")
    pauses: list[float] = []
    source.opener._connector = replace(source.connector, lock_timeout_s=0.05)
    session = await source.session()
    transaction = session.transaction()
    await transaction.start()
    await session.execute("LOCK TABLE things")

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            await transaction.rollback()

    source.opener._pause = pause
    assert (await things.export()).reason is FullReason.FIRST_RUN
    assert len(pauses) == 2


async def test_a_truncate_that_was_waited_for_is_seen_whole(source: SourceDatabase) -> None:
    """A snapshot taken before the lock would find the old rows gone and not see the new ones."""
    things = await source.capture("things", "id int PRIMARY KEY")
    await source.app.execute("INSERT INTO things VALUES (1), (2)")
    await things.export()
    session = await source.session()
    async with anyio.create_task_group() as tasks, session.transaction():
        await session.execute("TRUNCATE things; INSERT INTO things VALUES (2), (3)")
        found: list[object] = []

        async def run() -> None:
            found.append((await things.export()).keys)

        tasks.start_soon(run)
        await until_waiting(source, "LOCK TABLE")
    assert found == [([(2,), (3,)], [(1,)])]
