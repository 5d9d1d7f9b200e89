"""A key is replaced by an equal one that is written otherwise: a reader of files holds one key all the same."""

from random import Random

import pytest

from exportd.model.entity import OrganizationId
from exportd.model.errors import FullReason
from exportd.model.extraction import Mode
from exportd.model.schedule import ExportFormat
from tests.fixtures.file_parsers import csv_rows
from tests.integration.capture.source_database import CapturedTable, SourceDatabase

TYPES = {
    "float8": ["0", "-0", "1e300", "0.1"],
    "float4": ["0", "-0", "NaN"],
    "numeric": ["1", "1.0", "1.00", "7e3", "7000"],
    "numeric(10,2)": ["1", "1.0", "2.50"],
    "interval": ["1 day", "24:00:00", "-1 mon", "-30 days"],
    "jsonb": ["1", "1.0", "[1]", "[1.00]", '{"a": 1e1}', '{"a": 10}'],
    "numrange": ["[1,2]", "[1.0,2]", "[1,2.0]"],
    "nummultirange": ["{[1,2]}", "{[1.0,2.0]}"],
    "floats": ["[0,1]", "[-0,1]", "[0,1.0]"],
    "priced": ["(1,a)", "(1.0,a)", "(1.00,a)"],
    "weighed": ["(0)", "(-0)"],
    "amount": ["3", "3.0", "3.00"],
    "citext": ["bob", "Bob", "BOB"],
    "char(3)": ["a", "b"],
    "bpchar": ["a", "a ", "a  "],
    "timestamptz": ["2020-01-01 00:00+00", "2020-01-01 01:00+01"],
    "timetz": ["12:00+00", "13:00+01"],
    "inet": ["10.0.0.1", "10.0.0.1/32"],
    "bytea": ["\\x61", "a"],
    "money": ["1", "1.00"],
    "tsrange": ["[2020-01-01,2020-01-02)", "[2020-01-01 00:00,2020-01-02 00:00)"],
    "int4range": ["[1,2]", "[1,3)", "(0,3)"],
    "varbit": ["01", "1"],
}

_MADE_TYPES = """
CREATE TYPE floats AS RANGE (subtype = float8);
CREATE TYPE priced AS (price numeric, name text);
CREATE TYPE weighed AS (weight float8);
CREATE DOMAIN amount AS numeric;
"""


async def _read(things: CapturedTable, held: dict[str, list[str | None]]) -> Mode:
    """Let a reader that goes by the spelling of keys apply the next run."""
    snapshot, content = await things.run(file_format=ExportFormat.CSV)
    window = snapshot.windows[things.entity.code]
    if window.mode is Mode.FULL:
        held.clear()
    rows = csv_rows(content)
    keys = [str(row[0]) for row in rows]
    assert len(set(keys)) == len(keys), "a key comes twice in one run"
    for row in rows:
        key = str(row[0])
        if row[-1] == "true":
            held.pop(key, None)
        else:
            held[key] = row[:-1]
    return window.mode


@pytest.mark.every_postgres
@pytest.mark.parametrize("key_type", TYPES)
async def test_a_reader_never_holds_two_spellings_of_a_key(source: SourceDatabase, key_type: str) -> None:
    random, app = Random(key_type), source.app
    await app.execute(_MADE_TYPES)
    things = await source.capture("things", f"id {key_type} PRIMARY KEY, note text")
    held: dict[str, list[str | None]] = {}
    await _read(things, held)
    for round_number in range(4):
        # As an application's session may be set: cut-off floats and other styles.
        await app.execute(
            f"SET extra_float_digits = {random.choice((1, 0, -15))};"
            f" SET IntervalStyle = {random.choice(('postgres', 'sql_standard', 'iso_8601'))}"
        )
        for _ in range(random.randrange(1, 5)):
            one, other = random.choice(TYPES[key_type]), random.choice(TYPES[key_type])
            statement = random.choice(
                (
                    "INSERT INTO things VALUES ($1::text::{0}, $2) ON CONFLICT (id) DO UPDATE SET id = excluded.id",
                    "UPDATE things SET id = $2::text::{0} WHERE id = $2::text::{0} AND $1 <> ''",
                    "DELETE FROM things WHERE id = $1::text::{0} AND $2 <> ''",
                    "INSERT INTO things VALUES ($1::text::{0}, $2) ON CONFLICT (id) DO UPDATE SET note = $2",
                )
            )
            await app.execute(statement.format(key_type), one, other)
        assert await _read(things, held) is Mode.INCREMENTAL
        _, everything = await things.run(
            OrganizationId("other"), forced=FullReason.AD_HOC, file_format=ExportFormat.CSV
        )
        assert held == {str(row[0]): row[:-1] for row in csv_rows(everything)}, f"round {round_number}"


@pytest.mark.every_postgres
async def test_floats_that_a_session_cuts_short_are_two_keys(source: SourceDatabase) -> None:
    app = source.app
    things = await source.capture("things", "id float8 PRIMARY KEY, note text")
    await app.execute("INSERT INTO things VALUES (0.3, 'x'), (0, 'zero')")
    held: dict[str, list[str | None]] = {}
    await _read(things, held)
    await app.execute("SET extra_float_digits = -15")
    await app.execute("UPDATE things SET id = '0.30000000000000004' WHERE note = 'x'")
    await app.execute("UPDATE things SET id = '-0' WHERE note = 'zero'")
    assert await _read(things, held) is Mode.INCREMENTAL
    assert held == {"0.30000000000000004": ["0.30000000000000004", "x"], "-0": ["-0", "zero"]}
