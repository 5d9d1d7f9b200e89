"""Which configuration a command works with, and what it opens from it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from exportd.catalog.document import Catalog
    from exportd.database.connector import Connector, Pool
    from exportd.settings.schema import Settings

ConfigPath = Annotated[
    Path,
    Parameter(name=["--config", "-c"], env_var="EXPORTD_CONFIG", help="The configuration file."),
]
DEFAULT_CONFIG = Path("/etc/exportd/exportd.toml")


def load(path: Path) -> "tuple[Settings, Catalog]":
    """The settings and their catalog; SettingsError with every problem of both."""
    from exportd.catalog import document
    from exportd.schedules.limits import check_rule
    from exportd.settings.loader import load_all

    return load_all(path, check_rule=check_rule, load_catalog=document.load)


def connector(settings: "Settings") -> "Connector":
    from exportd.database.connector import Connector

    return Connector.of(settings.database)


@asynccontextmanager
async def tables(path: Path) -> "AsyncIterator[Pool]":
    """A pool of one connection to the daemon's own tables.

    Raises PermanentError DATABASE_NOT_MIGRATED when a daemon of this version has not made them yet.
    """
    from exportd.database.migrator import pending
    from exportd.model.errors import PermanentError
    from exportd.model.reason import Reason

    settings, _ = load(path)
    database = connector(settings)
    async with database.connection("command") as connection:
        if await pending(connection):
            raise PermanentError(
                "The database does not have exportd's tables yet. Start the daemon once with `exportd run`.",
                reason=Reason.DATABASE_NOT_MIGRATED,
            )
    async with database.pool(1) as pool:
        yield pool
