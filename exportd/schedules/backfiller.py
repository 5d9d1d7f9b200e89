"""Has a schedule export once more what has changed since a past job: the work inside one transaction.

A job that has succeeded holds the change log for a while from where its windows began. Going back writes down that
place, which then holds the log by itself, while the job's row is locked: the pruner releases the same row before it
looks for what it may delete, so it comes before or after, never in between.
"""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from exportd.database import queries
from exportd.model.entity import EntityCode
from exportd.model.errors import PermanentError
from exportd.model.job import JobId, JobState
from exportd.model.reason import FullReason, Reason
from exportd.model.start import BackfillRequest, Beginning, wider
from exportd.schedules.firing_table import fire_held

if TYPE_CHECKING:
    import asyncpg

    from exportd.database.connector import Connection

_SQL = queries.load("schedule_operations")
_JOBS_SQL = queries.load("jobs")


@dataclass(frozen=True, slots=True)
class Backfill:
    """What was asked for, entity by entity, and which job does it.

    ``job_id`` is None while a job runs that has begun without knowing: the next one after ``running`` does it.
    """

    requests: tuple[BackfillRequest, ...]
    job_id: JobId | None
    running: JobId | None = None


async def backfill_held(connection: "Connection", schedule: "asyncpg.Record", job_id: JobId, *, actor: str) -> Backfill:
    """Have a locked schedule go back to where one of its jobs began, and fire it unless a job is unfinished.

    An earlier request that is not done yet stays. Raises PermanentError NOT_FOUND when the schedule has no
    such job, JOB_STATE_UNFIT for one that has not succeeded or has no schedule.
    """
    requests = await plan_held(connection, schedule, job_id)
    document = json.dumps([request.to_json() for request in requests])
    await connection.execute(_SQL["request_backfill"], schedule["id"], document, actor)
    return Backfill(requests, *await _run(connection, schedule["id"], schedule["code"]))


async def plan_held(connection: "Connection", schedule: "asyncpg.Record", job_id: JobId) -> tuple[BackfillRequest, ...]:
    """What such a request would ask for, which nothing does yet. Raises the same."""
    _require_success(await connection.fetchrow(_SQL["hold_job"], job_id), schedule, job_id)
    rows = await connection.fetch(_JOBS_SQL["backfill_requests"], [schedule["id"]])
    asked = [BackfillRequest.from_json(json.loads(row["document"])) for row in rows]
    asked_by_entity = {request.entity: request for request in asked}
    requests = [
        BackfillRequest(EntityCode(row["entity"]), job_id, _begins(row))
        for row in await connection.fetch(_SQL["past_windows"], schedule["id"], job_id)
    ]
    return tuple(wider(asked_by_entity.get(request.entity, request), request) for request in requests)


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
        raise PermanentError(
            f"The job {job_id} is an export without a schedule: no run of {code!r} began there.",
            reason=Reason.JOB_STATE_UNFIT,
        )
    if job["state"] == JobState.FAILED:
        raise PermanentError(
            f"The job {job_id} failed, so its changes are in the next one that succeeded: name that one.",
            reason=Reason.JOB_STATE_UNFIT,
        )
    if job["state"] != JobState.SUCCEEDED:
        raise PermanentError(
            f"The job {job_id} has not ended yet ({job['state']}). Ask again when it has succeeded.",
            reason=Reason.JOB_STATE_UNFIT,
        )


def _begins(row: "asyncpg.Record") -> Beginning | FullReason:
    """Where an entity's window began in the past job; or why its next run is full."""
    if not row["positioned"]:
        return FullReason.ENTITY_ADDED
    if not row["incremental"]:
        # The job, or a later one, was full, perhaps for a reason that is not in the log; or it did not hold the
        # entity yet, which has been exported in full since.
        return FullReason.REQUESTED
    if not row["logged"] or row["taken_at"] is None:
        return FullReason.LOG_PRUNED
    return Beginning(row["snapshot"], row["taken_at"], json.loads(row["guards"]))


async def _run(connection: "Connection", schedule_id: UUID, code: str) -> tuple[JobId | None, JobId | None]:
    """The job that begins next, fired now if there is none; else None, and the one that runs."""
    unfinished = await connection.fetchrow(_SQL["hold_unfinished_job"], schedule_id)
    if unfinished is None:
        return await fire_held(connection, schedule_id, code), None
    job_id = JobId(unfinished["id"])
    return (job_id, None) if unfinished["begins"] else (None, job_id)
