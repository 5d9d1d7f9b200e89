import re
from pathlib import Path

import pytest

from exportd.catalog.document import load, loads
from exportd.catalog.entries import CatalogEntry, FieldEntry
from exportd.model.errors import SettingsError
from tests.tools.catalog_reference import EXAMPLE, render

ROOT = Path(__file__).parents[3]
JARGON = re.compile(
    r"Input|pydantic|valid (?:string|tuple)|type=|Field required|Value error|NoneType|<class|dict|tuple"
)
ENTITY = '[[entity]]\ncode = "A"\nlabel = "A"\ntype_token = "a"\ntable = "a.b"\nkey = ["id"]\ntenant = false\n'
VALUES = ['"text"', '""', "5", "1.5", "nan", "true", "[]", "[1]", '["a", "a"]', "{}", "{ a = 1 }", "1979-05-27", "[[]]"]


def test_the_reference_in_the_repository_is_the_schemas() -> None:
    written = (ROOT / "docs/catalog.md").read_text()
    assert written == render(), "run: make docs"


def test_the_example_of_the_reference_loads() -> None:
    assert list(loads(EXAMPLE, name="example.toml").entities) == ["ACCOUNTS", "COUNTRIES"]


def test_the_catalog_in_the_repository_loads_with_nothing_left_open() -> None:
    catalog = load(ROOT / "config/entities.toml")
    assert len(catalog.entities) == 20
    assert catalog.open_types == frozenset()
    assert all(entity.fields and entity.tenant for entity in catalog.entities.values())


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("key", list(CatalogEntry.model_fields))
def test_no_sentence_about_an_entity_speaks_the_librarys_language(key: str, value: str) -> None:
    without = "".join(line for line in ENTITY.splitlines(keepends=True) if not line.startswith(f"{key} "))
    assert_plain(f"{without}{key} = {value}\nunknown = 1\n")


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("key", list(FieldEntry.model_fields))
def test_no_sentence_about_a_field_speaks_the_librarys_language(key: str, value: str) -> None:
    assert_plain(f"{ENTITY}fields = [{{ unknown = 1, {key} = {value} }}]\n")


def assert_plain(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        loads(text, name="entities.toml")
    for problem in caught.value.problems:
        assert not JARGON.search(problem.sentence), problem
        assert problem.where.startswith("entities.toml:")
