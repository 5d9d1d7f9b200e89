"""Runs one attempt at one job, and records how it ended.

The job's function runs in its own cancel scope beside the lease's keeper. It returns, raises, or is stopped: the lease
is lost, a person cancels the job, or the daemon stops. In each case the end is recorded in the job's row, shielded from
further cancellation and bounded in time. If even that fails, the lease expires, and a daemon takes the job over.
"""

from collections.abc import Callable, Collection, Iterable
from enum import Enum

import anyio
import stamina
import structlog

from exportd.jobs.job_table import CANCELLED_SENTENCE, JobTable
from exportd.jobs.leases import LeaseKeeper
from exportd.jobs.stalls import Occupant, StalledEntities
from exportd.jobs.states import OCCUPIED_DELAY_S, Fail, Retry, decide, holds_bug, leading_error
from exportd.model.clock import Clock
from exportd.model.entity import EntityCode
from exportd.model.errors import ExportdError, InvariantError, Reason, TransientError
from exportd.model.job import JobPhase, JobProgress, JobState, Lease, LeaseState, RunJob, Stall

RECORDING_TIMEOUT_S = 5.0
"""How long recording the end of an attempt may take. After that the job is taken over when its lease expires."""

_logger = structlog.stdlib.get_logger()


class _Stop(Enum):
    """Why an attempt was stopped from outside."""

    LEASE_LOST = "lease lost"
    SHUTDOWN = "shutdown"
    CANCELLED = "cancelled"
    STALLED = "stalled"


class AttemptRunner:
    """Runs one attempt at one job.

    ``claimed_at`` is the monotonic time before the claim was sent. ``random`` in [0, 1) spreads retries. ``on_stall``
    is called when the job begins to wait for something in the database, with the entities that it waits for, and when
    it goes on. ``on_seal`` is called when everything has been read. ``probes`` are entities on which earlier jobs have
    stalled: they count against this job only if it stalls on them too.
    """

    def __init__(
        self,
        table: JobTable,
        run_job: RunJob,
        lease: Lease,
        *,
        claimed_at: float,
        lease_s: float,
        attempt_limit: int,
        clock: Clock,
        random: float,
        on_stall: Callable[[Collection[EntityCode]], None] = lambda _: None,
        on_seal: Callable[[], None] = lambda: None,
        probes: Collection[EntityCode] = (),
    ) -> None:
        self._table = table
        self._run_job = run_job
        self._lease = lease
        self._claimed_at = claimed_at
        self._attempt_limit = attempt_limit
        self._random = random
        self._clock = clock
        self._progress = JobProgress(on_stall=self._heard, on_seal=self._sealed)
        self._on_stall = on_stall
        self._on_seal = on_seal
        self._delivers_since = None if lease.phase is JobPhase.EXTRACTING else claimed_at
        self._probes = frozenset(probes)
        self._waits_for: frozenset[EntityCode] = frozenset()
        self._stalled: set[EntityCode] = set()
        self._last_stalls: list[Stall] = []
        self._stalled_since: float | None = None
        self._silent = False
        self._ended_as: JobState | None = None
        self._scope = anyio.CancelScope()
        self._stopped_by: _Stop | None = None
        self._keeper = LeaseKeeper(table, lease, self._progress, lease_s=lease_s, claimed_at=claimed_at, clock=clock)

    def hand_back(self) -> None:
        """Stop the job and put it back into the queue, without counting the attempt. ``run`` returns when that is
        recorded.
        """
        self._stop(_Stop.SHUTDOWN)

    def make_way(self) -> None:
        """Stop a stalled job and put it back into the queue, without counting the attempt, because other jobs need its
        place.
        """
        self._stop(_Stop.STALLED)

    @property
    def leaving(self) -> bool:
        """Whether the job was stopped and is about to end."""
        return self._stopped_by is not None

    @property
    def delivers(self) -> bool:
        """Whether the job has read everything."""
        return self._delivers_since is not None

    def occupant(self, entities: StalledEntities) -> Occupant:
        """The job as the slots count it at the moment."""
        unread = set() if self._lease.phase is not JobPhase.EXTRACTING else {*self._lease.job.entities} - self._read()
        expected = {entity for entity in unread - self._probes if entity in entities}
        troubled = self._waits_for | expected
        if not troubled and not self._progress.stalls:
            self._stalled_since = None
        elif self._stalled_since is None:
            self._stalled_since = self._clock.monotonic()
        return Occupant(troubled, self._stalled_since, self._claimed_at, self._delivers_since)

    def remember(self, entities: StalledEntities) -> None:
        """Record in ``entities`` what the attempt has learned about them. Call it when the attempt has ended."""
        entities.read(self._read(), stalled=self._stalled)
        entities.given_up(self._probes - self._stalled)
        if self._silent:
            entities.silent(_entities(self._last_stalls), self._clock.monotonic())

    def _read(self) -> set[EntityCode]:
        return {entity for entity, figures in self._progress.entities.items() if figures.done}

    def _heard(self) -> None:
        before, self._waits_for = self._waits_for, frozenset(_entities(self._progress.stalls))
        self._stalled |= self._waits_for
        self._last_stalls = self._progress.stalls or self._last_stalls
        self._on_stall(self._waits_for - before)

    def _sealed(self) -> None:
        self._delivers_since = self._clock.monotonic()
        self._on_seal()

    def look_for_cancellation(self) -> None:
        """Check now whether the job is to be cancelled."""
        self._keeper.look()

    async def run(self) -> None:
        """Run the job and record its end. No error of the job leaves here, only its own cancellation."""
        job = self._lease.job
        with structlog.contextvars.bound_contextvars(
            job_id=str(job.id),
            schedule=job.schedule_code,
            organization=job.organization,
            attempt=self._lease.attempt,
        ):
            _logger.info("job started", phase=self._lease.phase.value, fence=self._lease.fence)
            error: Exception | None = None
            try:
                error = await self._work()
            except BaseException:
                # The dispatcher itself is cancelled: the daemon stops without draining.
                self._stop(_Stop.SHUTDOWN)
                raise
            finally:
                if self._ended_as is None:
                    await self._record(error)
                else:
                    _logger.info("job ended", state=self._ended_as.value)
                # Break the reference cycle between the progress and this object: only a full garbage collection would
                # free it.
                self._progress.on_stall = self._progress.on_seal = lambda: None

    def _stop(self, reason: _Stop) -> None:
        self._stopped_by = self._stopped_by or reason
        self._scope.cancel()

    async def _work(self) -> Exception | None:
        """Run the job beside its keeper until it ends or is stopped; returns the error that it ended with."""
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._keep_lease, name="lease keeper")
                with self._scope:
                    await anyio.lowlevel.checkpoint()  # handed back before it began
                    await self._load_progress()
                    self._ended_as = await self._run_job(self._lease, self._progress)
                group.cancel_scope.cancel()
        except Exception as error:  # it must end this job only, and no other
            if holds_bug(error):
                _logger.exception("unexpected error in job")
            leading = leading_error(error)
            self._silent = isinstance(leading, ExportdError) and leading.reason is Reason.COPY_SILENT
            return error
        return None

    async def _keep_lease(self) -> None:
        state = await self._keeper.run()
        self._stop(_Stop.CANCELLED if state is LeaseState.CANCELLED else _Stop.LEASE_LOST)

    async def _load_progress(self) -> None:
        """A job that goes on after its seal keeps the figures of what was read before."""
        if self._lease.phase is not JobPhase.EXTRACTING:
            before = await self._table.progress(self._lease.job.id)
            self._progress.entities.update(before.entities)
            self._progress.published_files = before.published_files

    async def _record(self, error: Exception | None) -> None:
        """Record the end, trying again while the database is away or refuses, for a bounded time."""
        with anyio.move_on_after(RECORDING_TIMEOUT_S, shield=True) as scope:
            try:
                async for attempt in stamina.retry_context(
                    on=_worth_repeating, attempts=None, timeout=None, wait_initial=0.1, wait_max=1.0
                ):
                    with attempt:
                        await self._record_once(error)
            except ExportdError:  # no other leaves the retries
                _logger.warning("lease lost", fence=self._lease.fence)
            except Exception:  # it must not reach the other jobs; the lease expires
                _logger.exception("end of job not recorded")
        if scope.cancelled_caught:
            _logger.error("end of job not recorded", timeout_s=RECORDING_TIMEOUT_S)

    async def _record_once(self, error: Exception | None) -> None:
        state = await self._table.record_progress(self._lease, self._progress)
        if state is None:
            _logger.warning("lease lost", fence=self._lease.fence)
        elif state is not JobState.RUNNING:
            _logger.info("job ended", state=state.value)
        else:
            await self._give_up(self._decide(error))

    async def _give_up(self, decision: Retry | Fail) -> None:
        if isinstance(decision, Fail):
            await self._table.fail(self._lease, reason=decision.reason, message=decision.message)
            _logger.error("job failed", reason=decision.reason.value, error=decision.message)
        else:
            await self._table.put_back(
                self._lease,
                after_s=decision.after_s,
                counts_attempt=decision.counts_attempt,
                reason=decision.reason,
                message=decision.message,
            )
            _logger.warning(
                "job put back",
                reason=decision.reason.value,
                error=decision.message,
                after_s=round(decision.after_s, 1),
            )

    def _decide(self, error: Exception | None) -> Retry | Fail:
        """Decide what happens to a job that is still RUNNING after its attempt."""
        if self._stopped_by is _Stop.SHUTDOWN:
            return Retry(0.0, Reason.INTERRUPTED, "The daemon was stopped; the job goes on when one is free.", False)
        if self._stopped_by is _Stop.STALLED:
            return self._way_made()
        if self._stopped_by is _Stop.CANCELLED:
            return Fail(Reason.CANCELLED, CANCELLED_SENTENCE)
        if self._stopped_by is _Stop.LEASE_LOST:
            error = TransientError(
                "The daemon could not reach its database for so long that the job had to be stopped.",
                reason=Reason.LEASE_LOST,
            )
        if error is None:
            error = InvariantError("the job's function returned without ending the job")
        return decide(error, attempt=self._lease.attempt, limit=self._attempt_limit, random=self._random)

    def _way_made(self) -> Retry:
        """Put the job back, and say what it last waited for."""
        reason, waited_for = Reason.COPY_SILENT, ""
        for stall in self._last_stalls:
            reason, waited_for = Reason(stall.reason), f"{stall.sentence} "
        sentence = f"{waited_for}Other jobs needed its place. It is tried again when fewer jobs wait for the database."
        return Retry(OCCUPIED_DELAY_S, reason, sentence, counts_attempt=False)


def _entities(stalls: Iterable[Stall]) -> set[EntityCode]:
    return {entity for stall in stalls for entity in stall.entities}


def _worth_repeating(error: Exception) -> bool:
    return isinstance(error, ExportdError) and error.reason is not Reason.LEASE_LOST
