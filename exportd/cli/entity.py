"""``exportd entity``: the schema of what is exported. Reads the catalog, and from the database what it leaves open."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import anyio
from cyclopts import App, Parameter

from exportd.cli.configuration import DEFAULT_CONFIG, ConfigPath
from exportd.cli.output import AsJson, print_fields, print_json, print_line, print_table

if TYPE_CHECKING:
    from exportd.catalog.document import Catalog

app = App(name="entity")

AsMermaid = Annotated[bool, Parameter(negative="", help="Print the relationships as a Mermaid diagram.")]


@app.command(name="list")
def list_entities(*, mermaid: AsMermaid = False, json: AsJson = False, config: ConfigPath = DEFAULT_CONFIG) -> None:
    """List entities, and which refer to which."""
    from exportd.cli import entity_diagram

    catalog = anyio.run(_resolved, config)
    found = entity_diagram.references(catalog.entities.values())
    if mermaid:
        print_line(entity_diagram.mermaid(catalog.entities, found, catalog.entities))
    elif json:
        incoming = {code: [each for each in found if each.target == code] for code in catalog.entities}
        print_json([entity_diagram.document(each, incoming[each.code]) for each in catalog.entities.values()])
    else:
        rows = [(each.code, each.label, each.table, len(each.field_names)) for each in catalog.entities.values()]
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
    from exportd.cli import entity_diagram
    from exportd.model.entity import DELETED_FIELD, EntityCode

    catalog = anyio.run(_resolved, config)
    entity = catalog.get(EntityCode(code))
    found = entity_diagram.around(entity.code, entity_diagram.references(catalog.entities.values()))
    incoming = [each for each in found if each.target == entity.code]
    if mermaid:
        print_line(entity_diagram.mermaid(catalog.entities, found, [entity.code]))
        return
    if json:
        print_json(entity_diagram.document(entity, incoming))
        return
    print_fields({"entity": entity.code, "label": entity.label, "table": entity.table, "key": ", ".join(entity.key)})
    print_line()
    rows = [(each.name, entity_diagram.type_of(entity, each.name), each.reference) for each in entity.fields]
    print_table(["FIELD", "TYPE", "REFERS TO"], [*rows, (DELETED_FIELD, "boolean", None)])
    if incoming:
        print_line()
    for each in incoming:
        print_line(str(each))


async def _resolved(config: Path) -> "Catalog":
    from exportd.catalog.resolver import resolve
    from exportd.cli.configuration import connector, load

    settings, catalog = load(config)
    async with connector(settings).connection("entity") as connection:
        return await resolve(catalog, connection)
