"""An application's connection: transactions of random length, level and end, that write in every way there is.

Every statement stamps the rows it writes with a stamp of its own and hands what it left to the touch book, inside the
same (sub)transaction. What may fail in an application (a lock, a conflict, a key that is taken) fails here too, and is
rolled back; what fails because of capture is a fault.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence

import asyncpg
from asyncpg import Record

from exportd.database.connector import Connection
from tests.integration.exactness.tables import RELATIONS
from tests.integration.exactness.write_journal import TouchBook

_LEVELS = ("READ COMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")
_ORGANIZATIONS = ("o1", "o2", "o3", "o4")
_PLAIN_KEYS, _PAIR_KEYS, _SPLIT_KEYS, _VISIT_KEYS = 120, 12, 180, 15

_LOCK_TIMEOUT = "150ms"

_CONFLICTS = (
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.LockNotAvailableError,
)
_REFUSED = (
    asyncpg.UniqueViolationError,
    asyncpg.ForeignKeyViolationError,
    asyncpg.CheckViolationError,  # no partition for the row, or not this one
    asyncpg.UndefinedTableError,  # the partition has been removed
    asyncpg.CardinalityViolationError,  # ON CONFLICT or MERGE would touch a row twice
)

STEPS = {
    "insert_plain": 8,
    "update_plain": 8,
    "delete_plain": 4,
    "move_plain_key": 3,
    "move_plain_tenant": 5,
    "upsert_plain": 4,
    "merge_plain": 3,
    "copy_plain": 2,
    "replace_plain": 2,
    "insert_pair": 5,
    "update_pair": 4,
    "shift_pairs": 2,
    "swap_pairs": 2,
    "delete_pair": 3,
    "merge_pair": 2,
    "insert_split": 8,
    "update_split": 6,
    "move_split": 4,
    "delete_split": 4,
    "merge_split": 3,
    "insert_child": 6,
    "update_child": 4,
    "delete_child": 2,
}
"""What a transaction consists of, with weights; names of the writer's methods."""

VISIT_STEPS = {"insert_visit": 6, "update_visit": 4, "move_visit": 4, "delete_visit": 4}
"""The same for the application whose table gets new partitions."""


class Writer:
    """One of the application's connections. ``counts`` tells what was committed.

    It writes ``visit`` alone if it is given the ``hours`` for which there are partitions, which change.
    """

    def __init__(
        self, number: int, connection: Connection, seed: object, book: TouchBook, hours: Sequence[int] | None = None
    ) -> None:
        self._hours = () if hours is None else hours
        self._steps = STEPS if hours is None else VISIT_STEPS
        self._number = number
        self._connection = connection
        self._random = random.Random(f"{seed}/{number}")
        self._book = book
        self._stamps = 0
        self._done: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()

    async def run(self, until: asyncio.Event) -> None:
        """Write until the event is set; then nothing is left open."""
        # Prepared transactions hold locks where the server cannot see a deadlock.
        await self._connection.execute(f"SET lock_timeout = '{_LOCK_TIMEOUT}'")
        while not until.is_set():
            self._book.begin(self._number)
            try:
                await self._transaction()
            finally:
                self._book.end(self._number)
            await asyncio.sleep(self._random.random() * 0.01)

    # --- transactions -------------------------------------------------------------------------------------------

    async def _transaction(self) -> None:
        self._done.clear()
        level = self._random.choice(_LEVELS)
        await self._connection.execute(f"BEGIN ISOLATION LEVEL {level}")
        try:
            if self._steps is STEPS and self._random.random() < 0.03:
                await self._truncate(level)
            await self._several_steps(depth=1)
            await self._end()
        except (*_CONFLICTS, *_REFUSED) as error:
            _refuse_blame(error)
            await self._connection.execute("ROLLBACK")
            self.counts["conflicts" if isinstance(error, _CONFLICTS) else "refused"] += 1

    async def _end(self) -> None:
        chance = self._random.random()
        if chance < 0.15:
            await self._connection.execute("ROLLBACK")
            self.counts["rolled back"] += 1
        elif chance < 0.27:
            await self._end_in_two_phases()
        else:
            await self._connection.execute("COMMIT")
            self.counts.update(self._done)

    async def _end_in_two_phases(self) -> None:
        name = f"two phases {self._number}"
        await self._connection.execute(f"PREPARE TRANSACTION '{name}'")
        await asyncio.sleep(self._random.random() * 0.1)
        if self._random.random() < 0.7:
            await self._connection.execute(f"COMMIT PREPARED '{name}'")
            self.counts.update(self._done)
            self.counts["prepared and committed"] += 1
        else:
            await self._connection.execute(f"ROLLBACK PREPARED '{name}'")
            self.counts["prepared and rolled back"] += 1

    async def _several_steps(self, depth: int) -> None:
        for _ in range(self._random.choice((1, 1, 2, 3, 5, 8))):
            if depth < 4 and self._random.random() < 0.2:
                await self._savepoint(depth)
            else:
                [step] = self._random.choices(list(self._steps), list(self._steps.values()))
                await getattr(self, f"_{step}")()
                self._done[step] += 1
            await asyncio.sleep(self._random.choice((0.0, 0.001, 0.002, 0.01, 0.05)))

    async def _savepoint(self, depth: int) -> None:
        await self._connection.execute(f"SAVEPOINT s{depth}")
        done = self._done.copy()
        try:
            await self._several_steps(depth + 1)
        except _REFUSED as error:
            _refuse_blame(error)
            keep = False
        else:
            keep = self._random.random() < 0.6
        if not keep:
            await self._connection.execute(f"ROLLBACK TO SAVEPOINT s{depth}")
            self._done = done
            self._done["savepoints rolled back"] += 1
        elif self._random.random() < 0.5:
            await self._connection.execute(f"RELEASE SAVEPOINT s{depth}")

    # --- statements ---------------------------------------------------------------------------------------------

    async def _write(self, code: str, statement: str, *arguments: object) -> list[Record]:
        """Run a statement that returns the rows it leaves; ``{stamp}`` becomes its stamp."""
        rows = await self._connection.fetch(statement.format(stamp=self._new_stamp()), *arguments)
        await self._book.record(self._connection, code, rows)
        return rows

    async def _write_stamped(self, code: str, statement: str, *arguments: object) -> None:
        """The same for a statement that cannot return rows: they are found by its stamp."""
        stamp = self._new_stamp()
        await self._connection.execute(statement.format(stamp=stamp), *arguments)
        table = RELATIONS[code][0]
        rows = await self._connection.fetch(f"SELECT * FROM public.{table} WHERE stamp = $1", stamp)
        await self._book.record(self._connection, code, rows)

    def _new_stamp(self) -> str:
        self._stamps += 1
        return f"w{self._number}-{self._stamps}"

    def _organization(self) -> str:
        return self._random.choice(_ORGANIZATIONS)

    def _some(self, limit: int) -> list[int]:
        return self._random.sample(range(limit), self._random.choice((1, 1, 1, 2, 5, 12)) % (limit - 1))

    def _relation(self, code: str) -> str:
        return self._random.choice(RELATIONS[code])

    async def _truncate(self, level: str) -> None:
        target = self._random.choice(("plain", "pair", "child", "split", "split_1", "split_2", "split_2_o1"))
        # Every other writer is in its way; with a shorter timeout it would hardly ever succeed.
        await self._connection.execute("SET LOCAL lock_timeout = '1s'")
        await self._connection.execute(f"TRUNCATE public.{target} CASCADE")
        await self._connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
        self._done["truncated" if level == "READ COMMITTED" else "truncated at a higher level"] += 1

    async def _insert_plain(self) -> None:
        tenant = self._random.choice((f"'{self._organization()}'", "NULL", "'o' || 1 + i % 4", "'o' || 1 + i % 3"))
        await self._write(
            "PLAIN",
            f"""INSERT INTO public.plain (id, org, stamp, amount, note)
            SELECT i, {tenant}, '{{stamp}}', i / 7.0, repeat('x,"', i % 5) FROM unnest($1::int[]) AS i
            ON CONFLICT DO NOTHING RETURNING *""",
            self._some(_PLAIN_KEYS),
        )

    async def _copy_plain(self) -> None:
        stamp = self._new_stamp()
        known = {row["id"] for row in await self._connection.fetch("SELECT id FROM public.plain")}
        fresh = [key for key in self._some(_PLAIN_KEYS) if key not in known]
        records = [(key, self._organization(), stamp) for key in fresh]
        await self._connection.copy_records_to_table(
            "plain", schema_name="public", records=records, columns=["id", "org", "stamp"]
        )
        rows = await self._connection.fetch("SELECT * FROM public.plain WHERE stamp = $1", stamp)
        await self._book.record(self._connection, "PLAIN", rows)

    async def _update_plain(self) -> None:
        await self._write(
            "PLAIN",
            "UPDATE public.plain SET stamp = '{stamp}', amount = id + random() WHERE id = ANY ($1::int[]) RETURNING *",
            self._some(_PLAIN_KEYS),
        )

    async def _delete_plain(self) -> None:
        await self._connection.execute("DELETE FROM public.plain WHERE id = ANY ($1::int[])", self._some(_PLAIN_KEYS))

    async def _move_plain_key(self) -> None:
        rows = await self._write(
            "PLAIN",
            "UPDATE public.plain SET stamp = '{stamp}', id = $2 WHERE id = $1 RETURNING *",
            self._random.randrange(_PLAIN_KEYS),
            self._random.randrange(_PLAIN_KEYS),
        )
        # No other writer can have given the moved record a child yet.
        children = await self._connection.fetch(
            "SELECT * FROM public.child WHERE parent_id = ANY ($1::int[])", [row["id"] for row in rows]
        )
        await self._book.record(self._connection, "CHILD", children)

    async def _move_plain_tenant(self) -> None:
        await self._write(
            "PLAIN",
            "UPDATE public.plain SET stamp = '{stamp}', org = $2 WHERE id = ANY ($1::int[]) RETURNING *",
            self._some(_PLAIN_KEYS),
            self._random.choice((*_ORGANIZATIONS, None)),
        )

    async def _upsert_plain(self) -> None:
        await self._write(
            "PLAIN",
            """INSERT INTO public.plain (id, org, stamp)
            SELECT i, $2, '{stamp}' FROM unnest($1::int[]) AS i
            ON CONFLICT (id) DO UPDATE SET stamp = excluded.stamp, org = excluded.org RETURNING *""",
            self._some(_PLAIN_KEYS),
            self._organization(),
        )

    async def _merge_plain(self) -> None:
        await self._write_stamped(
            "PLAIN",
            """MERGE INTO public.plain AS t
            USING (SELECT i, $2::text AS org FROM unnest($1::int[]) AS i) AS s ON t.id = s.i
            WHEN MATCHED AND t.id % 3 = 0 THEN DELETE
            WHEN MATCHED AND t.id % 3 = 1 THEN DO NOTHING
            WHEN MATCHED THEN UPDATE SET stamp = '{stamp}', org = s.org
            WHEN NOT MATCHED THEN INSERT (id, org, stamp) VALUES (s.i, s.org, '{stamp}')""",
            self._some(_PLAIN_KEYS),
            self._organization(),
        )

    async def _replace_plain(self) -> None:
        """Delete and insert the same keys, in one transaction or in one statement."""
        keys = self._some(_PLAIN_KEYS)
        if self._random.random() < 0.5:
            await self._connection.execute("DELETE FROM public.plain WHERE id = ANY ($1::int[])", keys)
        await self._write(
            "PLAIN",
            """WITH gone AS (DELETE FROM public.plain WHERE id = ANY ($1::int[]) RETURNING id)
            INSERT INTO public.plain (id, org, stamp)
            SELECT i, $2, '{stamp}' FROM unnest($1::int[]) AS i WHERE (SELECT count(*) FROM gone) >= 0
            RETURNING *""",
            keys,
            self._organization(),
        )

    async def _insert_pair(self) -> None:
        await self._write(
            "PAIR",
            """INSERT INTO public.pair (a, b, stamp, related)
            SELECT i, $2, '{stamp}', (SELECT max(id) FROM public.plain WHERE id < i * 10)
            FROM unnest($1::int[]) AS i
            WHERE NOT EXISTS (SELECT FROM public.pair WHERE a = i AND b = $2) RETURNING *""",
            self._some(_PAIR_KEYS),
            self._random.choice("abcdef"),
        )

    async def _update_pair(self) -> None:
        await self._write(
            "PAIR",
            """UPDATE public.pair SET stamp = '{stamp}', related = (SELECT min(id) FROM public.plain)
            WHERE a = ANY ($1::int[]) AND b = $2 RETURNING *""",
            self._some(_PAIR_KEYS),
            self._random.choice("abcdef"),
        )

    async def _shift_pairs(self) -> None:
        """Every key becomes its neighbour's."""
        await self._write(
            "PAIR",
            "UPDATE public.pair SET stamp = '{stamp}', a = a + $2 WHERE b = $1 AND a BETWEEN 0 AND 11 RETURNING *",
            self._random.choice("abcdef"),
            self._random.choice((-1, 1)),
        )

    async def _swap_pairs(self) -> None:
        one, other = self._random.sample(range(_PAIR_KEYS), 2)
        await self._write(
            "PAIR",
            """UPDATE public.pair SET stamp = '{stamp}', a = CASE a WHEN $1 THEN $2 ELSE $1 END
            WHERE a IN ($1, $2) RETURNING *""",
            one,
            other,
        )

    async def _delete_pair(self) -> None:
        await self._connection.execute(
            "DELETE FROM public.pair WHERE a = ANY ($1::int[]) AND b >= $2",
            self._some(_PAIR_KEYS),
            self._random.choice("abcdef"),
        )

    async def _merge_pair(self) -> None:
        await self._write_stamped(
            "PAIR",
            """MERGE INTO public.pair AS t
            USING (SELECT i, $2::text AS b FROM unnest($1::int[]) AS i) AS s ON t.a = s.i AND t.b = s.b
            WHEN MATCHED AND t.a % 2 = 0 THEN DELETE
            WHEN MATCHED THEN UPDATE SET stamp = '{stamp}', b = t.b || 'm'
            WHEN NOT MATCHED THEN INSERT (a, b, stamp) VALUES (s.i, s.b, '{stamp}')""",
            self._some(_PAIR_KEYS),
            self._random.choice("abcdef"),
        )

    async def _insert_split(self) -> None:
        relation = self._relation("SPLIT")
        base = self._random.choice((0, 60, 120)) if relation in {"split", "split_0"} else 60
        low = {"split_0": 0, "split_1": 60}.get(relation, base if relation == "split" else 120)
        organization = "o1" if relation == "split_2_o1" else self._organization()
        await self._write(
            "SPLIT",
            f"""INSERT INTO public.{relation} (id, org, stamp, amount, related)
            SELECT $2 + i, $3, '{{stamp}}', i / 3.0, (SELECT max(id) FROM public.plain WHERE id < i AND i % 3 = 0)
            FROM unnest($1::int[]) AS i
            ON CONFLICT (id, org) {self._random.choice(("DO NOTHING", "DO UPDATE SET stamp = excluded.stamp"))}
            RETURNING *""",
            self._some(60),
            low,
            organization,
        )

    async def _update_split(self) -> None:
        await self._write(
            "SPLIT",
            f"""UPDATE public.{self._relation("SPLIT")} SET stamp = '{{stamp}}', amount = random()
            WHERE id = ANY ($1::int[]) RETURNING *""",
            self._some(_SPLIT_KEYS),
        )

    async def _move_split(self) -> None:
        """Move records to other keys or tenants, and so to other partitions."""
        change, offset = self._random.choice((("id = id + $2", 60), ("id = id + $2", -60), ("id = id + $2", 1)))
        if self._random.random() < 0.3:
            change, offset = f"org = '{self._organization()}', amount = $2", 7
        relation = self._random.choice(("split", "split", "split", "split_2", "split_0"))
        await self._write(
            "SPLIT",
            f"""UPDATE public.{relation} SET stamp = '{{stamp}}', {change}
            WHERE id = ANY ($1::int[]) AND id + $2 BETWEEN 0 AND 179 RETURNING *""",
            self._some(_SPLIT_KEYS)[:3],
            offset,
        )

    async def _delete_split(self) -> None:
        await self._connection.execute(
            f"DELETE FROM public.{self._relation('SPLIT')} WHERE id = ANY ($1::int[])", self._some(_SPLIT_KEYS)
        )

    async def _merge_split(self) -> None:
        await self._write_stamped(
            "SPLIT",
            """MERGE INTO public.split AS t
            USING (SELECT i, $2::text AS org FROM unnest($1::int[]) AS i) AS s ON t.id = s.i AND t.org = s.org
            WHEN MATCHED AND t.id % 3 = 0 THEN DELETE
            WHEN MATCHED THEN UPDATE SET stamp = '{stamp}', amount = 0
            WHEN NOT MATCHED THEN INSERT (id, org, stamp) VALUES (s.i, s.org, '{stamp}')""",
            self._some(_SPLIT_KEYS),
            self._organization(),
        )

    async def _insert_child(self) -> None:
        await self._write(
            "CHILD",
            """INSERT INTO public.child (parent_id, line, org, stamp)
            SELECT id, $2, coalesce(org, 'o3'), '{stamp}' FROM public.plain
            WHERE id = ANY ($1::int[]) ON CONFLICT DO NOTHING RETURNING *""",
            self._some(_PLAIN_KEYS),
            self._random.randrange(3),
        )

    async def _update_child(self) -> None:
        await self._write(
            "CHILD",
            "UPDATE public.child SET stamp = '{stamp}', org = $2 WHERE parent_id = ANY ($1::int[]) RETURNING *",
            self._some(_PLAIN_KEYS),
            self._organization(),
        )

    async def _delete_child(self) -> None:
        await self._connection.execute(
            "DELETE FROM public.child WHERE parent_id % 11 = $1 AND line = $2",
            self._random.randrange(11),
            self._random.randrange(3),
        )

    def _own_visits(self) -> list[int]:
        """Nothing makes these keys unique, so no two writers have the same."""
        return [self._number * 100 + key for key in self._some(_VISIT_KEYS)]

    async def _insert_visit(self) -> None:
        """Now and then straight into a partition, which may have no trigger yet."""
        hour = self._random.choice(self._hours or [1])
        relation = f"visit_{hour}" if self._random.random() < 0.1 else "visit"
        await self._write(
            "VISIT",
            f"""INSERT INTO public.{relation} (org, id, hour, stamp)
            SELECT $2, i, $3, '{{stamp}}' FROM unnest($1::int[]) AS i
            WHERE NOT EXISTS (SELECT FROM public.visit WHERE id = i) RETURNING *""",
            self._own_visits(),
            self._organization(),
            hour,
        )

    async def _update_visit(self) -> None:
        await self._write(
            "VISIT",
            "UPDATE public.visit SET stamp = '{stamp}' WHERE id = ANY ($1::int[]) RETURNING *",
            self._own_visits(),
        )

    async def _move_visit(self) -> None:
        """Move rows to the newest partition, whose triggers may be younger than they are there."""
        await self._write(
            "VISIT",
            "UPDATE public.visit SET stamp = '{stamp}', hour = $2 WHERE id = ANY ($1::int[]) RETURNING *",
            self._own_visits(),
            max(self._hours, default=1),
        )

    async def _delete_visit(self) -> None:
        await self._connection.execute("DELETE FROM public.visit WHERE id = ANY ($1::int[])", self._own_visits())


def _refuse_blame(error: asyncpg.PostgresError) -> None:
    """An application may run into conflicts of its own making, but never into ours."""
    where = getattr(error, "context", None) or ""
    assert "exportd" not in where or isinstance(error, _CONFLICTS), f"capture made a write fail: {error} {where}"
