"""What stands in a file is what stood in the table: read with independent parsers, cast back and compared there.

Two things cannot be distinguished in JSONL by its nature: JSON null and SQL NULL, and the lower bounds of an array.
"""

from typing import Any

import pytest

from exportd.model.schedule import ExportFormat
from tests.fixtures.file_parsers import Cell, Number, csv_rows, json_value
from tests.integration.fidelity.conftest import Awkward
from tests.integration.fidelity.values import ROWS, Column, JsonForm

pytestmark = [pytest.mark.every_postgres, pytest.mark.slow]


async def test_every_value_comes_back_from_csv(awkward: Awkward) -> None:
    export = await awkward.exporter.run(awkward.schedule(), ExportFormat.CSV)
    records = export["AWKWARD"].records(awkward.entity)
    assert len(records) == ROWS + 1
    ids = [int(record["id"]) for record in records]
    for column in (*awkward.columns, Column("computed", "text", ()), Column("id", "int", ())):
        cells = [record[column.name] for record in records]
        assert await _wrong(awkward, column, ids, cells) == [], column
    assert all(record["deleted"] == "false" for record in records)
    null_row = records[ids.index(ROWS)]
    assert set(null_row.values()) == {str(ROWS), None, "false"}


async def test_every_value_comes_back_from_jsonl(awkward: Awkward) -> None:
    export = await awkward.exporter.run(awkward.schedule(), ExportFormat.JSONL)
    lines = export["AWKWARD"].content.decode().split("\n")[:-1]
    objects = [dict(json_value(line)[1]) for line in lines]
    assert len(objects) == ROWS + 1
    assert all(list(object_) == list(awkward.entity.field_names) for object_ in objects)
    ids = [int(object_["id"][1]) for object_ in objects]
    for column in (*awkward.columns, Column("computed", "text", ()), Column("id", "int", ())):
        values = [object_[column.name] for object_ in objects]
        if column.form is JsonForm.SCALAR:
            assert await _wrong(awkward, column, ids, [_text(value) for value in values]) == [], column
        elif column.form is JsonForm.ARRAY:
            assert await _wrong_arrays(awkward, column, dict(zip(ids, values, strict=True))) == [], column
        else:
            assert await _wrong_json(awkward, column, dict(zip(ids, values, strict=True))) == [], column
    assert {_spelled(object_["deleted"]) for object_ in objects} == {"False"}


async def test_expressions_are_spelled_like_columns(awkward: Awkward) -> None:
    for chosen in ExportFormat:
        export = await awkward.exporter.run(awkward.schedule(), chosen)
        for record in export["AWKWARD"].records(awkward.entity):
            assert record["document_again"] == record["document"]
            assert record["instant_again"] == record["instant"]
            assert record["flag_again"] == record["flag"]
            assert record["length"] is None or int(record["length"]) == len(record["words"])


async def test_cells_are_spelled_as_documented(awkward: Awkward) -> None:
    """Cast back, the padding of char(n) and the spelling of times would be lost."""
    export = await awkward.exporter.run(awkward.schedule(), ExportFormat.CSV)
    columns = zip(*csv_rows(export["AWKWARD"].content), strict=True)
    cells = dict(zip(awkward.entity.field_names, columns, strict=True))
    assert "ab   " in cells["padded"]
    assert {"infinity", "0044-03-15T12:00:00 BC", "10000-01-01T00:00:00"} <= set(cells["stamp"])
    assert "2026-02-01T00:29:59.999999+00:00" in cells["instant"]
    assert {"true", "false", None} == set(cells["flag"])
    assert {"", None} <= set(cells["words"])


async def _wrong(awkward: Awkward, column: Column, ids: list[int], cells: list[Cell]) -> list[Any]:
    """Ids of rows whose cell, cast to the column's type, is not the value in the table."""
    return await awkward.judge.fetch(
        f"""SELECT id, e.cell, t.{column.name}::text AS value
        FROM unnest($1::int[], $2::text[]) AS e (id, cell) JOIN public.awkward AS t USING (id)
        WHERE (e.cell::{column.type})::text IS DISTINCT FROM t.{column.name}::text""",
        ids,
        cells,
    )


async def _wrong_arrays(awkward: Awkward, column: Column, values: dict[int, Any]) -> list[object]:
    element = column.type.removesuffix("[]")
    rows = await awkward.judge.fetch(
        f"""SELECT id, {column.name} IS NULL AS is_null, array_dims({column.name}) AS dimensions,
        ARRAY(SELECT element::text FROM unnest({column.name}) AS element) AS elements FROM public.awkward"""
    )
    wrong: list[object] = []
    for row in rows:
        value = values[row["id"]]
        if row["is_null"] or value == ("NoneType", None):
            found, right = value == ("NoneType", None), row["is_null"]
        else:
            lengths, leaves = _flat(value)
            cast_back = await awkward.judge.fetchval(
                f"SELECT ARRAY(SELECT (leaf::{element})::text FROM unnest($1::text[]) AS leaf)", leaves
            )
            found, right = (lengths, cast_back), (_lengths(row["dimensions"]), row["elements"])
        if found != right:
            wrong.append((row["id"], found, right))
    return wrong


async def _wrong_json(awkward: Awkward, column: Column, values: dict[int, Any]) -> list[object]:
    async with awkward.judge.transaction():
        await awkward.judge.execute("SET LOCAL timezone = 'UTC'")
        rows = await awkward.judge.fetch(f"SELECT id, to_json({column.name})::text AS value FROM public.awkward")
    expected = {row["id"]: json_value(row["value"] or "null") for row in rows}
    return [(row_id, values[row_id], value) for row_id, value in expected.items() if values[row_id] != value]


def _spelled(value: tuple[str, Any]) -> str:
    return str(value[1])


def _text(value: tuple[str, Any]) -> Cell:
    kind, held = value
    assert kind in {"NoneType", "str", "bool", Number.__name__}
    return None if held is None else str(held).lower() if kind == "bool" else str(held)


def _flat(value: tuple[str, Any]) -> tuple[list[int], list[Cell]]:
    """The lengths of an array's dimensions, and its elements."""
    kind, items = value
    if kind != "array":
        return [], [_text(value)]
    if not items:
        return [], []
    inner = [_flat(item) for item in items]
    lengths = inner[0][0]
    assert all(inner_lengths == lengths for inner_lengths, _ in inner)
    return [len(items), *lengths], [leaf for _, leaves in inner for leaf in leaves]


def _lengths(dimensions: str | None) -> list[int]:
    """The lengths in ``[0:1][1:2]``."""
    bounds = [part.split(":") for part in (dimensions or "").strip("[]").split("][") if part]
    return [int(upper) - int(lower) + 1 for lower, upper in bounds]
