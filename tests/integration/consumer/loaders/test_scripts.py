"""The scripts for DuckDB and PostgreSQL, run one after the other: the tables are what a consumer should hold."""

import asyncio
import os
from pathlib import Path

import duckdb
import pytest

from exportd.cli.delivered import print_statements
from exportd.consumer.loaders.kit import statements
from exportd.manifest.document import Manifest
from exportd.model.errors import PermanentError, SettingsError
from exportd.model.schedule import DialectName, ExportFormat
from exportd.settings.destination_schema import Scheme
from exportd.stores.location import Location
from tests.fixtures.deliveries import Change, Held, Lake, Record, Table
from tests.fixtures.postgres import Database

AWKWARD = "a \"quoted\", 'text'\r\n\\N \\. NULL 🧊"
WARES = Table(
    'WARES "x"',
    (
        ("region", "string", None),
        ("number", "integer", None),
        ("Name's", "string", None),
        ("price", "float", None),
        ("in stock", "boolean", None),
        ("data", "json", None),
        ("at", "string", "date-time"),
        ("day", "string", "date"),
        ("code", "string", "uuid"),
    ),
    key_fields=2,
)
NOTES = Table("NOTES", (("id", "string", None), ("text", "string", None)))
WIDER_NOTES = Table("NOTES", (("id", "string", None), ("author", "string", None), ("text", "string", None)))
CODE = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"
FIRST: list[Record] = [
    ("", "1", AWKWARD, "1.10", "true", '{"a": [1.50, null]}', "2026-01-01T00:00:00.5+00:00", "2026-01-31", CODE),
    ("north", "1", "", "NaN", "false", '"text"', "infinity", "-infinity", None),
    ("north", "2", None, None, None, None, "0044-03-15T12:00:00+00:00 BC", "0044-03-15 BC", None),
    (
        "it's",
        "12345678901234567890123456789012345",
        "NULL",
        "12345678901234567890.12345678901234567890",
        None,
        "[]",
        None,
        None,
        None,
    ),
]
SECOND: list[Record] = [("north", "1", "changed", "2", None, None, None, None, None), ("", "2", *[None] * 7)]
NULL = "\x1e"


EMPTY_FILES = pytest.mark.parametrize("empty_files", [True, False], ids=["empty files", "no empty files"])


def lake_of(directory: Path, file_format: ExportFormat, *, empty_files: bool = True) -> Lake:
    directory.mkdir(exist_ok=True)
    lake = Lake(directory, prefix="it's/a prefix", file_format=file_format, part_rows=2, empty_files=empty_files)
    lake.run(Change(WARES, FIRST, full=True), Change(NOTES, [("1", "a"), ("2", None)], full=True))
    lake.run(Change(WARES, SECOND, deleted=[FIRST[0]]), Change(NOTES))
    lake.run(Change(WARES, SECOND, deleted=[FIRST[0], FIRST[2]]), Change(WIDER_NOTES, [("3", "", "c")], full=True))
    lake.run(Change(WARES), Change(WIDER_NOTES, deleted=[("3", None, None)]))
    return lake


def held_by(rows: dict[str, list[Record]]) -> Held:
    return {table.code: {table.key(row): row for row in rows[table.code]} for table in (WARES, NOTES)}


@EMPTY_FILES
@pytest.mark.parametrize("file_format", list(ExportFormat))
async def test_duckdb_holds_what_was_delivered(
    tmp_path: Path, file_format: ExportFormat, empty_files: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    lake = lake_of(tmp_path / "lake's", file_format, empty_files=empty_files)
    with duckdb.connect() as connection:
        for run, held in zip(lake.runs, lake.held, strict=True):
            await print_statements(str(lake.directory), str(run.job_id), DialectName.DUCKDB)
            script = capsys.readouterr().out
            for _ in range(2):  # again changes nothing
                connection.execute(script)
                rows = {
                    code: connection.execute(f'SELECT COLUMNS(*)::VARCHAR FROM "{name}"').fetchall()
                    for code, name in ((WARES.code, 'WARES ""x""'), (NOTES.code, "NOTES"))
                }
                assert held_by(rows) == (held if file_format is ExportFormat.CSV else rounded(held))
        ((typed,),) = connection.execute('SELECT typeof(number) FROM "WARES ""x""_typed" LIMIT 1').fetchall()
        assert typed == "HUGEINT"


async def test_an_export_with_a_start_date_is_merged_by_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lake = Lake(tmp_path / "lake")
    whole = lake.run(Change(NOTES, [("1", "a"), ("2", "b")], full=True))
    dated = lake.dated_export(Change(NOTES, [("2", "changed"), ("3", "new")]))
    scripts = {}
    for run in (whole, dated):
        await print_statements(str(lake.directory), str(run.job_id), DialectName.DUCKDB)
        scripts[run.job_id] = capsys.readouterr().out

    def loaded(*runs: Manifest) -> list[tuple[str, str]]:
        with duckdb.connect() as connection:
            for run in runs:
                connection.execute(scripts[run.job_id])
            return connection.execute("SELECT id, text FROM NOTES ORDER BY id").fetchall()

    assert loaded(whole, dated, dated) == [("1", "a"), ("2", "changed"), ("3", "new")]
    assert loaded(dated) == [("2", "changed"), ("3", "new")], "alone, it makes its tables"


def rounded(held: Held) -> Held:
    """What DuckDB's own JSON reader makes of long numbers and of JSON, as the script says."""
    inexact = {
        "12345678901234567890.12345678901234567890": "1.2345678901234567e+19",
        "1.10": "1.1",
        '{"a": [1.50, null]}': '{"a":[1.5,null]}',
        '"text"': "text",
    }
    spelled = {
        code: [tuple(inexact.get(cell or "", cell) for cell in record) for record in records.values()]
        for code, records in held.items()
    }
    return held_by(spelled)


@pytest.mark.every_postgres
@pytest.mark.parametrize("file_format", list(ExportFormat))
async def test_postgresql_holds_what_was_delivered(
    empty_database: Database, tmp_path: Path, file_format: ExportFormat, capsys: pytest.CaptureFixture[str]
) -> None:
    lake = lake_of(tmp_path / "lake's", file_format)
    connection = await empty_database.connect()
    await connection.execute("SET timezone = 'UTC'; SET datestyle = 'ISO, YMD'")
    for run, held in zip(lake.runs, lake.held, strict=True):
        # By its path, once as a manifest, once as a place.
        place, job = (
            (str(lake.manifest_path(run)), None) if run is lake.runs[1] else (str(lake.directory), str(run.job_id))
        )
        await print_statements(place, job, DialectName.POSTGRESQL)
        script = tmp_path / "load.sql"
        script.write_text(capsys.readouterr().out, encoding="utf-8")
        for _ in range(2):
            await psql(empty_database, script)
            # In each column's own type: equal values are equal, however they are spelled.
            for table, records in ((WARES, held[WARES.code]), (NOTES, held[NOTES.code])):
                name = '"' + table.code.replace('"', '""') + '"'
                columns = await connection.fetch(
                    "SELECT attname, format_type(atttypid, atttypmod) AS type FROM pg_attribute"
                    " WHERE attrelid = $1::text::regclass AND attnum > 0 ORDER BY attnum",
                    name,
                )
                values = ", ".join(
                    f"(${number}::text::{column['type']})::text" for number, column in enumerate(columns, 1)
                )
                expected = [
                    tuple(await connection.fetchrow(f"SELECT {values}", *record) or ()) for record in records.values()
                ]
                stored = await connection.fetch(
                    f"SELECT {', '.join(f't.{quoted(column[0])}::text' for column in columns)} FROM {name} AS t"
                )
                assert sorted(map(str, map(tuple, stored))) == sorted(map(str, expected))
    assert await connection.fetchval("SELECT count(*) FROM pg_class WHERE relname ~ 'staging|lines'") == 0


async def test_a_script_that_fails_changes_nothing(empty_database: Database, tmp_path: Path) -> None:
    lake = lake_of(tmp_path, ExportFormat.CSV)
    first, second = (
        statements(run, DialectName.POSTGRESQL, Location(Scheme.DIRECTORY, str(tmp_path))) for run in lake.runs[:2]
    )
    script = tmp_path / "load.sql"
    script.write_text(first)
    await psql(empty_database, script)
    lake.path(lake.runs[1], WARES.code, 2).write_bytes(b"no gzip")
    script.write_text(second)
    with pytest.raises(AssertionError, match="gzip"):
        await psql(empty_database, script)
    connection = await empty_database.connect()
    assert await connection.fetchval('SELECT count(*) FROM "WARES ""x"""') == len(FIRST)


def quoted(name: str) -> str:
    return '"' + name + '"'


async def psql(database: Database, script: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        database.server.binaries / "psql", "-X", "-q", "-f", script, database.dsn,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "PGCLIENTENCODING": "UTF8"},
    )  # fmt: skip
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()


async def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    lake = lake_of(tmp_path, ExportFormat.CSV)
    with pytest.raises(SettingsError, match="say with --job"):
        await print_statements(str(tmp_path), None, DialectName.DUCKDB)
    with pytest.raises(PermanentError, match="it holds those of 4 other jobs"):
        await print_statements(str(tmp_path), "00000000-0000-0000-0000-000000000000", DialectName.DUCKDB)
    (tmp_path / "notes.json").write_text("{}")
    with pytest.raises(PermanentError, match="cannot be read"):
        await print_statements(str(tmp_path / "notes.json"), None, DialectName.DUCKDB)
    assert lake.runs
