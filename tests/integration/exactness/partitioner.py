"""A session that adds partitions to a table, empty or with rows, and removes old ones, while others write it."""

import asyncio
import random
from collections import Counter

import asyncpg

from exportd.database.connector import Connection

_MAX_PARTITIONS = 6


class Partitioner:
    """Keeps the partitions of ``visit``; ``hours`` are those that are there, ``counts`` what was done."""

    def __init__(self, connection: Connection, seed: object) -> None:
        self._connection = connection
        self._random = random.Random(f"{seed}/partitions")
        self._asked = asyncio.Event()
        self._last = 0
        self.hours: list[int] = []
        self.counts: Counter[str] = Counter()

    def hurry(self) -> None:
        """Change a partition soon, at a random moment."""
        self._asked.set()

    async def run(self, until: asyncio.Event) -> None:
        """Work until the event is set."""
        await self._connection.execute("SET lock_timeout = '500ms'")
        while True:
            await self._asked.wait()
            if until.is_set():
                return
            self._asked.clear()
            await asyncio.sleep(self._random.random() * 0.1)
            try:
                if len(self.hours) > _MAX_PARTITIONS:
                    await self._remove(self._random.choice(self.hours[:-2]))
                else:
                    await self._add()
            except asyncpg.LockNotAvailableError:
                self.counts["partitions put off"] += 1

    async def _add(self) -> None:
        hour, name = self._last + 1, f"public.visit_{self._last + 1}"
        bounds = f"FOR VALUES FROM ({hour}) TO ({hour + 1})"
        kind = self._random.choice(("created", "attached", "attached", "attached", "attached with rows"))
        async with self._connection.transaction():
            if kind == "created":
                await self._connection.execute(f"CREATE TABLE {name} PARTITION OF public.visit {bounds}")
            else:
                columns = ["org text NOT NULL", "id int NOT NULL", "hour int NOT NULL", "stamp text NOT NULL"]
                self._random.shuffle(columns)
                await self._connection.execute(f"CREATE TABLE {name} ({', '.join(columns)})")
                if kind == "attached with rows":
                    await self._connection.execute(
                        f"INSERT INTO {name} (org, id, hour, stamp) VALUES ('o1', -{hour}, {hour}, 'attached')"
                    )
                await self._connection.execute(f"ALTER TABLE public.visit ATTACH PARTITION {name} {bounds}")
        self._last = hour
        self.hours.append(hour)
        self.counts[f"partitions {kind}"] += 1

    async def _remove(self, hour: int) -> None:
        if self._random.random() < 0.5:
            await self._connection.execute(f"DROP TABLE public.visit_{hour}")
        else:
            # Dropped at once: a writer that waits for it must not write into a table that is no partition any more.
            await self._connection.execute(
                f"ALTER TABLE public.visit DETACH PARTITION public.visit_{hour}; DROP TABLE public.visit_{hour}"
            )
        self.hours.remove(hour)
        self.counts["partitions removed"] += 1
