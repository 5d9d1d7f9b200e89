"""Deletes old rows of the daemon's own tables.

These are jobs that ended, with their parts and deliveries; deleted schedules and destinations; rows of organizations
that have nothing else any more; the audit log; and shared documents that no row names. ``[retention]`` says how old
they become. Rows that a later run needs stay, however old they are: the rules stand at ``delete_jobs`` in
``history.sql``. So consumers get the same files with and without pruning.

Each batch is a short transaction of its own. A daemon that dies between two leaves nothing half done, and two that
sweep at once leave each other's rows alone.
"""

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING
from uuid import UUID

import anyio
import structlog

from exportd.database import queries
from exportd.database.unit_of_work import statements, transaction
from exportd.model.clock import Clock
from exportd.model.errors import ExportdError
from exportd.model.schedule import ScheduleId
from exportd.settings.schema import LiveSettings
from exportd.spool.publication_store import published_schedules, remove_publication
from exportd.spool.spool import Spool

if TYPE_CHECKING:
    from exportd.database.connector import Pool

_SQL = queries.load("history")

DAY_S = 86_400.0

_BATCH_JOBS = 50
"""Jobs in one transaction. A job of a large catalog has hundreds of parts, which are deleted with it."""
_BATCH_ROWS = 1000

_logger = structlog.stdlib.get_logger()


class HistoryKind(StrEnum):
    """The kinds of rows that are deleted, by their names in logs and metrics."""

    JOBS = "jobs"
    NOTES = "notes"
    """Files in the spool that remember what was published of deleted schedules."""
    SCHEDULES = "schedules"
    DESTINATIONS = "destinations"
    ORGANIZATIONS = "organizations"
    AUDIT = "audit"
    DOCUMENTS = "documents"
    """Documents that several jobs share: fields and guards."""


class HistoryPruner:
    """A service: call ``run``, which ends when it is cancelled. ``on_deleted`` is called with a kind and the number of
    rows that a batch has deleted.
    """

    def __init__(
        self,
        pool: "Pool",
        spool: Spool,
        *,
        settings: LiveSettings,
        clock: Clock,
        on_deleted: Callable[[HistoryKind, int], None] = lambda kind, rows: None,
        batch_jobs: int = _BATCH_JOBS,
        interval_s: float = 3600.0,
    ) -> None:
        self._pool = pool
        self._spool = spool
        self._settings = settings
        self._clock = clock
        self._on_deleted = on_deleted
        self._batch_jobs = batch_jobs
        self._interval_s = interval_s
        self._woken = anyio.Event()

    def wake(self) -> None:
        """Start a sweep now, because the settings may have changed."""
        self._woken.set()

    async def run(self) -> None:
        """Sweep now, every ``interval_s`` and when woken. A failure is logged; the next sweep tries again."""
        while True:
            self._woken = anyio.Event()  # before looking, so that no wake-up is missed
            try:
                await self.run_once()
            except ExportdError as error:
                _logger.warning("old rows not deleted", reason=error.reason, error=error.sentence)
            await self._clock.wait_for(self._woken, self._clock.monotonic() + self._interval_s)

    async def run_once(self) -> Counter[HistoryKind]:
        """Run one sweep. Returns how many rows of each kind were deleted. Raises TransientError or PermanentError."""
        retention = self._settings().retention
        jobs_s, audit_s = retention.jobs * DAY_S, retention.audit * DAY_S
        deleted: Counter[HistoryKind] = Counter()
        try:
            await self._delete_jobs(jobs_s, deleted)
            await self._remove_notes(jobs_s, deleted)
            await self._delete_all(HistoryKind.SCHEDULES, _SQL["delete_schedules"], deleted, jobs_s)
            await self._delete_all(HistoryKind.DESTINATIONS, _SQL["delete_destinations"], deleted, jobs_s)
            await self._delete_all(HistoryKind.ORGANIZATIONS, _SQL["delete_organizations"], deleted)
            await self._delete_all(HistoryKind.ORGANIZATIONS, _SQL["delete_turns"], deleted)
            await self._delete_all(HistoryKind.AUDIT, _SQL["delete_audit"], deleted, audit_s)
            await self._delete_all(HistoryKind.DOCUMENTS, _SQL["delete_documents"], deleted)
        finally:
            if deleted:
                _logger.info("old rows deleted", **{kind.value: rows for kind, rows in deleted.items()})
        return deleted

    async def _delete_jobs(self, age_s: float, deleted: Counter[HistoryKind]) -> None:
        place: tuple[datetime | None, UUID | None] = (None, None)
        while True:
            async with transaction(self._pool, "deleting old jobs") as connection:
                old = await connection.fetch(_SQL["ended_jobs"], age_s, *place, self._batch_jobs)
                schedules = {row["schedule_id"] for row in old if row["schedule_id"] is not None}
                held = [row["id"] for row in await connection.fetch(_SQL["hold_schedules"], sorted(schedules))]
                # A separate statement, because it has to see what was committed before the schedules were locked.
                gone = await connection.fetch(_SQL["delete_jobs"], [row["id"] for row in old], held, age_s, DAY_S)
            self._count(HistoryKind.JOBS, len(gone), deleted)
            if len(old) < self._batch_jobs:
                return
            place = (old[-1]["finished_at"], old[-1]["id"])

    async def _remove_notes(self, age_s: float, deleted: Counter[HistoryKind]) -> None:
        """Remove the files before the rows. If the process dies in between, the next sweep finds the row and
        no file.
        """
        directory, place = self._spool.directory, self._spool.publication_place
        noted = await published_schedules(directory)
        async with statements(self._pool, "looking for deleted schedules") as connection:
            rows = await connection.fetch(_SQL["deleted_schedules"], age_s, place, noted)
        gone = [ScheduleId(row["id"]) for row in rows]
        for schedule in gone:
            await remove_publication(directory, schedule)
        if gone:
            async with statements(self._pool, "forgetting deleted schedules") as connection:
                await connection.execute(_SQL["forget_notes"], place, gone)
        self._count(HistoryKind.NOTES, len(set(noted).intersection(gone)), deleted)

    async def _delete_all(
        self, kind: HistoryKind, statement: str, deleted: Counter[HistoryKind], *age_s: float
    ) -> None:
        while True:
            async with statements(self._pool, f"deleting old rows ({kind.value})") as connection:
                rows = await connection.fetch(statement, *age_s, _BATCH_ROWS)
            self._count(kind, len(rows), deleted)
            if len(rows) < _BATCH_ROWS:
                return

    def _count(self, kind: HistoryKind, rows: int, deleted: Counter[HistoryKind]) -> None:
        if rows:
            deleted[kind] += rows
            self._on_deleted(kind, rows)
