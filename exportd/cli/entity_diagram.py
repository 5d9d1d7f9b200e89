"""What can be exported as people and programs read it: fields, and which entity refers to which. No I/O."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from exportd.model.entity import Entity, EntityCode


@dataclass(frozen=True, slots=True, order=True)
class Reference:
    """``source`` has in ``field`` the key of a record of ``target``."""

    source: EntityCode
    field: str
    target: EntityCode

    def __str__(self) -> str:
        return f"{self.source}.{self.field} ──▶ {self.target}"


def references(entities: Iterable[Entity]) -> list[Reference]:
    """All of them, in the catalog's order."""
    return [
        Reference(each.code, field.name, field.reference)
        for each in entities
        for field in each.fields
        if field.reference is not None
    ]


def around(code: EntityCode, found: Iterable[Reference]) -> list[Reference]:
    """Those from and to one entity."""
    return [each for each in found if code in {each.source, each.target}]


def type_of(entity: Entity, name: str) -> str:
    """A field's type with its format, such as ``string (date-time)``."""
    field = next(each for each in entity.fields if each.name == name)
    return f"{field.type} ({field.format})" if field.format else field.type


def document(entity: Entity, incoming: Iterable[Reference]) -> dict[str, Any]:
    """An entity as JSON."""
    return {
        "entity": entity.code,
        "label": entity.label,
        "type_token": entity.type_token,
        "table": str(entity.table),
        "key": list(entity.key),
        "fields": [
            {"name": each.name, "type": each.type, "format": each.format, "reference": each.reference}
            for each in entity.fields
        ],
        "referenced_by": [{"entity": each.source, "field": each.field} for each in incoming],
    }


def mermaid(entities: Mapping[EntityCode, Entity], shown: Iterable[Reference], alone: Iterable[EntityCode]) -> str:
    """An entity relationship diagram; ``alone`` are drawn also without a reference."""
    listed = list(shown)
    codes = dict.fromkeys([*alone, *(code for each in listed for code in (each.source, each.target))])
    return "\n".join(["erDiagram", *_boxes([entities[each] for each in codes if each in entities]), *_arrows(listed)])


def _boxes(entities: Iterable[Entity]) -> Iterator[str]:
    for entity in entities:
        yield f"    {entity.code} {{"
        for field in entity.fields:
            key = " PK" if field.column in entity.key else " FK" if field.reference is not None else ""
            yield f"        {field.type} {field.name}{key}"
        yield "    }"


def _arrows(shown: Iterable[Reference]) -> Iterator[str]:
    for each in shown:
        yield f"    {each.target} ||--o{{ {each.source} : {each.field}"
