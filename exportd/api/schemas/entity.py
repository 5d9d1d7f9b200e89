"""What can be exported: entities, their fields, and which of them refer to which. Pure."""

from collections.abc import Collection, Iterable

from exportd.api.schemas.fields import Answer
from exportd.model.entity import Entity


class FieldDocument(Answer):
    """A field. ``column`` is left out for one that is computed; ``reference`` is the entity whose key it holds."""

    name: str
    type: str
    format: str | None = None
    column: str | None = None
    reference: str | None = None


class IncomingReference(Answer):
    """``field`` of another ``entity`` holds the key of this one."""

    entity: str
    field: str


class EntityDocument(Answer):
    """An entity of the catalog. ``key`` are columns; every file has the field ``deleted`` last, which is not listed."""

    entity: str
    label: str
    type_token: str
    table: str
    key: list[str]
    fields: list[FieldDocument]
    referenced_by: list[IncomingReference]


class EntityList(Answer):
    """The entities of the catalog, in its order."""

    data: list[EntityDocument]


def entity_documents(entities: Collection[Entity]) -> list[EntityDocument]:
    return [_document(entity, entities) for entity in entities]


def _document(entity: Entity, others: Iterable[Entity]) -> EntityDocument:
    return EntityDocument(
        entity=entity.code,
        label=entity.label,
        type_token=entity.type_token,
        table=str(entity.table),
        key=list(entity.key),
        fields=[
            FieldDocument(
                name=field.name, type=field.type, format=field.format, column=field.column, reference=field.reference
            )
            for field in entity.fields
        ],
        referenced_by=[
            IncomingReference(entity=other.code, field=field.name)
            for other in others
            for field in other.fields
            if field.reference == entity.code
        ],
    )
