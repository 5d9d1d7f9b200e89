"""``exportd capture``: the triggers and change logs in the application's database."""

from typing import TYPE_CHECKING, Annotated, Any

import anyio
from cyclopts import App, Parameter

from exportd.cli.configuration import DEFAULT_CONFIG, ConfigPath, connector, load
from exportd.cli.failures import Exit
from exportd.cli.output import AsJson, print_json, print_line, print_table

if TYPE_CHECKING:
    from exportd.capture.installer import EntityCapture
    from exportd.catalog.document import Catalog
    from exportd.model.entity import Entity


app = App(name="capture")


@app.command
def install(
    *entities: str,
    dry_run: Annotated[bool, Parameter(negative="", help="Print the SQL for a DBA and change nothing.")] = False,
    json: AsJson = False,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Make the capture of the given entities (default: the whole catalog) whole. May be repeated."""
    anyio.run(_install, entities, dry_run, json, config)


@app.command
def status(*entities: str, json: AsJson = False, config: ConfigPath = DEFAULT_CONFIG) -> int:
    """Say for each entity whether its changes are captured; exit code 1 when anything is amiss."""
    return anyio.run(_status, entities, json, config)


@app.command
def uninstall(
    *entities: str,
    drop_schema: Annotated[
        bool, Parameter(negative="", help="Also drop the schema exportd: schedules, jobs, positions.")
    ] = False,
    json: AsJson = False,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Remove triggers, functions and change logs (of the given entities, default: all there are)."""
    anyio.run(_uninstall, entities, drop_schema, json, config)


async def _install(names: tuple[str, ...], dry_run: bool, as_json: bool, config: ConfigPath) -> None:
    from exportd.capture.installer import CaptureInstaller
    from exportd.capture.script import script_of
    from exportd.database.migrator import migrate

    settings, catalog = load(config)
    database = connector(settings)
    installer = CaptureInstaller(database, pause=anyio.sleep, lock_timeout_s=settings.database.lock_timeout_s)
    entities = _chosen(catalog, names)
    if dry_run:
        found = await installer.status(entities)
        if as_json:
            print_json([{**_document(each), "statements": list(each.statements)} for each in found])
            return
        for each in found:
            print_line(script_of(each.entity, each.findings, each.statements))
        return
    async with database.connection("migration") as connection:
        await migrate(connection)
    found = await installer.install(entities)
    if as_json:
        print_json([{**_document(each), "whole": True} for each in found])
        return
    for each in found:
        print_line(f"{each.entity}: {'installed: ' + '; '.join(each.findings) if each.findings else 'whole'}")


async def _status(names: tuple[str, ...], as_json: bool, config: ConfigPath) -> int:
    from exportd.capture.installer import CaptureInstaller

    settings, catalog = load(config)
    installer = CaptureInstaller(connector(settings), pause=anyio.sleep)
    found = await installer.status(_chosen(catalog, names))
    if as_json:
        print_json([_document(each) for each in found])
    else:
        print_table(["ENTITY", "CAPTURE"], [(each.entity, "; ".join(each.findings) or "whole") for each in found])
    return Exit.FAILED if any(each.findings for each in found) else Exit.DONE


async def _uninstall(names: tuple[str, ...], drop_schema: bool, as_json: bool, config: ConfigPath) -> None:
    from exportd.capture.installer import CaptureInstaller
    from exportd.model.change_log import log_name
    from exportd.model.entity import EntityCode

    settings, _ = load(config)
    database = connector(settings)
    installer = CaptureInstaller(database, pause=anyio.sleep, lock_timeout_s=settings.database.lock_timeout_s)
    logs = [log_name(EntityCode(name)) for name in names] or None
    removed = await installer.uninstall(logs)
    if drop_schema:
        async with database.connection("uninstall") as connection:
            await connection.execute("DROP SCHEMA IF EXISTS exportd CASCADE")
    if as_json:
        print_json({"removed": list(removed), "droppedSchema": drop_schema})
        return
    for log in removed:
        print_line(f"removed exportd.{log} with its triggers and functions")
    if drop_schema:
        print_line("dropped the schema exportd")


def _document(capture: "EntityCapture") -> dict[str, Any]:
    return {"entity": capture.entity, "whole": not capture.findings, "findings": list(capture.findings)}


def _chosen(catalog: "Catalog", names: tuple[str, ...]) -> "list[Entity]":
    from exportd.model.entity import EntityCode

    return [catalog.get(EntityCode(name)) for name in names] if names else list(catalog.entities.values())


# MERGED: ``exportd role``: the daemon's role in Postgres.


role_app = App(name="role")


@role_app.command
def sql(*, config: ConfigPath = DEFAULT_CONFIG) -> None:
    """Print the SQL that makes the daemon's roles, with the rights that they need and no others, for a DBA."""
    from exportd.capture.role import role_sql
    from exportd.database.connector import Address
    from exportd.model.errors import SettingsError

    settings, catalog = load(config)
    address = Address.of(settings.database.dsn)
    if address.user is None or address.database is None:
        raise SettingsError.of(
            "the DSN should name the user and the database, such as postgresql://exportd@db.example.com/product",
            where="database.dsn",
        )
    tables = [entity.table for entity in catalog.entities.values()]
    script = role_sql(
        address.user,
        database=address.database,
        tables=tables,
        reader=connector(settings).reader,
        entities=catalog.entities,
    )
    print_line(script.rstrip("\n"))
