"""The writers' own record of what they wrote, kept in the same transactions, and a way to read it without trusting
snapshots' transaction numbers: the numbers are handed out here, and who is still writing is known here.
"""

from collections import Counter
from collections.abc import Sequence

from asyncpg import Record

from exportd.database.connector import Connection
from tests.integration.exactness.tables import ENTITIES, GROWING_ENTITIES

_KEYS: dict[str, tuple[str, ...]] = {entity.code: entity.key for entity in (*ENTITIES, *GROWING_ENTITIES)}
_RECORD = """
INSERT INTO public.touch (number, entity, org, key, stamp)
SELECT n.number, $2, n.org, string_to_array(n.key, E'\\x1f'), n.stamp
FROM unnest($1::bigint[], $3::text[], $4::text[], $5::text[]) AS n (number, org, key, stamp)
"""


class TouchBook:
    """Numbers every touch. A record's touches are numbered in the order of its changes: the number is taken while the
    writer still holds the record's lock.
    """

    def __init__(self) -> None:
        self._next = 1
        self._open: dict[int, int] = {}
        self.counts: Counter[str] = Counter()

    def begin(self, writer: int) -> None:
        """From now on until ``end`` the writer's touches may appear."""
        self._open[writer] = self._next

    def end(self, writer: int) -> None:
        self._open.pop(writer, None)

    @property
    def floor(self) -> int:
        """Whatever has a lower number is committed already, or never will be."""
        return min(self._open.values(), default=self._next)

    async def record(self, connection: Connection, code: str, rows: Sequence[Record]) -> None:
        """Note the rows that a statement left (its RETURNING), in the statement's own transaction."""
        if not rows:
            return
        numbers = list(range(self._next, self._next + len(rows)))
        self._next += len(rows)
        await connection.execute(
            _RECORD,
            numbers,
            code,
            [row.get("org") for row in rows],
            ["\x1f".join(str(row[name]) for name in _KEYS[code]) for row in rows],
            [row["stamp"] for row in rows],
        )
