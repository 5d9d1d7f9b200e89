"""Queues jobs of many schedules, so that daemons find all of them at once."""

from collections.abc import Iterable
from uuid import UUID

from exportd.database.connector import Connector
from tests.fixtures.daemon import Site
from tests.fixtures.runs import fire_now

_LOOK = """SELECT pg_notify('exportd_events', '{"kind": "job_queued"}')"""


async def fire_together(site: Site, codes: Iterable[str]) -> list[UUID]:
    """Queue a job of each schedule during a pause, which ends when all are there."""
    async with Connector(site.database.dsn, application_name="test").pool(1) as pool:
        await pool.execute("INSERT INTO exportd.pause (paused_by) VALUES ('test')")
        jobs = [UUID(str(await fire_now(pool, code))) for code in codes]
        await pool.execute("DELETE FROM exportd.pause")
        await pool.execute(_LOOK)
    return jobs
