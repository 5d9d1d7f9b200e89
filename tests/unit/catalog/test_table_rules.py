from dataclasses import replace
from typing import Any

import pytest

from exportd.catalog.shape import LiveColumn, LiveIndex, LiveTable, ValueType
from exportd.catalog.table_rules import fields_of, findings, missing_table, modified_of
from exportd.model.entity import Entity, EntityCode, Field, TableName

ACCOUNTS = TableName("public", "accounts")


def column(name: str, base: str = "text", **options: Any) -> LiveColumn:
    defaults: dict[str, Any] = {"is_nullable": False, "is_ordered": True}
    return LiveColumn(name, ValueType(base, base), **{**defaults, **options})


LIVE = LiveTable(
    name=ACCOUNTS,
    kind="r",
    persistence="p",
    role="exporter",
    columns=(
        column("id", "uuid"),
        column("organization_id"),
        column("name", is_nullable=True),
        column("count", "int4"),
        column("created_at", "timestamptz"),
    ),
    indexes=(LiveIndex("accounts_pkey", ("id",), is_primary=True),),
)

ENTITY = Entity(
    code=EntityCode("ACCOUNTS"),
    label="Accounts",
    type_token="account",
    table=ACCOUNTS,
    key=("id",),
    tenant="organization_id",
    fields=(Field("id", column="id", format="uuid"), Field("count", column="count", type="integer")),
)


def sentences(entity: Entity = ENTITY, live: LiveTable = LIVE, **options: Any) -> list[str]:
    return [sentence for _, sentence in findings(entity, live, **options)]


def the_finding(entity: Entity = ENTITY, live: LiveTable = LIVE) -> tuple[tuple[str | int, ...], str]:
    [finding] = findings(entity, live)
    return finding


def test_a_good_table_has_no_findings() -> None:
    assert sentences() == []
    assert sentences(replace(ENTITY, fields=())) == []
    assert sentences(replace(ENTITY, tenant=None)) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kind": "v"}, "public.accounts is a view; name the table that the rows are written to"),
        ({"kind": "m"}, "is a materialized view; name the table"),
        ({"kind": "f"}, "is a foreign table; name the table"),
        ({"name": TableName("pg_catalog", "pg_class")}, "belongs to the system"),
        ({"name": TableName("exportd", "job")}, "belongs to the system"),
        ({"persistence": "t"}, "is a temporary table of one session"),
        (
            {"persistence": "u"},
            'is unlogged and empty after a crash; make it an ordinary one: ALTER TABLE "public"."accounts" SET LOGGED',
        ),
        ({"partition_root": TableName("public", "all")}, "is a partition; name the whole table, public.all"),
        (
            {"parents": (TableName("public", "a"), TableName("public", "b"))},
            "inherits from public.a and public.b; name the table at the top",
        ),
        ({"foreign_members": (TableName("x", "p1"),)}, "its part x.p1 is a foreign table"),
        ({"unlogged_members": (TableName("x", "p1"),)}, "its part x.p1 is unlogged"),
        ({"shared_members": (TableName("x", "c"),)}, "its child x.c inherits from another table too"),
        ({"is_reachable": False}, 'may not be reached by exporter; GRANT USAGE ON SCHEMA "public" TO "exporter"'),
        ({"is_readable": False}, 'may not be read by exporter; GRANT SELECT ON "public"."accounts" TO "exporter"'),
        ({"is_filtered": True}, 'hides rows from exporter; ALTER ROLE "exporter" BYPASSRLS'),
    ],
)
def test_a_table_that_cannot_be_exported_gets_one_sentence(changes: dict[str, Any], said: str) -> None:
    path, sentence = the_finding(live=replace(LIVE, **changes))
    assert path == ("table",)
    assert said in sentence


def test_a_partitioned_table_may_be_exported() -> None:
    assert sentences(live=replace(LIVE, kind="p")) == []


def with_column(**options: Any) -> LiveTable:
    return replace(LIVE, columns=(column("id", **options), *LIVE.columns[1:]))


@pytest.mark.parametrize(
    ("live", "said"),
    [
        (with_column(is_nullable=True), 'may be null; choose another key, or ALTER TABLE "public"."accounts" ALTER'),
        (with_column(base="point", is_ordered=False), "has the type point, which cannot be compared"),
    ],
)
def test_a_key_column_that_identifies_nothing(live: LiveTable, said: str) -> None:
    path, sentence = the_finding(replace(ENTITY, fields=()), live)
    assert path == ("key", 0)
    assert said in sentence


@pytest.mark.parametrize(
    ("indexes", "said"),
    [
        ((), 'nothing makes id unique; ALTER TABLE "public"."accounts" ADD UNIQUE ("id")'),
        (
            (LiveIndex("by_name", ("name",)),),
            "nothing makes id unique; by_name is unique on name: take that as key",
        ),
        ((LiveIndex("u", ("id", "name")),), "nothing makes id unique; u is unique on id, name"),
        ((LiveIndex("u", ("id",), is_partial=True),), "the unique index u on id covers a part of the rows only; ALTER"),
        ((LiveIndex("u", ("id",), is_valid=False),), "the unique index u on id is not valid (its CREATE INDEX"),
        ((LiveIndex("u", (None,)),), "nothing makes id unique; ALTER"),
        ((LiveIndex("u", ("id", None)),), "nothing makes id unique; ALTER"),
    ],
)
def test_a_key_that_is_not_surely_unique(indexes: tuple[LiveIndex, ...], said: str) -> None:
    path, sentence = the_finding(live=replace(LIVE, indexes=indexes))
    assert path == ("key",)
    assert said in sentence


def test_a_unique_index_holds_whatever_the_order_of_its_columns() -> None:
    live = replace(
        LIVE, indexes=(LiveIndex("bad", ("id",), is_partial=True), LiveIndex("u", ("organization_id", "id")))
    )
    entity = replace(ENTITY, key=("id", "organization_id"), fields=())
    assert sentences(entity, live) == []


def test_columns_that_are_not_there_say_which_were_meant() -> None:
    entity = replace(
        ENTITY,
        key=("idd",),
        tenant="organisation_id",
        fields=(Field("created", column="createdat"), Field("x", column="something_else")),
    )
    assert list(findings(entity, LIVE)) == [
        (("key", 0), "public.accounts has no column idd; did you mean id?"),
        (
            ("tenant",),
            "public.accounts has no column organisation_id; did you mean organization_id? "
            "(or tenant = false: all organizations read all rows)",
        ),
        (("fields", 0, "column"), "created: public.accounts has no column createdat; did you mean created_at?"),
        (
            ("fields", 1, "column"),
            "x: public.accounts has no column something_else; the columns are id, organization_id, name, count, "
            "created_at",
        ),
    ]


def test_a_tenant_that_cannot_be_compared() -> None:
    live = replace(LIVE, columns=(*LIVE.columns, column("place", "point", is_ordered=False)))
    assert the_finding(replace(ENTITY, tenant="place"), live) == (
        ("tenant",),
        "place has the type point, which cannot be compared",
    )


@pytest.mark.parametrize(
    ("modified", "said"),
    [
        ("created", "public.accounts has no column created; did you mean created_at?"),
        ("name", "name has the type text; name a timestamptz, timestamp or date, or leave it out"),
        ("times", "times has the type timestamptz[]; name a timestamptz, timestamp or date, or leave it out"),
    ],
)
def test_a_time_of_the_last_change_that_is_none(modified: str, said: str) -> None:
    times = LiveColumn(
        "times", ValueType("timestamptz[]", "timestamptz", is_nested=True), is_nullable=True, is_ordered=True
    )
    live = replace(LIVE, columns=(*LIVE.columns, times))
    assert the_finding(replace(ENTITY, modified=modified), live) == (("modified",), said)


@pytest.mark.parametrize("base", ["timestamptz", "timestamp", "date"])
def test_the_time_of_the_last_change_may_be_of_three_types(base: str) -> None:
    live = replace(LIVE, columns=(*LIVE.columns, column("changed", base, is_nullable=True)))
    assert sentences(replace(ENTITY, modified="changed"), live) == []


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        ([column("updated_at", "timestamptz"), column("name")], "updated_at"),
        ([column("dtLastModified", "timestamp"), column("lastModifiedBy", "uuid")], "dtLastModified"),
        ([column("updated_at", "date"), column("last_modified", "timestamptz")], "last_modified"),
        ([column("updated_at", "text"), column("created_at", "timestamptz")], None),
    ],
)
def test_the_time_of_the_last_change_is_known_by_its_name(columns: list[LiveColumn], found: str | None) -> None:
    assert modified_of(replace(LIVE, columns=tuple(columns))) == found


def test_a_wrong_type_says_what_to_write() -> None:
    entity = replace(ENTITY, fields=(Field("id", column="id"), Field("count", column="count", type="string")))
    assert the_finding(entity) == (
        ("fields", 1, "type"),
        'count: the column count has the type int4; write type = "integer"',
    )
    assert sentences(entity, open_types=frozenset({"count"})) == []


def test_a_wrong_format_says_what_to_write() -> None:
    fields = (Field("id", column="id", format="date"), Field("at", column="created_at", format="date"))
    assert list(findings(replace(ENTITY, fields=fields), LIVE)) == [
        (("fields", 0, "format"), 'id: the column id has the type uuid; write format = "uuid"'),
        (("fields", 1, "format"), 'at: the column created_at has the type timestamptz; write format = "date-time"'),
    ]


def test_virtual_generated_columns_would_be_missing_in_deleted_records() -> None:
    live = replace(LIVE, columns=(*LIVE.columns, column("twice", "int4", generation="(count * 2)")))
    id_field = ENTITY.fields[0]
    fields = (id_field, Field("twice", column="twice", type="integer"), Field("more", expression="twice + 1"))
    found = list(findings(replace(ENTITY, fields=fields), live))
    assert [path for path, _ in found] == [("fields", 1, "column"), ("fields", 2, "expression")]
    for _, sentence in found:
        assert "twice is a virtual generated column, which deleted rows do not have" in sentence
        assert "(count * 2)" in sentence
    as_key = replace(ENTITY, key=("twice",), tenant="twice", fields=())
    indexes = (LiveIndex("u", ("twice",)),)
    assert [path for path, _ in findings(as_key, replace(live, indexes=indexes))] == [("key", 0), ("tenant",)]


def test_left_out_fields_must_not_collide() -> None:
    live = replace(LIVE, columns=(*LIVE.columns, column("deleted", "bool"), column("createdAt")))
    assert list(findings(replace(ENTITY, fields=()), live)) == [
        (
            ("fields",),
            "the table has a column deleted, and every record a field deleted; list the fields, this one as "
            '{ name = "deleted2", column = "deleted" }, say',
        ),
        (
            ("fields",),
            "the column createdAt would be a second field createdAt; list the fields, this one as "
            '{ name = "createdAt2", column = "createdAt" }, say',
        ),
    ]


def test_every_column_becomes_a_field_with_its_type() -> None:
    live = replace(LIVE, columns=(*LIVE.columns, column("twice", "int4", generation="(count * 2)")))
    assert fields_of(live) == (
        Field("id", column="id", format="uuid"),
        Field("organizationId", column="organization_id"),
        Field("name", column="name"),
        Field("count", column="count", type="integer"),
        Field("createdAt", column="created_at", format="date-time"),
        Field("twice", expression="(count * 2)", type="integer"),
    )


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ([], "there is no table public.accounts; check the name and the database of the DSN"),
        (["public.account"], "did you mean public.account?"),
        (["billing.accounts", "public.x"], "did you mean billing.accounts?"),
        (["public.Accounts"], "did you mean public.Accounts?"),
        (["some.thing"], "check the name"),
    ],
)
def test_a_missing_table_says_which_was_meant(others: list[str], said: str) -> None:
    tables = [TableName(*name.split(".")) for name in others]
    path, sentence = missing_table(ENTITY, tables)
    assert path == ("table",)
    assert said in sentence
