"""Checks what no single key of the catalog shows: names used twice, unknown references, a key that is not exported.

Like the settings' checks, they read the raw data and ignore what has the wrong type.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from exportd.catalog.expressions import words_of
from exportd.catalog.names import snake_case
from exportd.model.errors import Problem
from exportd.settings.document import Document, KeyPath
from exportd.settings.sentences import did_you_mean


def check_entries(document: Document) -> Iterator[Problem]:
    """Every problem between the entities, and between the fields of an entity."""
    entries = list(_tables(document.data.get("entity"), ("entity",)))
    yield from _duplicates(document, entries, "code", what="an entity")
    yield from _duplicates(document, entries, "type_token", what="an entity with the type token")
    codes = [entry["code"] for _, entry in entries if isinstance(entry.get("code"), str)]
    for path, entry in entries:
        fields = list(_fields(entry.get("fields"), (*path, "fields")))
        yield from _duplicates(document, fields, "name", what="a field")
        for place, field in fields:
            yield from _field_problems(document, place, field, codes)
        yield from _key_problems(document, path, entry, [field for _, field in fields])


def _field_problems(
    document: Document, path: KeyPath, entry: Mapping[str, Any], codes: Collection[str]
) -> Iterator[Problem]:
    if "column" in entry and "expression" in entry:
        yield document.problem((*path, "expression"), "give either column or expression; remove one", about=path)
    reference = entry.get("reference")
    if isinstance(reference, str) and reference not in codes:
        hint = did_you_mean(reference, codes, what="entities of the catalog")
        yield document.problem((*path, "reference"), f"there is no entity {reference}; {hint}")
    if "format" in entry and entry.get("type", "string") != "string":
        sentence = 'is for fields of the type "string"; remove it'
        yield document.problem((*path, "format"), sentence)


def _key_problems(
    document: Document, path: KeyPath, entry: Mapping[str, Any], fields: Collection[Mapping[str, Any]]
) -> Iterator[Problem]:
    """A consumer cannot update or delete a record whose key is not in the file."""
    key = [column for column in _list(entry.get("key")) if isinstance(column, str)]
    for index, column in enumerate(key):
        if column in key[:index]:
            yield document.problem((*path, "key", index), f"{column} is named twice; remove one")
        elif fields and not any(_shows(field, column) for field in fields):
            sentence = f'the key column {column} is in no field; add {{ name = "…", column = "{column}" }}'
            yield document.problem((*path, "fields"), sentence)


def _shows(entry: Mapping[str, Any], column: str) -> bool:
    expression = entry.get("expression")
    if isinstance(expression, str):
        return column in words_of(expression)
    name = entry.get("name")
    named: object = entry.get("column", snake_case(name) if isinstance(name, str) else None)
    return named == column


def _duplicates(
    document: Document, entries: Collection[tuple[KeyPath, Mapping[str, Any]]], key: str, *, what: str
) -> Iterator[Problem]:
    first: dict[str, KeyPath] = {}
    for path, entry in entries:
        value = entry.get(key)
        if isinstance(value, str):
            earlier = first.setdefault(value, path)
            if earlier != path:
                sentence = f"there is already {what} {value} ({document.where(earlier)}); choose another"
                yield document.problem((*path, key), sentence)


def _fields(values: object, path: KeyPath) -> Iterator[tuple[KeyPath, Mapping[str, Any]]]:
    for index, value in enumerate(_list(values)):
        if isinstance(value, str):
            yield (*path, index), {"name": value}
        elif isinstance(value, dict):
            yield (*path, index), value


def _tables(values: object, path: KeyPath) -> Iterator[tuple[KeyPath, Mapping[str, Any]]]:
    for index, value in enumerate(_list(values)):
        if isinstance(value, dict):
            yield (*path, index), value


def _list(values: object) -> list[Any]:
    return values if isinstance(values, list) else []
