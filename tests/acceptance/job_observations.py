"""Waits for a moment of a job by what can be observed from outside: files that appeared, states, progress."""

from pathlib import Path
from uuid import UUID

import asyncpg

from tests.fixtures.daemon import files_in, until


async def until_seen(things: int, connection: "asyncpg.Connection[asyncpg.Record]", job: UUID, *folders: Path) -> None:
    """Wait until so many things of a job have been seen, in its row and in spools and destinations; or it has ended."""
    before, found = files_in(*folders), set[object]()

    async def enough() -> bool:
        found.update(files_in(*folders) - before)
        row = await connection.fetchrow("SELECT state, phase, progress::text FROM exportd.job WHERE id = $1", job)
        found.add(row)
        return len(found) >= things or row is None or row["state"] not in {"PENDING", "RUNNING"}

    await until(enough, what=f"{things} things to be seen")
