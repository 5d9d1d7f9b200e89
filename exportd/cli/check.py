"""``exportd check``: everything that can be known to be wrong before the first run."""

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import anyio.to_thread

from exportd.catalog import checker
from exportd.catalog.document import Catalog
from exportd.changes.installer import CaptureInstaller
from exportd.cli.configuration import connector, load
from exportd.cli.failures import Exit
from exportd.cli.output import print_line
from exportd.control.access import group_ids
from exportd.database.connector import Connection, Connector
from exportd.database.migrator import pending
from exportd.destination_opener import DestinationOpener
from exportd.model.errors import ExportdError, SettingsError
from exportd.settings.directory_checker import check_directories
from exportd.settings.schema import Settings


async def check_everything(config: Path) -> int:
    """Print what is right and what is to be fixed; exit code 1 when anything is."""
    settings, catalog = load(config)
    print_line(f"ok     configuration {config}, {len(settings.schedule)} schedules, {len(catalog.entities)} entities")
    failed = False
    async for sentence in _problems(settings, catalog):
        failed = True
        print_line(f"fix    {sentence}")
    return Exit.FAILED if failed else Exit.DONE


async def _problems(settings: Settings, catalog: Catalog) -> AsyncIterator[str]:
    database = connector(settings)
    async with database.connection("check") as connection:
        print_line(f"ok     database {database.address}")
        async for sentence in _database_problems(database, connection, catalog):
            yield sentence
    # Destinations are tried for themselves, by what is written to them.
    for problem in await anyio.to_thread.run_sync(check_directories, settings.model_copy(update={"destination": ()})):
        yield str(problem)
    control = settings.control
    try:
        group_ids((*control.operators, *control.admins, *([control.group] if control.group else [])))
    except SettingsError as error:
        yield error.sentence
    for destination in DestinationOpener(settings).open_all():
        try:
            await destination.probe()
        except ExportdError as error:
            yield f"destination {destination.code} of {destination.organization}: {error.sentence}"
        else:
            print_line(f"ok     destination {destination.code} of {destination.organization}")


async def _database_problems(database: Connector, connection: Connection, catalog: Catalog) -> AsyncIterator[str]:
    problems = await checker.check(catalog, connection)
    for problem in problems:
        yield str(problem)
    if await pending(connection):
        yield "exportd's tables are not there yet: `exportd run` or `exportd capture install` makes them"
        return
    if problems:
        return
    installer = CaptureInstaller(database, pause=anyio.sleep)
    for each in await installer.status(list(catalog.entities.values())):
        if each.findings:
            yield f"capture of {each.entity}: {'; '.join(each.findings)}; `exportd capture install` puts it right"
