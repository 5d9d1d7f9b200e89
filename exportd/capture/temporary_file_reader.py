"""How large a statement on a captured table may be, where ``temp_file_limit`` is set.

Postgres keeps the rows of a statement for triggers of statements: in memory up to ``work_mem``, beyond it in temporary
files, whose size the setting limits for the application's session. An UPDATE has its rows there twice, old and new.
"""

from collections.abc import Iterable

from exportd.database import queries
from exportd.database.connector import Connection
from exportd.database.translator import translated
from exportd.model.entity import CaptureLevel, Entity

_SQL = queries.load("changes")

_MB = 1_000_000


async def temp_file_warnings(connection: Connection, entities: Iterable[Entity]) -> list[str]:
    """A sentence for each limit of the server, of the database, and of roles; none when no entity is concerned.

    Raises TransientError or PermanentError when the database cannot be read.
    """
    if all(entity.capture is CaptureLevel.ROW for entity in entities):
        return []
    with translated("reading the limits of temporary files"):
        rows = await connection.fetch(_SQL["temp_file_limits"])
    return [_sentence(row["owner"], row["bytes"]) for row in rows]


def _sentence(owner: str, limit: int) -> str:
    return (
        f"temp_file_limit of {owner} is {_size(limit)}: on a captured table, a statement that changes more than that "
        f"of rows fails (an UPDATE more than {_size(limit // 2)}). Raise it, change fewer rows at once, or write "
        'capture = "row" in the catalog for tables that have such statements'
    )


def _size(size: int) -> str:
    return f"{size / _MB:,.1f} MB"
