"""Jobs in a database of their own, and ways to move them on without waiting."""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

from exportd.database.connector import Connection, Pool
from exportd.jobs.job_record import JobRecord
from exportd.jobs.job_table import JobTable
from exportd.model.entity import EntityCode
from exportd.model.job import JobId, Lease, Part
from exportd.model.schedule import DestinationCode, ScheduleId
from exportd.model.start import Position

SPOOL = UUID(int=0x5B001)
OTHER_SPOOL = UUID(int=0x5B002)
NOON = datetime(2026, 3, 9, 12, tzinfo=UTC)
ACCOUNTS = EntityCode("ACCOUNTS")
PLANS = EntityCode("PLANS")
LAKE = DestinationCode("lake")
LEASE_S = 60.0
_ALL = "SELECT id FROM exportd.job"
ATTEMPTS = 5

PARTS = (
    Part(ACCOUNTS, 1, "accounts.csv.gz", 10, 1000, 100, "aa" * 32),
    Part(ACCOUNTS, 2, "accounts.0002.csv.gz", 5, 500, 50, "bb" * 32),
    Part(PLANS, 1, "plans.csv.gz", 0, 20, 40, "cc" * 32),
)


@dataclass(frozen=True)
class PostgresJobs:
    """The table under test, and a connection beside it."""

    table: JobTable
    pool: Pool
    connection: Connection

    async def add_schedule(self, code: str = "nightly") -> ScheduleId:
        return ScheduleId(
            await self.connection.fetchval(
                """INSERT INTO exportd.schedule
                       (organization, code, name, entities, format, destinations, rule, next_due_at)
                   VALUES ('org-1', $1, $1, '{ACCOUNTS,PLANS}', 'CSV', '{lake}', '{"cron": "0 2 * * *"}', $2)
                   RETURNING id""",
                code,
                NOON,
            )
        )

    async def add_job(
        self,
        *,
        organization: str = "org-1",
        schedule_id: ScheduleId | None = None,
        due_at: datetime = NOON,
        not_before: timedelta = timedelta(0),
    ) -> JobId:
        """Queue a job; ``not_before`` is relative to the server's now."""
        return JobId(
            await self.connection.fetchval(
                """INSERT INTO exportd.job
                       (organization, schedule_id, schedule_code, due_at, entities, format, destinations,
                        not_before)
                   VALUES ($1, $2, 'nightly', $3, '{ACCOUNTS,PLANS}', 'CSV', '{lake}', clock_timestamp() + $4)
                   RETURNING id""",
                organization,
                schedule_id,
                due_at,
                not_before,
            )
        )

    async def positions(self, schedule_id: ScheduleId) -> Mapping[EntityCode, Position]:
        return (await self.table.start(schedule_id)).positions

    async def records(self) -> list[JobRecord]:
        found = [await self.table.get(JobId(row["id"])) for row in await self.connection.fetch(_ALL)]
        return [record for record in found if record is not None]

    async def claim(
        self, *, holder: str = "alpha", spool_id: UUID = SPOOL, attempt_limit: int = ATTEMPTS
    ) -> Lease | None:
        return await self.table.claim(holder=holder, lease_s=LEASE_S, spool_id=spool_id, attempt_limit=attempt_limit)

    async def claimed(self, *, holder: str = "alpha", spool_id: UUID = SPOOL) -> Lease:
        lease = await self.claim(holder=holder, spool_id=spool_id)
        assert lease is not None
        return lease

    async def seal(self, lease: Lease, *, spool_id: UUID = SPOOL) -> None:
        await self.table.seal(lease, parts=PARTS, extraction=json.dumps({"rows": 15}), spool_id=spool_id)

    async def end_lease(self, job_id: JobId) -> None:
        """Let the job's lease end in the past, as if its holder had stopped."""
        await self.connection.execute(
            "UPDATE exportd.job SET lease_until = clock_timestamp() - interval '1 ms' WHERE id = $1", job_id
        )

    async def make_due(self, job_id: JobId) -> None:
        """Let the back-off of a job that was put back pass."""
        await self.connection.execute(
            "UPDATE exportd.job SET not_before = clock_timestamp() WHERE id = $1",
            job_id,
        )

    async def row(self, job_id: JobId) -> "asyncpg.Record":
        row = await self.connection.fetchrow("SELECT * FROM exportd.job WHERE id = $1", job_id)
        assert row is not None
        return row


def reached(
    job_id: JobId,
    *entities: EntityCode,
    snapshot: str = "100:105:101,103",
    guards: dict[str, Any] | None = None,
) -> list[Position]:
    return [
        Position(
            entity=entity,
            job_id=job_id,
            snapshot=snapshot,
            taken_at=NOON,
            guards=json.loads(json.dumps(guards or {"columns": "x"})),
            destinations=(LAKE,),
        )
        for entity in entities
    ]


Write = Callable[[PostgresJobs, Lease], Awaitable[object]]
"""One of the writes that a holder makes under its lease."""
