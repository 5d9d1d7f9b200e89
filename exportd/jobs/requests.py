"""Jobs as one organization sees them, and the exports that it asks for without a schedule.

A job of another organization is never found. All methods raise TransientError when the database is out of reach.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from exportd.database import queries
from exportd.database.quota_table import Quota, require_room
from exportd.database.unit_of_work import statements, transaction, write_audit
from exportd.destinations.table import hold_destinations
from exportd.model.entity import EntityCode, OrganizationId
from exportd.model.job import JobId, JobState
from exportd.model.schedule import ExportFormat
from exportd.settings.schema import DEFAULT_QUOTAS, QuotaSettings

if TYPE_CHECKING:
    from exportd.database.connector import Pool

_SQL = queries.load("owned_jobs")


@dataclass(frozen=True, slots=True)
class JobSummary:
    """A job as the API lists it. Times are aware UTC."""

    id: JobId
    schedule_id: UUID | None
    state: JobState
    created_at: datetime
    started_at: datetime | None


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs are meant; None means any. ``created_from`` is inclusive, ``created_before`` is not."""

    ids: Sequence[UUID] | None = None
    schedule_id: UUID | None = None
    state: JobState | None = None
    created_from: datetime | None = None
    created_before: datetime | None = None


class OwnedJobTable:
    """``exportd.job``, by organization and id."""

    def __init__(self, pool: "Pool", quotas: QuotaSettings = DEFAULT_QUOTAS) -> None:
        self._pool = pool
        self._quotas = quotas

    async def page(
        self,
        organization: OrganizationId,
        wanted: JobFilter,
        *,
        after: tuple[datetime, UUID] | None = None,
        limit: int,
    ) -> list[JobSummary]:
        """The newest first, at most ``limit``, behind ``after`` (created at, id)."""
        async with statements(self._pool, "listing the jobs") as connection:
            rows = await connection.fetch(
                _SQL["page"],
                organization,
                wanted.ids,
                wanted.schedule_id,
                wanted.state,
                wanted.created_from,
                wanted.created_before,
                *(after or (None, None)),
                limit,
            )
        return [
            JobSummary(
                JobId(row["id"]), row["schedule_id"], JobState(row["state"]), row["created_at"], row["started_at"]
            )
            for row in rows
        ]

    async def get(self, organization: OrganizationId, job_id: UUID) -> JobSummary | None:
        """The job; None when the organization has none of this id."""
        found = await self.page(organization, JobFilter(ids=[job_id]), limit=1)
        return found[0] if found else None

    async def queue(
        self,
        organization: OrganizationId,
        *,
        entities: Sequence[EntityCode],
        file_format: ExportFormat,
        destination_ids: Sequence[UUID],
        actor: str,
    ) -> JobId:
        """Ask for one complete export, now. It moves no schedule's position.

        One that waits already, for the same entities, destinations and format, is the answer: it reads later than now.
        Raises PermanentError DESTINATION_MISSING for a destination that the organization does not have, QUOTA_BUSY when
        too many of its exports wait.
        """
        async with transaction(self._pool, "queueing an export") as connection:
            await require_room(connection, organization, self._quotas, Quota.CHANGES_PER_HOUR)
            codes = await hold_destinations(connection, organization, destination_ids)
            asked = (organization, entities, file_format, codes)
            waiting: UUID | None = await connection.fetchval(_SQL["equal"], *asked)
            if waiting is None:
                await require_room(connection, organization, self._quotas, Quota.ADHOC_JOBS, Quota.WAITING_JOBS)
            job_id: UUID = waiting or await connection.fetchval(_SQL["queue"], *asked)
            await write_audit(
                connection,
                "export requested",
                actor=actor,
                organization=organization,
                object_id=job_id,
                details={"entities": entities, "format": file_format, "destinations": codes},
            )
        return JobId(job_id)
