"""Records the steps of jobs for the holders of their leases, and extends the leases while the jobs run.

Each write is one statement for several jobs, and carries the fence of each lease. When no row of a job matches, its
holder has lost the lease: that holder gets TransientError LEASE_LOST, and the other jobs are written. Rows are always
locked in the order of their jobs, so two of these statements never wait for each other.

A request to cancel the job is stored in its row. The keeper finds it when it extends the lease; ``look`` makes it do so
at once. While the database is out of reach, the keeper repeats its attempts. It gives up with a quarter of the lease
left, so that the job is stopped before another daemon may take it.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import anyio
import structlog

from exportd.database import queries
from exportd.database.unit_of_work import statements, transaction
from exportd.jobs.job_record import progress_mark
from exportd.model.clock import Clock
from exportd.model.errors import ExportdError, Reason, TransientError
from exportd.model.job import TRUSTED_SHARE, JobId, JobProgress, JobState, Lease, LeaseState, Part
from exportd.model.schedule import DestinationCode
from exportd.model.start import Position, SharedDocument, shared_guards

if TYPE_CHECKING:
    from uuid import UUID

    from exportd.database.connector import Connection, Pool

_SQL = queries.load("jobs")

MAX_PAUSE_S = 1.0
"""The longest pause between two writes of changed progress to the job's row."""

MAX_PAUSE_TOGETHER_S = 3.0
"""The same for jobs that are read together, because there are many of them and they are short."""

_logger = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class Seal:
    """A job whose parts are durable. ``extraction`` says in JSON what was read, and names the ``documents``. The spool
    ``spool_id`` holds the ``parts``.
    """

    lease: Lease
    parts: Sequence[Part]
    extraction: str
    documents: Sequence[SharedDocument]
    spool_id: "UUID"


@dataclass(frozen=True, slots=True)
class Delivered:
    """A destination has everything, its manifest included."""

    lease: Lease
    destination: DestinationCode
    manifest_sha256: str


@dataclass(frozen=True, slots=True)
class Success:
    """A job that has delivered everything. ``positions`` are the new positions of its schedule, ``manifest_sha256`` is
    that of the manifest in the spool, and ``progress`` is JSON (None: the row keeps its own).
    """

    lease: Lease
    positions: Sequence[Position]
    manifest_sha256: str | None
    progress: str | None = None


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The lease is extended to ``lease_s`` seconds from now. ``progress`` is JSON (None: the row keeps its own)."""

    lease: Lease
    progress: str | None
    lease_s: float


def lease_lost(lease: Lease) -> TransientError:
    return TransientError(
        f"The lease of job {lease.job.id} is lost: it expired and another daemon took the job, or the job has ended.",
        reason=Reason.LEASE_LOST,
    )


def require_in_time(lease: Lease) -> None:
    """Check by the clock, without the database, that no other daemon can have the job. Raises TransientError
    LEASE_LOST.

    The process may still be frozen between this check and the write that follows at once. Such a write cannot be held
    back.
    """
    if lease.term.is_over:
        raise lease_lost(lease)


class LeaseWriter:
    """Each method takes several requests and returns an answer for each, in the same order: None, or the error when its
    lease is lost.
    """

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool

    async def seal(self, seals: Sequence[Seal]) -> list[TransientError | None]:
        """Every part is durable in the spool: from here on, the source is not read again."""
        async with transaction(self._pool, "sealing a job") as connection:
            documents = {document.digest: document.text for seal in seals for document in seal.documents}
            rows = await connection.fetch(
                *(_SQL["seal"], *_names([seal.lease for seal in seals])),
                *([seal.spool_id for seal in seals], [seal.extraction for seal in seals], [*documents]),
            )
            held = {JobId(row["id"]) for row in rows}
            sealed = [(seal.lease.job.id, part) for seal in seals if seal.lease.job.id in held for part in seal.parts]
            await connection.execute(
                *(_SQL["insert_parts"], [job for job, _ in sealed], [part.entity for _, part in sealed]),
                *([part.number for _, part in sealed], [part.file_name for _, part in sealed]),
                *([part.rows for _, part in sealed], [part.content_bytes for _, part in sealed]),
                *([part.size_bytes for _, part in sealed], [part.sha256 for _, part in sealed]),
            )
            await _share(connection, documents, {digest for row in rows for digest in row["lacking"]})
        return _losses((seal.lease for seal in seals), held)

    async def publishing(self, leases: Sequence[Lease]) -> list[TransientError | None]:
        """Objects may be visible from now on."""
        async with statements(self._pool, "recording that a job is publishing") as connection:
            return _losses(leases, await _held(connection, _SQL["publishing"], leases))

    async def record_deliveries(self, deliveries: Sequence[Delivered]) -> list[TransientError | None]:
        leases = [delivered.lease for delivered in deliveries]
        async with statements(self._pool, "recording a delivery") as connection:
            held = await _held(
                *(connection, _SQL["record_delivery"], leases, [delivered.destination for delivered in deliveries]),
                [delivered.manifest_sha256 for delivered in deliveries],
            )
        return _losses(leases, held)

    async def succeed(self, successes: Sequence[Success]) -> list[TransientError | None]:
        """Record that jobs have succeeded and move their schedules' positions. For each job both happen, or neither."""
        leases = [success.lease for success in successes]
        async with transaction(self._pool, "finishing a job") as connection:
            await connection.fetch(_SQL["lock_schedule"], [lease.job.id for lease in leases])
            held = await _held(
                *(connection, _SQL["succeed"], leases, [success.manifest_sha256 for success in successes]),
                [success.progress for success in successes],
            )
            reached = [success for success in successes if success.lease.job.id in held]
            ended = [success.lease.job.id for success in reached]
            documents = {
                document.digest: document.text
                for success in reached
                for document in (shared_guards(position.guards) for position in success.positions)
            }
            lacking = await connection.fetch(
                *(_SQL["move_positions"], ended, [_positions_text(success.positions) for success in reached]),
                [*documents],
            )
            await connection.execute(_SQL["fulfil_refresh_requests"], ended)
            await connection.execute(_SQL["fulfil_backfill_requests"], ended)
            await connection.execute(_SQL["widen_backfill_requests"], ended)
            await _share(connection, documents, {row["digest"] for row in lacking})
        return _losses(leases, held)

    async def heartbeat(self, heartbeats: Sequence[Heartbeat]) -> list[LeaseState]:
        """Extend the leases, and write the progress where there is some."""
        async with statements(self._pool, "extending a job's lease") as connection:
            rows = await connection.fetch(
                *(_SQL["heartbeat"], *_names([heartbeat.lease for heartbeat in heartbeats])),
                [heartbeat.lease_s for heartbeat in heartbeats],
                [heartbeat.progress for heartbeat in heartbeats],
            )
        cancelled = {row["id"]: row["cancelled"] for row in rows}
        states = {None: LeaseState.LOST, True: LeaseState.CANCELLED, False: LeaseState.HELD}
        return [states[cancelled.get(heartbeat.lease.job.id)] for heartbeat in heartbeats]

    async def record_progress(self, progress: Sequence[tuple[Lease, str | None]]) -> list[JobState | None]:
        """Write the last progress of attempts, in JSON (None: the row keeps its own). Returns the jobs' states; None
        where the lease was lost.
        """
        async with statements(self._pool, "recording a job's progress") as connection:
            rows = await connection.fetch(
                *(_SQL["record_progress"], *_names([lease for lease, _ in progress])),
                [document for _, document in progress],
            )
        states = {row["id"]: JobState(row["state"]) for row in rows}
        return [states.get(lease.job.id) for lease, _ in progress]


class LeaseExtender(Protocol):
    """The part of the job table that the keeper needs."""

    async def heartbeat(self, lease: Lease, progress: JobProgress | None, *, lease_s: float) -> LeaseState: ...


class LeaseKeeper:
    """Extends one lease every third of its length, or as soon as the progress has changed.

    ``claimed_at`` is the monotonic time before the claim was sent: the lease ends ``lease_s`` after that or later.
    """

    def __init__(
        self,
        table: LeaseExtender,
        lease: Lease,
        progress: JobProgress,
        *,
        lease_s: float,
        claimed_at: float,
        clock: Clock,
    ) -> None:
        self._table = table
        self._lease = lease
        self._progress = progress
        self._lease_s = lease_s
        self._extended_at = claimed_at
        self._clock = clock
        self._written = progress_mark(progress)
        self._woken = anyio.Event()

    def look(self) -> None:
        """Extend the lease now, because the job may have been cancelled."""
        self._woken.set()

    async def run(self) -> LeaseState:
        """Keep the lease until the job must stop. Returns CANCELLED, or LOST, which is also returned when the lease may
        expire before it can be extended.
        """
        pause_s = min(MAX_PAUSE_TOGETHER_S if self._lease.shares_snapshot else MAX_PAUSE_S, self._lease_s / 6)
        while (state := await self.run_once()) is LeaseState.HELD:
            await self._clock.wait_for(self._woken, self._clock.monotonic() + pause_s)
        return state

    async def run_once(self) -> LeaseState:
        """Extend the lease if it is time to."""
        woken, self._woken = self._woken.is_set(), anyio.Event()
        now = self._clock.monotonic()
        mark = progress_mark(self._progress)
        changed = mark != self._written
        if not changed and not woken and now < self._extended_at + self._lease_s / 3:
            return LeaseState.HELD
        trusted_s = self._extended_at + self._lease_s * TRUSTED_SHARE - now
        if trusted_s <= 0:
            _logger.warning("lease not extended in time", fence=self._lease.fence)
            return LeaseState.LOST
        try:
            with anyio.fail_after(trusted_s):
                state = await self._table.heartbeat(
                    self._lease, self._progress if changed else None, lease_s=self._lease_s
                )
        except ExportdError as error:
            _logger.warning("heartbeat failed", reason=error.reason, error=error.sentence)
            return LeaseState.HELD
        except TimeoutError:
            _logger.warning("lease not extended in time", fence=self._lease.fence)
            return LeaseState.LOST
        if state is LeaseState.LOST:
            _logger.warning("lease lost", fence=self._lease.fence)
            return state
        self._extended_at = now
        self._written = mark
        return state


async def _share(connection: "Connection", documents: Mapping[str, str], lacking: Collection[str]) -> None:
    """Store the documents that the database lacks, or mark them as used today. Nothing is sent on most calls.

    It is the last statement of a transaction: while it waits for another transaction, that one cannot wait for this.
    """
    if lacking:
        texts = [documents[digest] for digest in lacking]
        await connection.execute(_SQL["share_documents"], [*lacking], texts)


def _positions_text(positions: Iterable[Position]) -> str:
    """Positions in JSON, as ``move_positions`` takes them."""
    return json.dumps(
        [
            {
                "entity": position.entity,
                "snapshot": position.snapshot,
                "taken_at": position.taken_at.isoformat(),
                "destinations": position.destinations,
                "guards": shared_guards(position.guards).digest,
            }
            for position in positions
        ]
    )


def _names(leases: Sequence[Lease]) -> tuple[list[JobId], list[int]]:
    return [lease.job.id for lease in leases], [lease.fence for lease in leases]


async def _held(
    connection: "Connection", statement: str, leases: Sequence[Lease], *columns: Sequence[Any]
) -> set[JobId]:
    """The jobs whose lease is held: those of which the statement has written a row."""
    rows = await connection.fetch(statement, *_names(leases), *columns)
    return {JobId(row["id"]) for row in rows}


def _losses(leases: Iterable[Lease], held: Collection[JobId]) -> list[TransientError | None]:
    return [None if lease.job.id in held else lease_lost(lease) for lease in leases]
