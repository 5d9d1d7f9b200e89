from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exportd.capture.repair import belongs
from exportd.capture.triggers import Capture, capture_of
from exportd.catalog.shape import RelationKind, Shape
from exportd.database.quoting import dollar_quoted
from exportd.model.entity import CaptureLevel, EntityCode
from exportd.model.errors import PermanentError
from tests.unit.extraction.shapes import COLUMNS, ROOT, SHAPE, THINGS, column, relation, tree

REORDERED = relation("reordered", COLUMNS[::-1], oid=0xABC)
SAME = relation("same", COLUMNS, oid=0xABD)


def events(capture: Capture) -> set[tuple[str, str]]:
    return {(trigger.relation.name, trigger.function.removeprefix("log_things_")) for trigger in capture.triggers}


def test_a_plain_table_has_one_trigger_for_each_event() -> None:
    capture = capture_of(THINGS, SHAPE)
    assert events(capture) == {("things", event) for event in ("insert", "update", "delete", "row", "truncate")}
    assert {trigger.function for trigger in capture.triggers if trigger.level == "ROW"} == {"log_things_row"}


def test_every_table_of_a_tree_has_triggers_and_only_storage_is_truncated() -> None:
    capture = capture_of(THINGS, tree(SAME, replace(SAME, name=REORDERED.name, oid=3, kind=RelationKind.PARTITIONED)))
    assert {name for name, event in events(capture) if event == "truncate"} == {"same"}
    assert len(capture.functions) == 5, "tables with the root's layout share its functions"


def test_a_table_with_another_layout_has_functions_that_put_its_columns_in_order() -> None:
    capture = capture_of(THINGS, tree(SAME, REORDERED))
    own = {function for name, function in events(capture) if name == "reordered"}
    assert own == {"insert", "update_abc", "delete_abc", "row_abc", "truncate_abc"}
    body = next(function.body for function in capture.functions if function.name == "log_things_delete_abc")
    assert 'ROW("id", "organization_id", "note", "spare")' in body


def test_row_triggers_are_enabled_for_a_subscriptions_worker_only() -> None:
    capture = capture_of(THINGS, tree(SAME))
    assert ("things", "row") not in events(capture), "the root's would be cloned to the partitions"
    for trigger in capture.triggers:
        assert f"ENABLE {'REPLICA' if trigger.level == 'ROW' else 'ALWAYS'} TRIGGER" in trigger.create()


def test_an_entity_may_be_captured_by_row_triggers_alone() -> None:
    capture = capture_of(replace(THINGS, capture=CaptureLevel.ROW), tree(SAME))
    assert events(capture) == {("same", "row"), ("same", "truncate")}
    assert all("ENABLE ALWAYS TRIGGER" in trigger.create() for trigger in capture.triggers)


def test_the_functions_run_with_our_rights_and_no_other_role_may_use_them() -> None:
    for function in capture_of(THINGS, SHAPE).functions:
        assert "SECURITY DEFINER" in function.create()
        assert "REVOKE ALL ON FUNCTION" in function.create()


def test_the_log_has_the_types_of_key_and_tenant() -> None:
    capture = capture_of(replace(THINGS, key=("id", "spare")), SHAPE)
    columns = dict(capture.log_columns)
    assert list(columns) == ["seq", "xid", "op", "key_1", "key_2", "tenant", "image"]
    assert (columns["key_1"], columns["key_2"], columns["tenant"]) == ("uuid[]", "integer[]", "text")
    assert "(tenant, xid)" in capture.log_index
    assert "(xid)" in capture_of(replace(THINGS, tenant=None), SHAPE).log_index


def test_collations_are_taken_over() -> None:
    columns = (column("id", collation='"public"."nocase"', deterministic=False), *COLUMNS[1:])
    capture = capture_of(THINGS, replace(SHAPE, root=relation("things", columns, oid=1)))
    assert 'key_1 text[] COLLATE "public"."nocase"' in capture.log
    body = next(function.body for function in capture.functions if function.name == "log_things_update")
    assert 'pg_catalog.concat(o.key_1) COLLATE pg_catalog."C"' in body


ARRAY_TENANT = relation("things", (COLUMNS[0], column("organization_id", "uuid[]", element_type="uuid")), oid=1)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (replace(SHAPE, root=replace(ROOT, columns=ROOT.columns[1:])), "has no column id"),
        (replace(SHAPE, root=ARRAY_TENANT), "is an array"),
    ],
)
def test_a_key_that_cannot_be_captured_is_refused_with_a_sentence(shape: Shape, words: str) -> None:
    with pytest.raises(PermanentError, match=words):
        capture_of(THINGS, shape)


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)
names = texts | st.sampled_from(["$exportd$", "x$exportd", "{relation}", "%s", "\\", "'", '"', "found", "$statement$"])


@given(names, names)
def test_names_stay_names_in_every_statement(key: str, other: str) -> None:
    """The name of a column must not be able to end the constant that a function's body is."""
    if key == other:
        other += "2"
    columns = (column(key, "uuid"), column(other))
    entity: Any = replace(THINGS, key=(key,), tenant=other)
    root = relation(key, columns, oid=1, kind=RelationKind.PARTITIONED)
    shape = replace(tree(relation("leaf", columns[::-1], oid=5)), root=root)
    capture = capture_of(entity, shape)
    for function in capture.functions:
        created = function.create()
        assert created.count(dollar_quoted(function.body)) == 1
    for trigger in capture.triggers:
        assert "{relation}" not in trigger.clause.replace("{relation}", "", 1)


@given(st.lists(names).map("".join))
def test_a_dollar_quoted_text_ends_where_it_should(text: str) -> None:
    quoted = dollar_quoted(text)
    if not quoted.startswith("$"):
        return  # it took quotes
    tag = quoted[: quoted.index("$", 1) + 1]
    assert quoted.removeprefix(tag).index(tag) == len(text)
    assert quoted == f"{tag}{text}{tag}"


codes = st.from_regex(r"[A-Z][A-Z0-9_]{0,39}", fullmatch=True)


@given(codes)
def test_every_name_is_short_enough_for_postgres(code: str) -> None:
    entity = replace(THINGS, code=EntityCode(code), key=("id", "note"))
    leaf = relation("leaf", COLUMNS[::-1], oid=2**32 - 1)
    for level in CaptureLevel:
        capture = capture_of(replace(entity, capture=level), tree(leaf))
        made = [function.name for function in capture.functions] + [trigger.name for trigger in capture.triggers]
        made += [passing_function.name for passing_function in capture.passing_functions]
        assert all(len(name) <= 63 for name in made)


@given(codes, codes)
def test_a_function_belongs_to_one_log(one: str, other: str) -> None:
    if one == other:
        return
    leaf = relation("leaf", COLUMNS[::-1], oid=0xFACE)
    for level in CaptureLevel:
        capture = capture_of(replace(THINGS, code=EntityCode(one), capture=level), tree(leaf, SAME))
        for name in [
            *(function.name for function in capture.functions),
            *(passing_function.name for passing_function in capture.passing_functions),
        ]:
            assert belongs(name, f"log_{one.lower()}")
            assert not belongs(name, f"log_{other.lower()}")
