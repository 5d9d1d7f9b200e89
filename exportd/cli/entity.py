"""``exportd entity`` and ``catalog``: what is exported, and a proposal of what could be.

``entity`` works without a daemon too, and then asks the database for what the catalog leaves open.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import anyio
from cyclopts import App, Parameter

from exportd.cli import completion
from exportd.cli.daemon_client import DaemonAddress
from exportd.cli.output import AsJson, print_fields, print_json, print_line, print_script, print_table
from exportd.cli.socket_client import Document
from exportd.console.diagram import EntityReference, mermaid_of, references
from exportd.model.entity import DELETED_FIELD
from exportd.model.errors import PermanentError, Reason

app = App(name="entity")
catalog_app = App(name="catalog")

_HERE = DaemonAddress()

AsMermaid = Annotated[bool, Parameter(negative="", help="Print the relationships as a Mermaid diagram.")]


@app.command(name="list")
def list_entities(*, mermaid: AsMermaid = False, json: AsJson = False, at: DaemonAddress = _HERE) -> None:
    """List entities, and which refer to which."""
    entities = _entities(at)
    found = references(entities)
    if mermaid:
        print_script(mermaid_of(entities, found))
        return
    if json:
        print_json(entities)
        return
    rows = [(entity["entity"], entity["label"], entity["table"], len(entity["fields"]) + 1) for entity in entities]
    print_table(["ENTITY", "LABEL", "TABLE", "FIELDS"], rows, numbers=["FIELDS"])
    _print_references(found)


@app.command
def show(
    code: Annotated[str, Parameter(name="CODE", help="As the catalog calls it.", completer=completion.ENTITIES)],
    /,
    *,
    mermaid: AsMermaid = False,
    json: AsJson = False,
    at: DaemonAddress = _HERE,
) -> None:
    """Show one entity: its fields, their types, what they refer to, and what refers to it."""
    entities = _entities(at)
    entity = _named(entities, code)
    found = [reference for reference in references(entities) if code in {reference.source, reference.target}]
    if mermaid:
        around = {code, *(end for reference in found for end in (reference.source, reference.target))}
        ordered = [entity, *(other for other in entities if other["entity"] in around and other is not entity)]
        print_script(mermaid_of(ordered, found))
        return
    if json:
        print_json(entity)
        return
    print_fields(
        {
            "entity": code,
            "label": entity["label"],
            "table": entity["table"],
            "key": ", ".join(entity["key"]),
            "modified": entity.get("modified"),
            "rows": None if (rows := entity.get("estimatedRows")) is None else f"about {rows}",
            "capture": entity.get("capture"),
        }
    )
    print_line()
    rows = [(field["name"], type_of(field), field.get("reference")) for field in entity["fields"]]
    print_table(["FIELD", "TYPE", "REFERS TO"], [*rows, (DELETED_FIELD, "boolean", None)])
    _print_references(reference for reference in found if reference.target == code)


@catalog_app.command
def draft(
    *,
    dsn: Annotated[str, Parameter(env_var="EXPORTD_DATABASE_DSN", help="The database, as a URL.")],
    tenant_column: Annotated[
        str | None, Parameter(help="The column that holds the organization; tables without it are left out.")
    ] = None,
    schema: Annotated[tuple[str, ...], Parameter(help="A schema to look into; may be repeated (default: all).")] = (),
) -> None:
    """Print a catalog of every table that can be exported: primary key, camelCase names, references."""
    anyio.run(_draft, dsn, tenant_column, schema or None)


def type_of(field: Document) -> str:
    """A field's type with its format, such as ``string (date-time)``."""
    return f"{field['type']} ({field['format']})" if field.get("format") else str(field["type"])


def _print_references(shown: Iterable[EntityReference]) -> None:
    for number, reference in enumerate(shown):
        if not number:
            print_line()
        print_script(str(reference))


def _entities(at: DaemonAddress) -> list[Document]:
    async def read(config: Path) -> list[Document]:
        from exportd.cli.without_daemon import read_entities

        return await read_entities(config)

    return at.ask_or_read(lambda client: client.request("GET", "/v1/entities")["data"], read)


def _named(entities: Iterable[Document], code: str) -> Document:
    from exportd.settings.sentences import did_you_mean

    found = {entity["entity"]: entity for entity in entities}
    if code not in found:
        hint = did_you_mean(code, found, what="entities of the catalog")
        raise PermanentError(f"the catalog has no entity {code}; {hint}", reason=Reason.CATALOG_MISMATCH)
    return found[code]


async def _draft(dsn: str, tenant_column: str | None, schemas: tuple[str, ...] | None) -> None:
    from exportd.catalog.drafter import draft as draft_catalog
    from exportd.database.connector import Connector
    from exportd.model.errors import SettingsError
    from exportd.settings.dsn import check_dsn

    try:
        check_dsn(dsn)
    except ValueError as error:
        raise SettingsError.of(str(error), where="DSN") from None
    async with Connector(dsn).connection("catalog draft") as connection:
        print_script(await draft_catalog(connection, tenant_column=tenant_column, schemas=schemas))
