"""``exportd check``: finds what is wrong before the first run."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import anyio
import anyio.to_thread

from exportd.api.identity.signing import read_signing_key
from exportd.api.transport.certificate import certificate_of
from exportd.api.transport.unix_socket import group_ids, proxy_user_id
from exportd.capture.installer import CaptureInstaller
from exportd.catalog import checker
from exportd.catalog.document import Catalog
from exportd.catalog.table_reader import tables_without_tenant_index, unreadable_members
from exportd.cli.configuration import connector, load
from exportd.cli.output import Exit, print_json, print_line
from exportd.cli.without_daemon import find_destinations
from exportd.daemon.assembly import CONTROL_CONNECTIONS
from exportd.database import queries
from exportd.database.connector import Connection, Connector
from exportd.database.migrator import pending
from exportd.database.session_settings import POOLER_ADVICE
from exportd.database.setup_checker import (
    Pooling,
    daemons_of,
    detect_pooling,
    doubts_about_logins,
    note_on_dumps,
    temp_file_warnings,
)
from exportd.database.translator import translated
from exportd.destinations.checker import DestinationChecker
from exportd.destinations.finding import CheckVerdict, summary
from exportd.destinations.opener import DestinationOpener
from exportd.destinations.permission import PURPOSES
from exportd.jobs.job_record import progress_from_row
from exportd.jobs.stalls import Slots
from exportd.model.clock import SystemClock
from exportd.model.entity import EntityCode
from exportd.model.errors import ExportdError, SettingsError
from exportd.settings.control_schema import ControlSettings
from exportd.settings.directory_checker import check_directories, check_places, dsn_risks
from exportd.settings.loader import declarations
from exportd.settings.schema import Settings
from exportd.telemetry.logging import leave_it_to_the_command

_KEYS_DIFFER = (
    "several daemons share this database, and this one signs tokens with a key of its own, which the others refuse. "
    "Give all of them the same control.signing_key_file if clients may reach any of them"
)
_STALLED_JOBS = queries.load("job_operations")["stalled"]
_DESCRIBE_ROLE = queries.load("catalog")["describe_role"]


class _Kind(StrEnum):
    OK = "ok"
    FIX = "fix"
    WARN = "warn"
    """It works, with a disadvantage."""
    NOTE = ""
    """Details of the previous line."""


_UNREADABLE = (
    "exportd may not read {}, a part of an exported table: its rows are exported, but each time when it is truncated "
    "by itself the whole entity is full; what `exportd role sql` prints grants that"
)

_LARGE_TABLE_BYTES = 100_000_000
_WITHOUT_INDEX = (
    "no index of {table} begins with its tenant column {column}: the first export of each organization reads the whole "
    "table; create one where there are many organizations"
)


@dataclass(frozen=True, slots=True)
class _Line:
    kind: _Kind
    sentence: str


async def check_everything(config: Path, *, as_json: bool = False) -> int:
    """Print what is right and what to fix, and return the exit code. ``as_json`` prints everything at the end."""
    leave_it_to_the_command()
    settings, catalog = load(config)
    found: list[_Line] = []
    async for line in _lines(config, settings, catalog):
        found.append(line)
        if not as_json:
            print_line(f"{line.kind:6} {line.sentence}")
    if as_json:
        print_json([{"kind": line.kind or "note", "sentence": line.sentence} for line in found])
    return Exit.FAILED if any(line.kind is _Kind.FIX for line in found) else Exit.DONE


async def _lines(config: Path, settings: Settings, catalog: Catalog) -> AsyncIterator[_Line]:
    sizes = f"{len(settings.schedule)} schedules, {len(catalog.entities)} entities"
    yield _Line(_Kind.OK, f"configuration {config}, {sizes}")
    for sentence in await anyio.to_thread.run_sync(dsn_risks, settings.database):
        yield _Line(_Kind.WARN, sentence)
    database = connector(settings)
    async for line in _database(database, settings, catalog):
        yield line
    # Destinations are tried separately, by writing to them.
    for problem in await anyio.to_thread.run_sync(check_directories, settings.model_copy(update={"destination": ()})):
        yield _Line(_Kind.FIX, str(problem))
    for problem in await anyio.to_thread.run_sync(check_places, settings):
        yield _Line(_Kind.FIX, str(problem))
    for sentence in await anyio.to_thread.run_sync(_control_problems, settings.control):
        yield _Line(_Kind.FIX, sentence)
    async for line in _destinations(settings, database):
        yield line


async def _database(database: Connector, settings: Settings, catalog: Catalog) -> AsyncIterator[_Line]:
    async with database.connection("check") as connection:
        yield _Line(_Kind.OK, f"database {database.address}")
        pooling = await detect_pooling(database)
        if pooling is Pooling.TRANSACTION:
            yield _Line(_Kind.FIX, f"database {database.address}: {POOLER_ADVICE}")
            return
        if pooling is Pooling.SESSION:
            yield _Line(_Kind.NOTE, "a connection pooler in session mode stands before the database: that works")
        for sentence in await temp_file_warnings(connection, catalog.entities.values()):
            yield _Line(_Kind.NOTE, sentence)
        async for sentence in _database_problems(database, connection, catalog):
            yield _Line(_Kind.FIX, sentence)
        if (hindrance := await note_on_dumps(connection)) is not None:
            yield _Line(_Kind.NOTE, hindrance)
        async for line in _connection_limits(connection, settings):
            yield line
        async for line in _stalled_jobs(connection):
            yield line
        for sentence in await checker.check_organizations(catalog, connection, _entities_of(settings, catalog)):
            yield _Line(_Kind.FIX, sentence)
        for member in await unreadable_members(connection, [entity.table for entity in catalog.entities.values()]):
            yield _Line(_Kind.NOTE, _UNREADABLE.format(member))
        entities = catalog.entities.values()
        for table, column in await tables_without_tenant_index(connection, entities, min_bytes=_LARGE_TABLE_BYTES):
            yield _Line(_Kind.WARN, _WITHOUT_INDEX.format(table=table, column=column))
    async for sentence in doubts_about_logins(database):
        yield _Line(_Kind.WARN, sentence)
    if settings.control.signing_key_file is None and len(await daemons_of(database)) > 1:
        yield _Line(_Kind.WARN, _KEYS_DIFFER)


async def _stalled_jobs(connection: Connection) -> AsyncIterator[_Line]:
    """The jobs that wait for the database, or whose last attempt ended waiting, and what they wait for."""
    if await pending(connection):
        return
    with translated("looking for jobs that wait"):
        rows = await connection.fetch(_STALLED_JOBS)
    for row in rows:
        stalls = [
            f"{stall.sentence} (since {stall.since:%Y-%m-%d %H:%M:%SZ})" for stall in progress_from_row(row).stalls
        ]
        sentence = " ".join(stalls) or row["message"]
        yield _Line(_Kind.WARN, f"job {row['id']} of {row['organization']}: {sentence}")


async def _connection_limits(connection: Connection, settings: Settings) -> AsyncIterator[_Line]:
    """Whether the role, the database and the server allow as many connections as are needed."""
    with translated("reading what the role may"):
        row = await connection.fetchrow(_DESCRIBE_ROLE)
    if row is None:
        return
    needed = connections_needed(settings)
    limits = {
        f"the role {row['rolname']} (ALTER ROLE ... CONNECTION LIMIT)": row["rolconnlimit"],
        "the database (ALTER DATABASE ... CONNECTION LIMIT)": row["datconnlimit"],
        "the server (max_connections)": row["server_limit"],
    }
    for whose, limit in limits.items():
        bound = limit >= 0 and not (row["rolsuper"] and "max_connections" not in whose)
        if bound and limit < needed:
            yield _Line(
                _Kind.FIX,
                f"up to {needed} connections are needed, and the limit of {whose} is {limit}; raise it, or lower "
                "limits.jobs and those beside them, limits.streams and database.pool_size",
            )


def connections_needed(settings: Settings) -> int:
    """How many connections a daemon has at most: pools, one for each service that has its own, and those of jobs."""
    limits = settings.limits
    own = (
        max(settings.database.pool_size, limits.jobs + 2)
        + CONTROL_CONNECTIONS
        + len(("listener", "pruner", "entities"))
    )
    return own + Slots.of(limits).readers * (limits.streams + 1)


def _entities_of(settings: Settings, catalog: Catalog) -> dict[str, list[EntityCode]]:
    found: dict[str, list[EntityCode]] = {}
    for declared in declarations(settings, catalog):
        found.setdefault(declared.organization, []).extend(declared.entities)
    return found


def _control_problems(control: ControlSettings) -> list[str]:
    """The problems that prevent serving the API. Blocking."""
    problems: list[str] = []
    looks: tuple[Callable[[ControlSettings], str | None], ...]
    looks = (_check_groups, _check_signing_key, _check_certificate)
    for look in looks:
        try:
            problem = look(control)
        except SettingsError as error:
            problem = error.sentence
        problems += [problem] if problem else []
    return problems


def _check_groups(control: ControlSettings) -> None:
    group_ids((*control.operators, *control.admins, *([control.group] if control.group else [])))
    if control.proxy_user:
        proxy_user_id(control.proxy_user)


def _check_signing_key(control: ControlSettings) -> None:
    if control.signing_key_file is not None:
        read_signing_key(control.signing_key_file)


def _check_certificate(control: ControlSettings) -> str | None:
    certificate = certificate_of(control)
    return None if certificate is None else certificate.doubt()


async def _destinations(settings: Settings, database: Connector) -> AsyncIterator[_Line]:
    checker = DestinationChecker(DestinationOpener(settings), SystemClock())
    known = await find_destinations(settings, database)
    for sentence in known.problems:
        yield _Line(_Kind.FIX, sentence)
    for declared in known.found:
        name = f"destination {declared.code} of {declared.organization}"
        try:
            result = await checker.check(declared, measures=False)
        except ExportdError as error:
            yield _Line(_Kind.FIX, f"{name}: {error.sentence}")
            continue
        if result.verdict is CheckVerdict.GOOD:
            wanting = ", ".join(PURPOSES[permission].what for permission in result.lacking)
            yield _Line(_Kind.OK, f"{name}{f'; exportd may not: {wanting}' if wanting else ''}")
        for sentence in summary(result, kind=declared.type):
            yield _Line(_Kind.FIX, f"{name}: {sentence}")
        for left in result.left_over:
            yield _Line(_Kind.NOTE, f"left over: {left}")
        if result.lacking:
            command = f"exportd destination check {declared.code} --organization {declared.organization}"
            yield _Line(_Kind.NOTE, f"`{command}` says what to grant")


async def _database_problems(database: Connector, connection: Connection, catalog: Catalog) -> AsyncIterator[str]:
    async with database.reading("check") as reader:
        problems = await checker.check(catalog, reader)
    for problem in problems:
        yield str(problem)
    if await pending(connection):
        yield "exportd's tables are not there yet: `exportd run` or `exportd capture install` makes them"
        return
    if problems:
        return
    installer = CaptureInstaller(database, pause=anyio.sleep)
    for capture in await installer.status(list(catalog.entities.values())):
        if capture.findings:
            yield f"capture of {capture.entity}: {'; '.join(capture.findings)}; `exportd capture install` repairs it"
