"""The catalog file: reads ``[[entity]]`` tables into entities, strictly, every problem with its line.

Fields and types that the file leaves open stay open in the ``Catalog``; ``resolver.resolve`` reads them from the live
database.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from exportd.catalog.cross_checks import check_entries
from exportd.catalog.entries import CatalogEntry, FieldEntry, FileEntry
from exportd.catalog.names import snake_case
from exportd.model.entity import CaptureLevel, Entity, EntityCode, Field
from exportd.model.errors import PermanentError, Problem, SettingsError
from exportd.model.reason import Reason
from exportd.settings.document import Document, KeyPath, parse, sorted_by_line
from exportd.settings.loader import read_text
from exportd.settings.sentences import did_you_mean, problems_of


@dataclass(frozen=True, slots=True)
class Catalog:
    """What can be exported. ``entities`` is in the file's order.

    ``open_types`` are the fields whose type the file does not declare. An entity without fields exports every column.
    ``out_of_order`` are the entities that do not fit the database at the moment, with what is wrong; it is empty until
    ``resolver.examine`` has looked. ``document`` is the file it was read from.
    """

    entities: dict[EntityCode, Entity]
    open_types: frozenset[tuple[EntityCode, str]] = frozenset()
    out_of_order: Mapping[EntityCode, tuple[Problem, ...]] = field(default_factory=dict)
    document: Document = field(default=Document("", {}), repr=False)

    def get(self, code: EntityCode) -> Entity:
        """The entity. Raises PermanentError when the catalog has none of this code."""
        entity = self.entities.get(code)
        if entity is None:
            hint = did_you_mean(code, self.entities, what="entities of the catalog")
            raise PermanentError(f"the catalog has no entity {code}; {hint}", reason=Reason.CATALOG_MISMATCH)
        return entity

    def open_fields(self, code: EntityCode) -> frozenset[str]:
        """The fields of an entity whose type the file does not declare."""
        return frozenset(name for entity, name in self.open_types if entity == code)

    def is_open(self, code: EntityCode) -> bool:
        """Whether an entity of the catalog leaves fields or types to the database."""
        return not self.entities[code].fields or bool(self.open_fields(code))

    def trouble(self, code: EntityCode) -> str | None:
        """What is wrong with an entity that is out of order, in one line; None for one that is in order."""
        problems = self.out_of_order.get(code)
        return None if problems is None else "; ".join(map(str, problems))

    def problem(self, code: EntityCode, sentence: str, *, about: KeyPath = ()) -> Problem:
        """A problem of an entity, at the line of one of its keys."""
        if code not in self.entities or not self.document.name:
            return Problem(code, sentence)
        # By the file: ``entities`` may be a part of it.
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
