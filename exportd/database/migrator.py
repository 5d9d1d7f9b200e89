"""Brings the schema ``exportd`` to the state that this version of the code needs.

Migrations are ``migrations/NNNN_what.sql``, numbered from 0001 without holes. Each runs in one transaction together
with its row in ``exportd.migration``, under a lock: a second daemon waits and then finds nothing to do. A database
newer than the code is refused, for an older daemon would write what the newer one cannot read.
"""

import re
from dataclasses import dataclass
from functools import cache
from importlib import resources

import asyncpg

from exportd.database import queries
from exportd.database.connector import Connection
from exportd.database.quoting import identifier, literal
from exportd.database.translator import translated
from exportd.model.errors import PermanentError, Reason

_SQL = queries.load("migrator")

_FILE_NAME = re.compile(r"(?P<number>[0-9]{4})_[a-z0-9_]+\.sql")


@dataclass(frozen=True, slots=True)
class Migration:
    """One step. ``name`` is the file's name without its ending, the number included."""

    number: int
    name: str
    statements: str


@cache
def migrations() -> tuple[Migration, ...]:
    """All steps in order. Raises ValueError for a misnamed file and for a hole in the numbers."""
    folder = resources.files(__package__) / "migrations"
    steps: list[Migration] = []
    for name in sorted(path.name for path in folder.iterdir() if path.name.endswith(".sql")):
        match = _FILE_NAME.fullmatch(name)
        if not match or int(match["number"]) != len(steps) + 1:
            raise ValueError(f"migrations must be named NNNN_what.sql without holes; {name} is not")
        text = (folder / name).read_text(encoding="utf-8")
        steps.append(Migration(int(match["number"]), name.removesuffix(".sql"), text))
    return tuple(steps)


SCHEMA_VERSION = len(migrations())
"""The number of the last migration: the state of the schema that this code needs."""


async def migrate(connection: Connection) -> list[str]:
    """Apply the pending migrations and return their names, in order.

    Raises PermanentError when the database is newer than the code, or the role may not create the schema.
    """
    done = []
    with translated("migrating the schema exportd"):
        await _prepare(connection)
        for step in migrations():
            async with connection.transaction(isolation="read_committed"):
                await connection.execute(_SQL["bound_waits"])
                await connection.execute(_SQL["lock"])
                if await _version(connection) >= step.number:
                    continue
                await connection.execute(step.statements)
                await connection.execute(_SQL["record"], step.number, step.name)
                done.append(step.name)
    return done


async def pending(connection: Connection) -> list[str]:
    """The names of the migrations that the database still needs, in order; empty when it is up to date.

    Raises PermanentError when the database is newer than the code.
    """
    with translated("reading the version of the schema exportd"):
        version = await _version(connection)
    return [step.name for step in migrations() if step.number > version]


async def pending_statements(connection: Connection) -> list[str]:
    """What ``migrate`` would do, as SQL for one transaction of a role that may create the schema and become the
    connection's role, which owns it all afterwards. Empty when the database is up to date.

    Raises PermanentError when the database is newer than the code.
    """
    names = await pending(connection)
    if not names:
        return []
    with translated("reading the version of the schema exportd"):
        role = identifier(str(await connection.fetchval(_SQL["role"])))
        has_schema = await connection.fetchval(_SQL["find_schema"])
        has_table = await connection.fetchval(_SQL["find_table"])
    statements = [] if has_schema else [f"{_SQL['create_schema']} AUTHORIZATION {role}"]
    statements += [f"SET LOCAL ROLE {role}"]
    statements += [] if has_table else [_SQL["create_table"]]
    for step in migrations():
        if step.name in names:
            statements.append(step.statements.strip().removesuffix(";"))
            statements.append(_SQL["record"].replace("$1", str(step.number)).replace("$2", literal(step.name)))
    return statements


async def _version(connection: Connection) -> int:
    if not await connection.fetchval(_SQL["find_table"]):
        return 0
    version = int(await connection.fetchval(_SQL["applied"]))
    if version > SCHEMA_VERSION:
        raise PermanentError(
            f"The schema exportd is at version {version}, but this exportd knows only {SCHEMA_VERSION}: "
            "a newer exportd has migrated it. Install that version here too.",
            reason=Reason.DATABASE_NOT_MIGRATED,
        )
    return version


async def _prepare(connection: Connection) -> None:
    """Make the table of applied migrations, which is also what daemons that migrate lock, unless it is there."""
    try:
        async with connection.transaction(isolation="read_committed"):
            await _create_bookkeeping(connection)
    except (asyncpg.UniqueViolationError, asyncpg.DuplicateSchemaError, asyncpg.DuplicateTableError):
        # Another daemon has just created it. If it has created only the schema, the next statement raises the error.
        async with connection.transaction(isolation="read_committed"):
            await _create_bookkeeping(connection)


async def _create_bookkeeping(connection: Connection) -> None:
    """The schema and the table of applied migrations.

    They are looked up first, because CREATE … IF NOT EXISTS needs the right to create even when they exist, and a DBA
    may have created the schema for a role without that right.
    """
    if not await connection.fetchval(_SQL["find_schema"]):
        await connection.execute(_SQL["create_schema"])
    if not await connection.fetchval(_SQL["find_table"]):
        await connection.execute(_SQL["create_table"])
