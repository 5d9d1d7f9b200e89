"""Previews the next run of a schedule, or an export without a schedule. A preview installs and repairs nothing.

It uses one read-only transaction with a statement timeout, and takes the locks that any reader takes. The records in
the change log are counted exactly as far as the time allows. For tables that a full run would read, the planner's
estimate is used.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

import anyio
from asyncpg import PostgresError, QueryCanceledError

from exportd.capture.installer import capture_is_intact
from exportd.catalog.document import Catalog
from exportd.catalog.table_reader import read_shapes
from exportd.database.connector import Connector
from exportd.database.translator import translate, translated
from exportd.extraction.projection import record_bytes
from exportd.extraction.snapshot_opener import SnapshotOpener
from exportd.extraction.snapshot_reader import OpenSnapshot, Reader
from exportd.extraction.statement import TablePlan, parse_plan
from exportd.extraction.window import EntityWindow
from exportd.jobs.job_table import JobTable
from exportd.model.clock import Clock
from exportd.model.entity import Entity, EntityCode, OrganizationId
from exportd.model.errors import FullReason, PermanentError, Reason, TransientError
from exportd.model.extraction import Mode
from exportd.model.job import Job, JobId
from exportd.model.schedule import ExportFormat, Schedule
from exportd.model.start import Start

STATEMENT_TIMEOUT_S = 5.0
"""The time limit of each statement that opens the snapshot."""

COUNTING_S = 5.0
"""The time limit of all counts together. Windows that have not been counted by then are estimated."""

LIMIT_S = 60.0
"""The time limit of a whole preview. The daemon enforces it, because a function of a table's owner may catch the
server's timeouts.
"""

_MAX_PREVIEWS_AT_ONCE = 2
"""How many previews run at a time. Others wait, so that previews do not use up the connections that exports need."""

_MAX_PREVIEWS_OF_PROGRAMS = 1
"""How many of these may be for organizations; the rest is for users of the machine. Each organization may have one
preview waiting.
"""

_OPERATORS_SEE = "What the next run would hold cannot be said now. The operators of exportd see why in their preview."
"""Programs get this sentence instead of one that may name tables, hosts or sessions."""

_NO_JOB = JobId(UUID(int=0))


@dataclass(frozen=True, slots=True)
class WindowCounts:
    """Records of a window: live ones whose key is in it (``changed``; None in a full run), and deletions."""

    changed: int | None
    deleted: int


class Figure(StrEnum):
    """A figure of a preview, by its name in the API."""

    ROWS = "rows"
    DELETED_ROWS = "deletedRows"
    CONTENT_BYTES = "contentBytes"


@dataclass(frozen=True, slots=True)
class EntityPreview:
    """What a run that begins now would hold of one entity.

    ``rows`` counts all records, ``deleted_rows`` those that are deletions; ``content_bytes`` is before compression.
    ``estimated`` names the figures that are not exact.
    """

    entity: EntityCode
    mode: Mode
    full_reason: FullReason | None
    rows: int
    deleted_rows: int
    content_bytes: int
    estimated: tuple[Figure, ...]


@dataclass(frozen=True, slots=True)
class Preview:
    """The expected content of a run that begins at ``taken_at`` (aware UTC)."""

    taken_at: datetime
    entities: tuple[EntityPreview, ...]


class Previewer:
    """Previews runs. ``counting_s`` is how long counting may take, ``limit_s`` a preview as a whole."""

    def __init__(
        self,
        catalog: Catalog,
        connector: Connector,
        jobs: JobTable,
        clock: Clock,
        *,
        counting_s: float = COUNTING_S,
        limit_s: float = LIMIT_S,
    ) -> None:
        self._catalog = catalog
        self._connector = connector
        self._opener = SnapshotOpener(
            connector, is_intact=capture_is_intact, pause=anyio.sleep, statement_timeout_s=STATEMENT_TIMEOUT_S
        )
        self._jobs = jobs
        self._clock = clock
        self._counting_s = counting_s
        self._limit_s = limit_s
        self._turns = anyio.Semaphore(_MAX_PREVIEWS_AT_ONCE)
        self._turns_of_programs = anyio.Semaphore(_MAX_PREVIEWS_OF_PROGRAMS)
        self._asking = set[OrganizationId]()

    async def preview(self, schedule: Schedule, *, for_program: bool = False) -> Preview:
        """What a run of a schedule that begins now would hold.

        Raises PermanentError for what would fail the run (a missing table, an entity that the catalog does not have),
        TransientError when a lock cannot be had, or the database is away or too slow. To a program the sentence does
        not say why; PermanentError QUOTA_BUSY while another preview of its organization is made.
        """
        declaration = schedule.declaration
        job = Job(
            _NO_JOB,
            declaration.organization,
            schedule.id,
            declaration.code,
            self._clock.now(),
            declaration.entities,
            declaration.file_format,
            declaration.destinations,
        )
        return await (self._for_program(job) if for_program else self._in_turn(job))

    async def preview_export(
        self,
        organization: OrganizationId,
        entities: Sequence[EntityCode],
        file_format: ExportFormat,
        start_date: datetime | None,
        *,
        for_program: bool = False,
    ) -> Preview:
        """What an export without a schedule that begins now would hold: complete, or what was modified at
        ``start_date`` (aware UTC) or later. Raises the same.
        """
        now, codes = self._clock.now(), tuple(entities)
        job = Job(_NO_JOB, organization, None, None, now, codes, file_format, (), start_date)
        return await (self._for_program(job) if for_program else self._in_turn(job))

    async def _for_program(self, job: Job) -> Preview:
        organization = job.organization
        if organization in self._asking:
            raise PermanentError(
                f"A preview of the organization {organization!r} is being made. Ask again when it is there.",
                reason=Reason.QUOTA_BUSY,
            )
        self._asking.add(organization)
        try:
            async with self._turns_of_programs:
                return await self._in_turn(job)
        except PermanentError as error:
            raise PermanentError(_OPERATORS_SEE, reason=error.reason) from error
        except TransientError as error:
            raise TransientError(_OPERATORS_SEE, reason=error.reason) from error
        finally:
            self._asking.discard(organization)

    async def _in_turn(self, job: Job) -> Preview:
        entities = [self._catalog.get(code) for code in job.entities]
        async with self._turns:
            with anyio.move_on_after(self._limit_s):
                return await self._preview(job, entities)
        raise TransientError(
            f"The database did not answer for {self._limit_s:g} s while the next run was estimated. A function that an "
            "index or a policy of a table calls may hold it up.",
            reason=Reason.QUERY_FAILED,
        )

    async def _preview(self, job: Job, entities: Sequence[Entity]) -> Preview:
        start = (
            Start(forced=dict.fromkeys(job.entities, FullReason.AD_HOC))
            if job.schedule_id is None
            else await self._jobs.start(job.schedule_id)
        )
        uncaptured = await self._uncaptured(entities)
        reader = Reader(job, entities, start.positions, start.forced)
        async with self._opener.open(reader, uncaptured=uncaptured) as snapshot:
            with translated("estimating the next run"):
                full = {code for code, window in snapshot.windows.items() if window.full_reason is not None}
                found = await self._look(snapshot, job, unknown=uncaptured & start.positions.keys() & full)
        return Preview(snapshot.taken_at, tuple(found))

    async def _uncaptured(self, entities: Sequence[Entity]) -> set[EntityCode]:
        """The entities whose capture a run would have to install or repair first.

        An entity whose table is missing is left out: the snapshot opener reports it.
        """
        async with self._connector.export_session() as connection:
            with translated("reading what is captured"):
                # Asking for a table's size waits for a session that has it locked; lock_timeout limits that wait.
                await connection.execute(f"SET statement_timeout = {round(STATEMENT_TIMEOUT_S * 1000)}")
                shapes = await read_shapes(connection, entities)
        return {
            entity.code
            for entity in entities
            if (shape := shapes.get(entity.code)) and (shape.log_oid is None or not capture_is_intact(entity, shape))
        }

    async def _look(self, snapshot: OpenSnapshot, job: Job, *, unknown: Set[EntityCode]) -> list[EntityPreview]:
        """Count and estimate. ``unknown`` are entities whose deletions a run may be able to name, but a preview
        cannot.
        """
        # The plans come first: they are quick and always succeed.
        plans = {
            code: parse_plan(await snapshot.connection.fetchval(statement.plan()))
            for code, statement in snapshot.statements.items()
        }
        counted = await self._count_all(snapshot, unknown)
        return [
            preview_of(entity, job.file_format, plans[code], *counted[code], keys=snapshot.keys.get(code, 0))
            for code, entity in snapshot.entities.items()
        ]

    async def _count_all(
        self, snapshot: OpenSnapshot, unknown: Set[EntityCode]
    ) -> Mapping[EntityCode, tuple[EntityWindow, WindowCounts | None]]:
        """Count as many windows as the time allows, those with the fewest keys first."""
        counted: dict[EntityCode, tuple[EntityWindow, WindowCounts | None]] = {
            code: (snapshot.windows[code], None) for code in unknown
        }
        until = self._clock.monotonic() + self._counting_s
        for code in sorted(snapshot.windows.keys() - unknown, key=lambda code: (snapshot.keys.get(code, 0), code)):
            counted[code] = await self._count(snapshot, code, timeout_s=until - self._clock.monotonic())
        return counted

    async def _count(
        self, snapshot: OpenSnapshot, code: EntityCode, *, timeout_s: float
    ) -> tuple[EntityWindow, WindowCounts | None]:
        """The counts of one window; None when counting takes too long.

        Images that cannot be read back make the window full, as they make a run full.
        """
        window, statements, connection = snapshot.windows[code], snapshot.statements[code], snapshot.connection
        full = window.full_reason is not None
        if window.start_date is None and (window.previous is None or not window.reads_table):
            return window, WindowCounts(None if full else 0, 0)
        if timeout_s <= 0:
            return window, None
        await connection.execute("SAVEPOINT counting")
        await connection.execute(f"SET LOCAL statement_timeout = {max(1, round(timeout_s * 1000))}")
        try:
            if window.previous is None:
                deleted, rows = 0, statements.full(start_date=window.start_date)
            else:
                deleted = 0
                if window.deletions:
                    deleted = await connection.fetchval(statements.count(statements.deleted(window.previous)))
                rows = statements.changed(window.previous)
            changed = None if full else await connection.fetchval(statements.count(rows))
        except QueryCanceledError:
            await connection.execute("ROLLBACK TO SAVEPOINT counting")
            return window, None
        except PostgresError as error:
            failure = translate(error, doing=f"counting the changes of {code}")
            if window.previous is None or isinstance(failure, TransientError):
                raise
            await connection.execute("ROLLBACK TO SAVEPOINT counting")
            unreadable = EntityWindow(code, Mode.FULL, FullReason.IMAGES_UNREADABLE, None, changed=True)
            return unreadable, WindowCounts(None, 0)
        return window, WindowCounts(changed, deleted)


def preview_of(
    entity: Entity,
    file_format: ExportFormat,
    plan: TablePlan,
    window: EntityWindow,
    counts: WindowCounts | None,
    *,
    keys: int,
) -> EntityPreview:
    """The preview of one entity.

    ``counts`` is None when counting took too long; ``keys`` is how many keys the log holds for the window, at most.
    """
    if counts is None:
        # Only the count says which of the keys were deleted.
        rows, deleted, estimated = plan.rows if window.scans_table else keys, 0, tuple(Figure)
    elif counts.changed is None:
        rows, deleted, estimated = plan.rows + counts.deleted, counts.deleted, (Figure.ROWS, Figure.CONTENT_BYTES)
    else:
        rows, deleted = counts.changed + counts.deleted, counts.deleted
        estimated = (Figure.CONTENT_BYTES,) if rows else ()
    return EntityPreview(
        entity.code,
        window.mode,
        window.full_reason,
        rows,
        deleted,
        rows * record_bytes(entity, file_format, plan.row_bytes),
        estimated,
    )
