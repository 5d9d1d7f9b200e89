"""The operations on jobs: pause all daemons, cancel a job, repeat a job that has no schedule.

A request is a row in Postgres. So any daemon can take it, and the daemon that runs the job finds it there. The row is
written in the same transaction as its entry in the audit log. A program acts for its own ``organization``: it does not
see other jobs, and its quotas apply. Users of the machine pass None and may name any job. All methods raise
TransientError when the database is out of reach; PermanentError NOT_FOUND when there is no such job, JOB_STATE_UNFIT
when its state does not allow the operation, and QUOTA_BUSY.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from exportd.database import queries
from exportd.database.queries import only_row
from exportd.database.quota_table import Quota, admit_program, require_room
from exportd.database.unit_of_work import notify, statements, transaction, write_audit
from exportd.jobs.job_record import progress_from_row, unknown_job
from exportd.jobs.job_table import CANCELLED_SENTENCE
from exportd.jobs.live_job import LiveJob, live_job_from_row
from exportd.jobs.states import Transition, after
from exportd.model.entity import OrganizationId
from exportd.model.errors import PermanentError, Reason
from exportd.model.job import JobId, JobPhase, JobState, Stall
from exportd.model.schedule import Pause, ScheduleId
from exportd.settings.schema import DEFAULT_QUOTAS, QuotaSettings

if TYPE_CHECKING:
    import asyncpg

    from exportd.database.connector import Connection, Pool

_SQL = queries.load("job_operations")
_JOBS_SQL = queries.load("jobs")


@dataclass(frozen=True, slots=True)
class FailedJob:
    """A job that failed; ``schedule_id`` is None for one without a schedule."""

    id: JobId
    schedule_id: ScheduleId | None


@dataclass(frozen=True, slots=True)
class QueueState:
    """The unfinished jobs of all organizations; ``oldest_waiting`` is the due time of the oldest that could start."""

    pending: int
    running: int
    oldest_waiting: datetime | None


@dataclass(frozen=True, slots=True)
class RunningJob:
    """A job under a lease. Times are aware UTC, by the database server's clock."""

    id: JobId
    organization: OrganizationId
    schedule_code: str | None
    phase: JobPhase
    attempt: int
    started_at: datetime
    lease_until: datetime
    stalls: tuple[Stall, ...] = ()


class JobOperator:
    """Writes ``exportd.pause``, and the requests of people and programs into ``exportd.job``."""

    def __init__(self, pool: "Pool", quotas: QuotaSettings = DEFAULT_QUOTAS) -> None:
        self._pool = pool
        self._quotas = quotas

    async def pause(self, *, actor: str) -> Pause:
        """Stop all daemons from taking jobs. Running jobs go on. A second pause does not replace the first."""
        async with transaction(self._pool, "pausing") as connection:
            await connection.execute(_SQL["pause"], actor)
            await _note(connection, "daemon paused", actor)
            await notify(connection, "daemons_changed")
            row = only_row(await connection.fetchrow(_SQL["paused"]))
            return Pause(row["paused_at"], row["paused_by"])

    async def resume(self, *, actor: str) -> None:
        """Let the daemons take jobs again."""
        async with transaction(self._pool, "resuming") as connection:
            await connection.execute(_SQL["resume"])
            await _note(connection, "daemon resumed", actor)
            await notify(connection, "job_queued")
            await notify(connection, "daemons_changed")

    async def paused(self) -> Pause | None:
        """The pause, if there is one."""
        async with statements(self._pool, "looking for a pause") as connection:
            row = await connection.fetchrow(_SQL["paused"])
        return None if row is None else Pause(row["paused_at"], row["paused_by"])

    async def cancel(self, job_id: JobId, *, actor: str, organization: OrganizationId | None = None) -> JobState:
        """Cancel a job. A waiting job fails at once (returns FAILED); a running one is stopped by its holder within
        seconds (returns RUNNING).

        Objects that it has made visible without a manifest are removed. Its schedule's positions stay. A job that has
        delivered everything before its holder notices the request succeeds.
        """
        async with transaction(self._pool, "cancelling a job") as connection:
            await admit_program(connection, organization, self._quotas)
            row = await _held(connection, job_id, organization)
            state = JobState(row["state"])
            if after(state, Transition.CANCEL) is None:
                raise PermanentError(
                    f"The job {job_id} has ended already ({state}): there is nothing to cancel.",
                    reason=Reason.JOB_STATE_UNFIT,
                )
            await connection.execute(_SQL["request_cancel"], job_id)
            if state is JobState.PENDING:
                await connection.execute(_JOBS_SQL["fail_cancelled"], CANCELLED_SENTENCE)
                state = JobState.FAILED
            await _note(connection, "job cancelled", actor, row)
        return state

    async def failed(self, job_id: JobId, *, organization: OrganizationId | None = None) -> FailedJob:
        """A failed job that can be retried: by its schedule if it has one, else by ``queue_again``."""
        async with transaction(self._pool, "looking for a failed job") as connection:
            row = await _held_failed(connection, job_id, organization)
        schedule_id = row["schedule_id"]
        return FailedJob(job_id, None if schedule_id is None else ScheduleId(schedule_id))

    async def queue_again(self, job_id: JobId, *, actor: str, organization: OrganizationId | None = None) -> JobId:
        """Queue another job like a failed one that had no schedule."""
        async with transaction(self._pool, "repeating an export") as connection:
            await admit_program(connection, organization, self._quotas)
            row = await _held_failed(connection, job_id, organization)
            owner = OrganizationId(row["organization"])
            await require_room(connection, owner, self._quotas, Quota.ADHOC_JOBS, Quota.WAITING_JOBS)
            queued: UUID = await connection.fetchval(_SQL["queue_again"], job_id)
            await _note(connection, "job retried", actor, row, retried_as=queued)
        return JobId(queued)

    async def watched(self, others: Collection[JobId]) -> list[LiveJob]:
        """The running jobs of all daemons, and the jobs ``others`` in any state."""
        async with statements(self._pool, "looking at running jobs") as connection:
            return [live_job_from_row(row) for row in await connection.fetch(_SQL["watched"], list(others))]

    async def queue_state(self) -> QueueState:
        """The numbers of waiting and running jobs."""
        async with statements(self._pool, "looking at the queue") as connection:
            row = only_row(await connection.fetchrow(_SQL["queue_state"]))
        return QueueState(row["pending"], row["running"], row["oldest_waiting"])

    async def leases(self, spool_id: UUID) -> list[RunningJob]:
        """The jobs that the daemon with this spool runs."""
        async with statements(self._pool, "looking at the leases") as connection:
            rows = await connection.fetch(_SQL["leases"], spool_id)
        return [
            RunningJob(
                JobId(row["id"]),
                OrganizationId(row["organization"]),
                row["schedule_code"],
                JobPhase(row["phase"]),
                row["attempt"],
                row["started_at"],
                row["lease_until"],
                tuple(progress_from_row(row).stalls),
            )
            for row in rows
        ]


async def _held(connection: "Connection", job_id: JobId, organization: OrganizationId | None) -> "asyncpg.Record":
    row = await connection.fetchrow(_SQL["hold"], job_id, organization)
    if row is None:
        raise PermanentError(unknown_job(job_id), reason=Reason.NOT_FOUND)
    return row


async def _held_failed(
    connection: "Connection", job_id: JobId, organization: OrganizationId | None
) -> "asyncpg.Record":
    row = await _held(connection, job_id, organization)
    if row["state"] != JobState.FAILED:
        raise PermanentError(
            f"The job {job_id} has not failed ({row['state']}): only a failed job can be retried.",
            reason=Reason.JOB_STATE_UNFIT,
        )
    return row


async def _note(
    connection: "Connection", action: str, actor: str, job: "asyncpg.Record | None" = None, **details: object
) -> None:
    await write_audit(
        connection,
        action,
        actor=actor,
        organization=None if job is None else OrganizationId(job["organization"]),
        object_id=None if job is None else job["id"],
        details=details if job is None else {"schedule": job["schedule_code"], **details},
    )
