"""What is installed of capture in the database: logs, functions, triggers."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from exportd.capture.triggers import Capture
from exportd.database import queries
from exportd.database.connector import Connection
from exportd.model.entity import TableName

_SQL = queries.load("changes")


@dataclass(frozen=True, slots=True)
class InstalledFunction:
    """A function of a change log; ``arguments`` distinguishes overloads. ``settings`` are pairs in lower case.

    ``digest`` is the SHA-256 of its body in hex. ``logs``: it writes into a change log.
    """

    name: str
    arguments: str
    digest: str
    logs: bool
    definer: bool
    settings: frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class InstalledLog:
    """A change log. ``captures`` is its comment.

    The flags say whether it survives a crash (``logged``), and whether its index, its sequence and the default of its
    xid are there.
    """

    captures: str
    logged: bool = True
    indexed: bool = True
    numbered: bool = True
    stamped: bool = True


@dataclass(frozen=True, slots=True)
class InstalledTrigger:
    """A capture trigger somewhere in the database."""

    name: str
    relation: TableName
    function: str


@dataclass(frozen=True, slots=True)
class Installed:
    """What of capture the database holds; ``logs`` by their bare names."""

    logs: Mapping[str, InstalledLog]
    functions: Sequence[InstalledFunction]
    triggers: Sequence[InstalledTrigger]

    def functions_current(self, capture: Capture) -> bool:
        """Whether every function is installed as ``capture`` has it."""
        trigger_functions = {
            (function.name, function.digest, function.settings) for function in self.functions if function.definer
        }
        passing_functions = Counter((function.name, function.digest) for function in self.functions)
        return all(
            (function.name, digest_of(function.body), frozenset(function.settings)) in trigger_functions
            for function in capture.functions
        ) and all(
            passing_functions[passing_function.name, digest_of(passing_function.body)] == 1
            for passing_function in capture.passing_functions
        )


async def read_installed(connection: Connection, logs: Sequence[str] | None = None) -> Installed:
    """Read what belongs to the given logs (bare names; None: to any), in three queries.

    It may be a little more: the names of another log's functions may begin alike.
    """
    escaped = ["log\\_"] if logs is None else [log.replace("_", "\\_") for log in logs]
    names = [f"{prefix}%" for prefix in escaped]
    return Installed(
        logs={
            row["name"]: InstalledLog(
                row["captures"] or "",
                logged=row["logged"],
                indexed=row["indexed"],
                numbered=row["numbered"],
                stamped=row["stamped"],
            )
            for row in await connection.fetch(_SQL["installed_logs"], names)
        },
        functions=[
            InstalledFunction(
                row["name"],
                row["arguments"],
                row["digest"],
                logs=row["logs"],
                definer=row["definer"],
                settings=_settings(row["settings"]),
            )
            for row in await connection.fetch(_SQL["installed_functions"], names)
        ],
        triggers=[
            InstalledTrigger(row["name"], TableName(row["schema_name"], row["table_name"]), row["function"])
            for row in await connection.fetch(_SQL["installed_triggers"], names)
        ],
    )


def digest_of(body: str) -> str:
    """The SHA-256 of a function's body in hex."""
    return hashlib.sha256(body.encode()).hexdigest()


def _settings(assignments: Iterable[str]) -> frozenset[tuple[str, str]]:
    pairs = (assignment.split("=", 1) for assignment in assignments)
    return frozenset((name.lower(), value) for name, value in pairs)
