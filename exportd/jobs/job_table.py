"""The jobs in Postgres: claiming them, recording their steps, and reading them.

Every write of a job's holder carries the fence of its lease. When the lease has expired and another holder has taken
the job, the fence has grown. Then the write finds no row, and the old holder gets TransientError LEASE_LOST. All
methods raise TransientError when the database is out of reach and PermanentError when it refuses.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from uuid import UUID

from exportd.database import queries
from exportd.database.call_batcher import CallBatcher
from exportd.database.connector import storable
from exportd.database.unit_of_work import statements, transaction
from exportd.jobs.job_record import (
    AttemptRecord,
    DeclaredNames,
    DeliveryRecord,
    JobRecord,
    delivery_from_row,
    job_from_row,
    part_from_row,
    progress_from_json,
    progress_to_json,
    record_from_row,
)
from exportd.jobs.leases import Delivered, Heartbeat, LeaseWriter, Seal, Success, lease_lost
from exportd.jobs.shared_document_reader import SharedDocumentReader
from exportd.model.clock import boot_time
from exportd.model.entity import EntityCode, OrganizationId
from exportd.model.errors import Reason, TransientError
from exportd.model.job import JobId, JobPhase, JobProgress, JobState, Lease, LeaseState, Part
from exportd.model.schedule import DestinationCode, ScheduleId
from exportd.model.start import BackfillRequest, Position, SharedDocument, Start, start_of
from exportd.spool.retention import SpooledJob

if TYPE_CHECKING:
    import asyncpg

    from exportd.database.connector import Connection, Pool

_SQL = queries.load("jobs")

SPOOL_GRACE_S = 300.0
"""How long a sealed job waits for the daemon with its spool before another daemon may extract it again."""

SHORT_S, SHORT_BYTES = 30.0, 1_000_000
"""A job counts as short when the last run of its schedule took no longer than this and had no more content (in bytes).
For jobs that are read together, only the time of reading counts, because most of it may be that of the other jobs.
"""

CANCELLED_SENTENCE = "The job was cancelled; the audit log says by whom. A schedule's next run holds the same changes."


class JobTable:
    """``exportd.job``, ``part``, ``delivery``, ``position``. Once a job is queued, only this class writes it.

    ``declared`` returns the destinations that the configuration declares at the moment, by organization and code. A job
    that delivers to a destination of another daemon's configuration is left to that daemon. Without ``declared`` all
    jobs are taken.
    """

    def __init__(
        self,
        pool: "Pool",
        *,
        spool_grace_s: float = SPOOL_GRACE_S,
        declared: Callable[[], Sequence[tuple[str, str]]] | None = None,
    ) -> None:
        self._pool = pool
        self._declared = DeclaredNames(declared)
        self._spool_grace_s = spool_grace_s
        self._documents = SharedDocumentReader()
        writes = LeaseWriter(pool)
        self._heartbeats = CallBatcher(writes.heartbeat)
        self._last_progress = CallBatcher(writes.record_progress)
        self._seals = CallBatcher(writes.seal)
        self._publishing = CallBatcher(writes.publishing)
        self._records_of_deliveries = CallBatcher(writes.record_deliveries)
        self._successes = CallBatcher(writes.succeed)
        self._starts = CallBatcher(self._starts_of)
        self._deliveries = CallBatcher(self._deliveries_of)

    # Claiming

    async def claim(
        self,
        *,
        holder: str,
        lease_s: float,
        spool_id: UUID,
        attempt_limit: int,
        left_out: Collection[EntityCode] = (),
        only_short: bool = False,
    ) -> Lease | None:
        """Take the next job for ``lease_s`` seconds, or None when none is due that reads no entity ``left_out``.

        ``only_short`` takes a job only if it is expected to be short: the last run of its schedule took no more than
        ``SHORT_S`` and ``SHORT_BYTES``, and no request makes the next one read more.

        ``phase`` SEALED or PUBLISHING means that the spool ``spool_id`` holds the parts. A job that was sealed in a
        spool that did not come back is EXTRACTING again, without its old parts and deliveries.
        """
        asked_at = boot_time()
        async with statements(self._pool, "claiming a job") as connection:
            row = await connection.fetchrow(
                *(_SQL["claim"], holder, lease_s, spool_id, attempt_limit, self._spool_grace_s),
                *(*self._declared.arrays(), [*left_out], only_short, SHORT_S, SHORT_BYTES),
            )
        return None if row is None else _lease(row, asked_at, lease_s)

    async def claim_together(
        self, first: Lease, *, holder: str, lease_s: float, spool_id: UUID, limit: int
    ) -> tuple[Lease, ...]:
        """Take up to ``limit`` more jobs that can be read together with ``first``, which was just claimed.

        They read the same entities, this is their first attempt, and all of them are expected to read for a short time
        only, or all are the first runs of their schedules.
        """
        asked_at = boot_time()
        async with transaction(self._pool, "claiming jobs") as connection:
            await connection.execute("SET LOCAL enable_sort = off")
            rows = await connection.fetch(
                *(_SQL["claim_together"], holder, lease_s, spool_id, first.job.id, limit),
                *(*self._declared.arrays(), SHORT_S, SHORT_BYTES),
            )
        return tuple(_lease(row, asked_at, lease_s) for row in rows)

    async def seconds_to_next_due(self) -> float | None:
        """Seconds until the next job that was put back is due; None when there is none."""
        async with statements(self._pool, "looking for the next job") as connection:
            seconds: float | None = await connection.fetchval(_SQL["seconds_to_next_due"])
        return seconds

    async def fail_interrupted(self, *, attempt_limit: int) -> tuple[JobId, ...]:
        """Fail the jobs whose holders disappeared during their last attempt. Returns these jobs."""
        async with statements(self._pool, "looking for interrupted jobs") as connection:
            rows = await connection.fetch(_SQL["fail_interrupted"], attempt_limit)
        return tuple(JobId(row["id"]) for row in rows)

    async def fail_cancelled(self) -> tuple[JobId, ...]:
        """Fail the cancelled jobs whose lease has expired. Returns these jobs."""
        async with statements(self._pool, "looking for cancelled jobs") as connection:
            rows = await connection.fetch(_SQL["fail_cancelled"], CANCELLED_SENTENCE)
        return tuple(JobId(row["id"]) for row in rows)

    async def end_leases_of_spool(self, spool_id: UUID) -> tuple[JobId, ...]:
        """End the leases of dead holders that used this spool. Returns their jobs, which can be claimed at once.

        Only a daemon that has just locked the spool may call this.
        """
        async with statements(self._pool, "ending the leases of a dead daemon") as connection:
            rows = await connection.fetch(_SQL["end_leases_of_spool"], spool_id)
        return tuple(JobId(row["id"]) for row in rows)

    # Under a lease

    async def heartbeat(self, lease: Lease, progress: JobProgress | None, *, lease_s: float) -> LeaseState:
        """Extend the lease to ``lease_s`` seconds from now and write ``progress`` if given."""
        asked_at = boot_time()
        state = await self._heartbeats.ask(Heartbeat(lease, _document(progress), lease_s))
        if state is not LeaseState.LOST:
            lease.term.extend(asked_at=asked_at, lease_s=lease_s)
        return state

    async def record_progress(self, lease: Lease, progress: JobProgress) -> JobState | None:
        """Write an attempt's last progress; returns the job's state, None when the lease is lost.

        Empty progress leaves what the row has.
        """
        document = _document(None if progress == JobProgress() else progress)
        return await self._last_progress.ask((lease, document))

    async def seal(
        self,
        lease: Lease,
        *,
        parts: Sequence[Part],
        extraction: str,
        documents: Sequence[SharedDocument] = (),
        spool_id: UUID,
    ) -> None:
        """Record that every part is durable in the spool: from here on, the source is not read again.

        ``extraction`` says what was read, in JSON, and names ``documents``; the job's manifest and positions are made
        from it.
        """
        _require(await self._seals.ask(Seal(lease, parts, extraction, documents, spool_id)))

    async def publishing(self, lease: Lease) -> None:
        """Record that objects may be visible from now on."""
        _require(await self._publishing.ask(lease))

    async def record_delivery(self, lease: Lease, destination: DestinationCode, manifest_sha256: str) -> None:
        """Record that a destination has everything of the job, including its manifest."""
        _require(await self._records_of_deliveries.ask(Delivered(lease, destination, manifest_sha256)))

    async def succeed(
        self,
        lease: Lease,
        *,
        positions: Iterable[Position],
        manifest_sha256: str | None = None,
        progress: JobProgress | None = None,
    ) -> None:
        """End the job and move its schedule's positions, both or neither.

        ``manifest_sha256`` is that of its manifest in the spool, ``progress`` its last (None: the row's stays).

        An ad hoc job moves none, nor does one whose schedule was deleted; entities that are no longer in the schedule
        are left out.
        """
        _require(await self._successes.ask(Success(lease, [*positions], manifest_sha256, _document(progress))))

    async def fail(self, lease: Lease, *, reason: Reason, message: str) -> None:
        """Fail the job. Its schedule's positions stay, so the next run holds the same changes again."""
        async with statements(self._pool, "recording a job's failure") as connection:
            await _write(connection, lease, _SQL["fail"], reason, storable(message, connection))

    async def put_back(
        self, lease: Lease, *, after_s: float, counts_attempt: bool, reason: Reason, message: str
    ) -> None:
        """Give the job back, for any daemon to claim after ``after_s`` seconds. A sealed one keeps its phase."""
        async with statements(self._pool, "putting a job back") as connection:
            told = storable(message, connection)
            await _write(connection, lease, _SQL["put_back"], after_s, counts_attempt, reason, told)

    # Reading

    async def get(self, job_id: JobId) -> JobRecord | None:
        """A job with its parts, deliveries and attempts."""
        async with statements(self._pool, "reading a job") as connection:
            records = await _records(connection, await connection.fetch(_SQL["get"], job_id))
            attempts = await connection.fetch(_SQL["attempts"], job_id)
        return replace(records[0], attempts=tuple(AttemptRecord(**row) for row in attempts)) if records else None

    async def progress(self, job_id: JobId) -> JobProgress:
        """The progress in the job's row; empty for an unknown job."""
        async with statements(self._pool, "reading a job's progress") as connection:
            document = await connection.fetchval(_SQL["progress"], job_id)
        return progress_from_json(json.loads(document or "{}"))

    async def parts(self, job_id: JobId) -> tuple[Part, ...]:
        """The parts of a sealed job, by entity and number."""
        async with statements(self._pool, "reading a job's parts") as connection:
            rows = await connection.fetch(_SQL["parts"], [job_id])
        return tuple(part_from_row(row) for row in rows)

    async def extraction(self, job_id: JobId) -> dict[str, Any] | None:
        """The extraction that was given to ``seal``, with its documents; None when the job is not sealed."""
        async with statements(self._pool, "reading what a job extracted") as connection:
            return await self._documents.extraction(connection, job_id)

    async def start(self, schedule_id: ScheduleId) -> Start:
        """Where the schedule's next run starts: its positions, and the requests to refresh or back-fill entities."""
        return await self._starts.ask(schedule_id)

    async def _starts_of(self, schedules: Sequence[ScheduleId]) -> Sequence[Start]:
        async with statements(self._pool, "reading where a schedule's next run starts") as connection:
            positions = await self._documents.positions(connection, schedules)
            refreshes = _by_schedule(await connection.fetch(_SQL["refresh_requests"], schedules))
            backfills = _by_schedule(await connection.fetch(_SQL["backfill_requests"], schedules))
        return [
            start_of(
                positions[schedule],
                [EntityCode(row["entity"]) for row in refreshes[schedule]],
                [BackfillRequest.from_json(json.loads(row["document"])) for row in backfills[schedule]],
            )
            for schedule in schedules
        ]

    async def deliveries(self, job_id: JobId) -> tuple[DeliveryRecord, ...]:
        """The destinations that have everything of a job."""
        return await self._deliveries.ask(job_id)

    async def _deliveries_of(self, jobs: Sequence[JobId]) -> Sequence[tuple[DeliveryRecord, ...]]:
        async with statements(self._pool, "reading a job's deliveries") as connection:
            rows = await connection.fetch(_SQL["deliveries"], jobs)
        return [tuple(delivery_from_row(row) for row in rows if row["job_id"] == job) for job in jobs]

    async def last_delivery(
        self, schedule_id: ScheduleId, destination: DestinationCode, *, other_than: JobId | None = None
    ) -> tuple[JobId, str] | None:
        """The schedule's last job that a destination has received, and the SHA-256 of its manifest.

        A job that looks for its predecessor excludes itself by ``other_than``.
        """
        async with statements(self._pool, "reading the last delivery") as connection:
            row = await connection.fetchrow(_SQL["last_delivery"], schedule_id, destination, other_than)
        return None if row is None else (JobId(row["job_id"]), row["manifest_sha256"])

    async def earlier_downloads(
        self, schedule_id: ScheduleId, windows: Mapping[EntityCode, str], *, other_than: JobId
    ) -> tuple[JobId, str, tuple[JobId, ...]] | None:
        """The schedule's last successful job, the SHA-256 of its manifest in the spool, and the jobs whose changes come
        again because they read later than ``windows`` begin. None for a first one.
        """
        began = json.dumps([{"entity": entity, "previous": previous} for entity, previous in windows.items()])
        async with statements(self._pool, "reading what can be downloaded") as connection:
            rows = await connection.fetch(_SQL["earlier_downloads"], schedule_id, other_than, began)
        if not rows or rows[-1]["manifest_sha256"] is None:
            return None
        repeated = tuple(JobId(row["id"]) for row in rows if row["repeated"])
        return JobId(rows[-1]["id"]), rows[-1]["manifest_sha256"], repeated

    async def redelivered(
        self,
        schedule_id: ScheduleId,
        destination: DestinationCode,
        windows: Mapping[EntityCode, str] = MappingProxyType({}),
        *,
        other_than: JobId | None = None,
    ) -> tuple[JobId, ...]:
        """The jobs that a destination has received and whose changes it receives again.

        Those that failed elsewhere since the schedule's last success; and those that read later than ``windows``
        begin: the snapshots by entity, of the job ``other_than`` and incremental.
        """
        began = json.dumps([{"entity": entity, "previous": previous} for entity, previous in windows.items()])
        async with statements(self._pool, "reading what is delivered again") as connection:
            rows = await connection.fetch(_SQL["redelivered"], schedule_id, destination, other_than, began)
        return tuple(JobId(row["id"]) for row in rows)

    # What failed jobs left at destinations

    async def failed_halfway(self, schedule_id: ScheduleId | None = None) -> tuple[JobRecord, ...]:
        """Failed jobs (of a schedule, or all) that may have left objects at destinations without a delivery."""
        async with statements(self._pool, "listing the jobs that failed half-way") as connection:
            rows = await connection.fetch(_SQL["failed_halfway"], schedule_id)
            return await _records(connection, rows)

    async def record_found_delivery(self, job_id: JobId, destination: DestinationCode, manifest_sha256: str) -> None:
        """Record that a destination has everything of a failed job: its manifest was found there."""
        async with statements(self._pool, "recording a delivery that was found") as connection:
            await connection.execute(_SQL["record_found_delivery"], job_id, destination, manifest_sha256)

    async def mark_cleared(self, job_id: JobId) -> None:
        """Record that a failed job has left nothing behind that no manifest describes."""
        async with statements(self._pool, "recording that a failed job is cleared") as connection:
            await connection.execute(_SQL["mark_cleared"], job_id)

    # Retention

    async def owners(self, job_ids: Iterable[JobId]) -> dict[JobId, OrganizationId]:
        """The organizations of those jobs that exist."""
        async with statements(self._pool, "reading whose jobs they are") as connection:
            rows = await connection.fetch(_SQL["owners"], [*job_ids])
        return {JobId(row["id"]): OrganizationId(row["organization"]) for row in rows}

    async def over_in_spool(
        self, job_ids: Iterable[JobId], spool_id: UUID, finished_by: datetime
    ) -> tuple[SpooledJob, ...]:
        """Of the jobs with files in a spool, those whose files it may remove: jobs that finished by then, jobs that are
        now elsewhere, and unknown ones.
        """
        async with statements(self._pool, "reading which jobs' files may be dropped") as connection:
            rows = await connection.fetch(_SQL["over_in_spool"], [*job_ids], spool_id, finished_by)
        return tuple(
            SpooledJob(
                JobId(row["id"]), row["state"] and JobState(row["state"]), row["sealed_here"], row["finished_at"]
            )
            for row in rows
        )

    async def active_ids(self) -> set[JobId]:
        """The jobs that are not finished."""
        async with statements(self._pool, "listing the unfinished jobs") as connection:
            return {JobId(row["id"]) for row in await connection.fetch(_SQL["active_ids"])}

    async def mark_expired(self, job_id: JobId) -> bool:
        """Record that the spool removed a finished job's files; False when there was nothing to record."""
        async with statements(self._pool, "marking a job as expired") as connection:
            return await connection.fetchrow(_SQL["mark_expired"], job_id) is not None


def _lease(row: "asyncpg.Record", asked_at: float, lease_s: float) -> Lease:
    lease = Lease(job_from_row(row), row["fence"], row["attempt"], JobPhase(row["phase"]))
    lease.term.extend(asked_at=asked_at, lease_s=lease_s)
    return lease


def _document(progress: JobProgress | None) -> str | None:
    return None if progress is None else json.dumps(progress_to_json(progress))


async def _write(connection: "Connection", lease: Lease, statement: str, *arguments: object) -> None:
    """Execute a statement that carries the fence of the lease. Raises TransientError LEASE_LOST when no row matches."""
    _require(None if await connection.fetchrow(statement, lease.job.id, lease.fence, *arguments) else lease_lost(lease))


def _require(lost: TransientError | None) -> None:
    if lost is not None:
        raise lost


def _by_schedule(rows: "Iterable[asyncpg.Record]") -> "Mapping[ScheduleId, list[asyncpg.Record]]":
    found: dict[ScheduleId, list[asyncpg.Record]] = defaultdict(list)
    for row in rows:
        found[row["schedule_id"]].append(row)
    return found


async def _records(connection: "Connection", rows: "Sequence[asyncpg.Record]") -> tuple[JobRecord, ...]:
    """Rows of exportd.job with their parts and deliveries."""
    if not rows:
        return ()
    ids = [row["id"] for row in rows]
    parts: dict[UUID, list[Part]] = defaultdict(list)
    for row in await connection.fetch(_SQL["parts"], ids):
        parts[row["job_id"]].append(part_from_row(row))
    deliveries: dict[UUID, list[DeliveryRecord]] = defaultdict(list)
    for row in await connection.fetch(_SQL["deliveries"], ids):
        deliveries[row["job_id"]].append(delivery_from_row(row))
    return tuple(
        record_from_row(row, parts=tuple(parts[row["id"]]), deliveries=tuple(deliveries[row["id"]])) for row in rows
    )
