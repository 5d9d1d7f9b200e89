"""Lists and searches of jobs, one organization's jobs, and exports without a schedule.

A job of another organization is never found. All methods raise TransientError when the database is out of reach.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from exportd.database import queries
from exportd.database.quota_table import Quota, require_room
from exportd.database.unit_of_work import statements, transaction, write_audit
from exportd.destinations.table import hold_destinations
from exportd.jobs.job_record import message_for_organization
from exportd.model.entity import EntityCode, OrganizationId
from exportd.model.job import JobId, JobPhase, JobState
from exportd.model.schedule import ExportFormat
from exportd.settings.schema import DEFAULT_QUOTAS, QuotaSettings

if TYPE_CHECKING:
    import asyncpg

    from exportd.database.connector import Pool

_SQL = queries.load("owned_jobs")

MAX_EXAMINED = 10_000
"""How many jobs a search examines for one page, by filters that no index supports."""

Place = tuple[datetime, UUID]
"""The time when a job was created, and its id: a place in a list."""


@dataclass(frozen=True, slots=True)
class JobSummary:
    """A job as the API lists it. Times are aware UTC."""

    id: JobId
    schedule_id: UUID | None
    state: JobState
    created_at: datetime
    started_at: datetime | None
    start_date: datetime | None


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Selects jobs; None selects any. ``created_from`` is inclusive, ``created_before`` is not."""

    ids: Sequence[UUID] | None = None
    schedule_id: UUID | None = None
    state: JobState | None = None
    created_from: datetime | None = None
    created_before: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSearch(JobFilter):
    """The same and more, of any organization."""

    reason: str | None = None
    schedule_code: str | None = None
    entity: str | None = None
    destination: str | None = None


@dataclass(frozen=True, slots=True)
class FoundJob:
    """A job as lists show it, with the sums of its entities' figures. Times are aware UTC.

    ``entities`` is how many it has, ``done`` how many of them were read, ``full_entities`` how many were read
    completely (None: not known yet), and ``full_reasons`` why.
    """

    id: JobId
    organization: OrganizationId
    schedule_id: UUID | None
    schedule_code: str | None
    due_at: datetime
    file_format: ExportFormat
    destinations: tuple[str, ...]
    start_date: datetime | None
    state: JobState
    phase: JobPhase
    attempt: int
    holder: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    reason: str | None
    message: str | None
    entities: int
    done: int
    full_entities: int | None
    full_reasons: tuple[str, ...]
    rows: int
    deleted_rows: int
    files: int
    size_bytes: int
    delivered_to: tuple[str, ...]

    def for_organization(self) -> "FoundJob":
        """The job as its organization may see it."""
        return replace(self, holder=None, message=message_for_organization(self.reason, self.message))


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
        after: Place | None = None,
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
        return [JobSummary(**{**row, "state": JobState(row["state"])}) for row in rows]

    async def search(
        self,
        organization: OrganizationId | None,
        wanted: JobSearch,
        *,
        after: Place | None = None,
        limit: int,
        max_examined: int = MAX_EXAMINED,
    ) -> tuple[list[FoundJob], Place | None]:
        """The jobs of an organization (None: of all), the newest first, at most ``limit``, after ``after`` (created at,
        id).

        At most ``max_examined`` jobs are examined by filters that no index supports. If fewer than ``limit`` were found
        by then, the second value is the place to go on from.
        """
        by_index = (
            organization,
            wanted.schedule_id,
            wanted.state,
            wanted.reason,
            wanted.created_from,
            wanted.created_before,
            *(after or (None, None)),
        )
        inside = (wanted.schedule_code, wanted.entity, wanted.destination)
        async with transaction(self._pool, "looking for jobs") as connection:
            await connection.execute(_SQL["plan_for_these_values"])
            rows = await connection.fetch(_SQL["search"], *by_index, max_examined, *inside, limit, wanted.ids)
            stopped = None
            if any(value is not None for value in inside) and len(rows) < limit:
                stopped = await connection.fetchrow(_SQL["last_examined"], *by_index, max_examined - 1, wanted.ids)
        return [_found_from_row(row) for row in rows], None if stopped is None else (
            stopped["created_at"],
            stopped["id"],
        )

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
        start_date: datetime | None = None,
        actor: str,
    ) -> JobId:
        """Queue one export: complete, or of the rows modified since ``start_date``. It moves no position.

        If an export of the same entities, destinations, format and start date waits already, that one is returned: it
        will read later than now. Raises PermanentError DESTINATION_MISSING for a destination that the organization does
        not have, QUOTA_BUSY when too many of its exports wait.
        """
        async with transaction(self._pool, "queueing an export") as connection:
            await require_room(connection, organization, self._quotas, Quota.CHANGES_PER_HOUR)
            codes = await hold_destinations(connection, organization, destination_ids)
            asked = (organization, entities, file_format, codes, start_date)
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
                details={
                    "entities": entities,
                    "format": file_format,
                    "destinations": codes,
                    **({} if start_date is None else {"start_date": start_date.isoformat()}),
                },
            )
        return JobId(job_id)


def _found_from_row(row: "asyncpg.Record") -> FoundJob:
    enums = {
        "file_format": ExportFormat(row["file_format"]),
        "state": JobState(row["state"]),
        "phase": JobPhase(row["phase"]),
    }
    lists = {name: tuple(row[name]) for name in ("destinations", "full_reasons", "delivered_to")}
    return FoundJob(**{**row, **enums, **lists})
