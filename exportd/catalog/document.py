"""The catalog file: reads ``[[entity]]`` tables into entities, strictly, every problem with its line.

Fields and types that the file leaves open stay open in the ``Catalog``; ``checker.resolve`` reads them from the live
database.

Problems between keys are found too: names used twice, unknown references, a key that is not exported. Like the checks
of the settings, these read the raw data and ignore values of the wrong type.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from exportd.catalog.entries import CatalogEntry, FieldEntry, FileEntry
from exportd.catalog.expressions import words_of
from exportd.catalog.names import snake_case
from exportd.model.entity import CaptureLevel, Entity, EntityCode, Field
from exportd.model.errors import PermanentError, Problem, Reason, SettingsError
from exportd.settings.document import Document, KeyPath, parse, sorted_by_line
from exportd.settings.loader import read_text
from exportd.settings.sentences import did_you_mean, problems_of


@dataclass(frozen=True, slots=True)
class Catalog:
    """What can be exported. ``entities`` is in the file's order.

    ``open_types`` are the fields whose type the file does not declare. An entity without fields exports every column.
    ``out_of_order`` has the entities that do not fit the database at the moment, with their problems; it is empty until
    ``examine`` has looked. ``document`` is the file from which the catalog was read.
    """

    entities: dict[EntityCode, Entity]
    open_types: frozenset[tuple[EntityCode, str]] = frozenset()
    out_of_order: Mapping[EntityCode, tuple[Problem, ...]] = field(default_factory=dict)
    document: Document = field(default=Document("", {}), repr=False)

    def get(self, code: EntityCode) -> Entity:
        """The entity with this code. Raises PermanentError when there is none."""
        entity = self.entities.get(code)
        if entity is None:
            hint = did_you_mean(code, self.entities, what="entities of the catalog")
            raise PermanentError(f"the catalog has no entity {code}; {hint}", reason=Reason.CATALOG_MISMATCH)
        return entity

    def open_fields(self, code: EntityCode) -> frozenset[str]:
        """The fields of an entity whose type the file does not declare."""
        return frozenset(name for entity, name in self.open_types if entity == code)

    def is_open(self, code: EntityCode) -> bool:
        """Whether the catalog leaves fields or types of an entity to the database."""
        return not self.entities[code].fields or bool(self.open_fields(code))

    def trouble(self, code: EntityCode) -> str | None:
        """The problems of an entity that is out of order, in one line; None for one that is in order."""
        problems = self.out_of_order.get(code)
        return None if problems is None else "; ".join(map(str, problems))

    def problem(self, code: EntityCode, sentence: str, *, about: KeyPath = ()) -> Problem:
        """A problem of an entity, at the line of one of its keys."""
        if code not in self.entities or not self.document.name:
            return Problem(code, sentence)
        # Looked up in the file, because ``entities`` may be only a part of it.
        written = [entity.get("code") for entity in self.document.data["entity"]]
        path = ("entity", written.index(code), *about)
        return Problem(self.document.where(path), f"{code}: {sentence}")


def load(path: Path) -> Catalog:
    """The catalog of a file. Raises SettingsError with every problem."""
    return loads(read_text(path), name=str(path))


def loads(text: str, *, name: str) -> Catalog:
    """The catalog of a TOML text, which problems call ``name``. Raises SettingsError with every problem."""
    document = parse(text, name=name)
    problems = list(check_entries(document))
    try:
        file = FileEntry.model_validate(document.data)
    except ValidationError as error:
        problems += problems_of(error, document=document, model=FileEntry)
    else:
        if not problems:
            return _catalog(file, document)
    raise SettingsError(sorted_by_line(problems))


def _catalog(file: FileEntry, document: Document) -> Catalog:
    return Catalog(
        entities={EntityCode(entry.code): _entity(entry) for entry in file.entity},
        open_types=frozenset(
            (EntityCode(entry.code), field_entry.name)
            for entry in file.entity
            for field_entry in entry.fields or ()
            if field_entry.type is None
        ),
        document=document,
    )


def _entity(entry: CatalogEntry) -> Entity:
    return Entity(
        code=EntityCode(entry.code),
        label=entry.label,
        type_token=entry.type_token,
        table=entry.table,
        key=entry.key,
        tenant=entry.tenant,
        fields=tuple(_field(field_entry) for field_entry in entry.fields or ()),
        capture=CaptureLevel(entry.capture),
        modified=entry.modified,
    )


def _field(entry: FieldEntry) -> Field:
    return Field(
        name=entry.name,
        column=(entry.column or snake_case(entry.name)) if entry.expression is None else None,
        expression=entry.expression,
        type=entry.type or "string",
        format=entry.format,
        reference=None if entry.reference is None else EntityCode(entry.reference),
    )


def check_entries(document: Document) -> Iterator[Problem]:
    """All problems between entities, and between the fields of an entity."""
    entries = list(document.tables("entity"))
    yield from _duplicates(document, entries, "code", what="an entity")
    yield from _duplicates(document, entries, "type_token", what="an entity with the type token")
    codes = [entry["code"] for _, entry in entries if isinstance(entry.get("code"), str)]
    for path, entry in entries:
        fields = list(_fields(entry.get("fields"), (*path, "fields")))
        yield from _duplicates(document, fields, "name", what="a field")
        for place, described in fields:
            yield from _field_problems(document, place, described, codes)
        yield from _key_problems(document, path, entry, [described for _, described in fields])


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
        elif fields and not any(_shows(described, column) for described in fields):
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


def _list(values: object) -> list[Any]:
    return values if isinstance(values, list) else []
