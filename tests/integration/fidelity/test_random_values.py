"""Whatever text, JSON and numbers hold, they come back, and a deleted record is spelled like the live one."""

import json
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exportd.database.connector import Connection, Connector
from exportd.model.entity import OrganizationId
from exportd.model.schedule import ExportFormat
from tests.fixtures.file_parsers import csv_rows, json_value
from tests.fixtures.postgres import Database
from tests.fixtures.snapshot_exports import Exporter, Schedule, entity

# What Postgres cannot hold is left out: NUL and lone surrogates.
_CHARACTERS = st.characters(exclude_characters="\0", exclude_categories=["Cs"])
_TEXTS = st.text(st.one_of(_CHARACTERS, st.sampled_from(list("\"\\\n\r,'\t\x01\x02.N{}"))), max_size=30)
_NUMBERS = st.one_of(
    st.sampled_from(["NaN", "Infinity", "-Infinity"]),
    st.builds("{}e{}".format, st.integers(-(10**40), 10**40), st.integers(-300, 300)),
)
_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), _TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(_TEXTS, inner, max_size=4)),
    max_leaves=8,
)
_JSON_TEXTS = st.builds(
    lambda value, indent, ascii_only: json.dumps(value, indent=indent, ensure_ascii=ascii_only),
    _JSON,
    st.sampled_from([None, 1, "\r\n", "\t"]),
    st.booleans(),
)
_ROWS = st.lists(st.tuples(_TEXTS, _JSON_TEXTS, _NUMBERS), min_size=1, max_size=12)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=_ROWS)
async def test_random_values_come_back(database: Database, rows: list[tuple[str, str, str]]) -> None:
    async with Connector(database.dsn).connection("test") as connection:
        await _try(database, connection, rows)


async def _try(database: Database, connection: Connection, rows: list[tuple[str, str, str]]) -> None:
    await connection.execute(
        """DROP TABLE IF EXISTS public.thing;
        CREATE TABLE public.thing (id int PRIMARY KEY, words text, document json, amount numeric)"""
    )
    exporter = Exporter(
        database.dsn,
        [entity("THING", "thing", key=["id"], tenant=None, fields=["id", "words", "document", "amount"])],
    )
    await exporter.install()
    await connection.executemany(
        "INSERT INTO public.thing VALUES ($1, $2, $3::text::json, $4::text::numeric)",
        [(number, *row) for number, row in enumerate(rows)],
    )
    schedules = {chosen: Schedule(OrganizationId("o")) for chosen in ExportFormat}
    live = {chosen: (await exporter.run(schedule, chosen))["THING"].content for chosen, schedule in schedules.items()}
    await connection.execute("DELETE FROM public.thing")
    gone = {chosen: (await exporter.run(schedule, chosen))["THING"].content for chosen, schedule in schedules.items()}
    found = {int(row[0] or ""): row[1:4] for row in csv_rows(live[ExportFormat.CSV])}
    for number, (words, document, amount) in enumerate(rows):
        assert found[number][:2] == [words, document]
        assert _same_number(found[number][2], amount)
    for line in live[ExportFormat.JSONL].decode().split("\n")[:-1]:
        record: dict[str, Any] = dict(json_value(line)[1])
        words, document, amount = rows[int(record["id"][1])]
        assert record["words"] == ("str", words)
        assert record["document"] == json_value(document)
        assert _same_number(record["amount"][1], amount)
    assert csv_rows(gone[ExportFormat.CSV]) == [[*row[:-1], "true"] for row in csv_rows(live[ExportFormat.CSV])]
    assert gone[ExportFormat.JSONL] == live[ExportFormat.JSONL].replace(b'"deleted":false}\n', b'"deleted":true}\n')


def _same_number(one: str | None, other: str) -> bool:
    return Decimal(str(one)).compare_total(Decimal(other)) == 0 or Decimal(str(one)) == Decimal(other)
