"""Schedules in a database of their own, a connection beside them, and the events that are sent."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from exportd.database.connector import Pool
from exportd.model.change_log import EVENTS_CHANNEL
from exportd.model.entity import EntityCode, OrganizationId
from exportd.model.job import JobId
from exportd.model.schedule import (
    Cron,
    DestinationCode,
    ExportFormat,
    Interval,
    Rule,
    Schedule,
    ScheduleDeclaration,
    Unit,
)
from exportd.schedules.firing_table import Firing, ScheduleTable
from tests.fixtures.runs import fire_now

if TYPE_CHECKING:
    import asyncpg

ACME = OrganizationId("acme")
NOON = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)
HOURLY = Interval(Unit.HOUR, 1)
DAILY = Interval(Unit.DAY, 1, 2)
NIGHTLY = Cron("0 2 * * *")


def declare(
    code: str = "nightly",
    *,
    organization: str = ACME,
    rule: Rule = HOURLY,
    entities: tuple[str, ...] = ("ACCOUNTS", "PLANS"),
) -> ScheduleDeclaration:
    return ScheduleDeclaration(
        OrganizationId(organization),
        code,
        f"The {code} one",
        tuple(EntityCode(entity) for entity in entities),
        ExportFormat.JSONL,
        (DestinationCode("lake"), DestinationCode("attic")),
        rule,
    )


@dataclass
class PostgresSchedules:
    """``events`` are the payloads that have arrived so far; ``new_events`` waits for them."""

    table: ScheduleTable
    pool: Pool
    connection: "asyncpg.Connection[asyncpg.Record]"
    events: list[dict[str, Any]] = field(default_factory=list)

    async def listen(self) -> None:
        def note(_connection: object, _pid: int, _channel: str, payload: object) -> None:
            self.events.append(json.loads(str(payload)))

        await self.connection.add_listener(EVENTS_CHANNEL, note)

    async def new_events(self) -> list[dict[str, Any]]:
        """The events of everything that was committed before this call."""
        await self.connection.fetchval("SELECT 1")  # notifications come before the answer
        events, self.events = self.events, []
        return events

    async def declared(self, *declarations: ScheduleDeclaration, now: datetime = NOON) -> list[Schedule]:
        """The schedules after reconciling with these, and no event left."""
        await self.table.reconcile(declarations or [declare()], now=now)
        await self.new_events()
        return await self.table.all()

    async def fire(self, schedule: Schedule, *, due_at: datetime, next_due_at: datetime, now: datetime) -> JobId | None:
        """The job that was queued, if any."""
        jobs = await self.table.fire([Firing(schedule, due_at, next_due_at)], now=now)
        return jobs.get(schedule.id)

    async def run(self, code: str) -> JobId:
        """One more run, which a person asks for."""
        return await fire_now(self.pool, code)

    async def jobs(self) -> "list[asyncpg.Record]":
        return await self.connection.fetch("SELECT * FROM exportd.job ORDER BY created_at, due_at")

    async def finish_jobs(self) -> None:
        await self.connection.execute("UPDATE exportd.job SET state = 'SUCCEEDED'")

    async def add_positions(self, schedule: Schedule, *entities: str) -> None:
        await self.connection.executemany(
            """INSERT INTO exportd.position (schedule_id, entity, job_id, snapshot, taken_at, guards, destinations)
               VALUES ($1, $2, $3, '10:20:', now(), '{}', '{}')""",
            [(schedule.id, entity, uuid4()) for entity in entities],
        )

    async def positions(self, schedule_id: UUID) -> set[str]:
        rows = await self.connection.fetch("SELECT entity FROM exportd.position WHERE schedule_id = $1", schedule_id)
        return {row["entity"] for row in rows}
