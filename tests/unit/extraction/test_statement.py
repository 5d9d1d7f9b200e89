import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exportd.catalog.shape import Shape
from exportd.extraction.projection import Projection, column_types
from exportd.extraction.statement import PageRange, Statements, TablePlan, copy_options, page_ranges, parse_plan
from exportd.extraction.window import parse_snapshot
from exportd.model.entity import OrganizationId, TableName
from exportd.model.schedule import ExportFormat
from tests.unit.extraction.shapes import COLUMNS, SHAPE, THINGS, column, relation

PREVIOUS = parse_snapshot("70:80:75")


def statements(
    entity: Any = THINGS, shape: Shape = SHAPE, file_format: ExportFormat = ExportFormat.CSV, organization: str = "acme"
) -> Statements:
    projection = Projection(entity, column_types(shape.root))
    return Statements(entity, shape, file_format, projection, OrganizationId(organization))


@given(st.integers(0, 10_000), st.integers(1, 40))
def test_page_ranges_tile_the_table_and_have_no_end(pages: int, streams: int) -> None:
    ranges = page_ranges(pages, streams)
    assert 1 <= len(ranges) <= streams
    assert ranges[0].first == 0
    assert ranges[-1].end is None, "a table that grows meanwhile is read to its end"
    assert [range_.end for range_ in ranges[:-1]] == [range_.first for range_ in ranges[1:]]
    assert all(range_.end is None or range_.first < range_.end for range_ in ranges)


@given(st.integers(1, 10_000), st.integers(1, 40))
def test_page_ranges_are_of_equal_size(pages: int, streams: int) -> None:
    sizes = [
        (page_range.end if page_range.end is not None else pages) - page_range.first
        for page_range in page_ranges(pages, streams)
    ]
    assert max(sizes) - min(sizes) <= 1


def test_a_full_run_reads_the_tenants_rows_of_a_range() -> None:
    query = statements().full(PageRange(5, 9))
    assert 't."organization_id" OPERATOR("pg_catalog".=) \'acme\'' in query
    assert "t.ctid >= '(5,0)'::tid AND t.ctid < '(9,0)'::tid" in query
    assert "ctid <" not in statements().full(PageRange(5, None))
    assert "WHERE" not in statements(replace(THINGS, tenant=None)).full()


@pytest.mark.parametrize(
    ("type_", "constant"),
    [
        ("timestamptz", "'2026-03-08T22:30:00.000001+00:00'::timestamptz"),
        ("timestamp", "'2026-03-08T22:30:00.000001'::timestamp"),
        ("date", "'2026-03-08'::date"),
    ],
)
def test_a_start_date_is_a_constant_of_the_columns_type(type_: str, constant: str) -> None:
    start_date = datetime(2026, 3, 9, 0, 30, 0, 1, tzinfo=timezone(timedelta(hours=2)))
    shape = replace(SHAPE, root=relation("things", (*COLUMNS, column('Chan"ged', type_)), oid=100))
    query = statements(replace(THINGS, modified='Chan"ged'), shape).full(PageRange(5, None), start_date=start_date)
    name = 't."Chan""ged"'
    assert f" AND ({name} OPERATOR(pg_catalog.>=) {constant} OR {name} IS NULL) AND t.ctid" in query
    assert "IS NULL" not in statements(replace(THINGS, modified='Chan"ged'), shape).full()


def test_the_window_has_the_bound_that_makes_the_index_usable() -> None:
    for query in (statements().changed(PREVIOUS), statements().deleted(PREVIOUS), statements().contents(PREVIOUS)):
        assert "l.xid >= '70'::xid8 AND NOT pg_visible_in_snapshot(l.xid, '70:80:75'::pg_snapshot)" in query
        assert "l.tenant OPERATOR(\"pg_catalog\".=) 'acme'" in query


def test_a_t_of_any_tenant_is_looked_for() -> None:
    assert "l.tenant IS NULL AND l.op = 'T'" in statements().contents(PREVIOUS)
    assert "tenant" not in statements(replace(THINGS, tenant=None)).contents(PREVIOUS)


def test_keys_are_compared_with_the_operator_of_their_type() -> None:
    fuzzy = column("id", "public.citext", equality="public")
    shape = replace(SHAPE, root=relation("things", (fuzzy, *COLUMNS[1:]), oid=1))
    assert 'k.key_1::public.citext OPERATOR("public".=) t."id"' in statements(shape=shape).changed(PREVIOUS)
    # In a file, Bob and bob are two keys.
    assert 'concat(t."id") COLLATE "C" = last.key_1 COLLATE "C"' in statements(shape=shape).deleted(PREVIOUS)
    assert "concat" not in statements().deleted(PREVIOUS)


@pytest.mark.parametrize("kind", ["e", "c", "r", "m"])
def test_keys_of_the_applications_types_are_compared_as_text(kind: str) -> None:
    """No cast runs, which their owner may have defined, and a label that was renamed since is no error."""
    shape = replace(SHAPE, root=relation("things", (column("id", "app.kind", base_kind=kind), *COLUMNS[1:]), oid=1))
    for query in statements(shape=shape).changed(PREVIOUS), statements(shape=shape).deleted(PREVIOUS):
        assert 'concat(t."id") COLLATE "C" =' in query
        assert "app.kind" not in query


def test_several_key_columns_are_compared_one_by_one() -> None:
    query = statements(replace(THINGS, key=("organization_id", "id"))).changed(PREVIOUS)
    assert "SELECT unnest(l.key_1) AS key_1, unnest(l.key_2) AS key_2 FROM" in query
    assert 'k.key_1 OPERATOR("pg_catalog".=) t."organization_id" AND k.key_2' in query


AWKWARD = ["it's", 'say "hi"', "{relation}", "back\\slash", "100%", "$1", "; DROP TABLE x; --", "ünï"]


@pytest.mark.parametrize("word", AWKWARD)
def test_whatever_comes_from_outside_is_quoted(word: str) -> None:
    quoted = '"' + word.replace('"', '""') + '"'
    entity = replace(
        THINGS,
        table=TableName(word, word),
        key=(word,),
        tenant=word,
        fields=(replace(THINGS.fields[0], name=word, column=word),),
    )
    shape = replace(SHAPE, root=relation(word, (column(word),), oid=1))
    made = statements(entity, shape, ExportFormat.JSONL, organization=word)
    for query in (made.full(), made.changed(PREVIOUS), made.deleted(PREVIOUS)):
        assert f"{quoted}.{quoted}" in query
        assert f"AS {quoted}" in query
        assert f"t.{quoted}" in query
    literal = "E'back\\\\slash'" if word == "back\\slash" else "'" + word.replace("'", "''") + "'"
    assert literal in made.contents(PREVIOUS)


def test_a_column_that_the_table_does_not_have_is_a_bug_of_the_caller() -> None:
    with pytest.raises(LookupError):
        statements(replace(THINGS, key=("nothing",))).changed(PREVIOUS)


def test_json_lines_are_never_quoted_and_csv_is() -> None:
    assert copy_options(ExportFormat.CSV).quote == '"'
    options = copy_options(ExportFormat.JSONL)
    assert ord(options.quote) < 32 > ord(options.delimiter)


def test_the_plan_of_the_whole_query_is_read() -> None:
    inner = {"Plan Rows": 1, "Plan Width": 2}
    text = json.dumps([{"Plan": {"Plan Rows": 1000, "Plan Width": 20, "Plans": [inner]}}])
    assert parse_plan(text) == TablePlan(1000, 20)
