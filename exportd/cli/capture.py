"""``exportd capture`` and ``role``: what exportd has in the application's database, and with which rights.

``capture`` works without a daemon too: it has to be installed before the first run.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from exportd.cli import completion
from exportd.cli.configuration import DEFAULT_CONFIG, ConfigPath, connector, load, tables
from exportd.cli.daemon_client import LONG_TIMEOUT_S, DaemonAddress
from exportd.cli.output import AsJson, Exit, print_error, print_json, print_line, print_script, print_table
from exportd.cli.socket_client import Document
from exportd.model.errors import PermanentError, Reason, SettingsError

if TYPE_CHECKING:
    from exportd.capture.installer import CaptureInstaller
    from exportd.catalog.document import Catalog

app = App(name="capture")
role_app = App(name="role")

_HERE = DaemonAddress()

EntityArgument = Annotated[str, Parameter(completer=completion.ENTITIES)]

_SCHEMA = "schema exportd"
"""Stands for the daemon's own tables in place of an entity. No entity can have this name."""

_DROP_SCHEMA = "DROP SCHEMA IF EXISTS exportd CASCADE"


@app.command
def install(
    *entities: EntityArgument,
    dry_run: Annotated[bool, Parameter(negative="", help="Print the SQL for a DBA and change nothing.")] = False,
    json: AsJson = False,
    at: DaemonAddress = _HERE,
) -> int:
    """Make the capture of the given entities (default: the whole catalog) whole. May be repeated.

    Of several entities, those that cannot be captured do not keep the others from it. The exit code is 1 then, or 3
    when all of them were locked.
    """
    if dry_run:
        found = _shown(at, entities, read=_planned)
    else:
        found = at.ask_or_read(
            lambda client: client.request("POST", "/v1/capture/install", body={"entities": list(entities)})["data"],
            lambda config: _install(config, entities),
            usual_timeout_s=LONG_TIMEOUT_S,
        )
    if json:
        print_json(found)
    elif dry_run:
        _print_statements(found)
    else:
        for capture in found:
            outcome = "installed" if capture["whole"] else "failed"
            findings = "; ".join(capture["findings"])
            print_line(f"{capture['entity']}: {f'{outcome}: {findings}' if findings else 'whole'}")
    failed = [] if dry_run else [capture for capture in found if not capture["whole"]]
    if not failed:
        return Exit.DONE
    names = ", ".join(capture["entity"] for capture in failed)
    print_error(f"{len(failed)} of {len(found)} entities are not captured: {names}")
    busy = all(capture.get("reason") == Reason.LOCK_NOT_AVAILABLE for capture in failed)
    return Exit.TRY_AGAIN if busy else Exit.FAILED


@app.command
def status(*entities: EntityArgument, json: AsJson = False, at: DaemonAddress = _HERE) -> int:
    """Print for each entity whether its changes are captured; exit code 1 when anything is wrong."""
    found = _shown(at, entities)
    if json:
        print_json(found)
    else:
        rows = [(capture["entity"], "; ".join(capture["findings"]) or "whole") for capture in found]
        print_table(["ENTITY", "CAPTURE"], rows)
    return Exit.FAILED if any(capture["findings"] for capture in found) else Exit.DONE


@app.command
def uninstall(
    *entities: EntityArgument,
    drop_schema: Annotated[
        bool, Parameter(negative="", help="Also drop the schema exportd: schedules, jobs, positions.")
    ] = False,
    dry_run: Annotated[bool, Parameter(negative="", help="Print the SQL for a DBA and change nothing.")] = False,
    json: AsJson = False,
    at: DaemonAddress = _HERE,
) -> None:
    """Remove triggers, functions and change logs (of the given entities, default: all there are)."""
    if drop_schema:
        import anyio

        from exportd.telemetry.logging import leave_it_to_the_command

        leave_it_to_the_command()
        # Uses the database directly, because a daemon cannot drop the schema that it works with.
        removal = anyio.run(_uninstall_all, at.config, entities, dry_run)
    else:
        body = {"entities": list(entities), "dryRun": dry_run}
        removal = at.ask_or_read(
            lambda client: client.request("POST", "/v1/capture/uninstall", body=body),
            lambda config: _uninstall(config, entities, dry_run=dry_run),
            usual_timeout_s=LONG_TIMEOUT_S,
        )
    if json:
        print_json({**removal, "droppedSchema": drop_schema and not dry_run})
        return
    if dry_run:
        from exportd.capture.script import script_of

        found = [] if removal["statements"] else ["nothing to remove"]
        print_script(script_of("removal", found or ["what the statements below remove"], removal["statements"]))
        return
    if not removal["removed"] and not drop_schema:
        print_line("nothing is captured")
    for log in removal["removed"]:
        print_line(f"removed exportd.{log} with its triggers and functions")
    if drop_schema:
        print_line("dropped the schema exportd")


@role_app.command
def sql(*, config: ConfigPath = DEFAULT_CONFIG) -> None:
    """Print the SQL that makes the daemon's roles, with the rights that they need and no others, for a DBA."""
    from exportd.capture.script import role_sql
    from exportd.settings.dsn import Address

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
    print_script(script.rstrip("\n"))


def _shown(
    at: DaemonAddress, names: tuple[str, ...], read: Callable[[Path], Awaitable[list[Document]]] | None = None
) -> list[Document]:
    """What is wrong with the capture of these entities (none: the whole catalog), and the SQL that repairs it.

    ``read`` finds it where no daemon runs; what it says of the schema exportd comes first.
    """
    listed = at.ask_or_read(
        lambda client: client.request("GET", "/v1/capture")["data"], read or _status, usual_timeout_s=LONG_TIMEOUT_S
    )
    found = {capture["entity"]: capture for capture in listed}
    schema = [found.pop(_SCHEMA)] if _SCHEMA in found else []
    for name in names:
        if name not in found:
            from exportd.settings.sentences import did_you_mean

            hint = did_you_mean(name, found, what="entities of the catalog")
            raise PermanentError(f"the catalog has no entity {name}; {hint}", reason=Reason.CATALOG_MISMATCH)
    return [*schema, *(found[name] for name in names or found)]


async def _planned(config: Path) -> list[Document]:
    """The changes of an installation, beginning with exportd's own tables."""
    from exportd.database.migrator import pending, pending_statements

    async with connector(load(config)[0]).connection("migration") as connection:
        missing, statements = await pending(connection), await pending_statements(connection)
    findings = [f"migration {name} is missing" for name in missing]
    own = {"entity": _SCHEMA, "whole": False, "findings": findings, "statements": statements}
    return [*([own] if missing else []), *await _status(config)]


async def _status(config: Path) -> list[Document]:
    from exportd.api.schemas.operations import capture_answer
    from exportd.cli.without_daemon import document

    installer, catalog = _installer(config)
    return [document(capture_answer(found)) for found in await installer.status(list(catalog.entities.values()))]


async def _install(config: Path, names: tuple[str, ...]) -> list[Document]:
    from exportd.api.schemas.operations import capture_answer
    from exportd.capture.installer import install_on_request
    from exportd.cli.without_daemon import document, own_name
    from exportd.database.migrator import migrate
    from exportd.database.setup_checker import excessive_rights
    from exportd.database.unit_of_work import Auditor
    from exportd.model.entity import EntityCode

    installer, catalog = _installer(config)
    entities = [catalog.get(EntityCode(name)) for name in names or catalog.entities]
    database = connector(load(config)[0])
    for sentence in await excessive_rights(database):
        print_error(f"warning: {sentence}")
    async with database.connection("migration") as connection:
        await migrate(connection)
    async with tables(config) as pool:
        done = await install_on_request(installer, Auditor(pool), entities, actor=own_name())
    return [document(capture_answer(found, repaired=True)) for found in done]


async def _uninstall(config: Path, names: tuple[str, ...], *, dry_run: bool) -> Document:
    from exportd.api.schemas.operations import capture_removal
    from exportd.capture.installer import uninstall_on_request
    from exportd.cli.without_daemon import document, own_name
    from exportd.database.unit_of_work import Auditor
    from exportd.model.entity import EntityCode

    installer, catalog = _installer(config)
    async with tables(config) as pool:
        removals = await uninstall_on_request(
            installer,
            Auditor(pool),
            [EntityCode(name) for name in names],
            known=catalog.entities,
            dry_run=dry_run,
            actor=own_name(),
        )
    return document(capture_removal(removals, dry_run=dry_run))


async def _uninstall_all(config: Path, names: tuple[str, ...], dry_run: bool) -> Document:
    """Remove capture, then the schema. The audit log is dropped with it, so there is no entry."""
    from exportd.model.change_log import log_name
    from exportd.model.entity import EntityCode

    installer, _ = _installer(config)
    removals = await installer.removals()
    if unknown := [name for name in names if log_name(EntityCode(name)) not in removals]:
        raise SettingsError.of(f"there is no capture of {', '.join(unknown)}; --drop-schema removes all that there is")
    statements = [*(statement for statements in removals.values() for statement in statements), _DROP_SCHEMA]
    if dry_run:
        return {"removed": [], "statements": statements}
    removed = await installer.uninstall()
    async with connector(load(config)[0]).connection("uninstall") as connection:
        await connection.execute(_DROP_SCHEMA)
    return {"removed": list(removed), "statements": statements}


def _installer(config: Path) -> "tuple[CaptureInstaller, Catalog]":
    import anyio

    from exportd.capture.installer import CaptureInstaller

    settings, catalog = load(config)
    lock_timeout_s = settings.database.lock_timeout_s
    return CaptureInstaller(connector(settings), pause=anyio.sleep, lock_timeout_s=lock_timeout_s), catalog


def _print_statements(found: list[Document]) -> None:
    from exportd.capture.script import script_of

    for capture in found:
        print_script(script_of(capture["entity"], capture["findings"], capture["statements"]))
