"""What is rebuilt as of each job is what a consumer held after it."""

import gzip
import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exportd.cli.delivered import replay_place
from exportd.manifest.document import render
from exportd.model.errors import PermanentError, SettingsError
from exportd.model.schedule import ExportFormat
from tests.fixtures.deliveries import Change, Held, Lake, Record, Table

ACCOUNTS = Table("ACCOUNTS", (("id", "integer", None), ("name", "string", None), ("data", "json", None)))
ORDERS = Table("ORDERS", (("region", "string", None), ("number", "string", None), ("paid", "boolean", None)), 2)

_TEXT = st.one_of(
    st.none(),
    st.sampled_from(["", "NULL", "\\N", '"', '""', ",", "\r\n", " x ", "naïve 🧊", "{}", "'", "\\", 'a\\"b', "true"]),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6),
)
_JSON = st.sampled_from([None, '{"a": [1.50, {"b": null}]}', "[]", '"text ,}]"', "1e999", "0.10", '{"}": "\\""}'])
_ACCOUNT = st.tuples(st.sampled_from("123456"), _TEXT, _JSON)
_ORDER = st.tuples(
    st.sampled_from(["", "north"]), st.sampled_from(["1", "2", 'x"y']), st.sampled_from(["true", "false", None])
)


def unique(records: list[Record], table: Table) -> list[Record]:
    """A run holds a key once."""
    return list({table.key(record): record for record in records}.values())


@st.composite
def changes(draw: st.DrawFn, table: Table, record: st.SearchStrategy[Record], *, first: bool) -> Change:
    records = unique(draw(st.lists(record, max_size=7)), table)
    cut = draw(st.integers(0, len(records)))
    full = first or draw(st.integers(0, 4)) == 0
    return Change(table, records[cut:], deleted=records[:cut], full=full)


def rebuilt(place: Path | str, **wanted: Any) -> Held:
    """Rebuilds as the command does, and reads the tables as texts."""
    options = {"as_of": None, "organization": None, "schedule": None, **wanted}
    with TemporaryDirectory() as folder:
        into = Path(folder) / "it's.duckdb"
        anyio.run(lambda: replay_place(str(place), into, as_json=False, **options))
        assert [path.name for path in Path(folder).iterdir()] == [into.name]
        with duckdb.connect(str(into), read_only=True) as connection:
            return tables_of(connection)


def tables_of(connection: duckdb.DuckDBPyConnection) -> Held:
    names = connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()
    held: Held = {}
    for (name,) in names:
        rows = connection.execute(f'SELECT COLUMNS(*)::VARCHAR FROM "{name}"').fetchall()
        size = ORDERS.key_fields if name == "ORDERS" else 1
        held[name] = {row[:size]: row for row in rows}
        assert len(held[name]) == len(rows)
    return held


def test_an_export_with_a_start_date_is_rebuilt_by_itself(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.run(Change(ACCOUNTS, [("1", "a", None), ("2", "b", None)], full=True))
    dated = lake.dated_export(Change(ACCOUNTS, [("2", "changed", None)]))
    assert rebuilt(tmp_path, as_of=str(dated.job_id)) == {"ACCOUNTS": {("2",): ("2", "changed", None)}}
    assert rebuilt(tmp_path) == lake.held[-1], "the schedule has no part in it"


@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), st.sampled_from(ExportFormat), st.integers(1, 4))
def test_the_tables_are_as_of_each_job(data: st.DataObject, file_format: ExportFormat, part_rows: int) -> None:
    with TemporaryDirectory() as folder:
        lake = Lake(
            Path(folder), "p", file_format=file_format, part_rows=part_rows, empty_files=data.draw(st.booleans())
        )
        for number in range(data.draw(st.integers(1, 4))):
            drawn = (
                data.draw(changes(ACCOUNTS, _ACCOUNT, first=number == 0)),
                data.draw(changes(ORDERS, _ORDER, first=number == 0)),
            )
            again = data.draw(st.integers(0, max(0, number - 1)))
            lake.run(*drawn, redelivers=again)
        for run, held in zip(lake.runs, lake.held, strict=True):
            assert rebuilt(folder, as_of=str(run.job_id)) == held
        assert rebuilt(folder) == lake.held[-1]


EXACT = Table(
    "EXACT",
    (
        ("id", "integer", None),
        ("number", "float", None),
        ("at", "string", "date-time"),
        ("day", "string", "date"),
        ("code", "string", "uuid"),
    ),
)
UUID_TEXT = "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"
EXACT_RECORDS: list[Record] = [
    ("1", "1.10", "2026-02-01T00:29:59.999999+00:00", "2026-02-01", UUID_TEXT),
    ("123456789012345678901234567890123456789012", "-0", "infinity", "infinity", None),
    ("3", "1234567890123456789.12345678901234567890123456789", "0044-03-15T12:00:00+00:00 BC", "0044-03-15 BC", None),
    ("4", None, None, None, None),
]


@pytest.mark.parametrize("file_format", list(ExportFormat))
def test_values_that_no_type_holds_are_kept_and_cast_by_the_view(tmp_path: Path, file_format: ExportFormat) -> None:
    lake = Lake(tmp_path, file_format=file_format)
    lake.run(Change(EXACT, EXACT_RECORDS, full=True))
    into = tmp_path / "t.duckdb"
    anyio.run(lambda: replay_place(str(tmp_path), into, as_of=None, organization=None, schedule=None, as_json=False))
    with duckdb.connect(str(into), read_only=True) as connection:
        assert tables_of(connection)["EXACT"] == lake.held[-1]["EXACT"]
        typed = connection.execute(
            'SELECT id, number, "at"::VARCHAR, day::VARCHAR FROM "EXACT_typed" ORDER BY 1 NULLS LAST'
        ).fetchall()
        types = connection.execute("SELECT data_type FROM duckdb_columns() WHERE table_name = 'EXACT_typed'").fetchall()
    assert typed[0] == (1, 1.1, "2026-02-01 00:29:59.999999+00", "2026-02-01")
    assert typed[1][2:] == (None, None)  # before Christ
    assert typed[-1][0] is None  # more than 38 digits
    assert [type_ for (type_,) in types] == ["HUGEINT", "DOUBLE", "TIMESTAMP WITH TIME ZONE", "DATE", "UUID"]


@pytest.mark.parametrize("file_format", list(ExportFormat))
def test_a_record_may_be_large(tmp_path: Path, file_format: ExportFormat) -> None:
    lake = Lake(tmp_path, file_format=file_format)
    lake.run(Change(ACCOUNTS, [("1", 'x"\n,' * 4_000_000, None), ("2", "", None)], full=True))
    assert rebuilt(tmp_path) == lake.held[-1]


def test_a_full_run_replaces_a_table_of_another_shape(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.run(Change(ACCOUNTS, [("1", "a", "{}")], full=True), Change(ORDERS, [("n", "1", "true")], full=True))
    wider = Table(
        "ACCOUNTS",
        (("code", "string", None), ("Name", "string", None), ("since", "string", "date"), ("of", "string", None)),
    )
    lake.run(Change(wider, [("x", None, "2026-01-01", "")], full=True))
    lake.run(Change(wider, [("y", "", None, "")], deleted=[("x", None, None, None)]), Change(ORDERS))
    for run, held in zip(lake.runs, lake.held, strict=True):
        assert rebuilt(tmp_path, as_of=str(run.job_id)) == held


def test_what_is_older_than_the_complete_runs_is_not_needed(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.run(Change(ACCOUNTS, [("1", "a", None)], full=True))
    lake.run(Change(ACCOUNTS, [("2", "b", None)], full=True))
    lake.run(Change(ACCOUNTS, [("3", "c", None)]))
    lake.manifest_path(lake.runs[0]).unlink()
    assert rebuilt(tmp_path) == lake.held[-1]
    lake.manifest_path(lake.runs[1]).unlink()
    with pytest.raises(PermanentError, match=r"the last complete run of ACCOUNTS before job .* is not here"):
        rebuilt(tmp_path)


@pytest.mark.parametrize("damage", ["missing", "altered", "manifest"])
def test_what_is_damaged_is_not_loaded(tmp_path: Path, damage: str) -> None:
    lake = Lake(tmp_path)
    lake.run(Change(ACCOUNTS, [("1", "a", None)], full=True))
    lake.run(Change(ACCOUNTS, [("2", "b", None)]))
    path = lake.path(lake.runs[1], "ACCOUNTS")
    words = "is not what was delivered"
    if damage == "missing":
        path.unlink()
        words = "There is no object"
    elif damage == "altered":
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    else:
        manifest = lake.manifest_path(lake.runs[1])
        manifest.write_text(json.dumps(json.loads(manifest.read_bytes()), indent=1))
        words = "it was edited"
    with pytest.raises(PermanentError, match=words):
        rebuilt(tmp_path)
    # What lies before is still good.
    assert rebuilt(tmp_path, as_of=str(lake.runs[0].job_id)) == lake.held[0]


def test_one_of_several_has_to_be_named(tmp_path: Path) -> None:
    lakes = [
        Lake(tmp_path, code="often"),
        Lake(tmp_path, code="seldom"),
        Lake(tmp_path, organization="org-2", code="often"),
    ]
    for number, lake in enumerate(lakes):
        lake.run(Change(ACCOUNTS, [(str(number), "a", None)], full=True))
    with pytest.raises(SettingsError, match="often of org-1; often of org-2; seldom of org-1"):
        rebuilt(tmp_path)
    with pytest.raises(SettingsError, match="does not hold the schedule never"):
        rebuilt(tmp_path, schedule="never")
    assert rebuilt(tmp_path, schedule="often", organization="org-2") == lakes[2].held[0]
    assert rebuilt(tmp_path, as_of=str(lakes[1].runs[0].job_id)) == lakes[1].held[0]
    with pytest.raises(SettingsError, match="is no job"):
        rebuilt(tmp_path, as_of="yesterday")


def test_without_duckdb_a_sentence_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    monkeypatch.delitem(sys.modules, "exportd.consumer.rebuilder", raising=False)
    with pytest.raises(SettingsError, match=r"pip install 'exportd\[replay\]'"):
        rebuilt(tmp_path)


def test_a_file_that_exists_stays(tmp_path: Path) -> None:
    Lake(tmp_path).run(Change(ACCOUNTS, full=True))
    into = tmp_path / "precious.duckdb"
    into.write_text("precious")
    with pytest.raises(SettingsError, match="exists already"):
        anyio.run(
            lambda: replay_place(str(tmp_path), into, as_of=None, organization=None, schedule=None, as_json=False)
        )
    assert into.read_text() == "precious"


@pytest.mark.parametrize("file_format", list(ExportFormat))
@pytest.mark.parametrize("says_so", [False, True])
def test_a_bomb_is_refused_before_it_takes_memory(tmp_path: Path, file_format: ExportFormat, says_so: bool) -> None:
    """A gigabyte of one record, in a megabyte: whether or not its manifest says so."""
    lake = Lake(tmp_path, file_format=file_format)
    run = lake.run(Change(ACCOUNTS, [("1", "a", None)], full=True))
    entity = run.entities[0]
    path = lake.path(run, "ACCOUNTS")
    content_bytes = 400_000_000
    with gzip.open(path, "wb", compresslevel=1) as bomb:
        bomb.write(b'{"id":1,"name":"')
        for _ in range(content_bytes // 1_000_000):
            bomb.write(b"x" * 1_000_000)
    part = replace(
        entity.parts[0],
        size_bytes=path.stat().st_size,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        content_bytes=content_bytes * 2 if says_so else entity.parts[0].content_bytes,
    )
    forged = replace(run, entities=(replace(entity, parts=(part,)),))
    lake.manifest_path(run).write_bytes(render(forged))
    into = tmp_path / "t.duckdb"
    code = f"""
import anyio, re, resource, sys
from pathlib import Path
from exportd.cli.delivered import replay_place
from exportd.manifest.document import render
from exportd.model.errors import PermanentError
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
try:
    anyio.run(lambda: replay_place({str(tmp_path)!r}, Path({str(into)!r}), as_of=None, organization=None,
                                   schedule=None, as_json=False))
except PermanentError as error:
    print(error.reason, error.sentence)
    # Not getrusage, which counts what the process that started this one had in memory.
    print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024)
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    words, _, peak_mib = told.stdout.strip().rpartition("\n")
    assert words.startswith("MANIFEST_DAMAGED"), told.stderr
    assert int(peak_mib) < 800
    assert not into.exists()
