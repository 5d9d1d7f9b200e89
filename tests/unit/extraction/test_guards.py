import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exportd.catalog.shape import CaptureTrigger, Shape
from exportd.extraction.guards import ClusterFacts, Guards, difference, fingerprint, growth, guards_of
from exportd.model.entity import Field
from exportd.model.errors import FullReason
from tests.unit.extraction.shapes import CLUSTER, COLUMNS, ROOT, SHAPE, THINGS, relation, tree

BEFORE = guards_of(THINGS, SHAPE, CLUSTER)


def with_columns(**changes: Any) -> Shape:
    """The shape with the named columns changed: ``note={"type_oid": 1}``."""
    columns = tuple(replace(column, **changes.get(column.name, {})) for column in ROOT.columns)
    return replace(SHAPE, root=replace(ROOT, columns=columns))


def reason(shape: Shape = SHAPE, entity: Any = THINGS, cluster: ClusterFacts = CLUSTER) -> FullReason | None:
    return difference(BEFORE, guards_of(entity, shape, cluster))


def test_what_has_not_changed_is_no_reason() -> None:
    assert reason() is None
    assert reason(replace(SHAPE, root=replace(ROOT, pages=999))) is None


def test_guards_survive_json() -> None:
    assert Guards.from_json(json.loads(json.dumps(BEFORE.to_json()))) == BEFORE


@pytest.mark.parametrize("document", [{}, {"cluster": {}}, {**BEFORE.to_json(), "cluster": {"unknown": 1}}])
def test_guards_of_another_version_count_as_changed(document: dict[str, Any]) -> None:
    assert Guards.from_json(document) is None
    assert difference(None, BEFORE) is FullReason.CATALOG_CHANGED


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"system_identifier": "1"}, FullReason.CLUSTER_CHANGED),
        ({"database_oid": 1}, FullReason.CLUSTER_CHANGED),
        ({"timeline": "00000002"}, FullReason.TIMELINE_CHANGED),
    ],
)
def test_another_line_of_transactions(changes: dict[str, Any], expected: FullReason) -> None:
    assert reason(cluster=replace(CLUSTER, **changes)) is expected


@pytest.mark.parametrize("changes", [{"type_oid": 1}, {"type_modifier": 8}, {"number": 9}, {"name": "remark"}])
def test_an_exported_column_counts_and_another_does_not(changes: dict[str, Any]) -> None:
    assert reason(with_columns(note=changes)) is FullReason.COLUMNS_CHANGED
    assert reason(with_columns(organization_id=changes)) is FullReason.COLUMNS_CHANGED
    assert reason(with_columns(spare=changes)) is None
    expressive = replace(THINGS, fields=(*THINGS.fields, Field("sum", expression="spare + 1")))
    before = guards_of(expressive, SHAPE, CLUSTER)
    assert difference(before, guards_of(expressive, with_columns(spare=changes), CLUSTER)) is FullReason.COLUMNS_CHANGED


def test_any_column_changes_the_shape_in_which_images_are_read() -> None:
    for changes in ({"type_oid": 1}, {"name": "other"}, {"number": 9}):
        assert guards_of(THINGS, with_columns(spare=changes), CLUSTER).row_shape != BEFORE.row_shape
    assert guards_of(THINGS, with_columns(spare={"version": "9"}), CLUSTER).row_shape == BEFORE.row_shape


def test_labels_may_be_added_but_not_renamed() -> None:
    def labels(*parts: tuple[str, str]) -> Guards:
        return guards_of(THINGS, with_columns(note={"type_parts": parts}), CLUSTER)

    good, bad, great = ("label 1", "good"), ("label 2", "bad"), ("label 1", "great")
    assert difference(labels(good), labels(good, bad)) is None
    assert difference(labels(good, bad), labels(great, bad)) is FullReason.COLUMNS_CHANGED
    assert difference(labels(good, bad), labels(good)) is FullReason.COLUMNS_CHANGED
    street, zip_ = ("attribute 5.1", "street 25 700"), ("attribute 5.2", "zip 25 701")
    assert difference(labels(street), labels(street, zip_)) is FullReason.COLUMNS_CHANGED
    assert labels(street).row_shape != labels(street, zip_).row_shape
    assert labels(good).row_shape == labels(good, bad).row_shape


def test_the_partition_tree_counts() -> None:
    one, two = relation("one", COLUMNS, oid=101), relation("two", COLUMNS, oid=102)
    before = guards_of(THINGS, tree(one), CLUSTER)
    for members in ((one, two), (), (two,)):
        now = guards_of(THINGS, tree(*members), CLUSTER)
        assert difference(before, now) is FullReason.PARTITIONS_CHANGED
    renamed = guards_of(THINGS, tree(replace(one, name=two.name)), CLUSTER)
    assert difference(before, renamed) is None
    assert difference(replace(before, members=None), renamed) is FullReason.PARTITIONS_CHANGED


def test_members_that_were_added_to_an_unchanged_tree_are_known() -> None:
    one, two, older = (relation(name, COLUMNS, oid=oid) for name, oid in (("one", 101), ("two", 102), ("older", 99)))
    before = guards_of(THINGS, tree(one), CLUSTER)
    grown = growth(before, THINGS, tree(one, two), CLUSTER)
    assert grown is not None
    assert (grown.added, grown.known, grown.known_shape) == ((two,), before, tree(one))
    altered = replace(one, triggers=(CaptureTrigger(1, "7", "t", "A", "f", 1),))
    for shape in (tree(one), tree(two), tree(one, older), tree(altered, two), tree(one, replace(two, is_logged=False))):
        assert growth(before, THINGS, shape, CLUSTER) is None
    assert growth(replace(before, last_member=None), THINGS, tree(one, two), CLUSTER) is None


def test_an_altered_column_counts_when_the_table_was_rewritten() -> None:
    altered = with_columns(note={"version": "77"})
    rewritten = replace(ROOT, file=7)
    assert reason(altered) is None
    assert reason(replace(SHAPE, root=rewritten)) is None
    assert reason(replace(altered, root=replace(altered.root, file=7))) is FullReason.COLUMNS_CHANGED
    assert reason(with_columns(spare={"version": "77"})) is None
    earlier = replace(BEFORE, layout=None, files=None)
    assert difference(earlier, guards_of(THINGS, altered, CLUSTER)) is FullReason.COLUMNS_CHANGED


def test_an_unlogged_table_counts_now_and_then() -> None:
    unlogged = guards_of(THINGS, replace(SHAPE, root=replace(ROOT, is_logged=False)), CLUSTER)
    assert difference(BEFORE, unlogged) is FullReason.TABLE_UNLOGGED
    assert difference(unlogged, unlogged) is FullReason.TABLE_UNLOGGED
    assert difference(unlogged, BEFORE) is FullReason.TABLE_UNLOGGED


def test_every_fact_of_a_trigger_counts() -> None:
    trigger = CaptureTrigger(5, "700", "exportd_things_insert", "A", "log_things_insert", 4)

    def guards(*triggers: CaptureTrigger, log_oid: int = 200) -> Guards:
        return guards_of(THINGS, replace(SHAPE, root=replace(ROOT, triggers=triggers), log_oid=log_oid), CLUSTER)

    for changed in (replace(trigger, oid=6), replace(trigger, xmin="701"), replace(trigger, enabled="O")):
        assert difference(guards(trigger), guards(changed)) is FullReason.CAPTURE_CHANGED
    assert difference(guards(trigger), guards()) is FullReason.CAPTURE_CHANGED
    assert difference(guards(trigger), guards(trigger, log_oid=201)) is FullReason.CAPTURE_CHANGED


def test_a_trigger_for_replicated_changes_may_be_added_to_an_earlier_release() -> None:
    usual = CaptureTrigger(5, "700", "exportd_things_insert", "A", "log_things_insert", 4)
    replica = CaptureTrigger(6, "700", "exportd_things_row", "R", "log_things_row", 29)

    def guards(*triggers: CaptureTrigger) -> Guards:
        return guards_of(THINGS, replace(SHAPE, root=replace(ROOT, triggers=triggers)), CLUSTER)

    of_earlier_release = replace(guards(usual), replica_triggers=None)
    assert difference(of_earlier_release, guards(usual, replica)) is None
    assert difference(of_earlier_release, guards(replace(usual, xmin="701"), replica)) is FullReason.CAPTURE_CHANGED
    # From then on it counts like all others.
    assert difference(guards(usual, replica), guards(usual, replica)) is None
    for changed in (replace(replica, xmin="701"), replace(replica, oid=7), replace(replica, enabled="D")):
        assert difference(guards(usual, replica), guards(usual, changed)) is FullReason.CAPTURE_CHANGED
    assert difference(guards(usual, replica), guards(usual)) is FullReason.CAPTURE_CHANGED


CATALOG_CHANGES: dict[str, Callable[[], Any]] = {
    "order": lambda: replace(THINGS, fields=THINGS.fields[::-1]),
    "name": lambda: replace(THINGS, fields=(THINGS.fields[0], Field("remark", column="note"))),
    "source": lambda: replace(THINGS, fields=(THINGS.fields[0], Field("note", expression="upper(note)"))),
    "key": lambda: replace(THINGS, key=("organization_id", "id")),
    "tenant": lambda: replace(THINGS, tenant=None),
}


@pytest.mark.parametrize("change", CATALOG_CHANGES)
def test_what_the_catalog_says_counts(change: str) -> None:
    assert reason(entity=CATALOG_CHANGES[change]()) is FullReason.CATALOG_CHANGED


def test_the_weightiest_reason_comes_first() -> None:
    cluster = replace(CLUSTER, system_identifier="1", timeline="9")
    assert reason(with_columns(note={"type_oid": 1}), cluster=cluster) is FullReason.CLUSTER_CHANGED


Facts = st.recursive(st.integers() | st.text() | st.none(), lambda inner: st.lists(inner, max_size=3), max_leaves=6)


@given(Facts, Facts)
def test_fingerprints_are_equal_exactly_when_the_facts_are(one: object, other: object) -> None:
    assert (fingerprint(one) == fingerprint(other)) == (one == other)
