"""Waits until all jobs that have become due have succeeded."""

from datetime import datetime

import anyio

from benchmarks.measurement import Say
from exportd.database.connector import Connection

_PROGRESS = """
SELECT count(*) FILTER (WHERE state = 'SUCCEEDED') AS succeeded,
       count(*) FILTER (WHERE state = 'FAILED') AS failed,
       min(message) FILTER (WHERE state = 'FAILED') AS message,
       extract(epoch FROM max(finished_at) - $1)::float8 AS seconds
FROM exportd.job
WHERE created_at >= $1
"""


async def drained(
    connection: Connection, start: datetime, count: int, *, look_again_s: float, say: Say = lambda _text: None
) -> float:
    """Wait until as many jobs created since ``start`` have succeeded; the seconds from there to the last one's end.

    Raises AssertionError when one has failed.
    """
    while True:
        row = await connection.fetchrow(_PROGRESS, start)
        assert row is not None
        say(f"{row['succeeded']:,} of {count:,} jobs done")
        if row["failed"]:
            raise AssertionError(f"{row['failed']} jobs failed: {row['message']}")
        if row["succeeded"] >= count:
            return float(row["seconds"])
        await anyio.sleep(look_again_s)
