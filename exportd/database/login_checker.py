"""Says what the daemon's logins give up: a role with more rights than it needs, or one that does everything.

It also finds out whether a connection pooler stands between exportd and the database, and in which mode it works.
"""

from collections.abc import AsyncIterator
from enum import Enum

from exportd.database import queries
from exportd.database.connector import Connection, Connector
from exportd.database.translator import translated

_SQL = queries.load("logins")
_BACKEND = "SELECT pg_catalog.pg_backend_pid()"


class Pooling(Enum):
    """How connections reach the database."""

    DIRECT = "no pooler"
    SESSION = "a pooler that keeps a session for a connection"
    TRANSACTION = "a pooler that gives each transaction to another session"


async def doubts_about_logins(connector: Connector) -> AsyncIterator[str]:
    """Sentences for people, none where there is nothing to say.

    Raises TransientError or PermanentError when one of the logins cannot be used, or the two lead to different
    databases.
    """
    async with connector.connection("check") as owner:
        own = await _login(owner)
    if connector.reader_dsn is None:
        for sentence in _about_rights(own, "dsn"):
            yield sentence
        yield (
            f"the role {own['role']} keeps exportd's tables and reads the application's: code of a table's owner "
            "that an export runs may read exportd's tables; set database.reader_user, and run what `exportd role sql` "
            "prints"
        )
        return
    async with connector.reading("check") as reader:
        reading = await _login(reader)
    for record, key in ((own, "dsn"), (reading, "reader_user")):
        for sentence in _about_rights(record, key):
            yield sentence
    if reading["database"] != own["database"]:
        yield f"the reading login leads to the database {reading['database']}, and dsn to {own['database']}"
    if reading["readable"]:
        yield (
            f"the role {reading['role']} is to read the change logs only, and may also read {reading['readable']} of "
            "exportd's tables: REVOKE what it was granted, and its membership in other roles"
        )


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
        # A pooler invents the number by which a connection's queries are cancelled; a server gives its process's.
        return Pooling.DIRECT if first == one.get_server_pid() else Pooling.SESSION


async def _login(connection: Connection) -> "queries.Row":
    with translated("reading the rights of the login"):
        return queries.only_row(await connection.fetchrow(_SQL["login"]))


def _about_rights(login: "queries.Row", key: str) -> list[str]:
    if login["superuser"]:
        return [
            f"the role {login['role']} of database.{key} is a superuser: code of the owner of a table that an export "
            "runs may do anything in the database; use the roles that `exportd role sql` makes"
        ]
    if login["bypasses_policies"]:
        return [
            f"the role {login['role']} of database.{key} bypasses row security: it exports rows that policies hide "
            "from it; take it away with ALTER ROLE and NOBYPASSRLS unless that is meant"
        ]
    return []
