"""What is installed of capture in the database: logs, functions, triggers."""

from collections.abc import Sequence
from dataclasses import dataclass

from asyncpg import Connection, Record

from exportd.changes.trigger_functions import Capture
from exportd.database.queries import load
from exportd.model.entity import TableName

_QUERIES = load("changes")
_FUNCTIONS = _QUERIES["installed_functions"]
_LOGS = _QUERIES["installed_logs"]
_TRIGGERS = _QUERIES["installed_triggers"]


@dataclass(frozen=True, slots=True)
class InstalledFunction:
    """A function of a change log; ``arguments`` tells overloads apart."""

    name: str
    arguments: str
    body: str
    is_trigger: bool


@dataclass(frozen=True, slots=True)
class InstalledTrigger:
    """A capture trigger somewhere in the database."""

    name: str
    relation: TableName
    function: str


@dataclass(frozen=True, slots=True)
class Installed:
    """Everything of capture that the database holds. ``logs`` maps a log's bare name to what it captures."""

    logs: dict[str, str]
    functions: Sequence[InstalledFunction]
    triggers: Sequence[InstalledTrigger]

    def functions_current(self, capture: Capture) -> bool:
        """Whether every trigger function stands as it should."""
        bodies = {each.name: each.body for each in self.functions if each.is_trigger}
        return all(bodies.get(each.name) == each.body for each in capture.functions)


async def read_installed(connection: "Connection[Record]") -> Installed:
    """Read it, in three queries."""
    return Installed(
        logs={row["name"]: row["captures"] or "" for row in await connection.fetch(_LOGS)},
        functions=[
            InstalledFunction(row["name"], row["arguments"], row["body"], row["is_trigger"])
            for row in await connection.fetch(_FUNCTIONS)
        ],
        triggers=[
            InstalledTrigger(row["name"], TableName(row["schema_name"], row["table_name"]), row["function"])
            for row in await connection.fetch(_TRIGGERS)
        ],
    )
