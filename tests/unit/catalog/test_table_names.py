import pytest
from hypothesis import given
from hypothesis import strategies as st

from exportd.catalog.table_names import format_table_name, parse_table_name
from exportd.model.entity import TableName

names = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\x00"), min_size=1, max_size=10)


@given(names, names)
def test_every_name_reads_back_as_itself(schema: str, name: str) -> None:
    table = TableName(schema, name)
    assert parse_table_name(format_table_name(table)) == table


@pytest.mark.parametrize(
    ("text", "table"),
    [
        ("public.accounts", TableName("public", "accounts")),
        ("Public.Accounts", TableName("Public", "Accounts")),
        ('public."order.items"', TableName("public", "order.items")),
        ('"a b"."c""d"', TableName("a b", 'c"d')),
        ("öffentlich.größe", TableName("öffentlich", "größe")),
        ("public.a-b$1", TableName("public", "a-b$1")),
    ],
)
def test_names_are_taken_as_they_are_written(text: str, table: TableName) -> None:
    assert parse_table_name(text) == table


def test_the_schema_must_be_named() -> None:
    with pytest.raises(ValueError, match=r'should name the schema too, such as "public.accounts"'):
        parse_table_name("accounts")


@pytest.mark.parametrize(
    "text", ["", ".", "a.", ".a", "a..b", "a.b.c", 'a."b', 'a.b"c', "a. b", '"".a', "a.b ", "a.\x00"]
)
def test_what_is_no_name_gets_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r'should be a schema and a table such as "public\.accounts"'):
        parse_table_name(text)
