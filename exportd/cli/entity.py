"""``exportd entity``: the schema of what is exported. Reads the catalog, and from the database what it leaves open."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import anyio
from cyclopts import App, Parameter

from exportd.cli.configuration import DEFAULT_CONFIG, ConfigPath
from exportd.cli.output import AsJson, print_fields, print_json, print_line, print_table
from exportd.model.entity import Entity, EntityCode

if TYPE_CHECKING:
    from exportd.catalog.document import Catalog


app = App(name="entity")

AsMermaid = Annotated[bool, Parameter(negative="", help="Print the relationships as a Mermaid diagram.")]


@app.command(name="list")
def list_entities(*, mermaid: AsMermaid = False, json: AsJson = False, config: ConfigPath = DEFAULT_CONFIG) -> None:
    """List entities, and which refer to which."""
    catalog = anyio.run(_resolved, config)
    found = references(catalog.entities.values())
    if mermaid:
        print_line(diagram(catalog.entities, found, catalog.entities))
    elif json:
        incoming = {code: [each for each in found if each.target == code] for code in catalog.entities}
        print_json([document(entity, incoming[entity.code]) for entity in catalog.entities.values()])
    else:
        rows = [
            (entity.code, entity.label, entity.table, len(entity.field_names)) for entity in catalog.entities.values()
        ]
        print_table(["ENTITY", "LABEL", "TABLE", "FIELDS"], rows, numbers=["FIELDS"])
        if found:
            print_line()
        for each in found:
            print_line(str(each))


@app.command
def show(
    code: Annotated[str, Parameter(name="CODE", help="As the catalog calls it.")],
    /,
    *,
    mermaid: AsMermaid = False,
    json: AsJson = False,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Show one entity: its fields, their types, what they refer to, and what refers to it."""
    from exportd.model.entity import DELETED_FIELD, EntityCode

    catalog = anyio.run(_resolved, config)
    entity = catalog.get(EntityCode(code))
    found = around(entity.code, references(catalog.entities.values()))
    incoming = [each for each in found if each.target == entity.code]
    if mermaid:
        print_line(diagram(catalog.entities, found, [entity.code]))
        return
    if json:
        print_json(document(entity, incoming))
        return
    print_fields({"entity": entity.code, "label": entity.label, "table": entity.table, "key": ", ".join(entity.key)})
    print_line()
    rows = [(field.name, type_of(entity, field.name), field.reference) for field in entity.fields]
    print_table(["FIELD", "TYPE", "REFERS TO"], [*rows, (DELETED_FIELD, "boolean", None)])
    if incoming:
        print_line()
    for each in incoming:
        print_line(str(each))


async def _resolved(config: Path) -> "Catalog":
    from exportd.catalog.resolver import resolve
    from exportd.cli.configuration import connector, load

    settings, catalog = load(config)
    async with connector(settings).reading("entity") as connection:
        return await resolve(catalog, connection)


# MERGED: What can be exported as people and programs read it: fields, and which entity refers to which. No I/O.


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
        Reference(entity.code, field.name, field.reference)
        for entity in entities
        for field in entity.fields
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
            {"name": field.name, "type": field.type, "format": field.format, "reference": field.reference}
            for field in entity.fields
        ],
        "referenced_by": [{"entity": each.source, "field": each.field} for each in incoming],
    }


def diagram(entities: Mapping[EntityCode, Entity], shown: Iterable[Reference], alone: Iterable[EntityCode]) -> str:
    """An entity relationship diagram; ``alone`` are drawn also without a reference."""
    listed = list(shown)
    codes = dict.fromkeys([*alone, *(code for each in listed for code in (each.source, each.target))])
    return "\n".join(["erDiagram", *_boxes([entities[code] for code in codes if code in entities]), *_arrows(listed)])


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
