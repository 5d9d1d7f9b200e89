"""Finds out whether a connection pooler stands between exportd and the database, and in which mode it works."""

from enum import Enum

from exportd.database.connector import Connector
from exportd.database.translator import translated

_BACKEND = "SELECT pg_catalog.pg_backend_pid()"


class Pooling(Enum):
    """How connections reach the database."""

    DIRECT = "no pooler"
    SESSION = "a pooler that keeps a session for a connection"
    TRANSACTION = "a pooler that gives each transaction to another session"


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
