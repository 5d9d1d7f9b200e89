import re
from pathlib import Path

import pytest

from exportd.catalog.document import Catalog, load, loads
from exportd.model.entity import Entity, EntityCode, Field, TableName
from exportd.model.errors import PermanentError, Problem, Reason, SettingsError

ACCOUNTS = """\
[[entity]]
code = "ACCOUNTS"
label = "Accounts"
type_token = "account"
table = "public.accounts"
key = ["id"]
tenant = "organization_id"
fields = [
  "id",
  { name = "dtCreated", column = "created_at", type = "string", format = "date-time" },
  { name = "shout", expression = "upper(name)" },
  { name = "parentAccountId", type = "string", format = "uuid", reference = "ACCOUNTS" },
]
"""

REGIONS = """\
[[entity]]
code = "REGIONS"
label = "Regions"
type_token = "region"
table = 'public."Regions"'
key = ["country", "code"]
tenant = false
"""


def problems_of(text: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        loads(text, name="entities.toml")
    return [str(problem) for problem in caught.value.problems]


def test_reads_what_the_file_says() -> None:
    catalog = loads(ACCOUNTS + REGIONS, name="entities.toml")
    assert list(catalog.entities) == ["ACCOUNTS", "REGIONS"]
    assert catalog.get(EntityCode("ACCOUNTS")) == Entity(
        code=EntityCode("ACCOUNTS"),
        label="Accounts",
        type_token="account",
        table=TableName("public", "accounts"),
        key=("id",),
        tenant="organization_id",
        fields=(
            Field("id", column="id"),
            Field("dtCreated", column="created_at", format="date-time"),
            Field("shout", expression="upper(name)"),
            Field("parentAccountId", column="parent_account_id", format="uuid", reference=EntityCode("ACCOUNTS")),
        ),
    )
    regions = catalog.get(EntityCode("REGIONS"))
    assert regions.tenant is None
    assert regions.modified is None
    assert regions.fields == ()
    assert regions.table == TableName("public", "Regions")
    assert regions.key == ("country", "code")


def test_types_that_are_not_written_stay_open() -> None:
    catalog = loads(ACCOUNTS, name="entities.toml")
    assert catalog.open_types == {("ACCOUNTS", "id"), ("ACCOUNTS", "shout")}


def test_an_unknown_entity_says_which_one_was_meant() -> None:
    catalog = loads(ACCOUNTS, name="entities.toml")
    with pytest.raises(PermanentError, match="the catalog has no entity ACCOUNT; did you mean ACCOUNTS") as caught:
        catalog.get(EntityCode("ACCOUNT"))
    assert caught.value.reason is Reason.CATALOG_MISMATCH


def test_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "entities.toml").write_text(ACCOUNTS)
    assert load(tmp_path / "entities.toml") == loads(ACCOUNTS, name="other.toml")
    with pytest.raises(SettingsError, match="there is no such file"):
        load(tmp_path / "missing.toml")


def test_a_problem_of_an_entity_has_its_line() -> None:
    catalog = loads(ACCOUNTS + REGIONS, name="entities.toml")
    assert str(catalog.problem(EntityCode("REGIONS"), "is odd")) == "entities.toml:14: REGIONS: is odd"
    assert catalog.problem(EntityCode("REGIONS"), "is odd", about=("key",)).where == "entities.toml:19"
    assert catalog.problem(EntityCode("ACCOUNTS"), "is odd", about=("fields", 2)).where == "entities.toml:11"
    made_in_code = Catalog(catalog.entities)
    assert made_in_code.problem(EntityCode("REGIONS"), "is odd") == Problem("REGIONS", "is odd")


def test_the_column_of_the_last_change_may_be_named() -> None:
    catalog = loads(REGIONS + 'modified = "changed_at"\n', name="entities.toml")
    assert catalog.get(EntityCode("REGIONS")).modified == "changed_at"
    [problem] = problems_of(REGIONS + 'modified = ""\n')
    assert problem == "entities.toml:8: entity[0].modified: should be the name of a column"


def test_tenant_must_be_said() -> None:
    [problem] = problems_of(REGIONS.replace("tenant = false\n", ""))
    assert problem.startswith("entities.toml:1: entity[0].tenant: is missing: The column that holds the organization")
    assert "`false`" in problem


@pytest.mark.parametrize("value", ["true", "0", '""', "[]", "{}"])
def test_tenant_is_a_column_or_false(value: str) -> None:
    [problem] = problems_of(REGIONS.replace("tenant = false", f"tenant = {value}"))
    assert problem.startswith("entities.toml:7: entity[0].tenant: should be the column that holds the organization")
    assert "or false when every organization may read every row" in problem


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('code = "REGIONS"', 'code = "regions"', ":2: entity[0].code: should be capitals, digits and underscores"),
        ('code = "REGIONS"', f'code = "{"X" * 41}"', ":2: entity[0].code: should be capitals"),
        ('code = "REGIONS"', 'code = "ALL"', ":2: entity[0].code: should be another word"),
        ('code = "REGIONS"', "", ":1: entity[0].code: is missing: The name that schedules use"),
        ('label = "Regions"', 'label = ""', ":3: entity[0].label: should not be empty"),
        ('"region"', '"Region"', ":4: entity[0].type_token: should be small letters and digits"),
        ('"region"', '"re/gion"', ":4: entity[0].type_token: should be small letters and digits"),
        ("'public.\"Regions\"'", '"regions"', ":5: entity[0].table: should name the schema too"),
        ("'public.\"Regions\"'", "5", ":5: entity[0].table: should be a schema and a table in quotes"),
        ('["country", "code"]', "[]", ":6: entity[0].key: should have at least one item, but is empty"),
        ('["country", "code"]', '"code"', ':6: entity[0].key: should be a list in brackets, such as ["code"]'),
        ('["country", "code"]', '["code", "code"]', ":6: entity[0].key[1]: code is named twice; remove one"),
        ('["country", "code"]', '["code", ""]', ":6: entity[0].key[1]: should be the name of a column"),
        ("tenant", "tennant", ":7: entity[0]: unknown key tennant; did you mean tenant?"),
    ],
)
def test_each_key_of_an_entity_has_its_sentence(old: str, new: str, said: str) -> None:
    assert any(problem.startswith(f"entities.toml{said}") for problem in problems_of(REGIONS.replace(old, new)))


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("5", 'should be a name in quotes or a table such as { name = "id", column = "id" }'),
        ("{}", ".name: is missing: The field's name in the files"),
        ('""', ".name: should be a name without control characters"),
        ('"a\\nb"', ".name: should be a name without control characters"),
        (f'"{"x" * 64}"', ".name: should have at most 63 bytes; Postgres cuts longer ones"),
        (f'"{"é" * 32}"', ".name: should have at most 63 bytes"),
        ('"deleted"', ".name: should be another name: the last field of every record is deleted"),
        ('{ name = "deleted", column = "removed" }', ".name: should be another name"),
        ('{ name = "x", column = "" }', ".column: should be the name of a column"),
        ('{ name = "x", type = "text" }', ".type: should be one of string, integer, float, boolean, json"),
        ('{ name = "x", type = "strings" }', 'but is "strings"; did you mean "string"?'),
        ('{ name = "x", format = "datetime" }', ".format: should be one of uuid, date, date-time"),
        ('{ name = "x", column = "a", expression = "b" }', "give either column or expression; remove one"),
        ('{ name = "x", expression = "" }', ".expression: is empty; write an SQL expression"),
        ('{ name = "x", expression = "(SELECT 1), $1" }', "; it has a , outside of parentheses"),
        ('{ name = "x", reference = "REGION" }', "there is no entity REGION; did you mean REGIONS?"),
        ('{ name = "x", type = "integer", format = "date" }', 'is for fields of the type "string"; remove it'),
        ('{ name = "x", colum = "x" }', ": unknown key colum; did you mean column?"),
        ('"code"', ".name: there is already a field code (entities.toml:8); choose another"),
    ],
)
def test_each_key_of_a_field_has_its_sentence(field: str, said: str) -> None:
    text = REGIONS + f'fields = ["code", {{ name = "country" }},\n{field}]\n'
    [problem] = problems_of(text)
    assert problem.startswith("entities.toml:9: entity[0].fields[2]")
    assert said in problem


def test_the_key_must_be_among_the_fields() -> None:
    assert problems_of(REGIONS + 'fields = ["code", "name"]\n') == [
        'entities.toml:8: entity[0].fields: the key column country is in no field; add { name = "…", '
        'column = "country" }'
    ]
    loads(REGIONS + 'fields = ["code", { name = "land", expression = "upper(country)" }]\n', name="entities.toml")


def test_codes_and_type_tokens_are_unique() -> None:
    assert problems_of(REGIONS + REGIONS) == [
        "entities.toml:9: entity[1].code: there is already an entity REGIONS (entities.toml:1); choose another",
        "entities.toml:11: entity[1].type_token: there is already an entity with the type token region "
        "(entities.toml:1); choose another",
    ]


@pytest.mark.parametrize(
    "text", ["", "entity = []", "[entity]\ncode = 'X'", "entity = 5", "entity = [5]", "entity = [[1]]"]
)
def test_a_catalog_without_entities(text: str) -> None:
    [problem] = problems_of(text)
    assert problem.startswith("entities.toml")
    assert re.search(r"entity(\[0\])?: ", problem)


def test_all_problems_come_at_once_in_the_order_of_the_lines() -> None:
    text = ACCOUNTS.replace('"account"', '"Account"').replace('"upper(name)"', "5") + REGIONS.replace(
        "tenant", "tennant"
    )
    problems = problems_of(text)
    assert [problem.split(":")[1] for problem in problems] == ["4", "11", "14", "20"]


def test_the_checks_between_entities_pass_over_what_has_the_wrong_type() -> None:
    assert problems_of("[[entity]]\ncode = [1]\nkey = 5\nfields = [{ name = 1, reference = [] }, 2]\n")
    assert problems_of("[[entity]]\ncode = 1\nkey = [[]]\nfields = { name = 1 }\n")
