"""The operations on schedules of any origin: run, pause, resume, refresh an entity, back-fill.

A request is a row in Postgres, so any daemon can take it. It is written in the same transaction as its entry in the
audit log. A program acts for its own ``organization``: it does not see other schedules, and its quotas apply. Users of
the machine pass None and may name any. All methods raise TransientError when the database is out of reach,
PermanentError NOT_FOUND for an unknown schedule, and QUOTA_BUSY.

A back-fill lets a schedule export again what has changed since a past job. A job that has succeeded holds the change
log for a while from where its windows began. A back-fill records that place, which then holds the log itself, while it
has the job's row locked. The pruner releases the same row before it looks for rows to delete, so it comes before or
after a back-fill, never in between.
"""

import json
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from exportd.database import queries
from exportd.database.declaration_table import SCHEDULE
from exportd.database.queries import only_row
from exportd.database.quota_table import Quota, admit_program
from exportd.database.unit_of_work import notify, statements, transaction, write_audit
from exportd.model.declared import missing
from exportd.model.entity import EntityCode, OrganizationId
from exportd.model.errors import FullReason, PermanentError, Reason
from exportd.model.job import JobId, JobState
from exportd.model.schedule import Pause, ScheduleId
from exportd.model.start import BackfillRequest, Beginning, wider
from exportd.schedules.firing_table import fire_held
from exportd.settings.schema import DEFAULT_QUOTAS, QuotaSettings

if TYPE_CHECKING:
    import asyncpg

    from exportd.database.connector import Connection, Pool


_SQL = queries.load("schedule_operations")
_JOBS_SQL = queries.load("jobs")


@dataclass(frozen=True, slots=True)
class WheelState:
    """The schedules of all organizations, and when the next one that is not paused is due (aware UTC)."""

    schedules: int
    paused: int
    next_due: datetime | None


@dataclass(frozen=True, slots=True)
class NewestJob:
    """The newest job of a schedule, with the sums of its entities' figures. Times are aware UTC."""

    id: JobId
    state: JobState
    reason: str | None
    message: str | None
    started_at: datetime | None
    finished_at: datetime | None
    rows: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ScheduleStanding:
    """The standing of a schedule. ``read_until`` (aware UTC) is that of the entity that is furthest behind, if all were
    read.
    """

    pause: Pause | None = None
    newest: NewestJob | None = None
    read_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class EntityPosition:
    """A schedule's position in an entity: the job that read it at ``read_at``, and ``since`` when that job has
    succeeded (aware UTC; None for a job that was deleted). With ``starts_anew`` the next run cannot continue from
    there.
    """

    entity: EntityCode
    job_id: JobId
    read_at: datetime
    since: datetime | None
    starts_anew: bool


@dataclass(frozen=True, slots=True)
class Backfill:
    """A back-fill that was requested, entity by entity, and the job that carries it out.

    ``job_id`` is None while the job ``running`` runs, which began before the request: the next one carries it out.
    """

    requests: tuple[BackfillRequest, ...]
    job_id: JobId | None
    running: JobId | None = None


class ScheduleOperator:
    """Writes the requests of people and programs about schedules."""

    def __init__(self, pool: "Pool", quotas: QuotaSettings = DEFAULT_QUOTAS) -> None:
        self._pool = pool
        self._quotas = quotas

    async def run(
        self,
        schedule_id: ScheduleId,
        *,
        actor: str,
        organization: OrganizationId | None = None,
        action: str = "schedule run",
    ) -> JobId:
        """Queue another job, due now, even if the schedule is paused. Its next due time stays.

        Raises TransientError JOB_UNFINISHED while it has an unfinished job.
        """
        async with self._held(schedule_id, "firing a schedule", organization, Quota.WAITING_JOBS) as (connection, row):
            job_id = await fire_held(connection, schedule_id, row["code"])
            await _note(connection, action, actor, row, job=job_id)
        return job_id

    async def pause(self, schedule_id: ScheduleId, *, actor: str, organization: OrganizationId | None = None) -> None:
        """Stop the schedule from firing. A job that is queued already goes on. A second pause does not replace the
        first.
        """
        async with self._held(schedule_id, "pausing a schedule", organization) as (connection, row):
            await connection.execute(_SQL["pause"], schedule_id, actor)
            await _note(connection, "schedule paused", actor, row)

    async def standing(self, schedule_ids: Collection[ScheduleId]) -> dict[ScheduleId, ScheduleStanding]:
        """The standing of several schedules, read by one statement."""
        async with statements(self._pool, "looking at the schedules") as connection:
            rows = await connection.fetch(_SQL["standing"], list(schedule_ids))
        return {ScheduleId(row["id"]): _standing(row) for row in rows}

    async def positions(self, schedule_id: ScheduleId) -> list[EntityPosition]:
        """The positions of the entities that a schedule exports and has read, in its order; none for an unknown
        schedule.
        """
        async with statements(self._pool, "looking at the positions of a schedule") as connection:
            rows = await connection.fetch(_SQL["positions"], schedule_id)
        return [
            EntityPosition(
                EntityCode(row["entity"]), JobId(row["job_id"]), row["taken_at"], row["since"], row["starts_anew"]
            )
            for row in rows
        ]

    async def resume(self, schedule_id: ScheduleId, *, actor: str, organization: OrganizationId | None = None) -> None:
        """Let the schedule fire again. If it was due during the pause, even several times, it fires once now."""
        async with self._held(schedule_id, "resuming a schedule", organization) as (connection, row):
            await connection.execute(_SQL["resume"], schedule_id)
            await _note(connection, "schedule resumed", actor, row)

    async def refresh(
        self,
        schedule_id: ScheduleId,
        entity: EntityCode,
        *,
        at_once: bool,
        actor: str,
        organization: OrganizationId | None = None,
    ) -> JobId | None:
        """Let the next run that begins after this export the entity completely. ``at_once`` queues that run.

        Raises PermanentError NOT_FOUND when the schedule does not export the entity. Raises TransientError
        JOB_UNFINISHED, and requests nothing, when it is to be at once and there is an unfinished job.
        """
        wanted = (Quota.WAITING_JOBS,) if at_once else ()
        async with self._held(schedule_id, "asking for a full export", organization, *wanted) as (connection, row):
            if entity not in row["entities"]:
                raise PermanentError(
                    f"The schedule {row['code']!r} does not export {entity}. It exports {', '.join(row['entities'])}.",
                    reason=Reason.NOT_FOUND,
                )
            await connection.execute(_SQL["request_refresh"], schedule_id, entity, actor)
            job_id = await fire_held(connection, schedule_id, row["code"]) if at_once else None
            await _note(connection, "refresh requested", actor, row, entity=entity, job=job_id)
        return job_id

    async def backfill(
        self, schedule_id: ScheduleId, job_id: JobId, *, actor: str, organization: OrganizationId | None = None
    ) -> Backfill:
        """Export again, now, everything that has changed since a past job began its windows.

        An unfinished job that has not begun carries it out. If a job runs, the next one does. Raises PermanentError
        NOT_FOUND when the schedule has no such job, JOB_STATE_UNFIT when no run of it ended there.
        """
        held = self._held(schedule_id, "asking for a back-fill", organization, Quota.WAITING_JOBS)
        async with held as (connection, row):
            backfill = await backfill_held(connection, row, job_id, actor=actor)
            since = {
                request.entity: request.begins if isinstance(request.begins, FullReason) else request.begins.taken_at
                for request in backfill.requests
            }
            await _note(
                connection, "backfill requested", actor, row, since_job=job_id, entities=since, job=backfill.job_id
            )
        return backfill

    async def plan_backfill(
        self, schedule_id: ScheduleId, job_id: JobId, *, organization: OrganizationId | None = None
    ) -> Backfill:
        """What ``backfill`` would request now. Nothing is requested. Raises as ``backfill`` does."""
        async with transaction(self._pool, "looking at a back-fill") as connection:
            row = _present(await connection.fetchrow(_SQL["hold"], schedule_id, organization), schedule_id)
            return Backfill(await _plan_held(connection, row, job_id), job_id=None)

    async def wheel(self) -> WheelState:
        """How many schedules there are, and when the next is due."""
        async with statements(self._pool, "looking at the schedules") as connection:
            row = only_row(await connection.fetchrow(_SQL["wheel"]))
        return WheelState(row["schedules"], row["paused"], row["next_due"])

    async def read_until(self) -> dict[EntityCode, datetime]:
        """For each entity, the time (aware UTC) when the schedule that is furthest behind last read it."""
        async with statements(self._pool, "looking at the positions") as connection:
            return {EntityCode(row["entity"]): row["read_until"] for row in await connection.fetch(_SQL["lag"])}

    @asynccontextmanager
    async def _held(
        self, schedule_id: ScheduleId, doing: str, organization: OrganizationId | None, *wanted: Quota
    ) -> "AsyncIterator[tuple[Connection, asyncpg.Record]]":
        """Lock the schedule until the block ends. Then all daemons get an event."""
        async with transaction(self._pool, doing) as connection:
            await admit_program(connection, organization, self._quotas, *wanted)
            row = _present(await connection.fetchrow(_SQL["hold"], schedule_id, organization), schedule_id)
            yield connection, row
            await notify(connection, "schedule_changed", schedule=schedule_id)


def _present(row: "asyncpg.Record | None", schedule_id: ScheduleId) -> "asyncpg.Record":
    if row is None:
        raise missing(SCHEDULE, schedule_id)
    return row


def _standing(row: "asyncpg.Record") -> ScheduleStanding:
    newest = None
    if row["job_id"] is not None:
        newest = NewestJob(
            id=JobId(row["job_id"]),
            state=JobState(row["state"]),
            reason=row["reason"],
            message=row["message"],
            started_at=row["started_at"],
            finished_at=row["finished_at"],
            rows=row["rows"],
            size_bytes=row["size_bytes"],
        )
    pause = None if row["paused_at"] is None else Pause(row["paused_at"], row["paused_by"])
    return ScheduleStanding(pause, newest, row["read_until"])


async def _note(
    connection: "Connection", action: str, actor: str, schedule: "asyncpg.Record", **details: object
) -> None:
    await write_audit(
        connection,
        action,
        actor=actor,
        organization=OrganizationId(schedule["organization"]),
        object_id=schedule["id"],
        details={"code": schedule["code"], **details},
    )


async def backfill_held(connection: "Connection", schedule: "asyncpg.Record", job_id: JobId, *, actor: str) -> Backfill:
    """Let a locked schedule go back to where one of its jobs began its windows, and fire it unless a job is unfinished.

    An earlier request that is not carried out yet stays. Raises PermanentError NOT_FOUND when the schedule has no such
    job, JOB_STATE_UNFIT for one that has not succeeded or has no schedule.
    """
    requests = await _plan_held(connection, schedule, job_id)
    document = json.dumps([request.to_json() for request in requests])
    await connection.execute(_SQL["request_backfill"], schedule["id"], document, actor)
    return Backfill(requests, *await _next_job(connection, schedule["id"], schedule["code"]))


async def _plan_held(
    connection: "Connection", schedule: "asyncpg.Record", job_id: JobId
) -> tuple[BackfillRequest, ...]:
    """The back-fill that such a request would make. Raises as ``backfill_held`` does."""
    _require_success(await connection.fetchrow(_SQL["hold_job"], job_id), schedule, job_id)
    rows = await connection.fetch(_JOBS_SQL["backfill_requests"], [schedule["id"]])
    documents = [json.loads(row["document"]) for row in rows]
    asked = {EntityCode(document["entity"]): BackfillRequest.from_json(document) for document in documents}
    requests = [
        BackfillRequest(EntityCode(row["entity"]), job_id, _begins(row))
        for row in await connection.fetch(_SQL["past_windows"], schedule["id"], job_id)
    ]
    return tuple(wider(asked.get(request.entity, request), request) for request in requests)


def _require_success(job: "asyncpg.Record | None", schedule: "asyncpg.Record", job_id: JobId) -> None:
    code = schedule["code"]
    if (
        job is None
        or job["organization"] != schedule["organization"]
        or job["schedule_id"] not in {None, schedule["id"]}
    ):
        raise PermanentError(
            f"The schedule {code!r} has no job {job_id}. `exportd job list` shows its jobs; one that ended longer ago "
            "than retention.jobs may have been deleted, and a back-fill from there would be complete: use `exportd "
            "schedule refresh` for its entities.",
            reason=Reason.NOT_FOUND,
        )
    if job["schedule_id"] is None:
        unfit = f"is an export without a schedule: no run of {code!r} began there."
    elif job["state"] == JobState.FAILED:
        unfit = "failed, so its changes are in the next one that succeeded: name that one."
    elif job["state"] != JobState.SUCCEEDED:
        unfit = f"has not ended yet ({job['state']}). Ask again when it has succeeded."
    else:
        return
    raise PermanentError(f"The job {job_id} {unfit}", reason=Reason.JOB_STATE_UNFIT)


def _begins(row: "asyncpg.Record") -> Beginning | FullReason:
    """Where an entity's window began in the past job, or the reason why its next run is full."""
    if not row["positioned"]:
        return FullReason.ENTITY_ADDED
    if not row["incremental"]:
        # The job, or a later one, was full, perhaps for a reason that the log does not show. Or it did not have the
        # entity yet, which was exported in full since.
        return FullReason.REQUESTED
    if not row["logged"] or row["taken_at"] is None:
        return FullReason.LOG_PRUNED
    return Beginning(row["snapshot"], row["taken_at"], json.loads(row["guards"]))


async def _next_job(connection: "Connection", schedule_id: UUID, code: str) -> tuple[JobId | None, JobId | None]:
    """The job that begins next; it is queued now if there is none. If a job runs, returns None and the running job."""
    unfinished = await connection.fetchrow(_SQL["hold_unfinished_job"], schedule_id)
    if unfinished is None:
        return await fire_held(connection, schedule_id, code), None
    job_id = JobId(unfinished["id"])
    return (job_id, None) if unfinished["begins"] else (None, job_id)
