import csv
import io
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exportd.extraction.projection import Projection, column_types, csv_header
from exportd.model.entity import Field
from exportd.model.schedule import ExportFormat
from tests.unit.extraction.shapes import THINGS, column, relation

CSV, JSONL = ExportFormat.CSV, ExportFormat.JSONL


def spelled(type_name: str, file_format: ExportFormat, **options: str) -> str:
    """How a column of the type is spelled."""
    root = relation("things", (column("x", type_name, **options),), oid=1)
    entity = replace(THINGS, fields=(Field("f", column="x"),))
    text = Projection(entity, column_types(root)).select_list(file_format, deleted=False)
    return text.split(" AS ")[0]


@pytest.mark.parametrize(
    ("type_name", "in_csv", "in_jsonl"),
    [
        ("text", 't."x"', 't."x"'),
        ("numeric", 't."x"', 't."x"'),
        ("jsonb", 't."x"', 't."x"'),
        ("bool", 't."x"::text', 't."x"'),
        ("timestamptz", 'split_part(to_json(t."x")::text, \'"\', 2)', 't."x"'),
        ("timestamp", 'split_part(to_json(t."x")::text, \'"\', 2)', 't."x"'),
        ("json", 't."x"', "translate(t.\"x\"::text, E'\\n\\r', '  ')::json"),
    ],
)
def test_types_are_spelled_by_the_cheapest_exact_expression(type_name: str, in_csv: str, in_jsonl: str) -> None:
    assert (spelled(type_name, CSV), spelled(type_name, JSONL)) == (in_csv, in_jsonl)


@pytest.mark.parametrize(
    "options",
    [
        {"base_type": "public.pair", "base_kind": "c"},
        {"base_type": "_json", "element_type": "json", "element_kind": "b"},
        {"base_type": "public._pair", "element_type": "public.pair", "element_kind": "c"},
        {"base_type": "public._doc", "element_type": "public.doc", "element_kind": "d"},
        {"base_type": "public.hstore", "base_kind": "b"},
    ],
)
def test_wherever_json_may_hide_its_line_breaks_are_blanked(options: dict[str, str]) -> None:
    assert spelled("x", JSONL, **options) == "translate(to_json(t.\"x\")::text, E'\\n\\r', '  ')::json"


@pytest.mark.parametrize(
    "options", [{"base_type": "public.mood", "base_kind": "e"}, {"base_type": "_text", "element_kind": "b"}]
)
def test_where_none_can_hide_nothing_is_spent(options: dict[str, str]) -> None:
    assert spelled("x", JSONL, **options) == 't."x"'


def test_deleted_is_the_last_field_and_a_word_in_csv() -> None:
    types = column_types(relation("things", (column("id"), column("note")), oid=1))
    assert Projection(THINGS, types).select_list(CSV, deleted=True).endswith(", 'true' AS \"deleted\"")
    assert Projection(THINGS, types).select_list(JSONL, deleted=False).endswith(', false AS "deleted"')


names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)


@given(st.lists(names, min_size=1, max_size=5))
def test_the_header_is_one_csv_record_of_the_names(field_names: list[str]) -> None:
    entity = replace(THINGS, fields=tuple(Field(name, column="x") for name in field_names))
    text = csv_header(entity).decode()
    assert text.endswith("\n")
    assert list(csv.reader(io.StringIO(text, newline=""), strict=True)) == [[*field_names, "deleted"]]
