"""One of two databases in which the same things happen to a schedule: in one of them, old rows are deleted meanwhile.

What a run and a person are told is compared, with jobs called by number: the ids differ. Snapshots are made up, and
lower than those of the server.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from exportd.database import queries
from exportd.database.connector import Pool
from exportd.delivery.tables import PublicationTable
from exportd.jobs.job_table import JobTable
from exportd.model.entity import EntityCode, OrganizationId
from exportd.model.errors import FullReason, PermanentError, Reason
from exportd.model.extraction import EntityExtraction, Extraction, Mode
from exportd.model.job import JobId, Lease, Publication
from exportd.model.schedule import DestinationCode, ExportFormat, Interval, ScheduleDeclaration, ScheduleId, Unit
from exportd.model.start import Start
from exportd.schedules.firing_table import ScheduleTable
from exportd.schedules.operations import ScheduleOperator
from tests.fixtures.runs import fire_now
from tests.integration.jobs.postgres_jobs import LEASE_S, PARTS

ORGANIZATION = OrganizationId("org-1")

_CHANGES = queries.load("changes")
_PAST_WINDOWS = queries.load("schedule_operations")["past_windows"]
_FAILED_SCHEDULES = queries.load("metrics")["failed_schedules"]


@dataclass
class Twin:
    """A schedule, what has become of it, and what its destinations remember."""

    pool: Pool
    code: str
    schedule: ScheduleId = field(default_factory=lambda: ScheduleId(UUID(int=0)))
    lease: Lease | None = None
    extraction: Extraction | None = None
    notes: dict[str, Publication] = field(default_factory=dict)
    jobs: list[JobId] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.table = JobTable(self.pool, spool_grace_s=-1)

    @property
    def held(self) -> Lease:
        assert self.lease is not None
        return self.lease

    @property
    def sealed(self) -> Extraction:
        assert self.extraction is not None
        return self.extraction

    async def declare(self, entities: Collection[str], destinations: Collection[str]) -> None:
        """Make the schedule, or edit it."""
        declaration = ScheduleDeclaration(
            organization=ORGANIZATION,
            code=self.code,
            name=self.code,
            entities=tuple(map(EntityCode, entities)),
            file_format=ExportFormat.CSV,
            destinations=tuple(map(DestinationCode, destinations)),
            rule=Interval(Unit.DAY, 1),
        )
        await ScheduleTable(self.pool).reconcile([declaration], now=datetime.now(UTC))
        (schedule,) = await ScheduleTable(self.pool).all()
        self.schedule = schedule.id

    async def delete(self) -> None:
        await ScheduleTable(self.pool).reconcile([], now=datetime.now(UTC))

    async def fire(self) -> object:
        """Queue a job; which schedules count as failed before."""
        failed = [dict(row) for row in await self.pool.fetch(_FAILED_SCHEDULES)]
        await fire_now(self.pool, self.code)
        await self.number()
        return failed

    async def number(self) -> None:
        """Give the jobs that there are now the next numbers."""
        rows = await self.pool.fetch(
            "SELECT id FROM exportd.job WHERE schedule_id = $1 ORDER BY created_at", self.schedule
        )
        self.jobs += [JobId(row["id"]) for row in rows if row["id"] not in self.jobs]

    async def begin(self, spool: UUID) -> str:
        """Claim the job: for an attempt, or to take it over from a dead holder."""
        await self.pool.execute(
            "UPDATE exportd.job SET not_before = clock_timestamp(), lease_until = clock_timestamp() - interval '1 s' "
            "WHERE state IN ('PENDING', 'RUNNING')"
        )
        self.lease = await self.table.claim(holder="test", lease_s=LEASE_S, spool_id=spool, attempt_limit=99)
        return self.held.phase

    async def seal(self, number: int, taken_at: datetime, readable: Collection[str], spool: UUID) -> object:
        """Decide what is read, as a run does, and seal it; what was decided from."""
        job, lease = self.held.job, self.held
        held = {place: note for place, note in self.notes.items() if place in readable}
        publications = PublicationTable(self.pool)
        foreign = await publications.unknown(self.schedule, held)
        start = await self.table.start(self.schedule)
        self.extraction = Extraction(
            snapshot=f"{number}:{number}:",
            wal_position="0/0",
            taken_at=taken_at,
            entities=tuple(_extracted(entity, start, set(job.destinations), number) for entity in job.entities),
        )
        text, documents = self.extraction.to_text(), self.extraction.documents()
        await self.table.seal(lease, parts=PARTS, extraction=text, documents=documents, spool_id=spool)
        return [sorted(foreign), self._told(start), self._plain(await self.table.extraction(job.id))]

    async def record(self, readable: Collection[str]) -> None:
        """Write down what the places are told next."""
        places: dict[str, str | None] = {
            place: self.notes[place].token if place in self.notes and place in readable else None
            for place in self.held.job.destinations
        }
        await PublicationTable(self.pool).record(self.held, self._publication().token, places)
        await self.table.publishing(self.held)

    async def publish(self, destination: DestinationCode, *, delivers: bool) -> object:
        """Leave a note, and perhaps deliver everything; what the manifest says of the past."""
        job = self.held.job
        last = await self.table.last_delivery(self.schedule, destination, other_than=job.id)
        redelivered = await self.table.redelivered(self.schedule, destination, self.sealed.windows(), other_than=job.id)
        halfway = await self.table.failed_halfway(self.schedule)
        self.notes[destination] = self._publication()
        if delivers:
            await self.table.record_delivery(self.held, destination, f"digest of {self.jobs.index(job.id)}")
        return [
            last and (self.jobs.index(last[0]), last[1]),
            [self.jobs.index(other) for other in redelivered],
            [self.jobs.index(record.job.id) for record in halfway],
        ]

    async def delivered(self) -> bool:
        """Whether each destination has everything of the job."""
        deliveries = await self.table.deliveries(self.held.job.id)
        return {delivery.destination for delivery in deliveries} == set(self.held.job.destinations)

    async def end(self, *, succeeds: bool) -> None:
        if succeeds:
            await self.table.succeed(self.held, positions=self.sealed.positions(self.held.job))
        else:
            await self.table.fail(self.held, reason=Reason.DESTINATION_REFUSED, message="no")
        self.lease = None

    async def put_back(self) -> None:
        await self.table.put_back(
            self.held, after_s=0, counts_attempt=False, reason=Reason.DESTINATION_UNAVAILABLE, message="later"
        )
        self.lease = None

    async def settle(self, found: bool) -> object:
        """What the cleaner does with what failed jobs left."""
        settled = []
        for record in await self.table.failed_halfway(self.schedule):
            number = self.jobs.index(record.job.id)
            for destination in record.job.destinations:
                if found and destination not in {delivery.destination for delivery in record.deliveries}:
                    await self.table.record_found_delivery(record.job.id, destination, f"digest of {number}")
            await self.table.mark_cleared(record.job.id)
            settled.append(number)
        return settled

    async def let_go(self) -> None:
        await self.pool.execute(_CHANGES["let_go"], 0.0)

    async def expire(self, query: str) -> None:
        await self.pool.execute(_CHANGES[query], 0.0)

    async def refresh(self, entity: str) -> None:
        await ScheduleOperator(self.pool).refresh(self.schedule, EntityCode(entity), at_once=False, actor="test")

    async def backfill(self, number: int) -> object:
        """Go back to a job; where entities begin, or why not."""
        try:
            backfill = await ScheduleOperator(self.pool).backfill(self.schedule, self.jobs[number], actor="test")
        except PermanentError as error:
            return error.reason
        await self.number()
        return self._plain([request.to_json() for request in backfill.requests])

    async def can_go_back(self, number: int) -> bool:
        """Whether a back-fill to the job would be more than a complete run."""
        rows = await self.pool.fetch(_PAST_WINDOWS, self.schedule, self.jobs[number])
        return any(row["incremental"] and row["logged"] for row in rows)

    def _publication(self) -> Publication:
        return Publication(self.held.job.id, self.sealed.snapshot, "0/0", self.sealed.taken_at)

    def _told(self, start: Start) -> object:
        positions = {
            entity: [self.jobs.index(position.job_id), position.snapshot, position.expired, position.guards]
            for entity, position in start.positions.items()
        }
        return json.loads(json.dumps([positions, dict(start.forced)]))

    def _plain(self, document: object) -> object:
        """The document with numbers instead of ids."""
        text = json.dumps(document)
        for number, job in enumerate(self.jobs):
            text = text.replace(str(job), f"job {number}")
        return json.loads(text)


def _extracted(entity: EntityCode, start: Start, destinations: set[DestinationCode], number: int) -> EntityExtraction:
    position = start.positions.get(entity)
    reason: FullReason | None = None
    if position is None:
        reason = FullReason.ENTITY_ADDED
    elif position.expired:
        reason = FullReason.HORIZON_PASSED
    elif not destinations <= set(position.destinations):
        reason = FullReason.DESTINATION_ADDED
    reason = start.forced.get(entity, reason)
    return EntityExtraction(
        entity=entity,
        type_token=entity.lower(),
        mode=Mode.FULL if reason else Mode.INCREMENTAL,
        full_reason=reason,
        previous=None if position is None else position.snapshot,
        rows=1,
        deleted_rows=0,
        key=("id",),
        tenant=None,
        fields=(),
        guards={"read by": number},
    )
