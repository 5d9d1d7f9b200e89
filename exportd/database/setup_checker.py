"""Finds doubtful settings of the database: logins with more rights than they need, a connection pooler and its mode,
and limits of temporary files.

``temp_file_limit`` limits how large a statement on a captured table may be. Postgres keeps the rows of a statement for
statement triggers: in memory up to ``work_mem``, beyond that in temporary files, which this setting limits for the
application's session. An UPDATE keeps its rows twice, old and new.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import suppress
from enum import Enum

import structlog

from exportd.database import queries
from exportd.database.connector import Connection, Connector
from exportd.database.translator import translated
from exportd.model.entity import CaptureLevel, Entity
from exportd.model.errors import ExportdError

_logger = structlog.get_logger()

_SQL = queries.load("logins")
_MB = 1_000_000

_BACKEND = "SELECT pg_catalog.pg_backend_pid()"


class Pooling(Enum):
    """How connections reach the database."""

    DIRECT = "no pooler"
    SESSION = "a pooler that keeps a session for a connection"
    TRANSACTION = "a pooler that gives each transaction to another session"


async def doubts_about_logins(connector: Connector) -> AsyncIterator[str]:
    """Sentences for people; none if there is nothing to report.

    Raises TransientError or PermanentError when one of the logins cannot be used, or the two lead to different
    databases.
    """
    logins = await _logins(connector)
    own, reading = logins["dsn"], logins.get("reader_user")
    for sentence in _about_rights(logins):
        yield sentence
    if reading is None:
        yield (
            f"the role {own['role']} keeps exportd's tables and reads the application's: code of a table's owner "
            "that an export runs may read exportd's tables; set database.reader_user, and run what `exportd role sql` "
            "prints"
        )
        return
    if reading["database"] != own["database"]:
        yield f"the reading login leads to the database {reading['database']}, and dsn to {own['database']}"
    if reading["readable"]:
        yield (
            f"the role {reading['role']} is to read the change logs only, and may also read {reading['readable']} of "
            "exportd's tables: REVOKE what it was granted, and its membership in other roles"
        )


async def excessive_rights(connector: Connector) -> list[str]:
    """Sentences for people about the logins that are a superuser or bypass row security.

    Raises TransientError or PermanentError when one of the logins cannot be used.
    """
    return list(_about_rights(await _logins(connector)))


async def note_on_dumps(connection: Connection) -> str | None:
    """A sentence if the database's owner cannot dump it; None if that works.

    Raises TransientError or PermanentError when the database cannot be asked.
    """
    with translated("looking who may dump the database"):
        owner = await connection.fetchval(_SQL["dumping_owner"])
    if owner is None:
        return None
    return (
        f"pg_dump as the database's owner {owner} fails, for {owner} may not read the schema exportd: grant exportd's "
        f"role to {owner}, or leave the schema out by -N exportd (docs/upgrading.md says what a restore then needs)"
    )


async def warn_of_rights(connector: Connector) -> None:
    """Log the sentences of ``excessive_rights``. A login that cannot be used is reported by the services that need
    it.
    """
    with suppress(ExportdError):
        for sentence in await excessive_rights(connector):
            _logger.warning("login may do too much", error=sentence)


async def daemons_of(connector: Connector) -> list[str]:
    """The hosts of the daemons that share the database; none before the first migration."""
    async with connector.connection("check") as connection:
        with translated("reading which daemons there are"):
            if not await connection.fetchval(_SQL["knows_daemons"]):
                return []
            return [str(row["host"]) for row in await connection.fetch(_SQL["daemons"])]


async def detect_pooling(connector: Connector) -> Pooling:
    """Ask with two connections at once: in transaction mode the second gets the session that the first has just used.

    Raises TransientError or PermanentError when the database cannot be asked.
    """
    async with connector.connection("check") as one, connector.connection("check") as other:
        with translated("looking for a connection pooler"):
            async with one.transaction():
                first = await one.fetchval(_BACKEND)
            async with other.transaction():
                second = await other.fetchval(_BACKEND)
        if first == second:
            return Pooling.TRANSACTION
        # A pooler invents the number for cancelling queries, while a server uses its process id.
        return Pooling.DIRECT if first == one.get_server_pid() else Pooling.SESSION


async def _logins(connector: Connector) -> "dict[str, queries.Row]":
    """The rights of the logins, by the setting that names them; ``reader_user`` only if there is a second login."""
    async with connector.connection("check") as owner:
        logins = {"dsn": await _login(owner)}
    if connector.reader_dsn is not None:
        async with connector.reading("check") as reader:
            logins["reader_user"] = await _login(reader)
    return logins


async def _login(connection: Connection) -> "queries.Row":
    with translated("reading the rights of the login"):
        return queries.only_row(await connection.fetchrow(_SQL["login"]))


def _about_rights(logins: "Mapping[str, queries.Row]") -> Iterator[str]:
    for key, login in logins.items():
        if login["superuser"]:
            yield (
                f"the role {login['role']} of database.{key} is a superuser: code of the owner of a table that an "
                "export runs may do anything in the database; use the roles that `exportd role sql` makes"
            )
        elif login["bypasses_policies"]:
            yield (
                f"the role {login['role']} of database.{key} bypasses row security: it exports rows that policies hide "
                "from it; take it away with ALTER ROLE and NOBYPASSRLS unless that is meant"
            )


async def temp_file_warnings(connection: Connection, entities: Iterable[Entity]) -> list[str]:
    """A sentence for each limit of the server, of the database and of roles; none when it affects no entity.

    Raises TransientError or PermanentError when the database cannot be read.
    """
    if all(entity.capture is CaptureLevel.ROW for entity in entities):
        return []
    with translated("reading the limits of temporary files"):
        rows = await connection.fetch(_SQL["temp_file_limits"])
    return [_about_temporary_files(row["owner"], row["bytes"]) for row in rows]


def _about_temporary_files(owner: str, limit: int) -> str:
    return (
        f"temp_file_limit of {owner} is {_size(limit)}: on a captured table, a statement that changes more than that "
        f"of rows fails (an UPDATE more than {_size(limit // 2)}). Raise it, change fewer rows at once, or write "
        'capture = "row" in the catalog for tables that have such statements'
    )


def _size(size: int) -> str:
    return f"{size / _MB:,.1f} MB"
