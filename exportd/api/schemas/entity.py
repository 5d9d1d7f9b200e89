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
    """An entity of the catalog. ``key`` are columns; every file has the field ``deleted`` last, which is not listed.

    Programs do not see ``table`` and ``column``.
    """

    entity: str
    label: str
    type_token: str
    table: str | None = None
    key: list[str]
    fields: list[FieldDocument]
    referenced_by: list[IncomingReference]


class EntityList(Answer):
    """The entities of the catalog, in its order."""

    data: list[EntityDocument]


def entity_documents(entities: Collection[Entity], *, shows_tables: bool = True) -> list[EntityDocument]:
    """``shows_tables``: for users of the machine."""
    return [entity_document(entity, entities, shows_tables=shows_tables) for entity in entities]


def entity_document(entity: Entity, others: Iterable[Entity], *, shows_tables: bool = True) -> EntityDocument:
    """``others`` are those of the catalog, among which it looks for references."""
    return EntityDocument(
        entity=entity.code,
        label=entity.label,
        type_token=entity.type_token,
        table=str(entity.table) if shows_tables else None,
        key=list(entity.key),
        fields=[
            FieldDocument(
                name=field.name,
                type=field.type,
                format=field.format,
                column=field.column if shows_tables else None,
                reference=field.reference,
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
