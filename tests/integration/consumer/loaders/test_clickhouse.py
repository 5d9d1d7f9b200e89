"""The scripts for ClickHouse, run one after the other in an embedded server: the tables hold what was delivered."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from exportd.consumer.loaders.kit import statements
from exportd.model.schedule import DialectName, ExportFormat
from exportd.settings.destination_schema import Scheme
from exportd.stores.location import Location
from tests.fixtures.deliveries import Change, Lake, Record, Table
from tests.integration.consumer.loaders import clickhouse_process

TEXTS = Table("TEXTS", (("id", "string", None), ("text", "string", None), ("second text", "string", None)))
VALUES = Table(
    "VALUES `x`",
    (
        ("region", "string", None),
        ("number", "integer", None),
        ("it's", "string", None),
        ("price", "float", None),
        ("in stock", "boolean", None),
        ("data", "json", None),
        ("at", "string", "date-time"),
        ("day", "string", "date"),
    ),
    key_fields=2,
)
AWKWARD = (
    " x ", "   ", "\t", "\n", "", None, "NULL", "null", "\\N", "\\", "\\.", "ᴺᵁᴸᴸ", "a\r\nb", "'", '"', '""', ",",
    "'quoted'", "  'quoted' ", '"', "🧊", "0", "true", "nan", "inf", "[1]", "{}", "(1)", "x;y", "-- x", "\x01",
)  # fmt: skip
FIRST: list[Record] = [
    ("", "1", "a", "1.10", "true", '{"a": [1.50, null]}', "2026-01-01T00:00:00.5+00:00", "2026-01-31"),
    ("north", "1", "", "NaN", "false", "[]", "infinity", "-infinity"),
    ("north", "2", None, None, None, None, "0044-03-15T12:00:00+00:00 BC", "0044-03-15 BC"),
    ("it's", "12345678901234567890123456789012345", "NULL", "12345678901234567890.1234567890123456789", *[None] * 4),
]
SECOND: list[Record] = [("north", "1", " changed ", "2", *[None] * 4), ("", "2", *[None] * 6)]


@pytest.mark.parametrize("file_format", list(ExportFormat))
async def test_clickhouse_holds_what_was_delivered(tmp_path: Path, file_format: ExportFormat) -> None:
    lake = Lake(tmp_path / "lake's", prefix="it's/a prefix", file_format=file_format, part_rows=2)
    lake.directory.mkdir()
    texts: list[Record] = [(f"{number:02}", text, "x") for number, text in enumerate(AWKWARD)]
    # Also as the last field of a line, and alone between two empty ones.
    texts += [(f"{number + 100}", None, text) for number, text in enumerate(AWKWARD)]
    lake.run(Change(TEXTS, texts, full=True), Change(VALUES, FIRST, full=True))
    lake.run(Change(TEXTS, deleted=texts[:3]), Change(VALUES, SECOND, deleted=[FIRST[0]]))
    lake.run(Change(TEXTS, texts[:1]), Change(VALUES, deleted=[FIRST[2]]))
    scripts: list[str] = []
    for run in lake.runs:
        script = statements(run, DialectName.CLICKHOUSE, Location(Scheme.DIRECTORY, str(lake.directory)))
        for _ in range(2):  # again changes nothing
            scripts.append(script)
            for table in (TEXTS, VALUES):
                columns = ", ".join(f"toString({backquoted(field[0])})" for field in table.fields)
                scripts.append(f"SELECT {columns} FROM {backquoted(table.code)}")
    answers = await run_scripts(scripts, tmp_path)
    for number, held in enumerate(lake.held):
        for again in range(2):
            at = (number * 2 + again) * 3
            for table, answer in ((TEXTS, answers[at + 1]), (VALUES, answers[at + 2])):
                rows = [tuple(row) for row in answer]
                assert {table.key(row): row for row in rows} == held[table.code]
                assert len(rows) == len(held[table.code])


def backquoted(name: str) -> str:
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


async def run_scripts(scripts: list[str], folder: Path) -> list[list[list[str | None]]]:
    """The rows of each script's last statement."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(clickhouse_process.__file__), str(folder / "server"), str(folder),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, problems = await process.communicate(json.dumps(scripts).encode())
    assert process.returncode == 0, problems.decode()
    answers: list[list[list[str | None]]] = json.loads(said)
    return answers
