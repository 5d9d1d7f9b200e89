from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exportd.catalog.document import loads
from exportd.catalog.drafter import ForeignKey, render
from exportd.catalog.shape import LiveColumn, LiveIndex, LiveTable, ValueType
from exportd.catalog.table_rules import findings
from exportd.model.entity import EntityCode, TableName


def column(name: str, base: str = "text", *, is_nullable: bool = False, generation: str | None = None) -> LiveColumn:
    return LiveColumn(name, ValueType(base, base), is_nullable, is_ordered=True, generation=generation)


def live(schema: str, name: str, *columns: LiveColumn, key: tuple[str, ...] = ("id",)) -> LiveTable:
    primary_key = LiveIndex(f"{name}_pkey", key, is_primary=True)
    return LiveTable(TableName(schema, name), "r", "p", "exporter", columns, (primary_key,))


ID = column("id", "uuid")
TENANT = column("organization_id")
ACCOUNTS = live("public", "accounts", ID, TENANT, column("dt_created", "timestamptz"))


def test_a_table_becomes_an_entity() -> None:
    text = render([ACCOUNTS], [], tenant_column="organization_id")
    assert text.endswith(
        """\
[[entity]]
code = "ACCOUNTS"
label = "Accounts"
type_token = "account"
table = "public.accounts"
key = ["id"]
tenant = "organization_id"
fields = [
  { name = "id", column = "id", type = "string", format = "uuid" },
  { name = "organizationId", column = "organization_id", type = "string" },
  { name = "dtCreated", column = "dt_created", type = "string", format = "date-time" },
]
"""
    )


def test_the_time_of_the_last_change_is_proposed() -> None:
    table = live("public", "accounts", ID, column("updatedAt", "timestamptz"))
    text = render([table], [], tenant_column=None)
    assert 'tenant = false\nmodified = "updatedAt"\nfields = [' in text
    assert loads(text, name="draft.toml").get(EntityCode("ACCOUNTS")).modified == "updatedAt"


def test_without_a_tenant_column_every_entity_says_so() -> None:
    text = render([ACCOUNTS, live("public", "bills", ID)], [], tenant_column=None)
    assert text.count("\ntenant = false\n") == 2
    assert "Left out" not in text


def test_tables_without_the_tenant_column_are_left_out_with_the_reason() -> None:
    text = render([ACCOUNTS, live("public", "regions", ID)], [], tenant_column="organization_id")
    assert text.count("[[entity]]") == 1
    assert (
        "# public.regions: has no column organization_id; if its rows are for every organization, write tenant = false"
        in text
    )


def test_tables_that_cannot_be_exported_are_left_out_with_the_reason() -> None:
    no_key = replace(live("public", "no_key", ID), indexes=())
    unique = replace(no_key, name=TableName("public", "unique"), indexes=(LiveIndex("u", ("id",)),))
    unlogged = replace(live("public", "cache", ID), persistence="u")
    foreign = replace(live("public", "far", ID), kind="f", indexes=())
    text = render([no_key, unique, unlogged, foreign], [], tenant_column=None)
    assert "[[entity]]" not in text
    assert "# public.no_key: has no primary key\n" in text
    assert "# public.unique: has no primary key; u is unique and may do when its columns are NOT NULL" in text
    assert "# public.cache: public.cache is unlogged" in text
    assert "# public.far: public.far is a foreign table" in text


def test_a_tenant_that_may_be_null_is_remarked() -> None:
    nullable = replace(ACCOUNTS, columns=(ID, column("organization_id", is_nullable=True)))
    text = render([nullable], [], tenant_column="organization_id")
    assert "# Rows whose organization_id is null belong to no organization and are in no file." in text


def test_a_virtual_generated_column_becomes_its_expression() -> None:
    table = replace(ACCOUNTS, columns=(*ACCOUNTS.columns, column("shout", generation='upper("name")')))
    text = render([table], [], tenant_column=None)
    assert '{ name = "shout", expression = "upper(\\"name\\")", type = "string" }' in text
    assert "# shout is a virtual generated column" in text


def test_fields_that_would_have_the_same_name_are_numbered_with_a_remark() -> None:
    table = replace(ACCOUNTS, columns=(ID, column("a_b"), column("aB"), column("deleted")))
    text = render([table], [], tenant_column=None)
    assert '{ name = "aB2", column = "aB"' in text
    assert "# The column aB is the field aB2: its own name is taken." in text
    assert '{ name = "deleted2", column = "deleted"' in text


def test_tables_of_the_same_name_in_several_schemas_are_numbered() -> None:
    text = render([live("a", "bills", ID), live("b", "bills", ID)], [], tenant_column=None)
    catalog = loads(text, name="draft.toml")
    assert list(catalog.entities) == ["BILLS", "BILLS2"]
    assert {entity.type_token for entity in catalog.entities.values()} == {"bill", "bill2"}


def test_foreign_keys_become_references() -> None:
    bills = live("public", "bills", ID, TENANT, column("account_id"), column("a"), column("b"), column("c"))
    others = TableName("public", "others")
    references = [
        ForeignKey(bills.name, ("account_id",), ACCOUNTS.name, ("id",)),
        ForeignKey(bills.name, ("organization_id", "a"), ACCOUNTS.name, ("organization_id", "id")),
        ForeignKey(bills.name, ("b", "c"), ACCOUNTS.name, ("id", "name")),
        ForeignKey(bills.name, ("c",), others, ("id",)),
    ]
    catalog = loads(render([ACCOUNTS, bills], references, tenant_column="organization_id"), name="draft.toml")
    fields = {field.name: field.reference for field in catalog.get(EntityCode("BILLS")).fields}
    assert fields == {
        "id": None,
        "organizationId": None,
        "accountId": "ACCOUNTS",
        "a": "ACCOUNTS",
        "b": None,
        "c": None,
    }


characters = st.one_of(
    st.sampled_from("_aZ1.\"'\\ #\n\t"), st.characters(blacklist_categories=["Cs"], blacklist_characters="\x00")
)
SYSTEM_SCHEMAS = {"pg_catalog", "information_schema", "pg_toast", "exportd"}
names = st.text(characters, min_size=1, max_size=12).filter(lambda name: name not in SYSTEM_SCHEMAS)
bases = st.sampled_from(["text", "int4", "uuid", "jsonb", "timestamptz", "bool", "numeric"])


@st.composite
def tables(draw: st.DrawFn) -> LiveTable:
    columns = [
        LiveColumn(name, ValueType(draw(bases), draw(bases), draw(st.booleans())), is_nullable=False, is_ordered=True)
        for name in draw(st.lists(names, min_size=1, max_size=5, unique=True))
    ]
    return live(draw(names), draw(names), *columns, key=(columns[0].name,))


@given(st.lists(tables(), max_size=4, unique_by=lambda table: table.name))
def test_every_draft_loads_and_says_what_the_tables_say(drafted: list[LiveTable]) -> None:
    text = render(drafted, [], tenant_column=None)
    if not drafted:
        return
    catalog = loads(text, name="draft.toml")
    assert catalog.open_types == frozenset()
    assert [entity.table for entity in catalog.entities.values()] == [table.name for table in drafted]
    for entity, table in zip(catalog.entities.values(), drafted, strict=True):
        assert [field.column for field in entity.fields] == [column.name for column in table.columns]
        assert entity.key == (table.columns[0].name,)
        assert list(findings(entity, table)) == []


@pytest.mark.parametrize("name", ["a\nb", 'x"] [[entity]]', "tab\tname", "back\\slash", "\u2028line"])
def test_odd_names_do_not_break_out_of_their_place(name: str) -> None:
    odd = live(name, name, column(name), key=(name,))
    left_out = replace(live("public", name, ID), persistence="u")
    catalog = loads(render([odd, left_out], [], tenant_column=None), name="draft.toml")
    [entity] = catalog.entities.values()
    assert entity.table == TableName(name, name)
    assert entity.key == (name,)
