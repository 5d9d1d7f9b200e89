import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exportd.catalog.names import (
    camel_case,
    entity_code,
    format_table_name,
    label,
    parse_table_name,
    singular,
    snake_case,
    type_token,
    unique_names,
)
from exportd.model.entity import TableName

characters = st.one_of(st.sampled_from("_aZ1"), st.characters(blacklist_categories=["Cs", "Cc"]))
column_names = st.text(characters, min_size=1, max_size=20)
table_name_parts = st.text(
    st.characters(blacklist_categories=["Cs"], blacklist_characters="\x00"), min_size=1, max_size=10
)
plain_words = st.lists(st.text(string.ascii_lowercase, min_size=2, max_size=6), min_size=1, max_size=4)


@pytest.mark.parametrize(
    ("column", "field"),
    [
        ("id", "id"),
        ("dt_created", "dtCreated"),
        ("last_modified_by", "lastModifiedBy"),
        ("dtCreated", "dtCreated"),
        ("DtCreated", "dtCreated"),
        ("_id", "id"),
        ("__v", "v"),
        ("name_", "name"),
        ("a__b", "aB"),
        ("_", "_"),
        ("___", "___"),
        ("ID", "id"),
        ("URL", "url"),
        ("URLPath", "urlPath"),
        ("URL_path", "urlPath"),
        ("user_ID", "userId"),
        ("userID", "userID"),
        ("address_line_1", "addressLine1"),
        ("line1_text", "line1Text"),
        ("2fa_enabled", "2faEnabled"),
        ("x_2y", "x2y"),
        ("first name", "firstName"),
        ("first-name.old", "firstNameOld"),
        ("größe_alt", "größeAlt"),
        ("straße", "straße"),
        ("a_ß", "aß"),
        ("имя_поля", "имяПоля"),
        ("名前_id", "名前Id"),
        ("Élan_vital", "élanVital"),
    ],
)
def test_camel_case(column: str, field: str) -> None:
    assert camel_case(column) == field


@pytest.mark.parametrize(
    ("field", "column"),
    [
        ("id", "id"),
        ("dtCreated", "dt_created"),
        ("dt_created", "dt_created"),
        ("userID", "user_id"),
        ("URLPath", "url_path"),
        ("ID", "id"),
        ("addressLine1", "address_line1"),
        ("line1Text", "line1_text"),
        ("größeAlt", "größe_alt"),
        ("", ""),
    ],
)
def test_snake_case(field: str, column: str) -> None:
    assert snake_case(field) == column


@given(plain_words)
def test_snake_case_undoes_camel_case_for_ordinary_names(words: list[str]) -> None:
    column = "_".join(words)
    assert snake_case(camel_case(column)) == column


@given(column_names)
def test_camel_case_never_empties_a_name(column: str) -> None:
    assert camel_case(column)


@given(st.text(st.sampled_from("_- abzABZ019éÉßñяЖ名"), min_size=1, max_size=20))
def test_a_name_in_camel_case_stays_as_it_is(column: str) -> None:
    assert camel_case(camel_case(column)) == camel_case(column)


@given(
    st.lists(st.sampled_from(["a", "A", "a2", "a3", "b", "b2", "deleted"]), max_size=12),
    st.sets(st.just("deleted")),
)
def test_unique_names_are_unique_also_where_case_does_not_count(names: list[str], taken: set[str]) -> None:
    unique = unique_names(names, taken=taken)
    assert len(unique) == len(names)
    assert len({name.casefold() for name in unique} | taken) == len(unique) + len(taken)
    for name, made in zip(names, unique, strict=True):
        assert made == name or (made.startswith(name) and int(made[len(name) :]) >= 2)


@given(st.lists(column_names, unique_by=str.casefold))
def test_names_that_are_unique_stay_as_they_are(names: list[str]) -> None:
    assert unique_names(names) == names


def test_numbered_names_avoid_names_that_come_later() -> None:
    assert unique_names(["a", "a", "a2"]) == ["a", "a3", "a2"]
    assert unique_names(["deleted", "id"], taken=["deleted"]) == ["deleted2", "id"]


@given(column_names)
def test_every_table_gets_a_code_a_token_and_a_label_that_the_catalog_takes(table: str) -> None:
    code = entity_code(table)
    assert set(code) <= set(string.ascii_uppercase + string.digits + "_")
    assert code[0] in string.ascii_uppercase
    assert len(code) <= 40
    assert set(type_token(table)) <= set(string.ascii_lowercase + string.digits)
    assert type_token(table)
    assert label(table).strip()


@pytest.mark.parametrize(
    ("table", "code", "token", "shown"),
    [
        ("accounts", "ACCOUNTS", "account", "Accounts"),
        ("order_items", "ORDER_ITEMS", "orderitem", "Order Items"),
        ("OrderItems", "ORDER_ITEMS", "orderitem", "Order Items"),
        ("Straßen", "STRASSEN", "strassen", "Straßen"),
        ("café_prices", "CAFE_PRICES", "cafeprice", "Café Prices"),
        ("2fa_codes", "T_2FA_CODES", "2facode", "2fa Codes"),
        ("名前", "T", "record", "名前"),
        ("_", "T", "record", "T"),
        ("all", "T_ALL", "all", "All"),
        ("x" * 63, "X" * 40, "x" * 63, "X" + "x" * 62),
    ],
)
def test_codes_tokens_and_labels(table: str, code: str, token: str, shown: str) -> None:
    assert (entity_code(table), type_token(table), label(table)) == (code, token, shown)


@pytest.mark.parametrize(
    ("plural", "one"),
    [
        ("accounts", "account"),
        ("companies", "company"),
        ("boxes", "box"),
        ("addresses", "address"),
        ("status", "status"),
        ("analysis", "analysis"),
        ("class", "class"),
        ("pricing", "pricing"),
        ("gas", "gas"),
        ("balances", "balance"),
        ("branches", "branch"),
    ],
)
def test_singular(plural: str, one: str) -> None:
    assert singular(plural) == one


@given(table_name_parts, table_name_parts)
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
