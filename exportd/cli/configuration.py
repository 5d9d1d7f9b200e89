"""Opens the configuration for commands, and what they need from it; and ``exportd config``."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from exportd.cli import completion
from exportd.cli.output import AsJson, print_json, print_line

if TYPE_CHECKING:
    from exportd.catalog.document import Catalog
    from exportd.database.connector import Connector, Pool
    from exportd.settings.schema import Settings

ConfigPath = Annotated[
    Path,
    Parameter(name=["--config", "-c"], env_var="EXPORTD_CONFIG", help="The configuration file."),
]
DEFAULT_CONFIG = Path(completion.DEFAULT_CONFIG)

app = App(name="config")


def load(path: Path) -> "tuple[Settings, Catalog]":
    """The settings and their catalog; SettingsError with every problem of both."""
    from exportd.catalog import document
    from exportd.schedules.calendar import check_rule
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
    from exportd.model.errors import PermanentError, Reason

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


@app.command
def show(*, json: AsJson = False, config: ConfigPath = DEFAULT_CONFIG) -> None:
    """Print every setting of the file, also those that it leaves to their defaults. Secrets are masked."""
    settings, _ = load(config)
    document = _masked("", settings.model_dump(mode="json"))
    if json:
        print_json(document)
        return
    for path, value in _flat("", document):
        print_line(f"{path} = {value}")


@app.command
def schema() -> None:
    """Print the JSON schema of the configuration file, for editors."""
    from exportd.settings.schema import Settings

    print_json(Settings.model_json_schema())


def _masked(key: str, value: Any) -> Any:
    from exportd.model.foreign_text import MASK, mask_secrets, names_a_secret

    if isinstance(value, dict):
        return {name: _masked(name, part) for name, part in value.items()}
    if isinstance(value, list):
        return [_masked(key, part) for part in value]
    if isinstance(value, str):
        return MASK if names_a_secret(key) else mask_secrets(value)
    return value


def _flat(path: str, value: Any) -> list[tuple[str, str]]:
    """A line for each setting: ``limits.jobs``, ``schedule[0].code``; with its value as JSON."""
    from json import dumps

    if isinstance(value, dict) and value:
        parts = [(f"{path}.{name}" if path else name, part) for name, part in value.items()]
    elif isinstance(value, list) and any(isinstance(part, dict) for part in value):
        parts = [(f"{path}[{number}]", part) for number, part in enumerate(value)]
    else:
        return [(path, dumps(value, ensure_ascii=False))]
    return [line for name, part in parts for line in _flat(name, part)]
