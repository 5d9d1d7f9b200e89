"""Claims jobs that are due and runs them, a bounded number at a time.

    run            claim while there is room; then wait for a wake-up, the end of a job, the time of one that was put
                   back or the next poll
    stop_claiming  claim no more; ``run`` ends with the last job
    drain          the same, but jobs that are not done at the deadline are stopped and put back

A job that waits for the database or for a destination takes no slot, and short jobs run beside long ones: see
``stalls``. One job's failure
never ends the dispatcher; see ``attempt_runner``. A failing claim is logged and tried again at the next poll.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from random import SystemRandom
from uuid import UUID

import anyio
import structlog
from anyio.abc import TaskGroup

from exportd.jobs.attempt_runner import AttemptRunner
from exportd.jobs.job_table import JobTable
from exportd.jobs.stalls import LONG_S, Occupant, Room, Slots, StalledEntities
from exportd.model.clock import Clock
from exportd.model.entity import EntityCode
from exportd.model.errors import ExportdError, Reason
from exportd.model.job import JobPhase, Lease, RunJob
from exportd.settings.schema import LiveSettings

CLAIM_TIMEOUT_S = 10.0
"""The time limit of a claim. A shutdown does not interrupt a claim, because the claimed job would then wait for its
lease to expire.
"""

_logger = structlog.stdlib.get_logger()
_random = SystemRandom().random


class Dispatcher:
    """Runs up to ``limits.jobs`` jobs at a time, each at most ``limits.job_attempts`` times, and beside them some that
    stall, some that only deliver and some short ones.

    ``settings`` are read at each look; a running job keeps the limit of attempts with which it began. ``holder`` names
    this daemon in the jobs' rows; ``spool_id`` is the spool that holds the parts of its sealed jobs.
    """

    def __init__(
        self,
        table: JobTable,
        run_job: RunJob,
        *,
        holder: str,
        spool_id: UUID,
        settings: LiveSettings,
        lease_s: float,
        clock: Clock,
        random: Callable[[], float] = _random,
    ) -> None:
        self._table = table
        self._run_job = run_job
        self._holder = holder
        self._spool_id = spool_id
        self._settings = settings
        self._lease_s = lease_s
        self._clock = clock
        self._random = random
        self._active: list[list[AttemptRunner]] = []  # those that were claimed together, and share a slot, in one list
        self._stalled = StalledEntities(lambda: settings().limits.silence_timeout_s)
        self._short_looked_at = -LONG_S
        self._look_for_short = False
        self._woken = anyio.Event()
        self._ended: anyio.Event | None = None
        self._stopping = False
        self._handing_back = False

    @property
    def stopping(self) -> bool:
        """Whether the dispatcher has stopped claiming jobs."""
        return self._stopping

    @property
    def stalled_entities(self) -> Mapping[EntityCode, float]:
        """The entities on which jobs stall or have stalled lately, and for how many more seconds no job reads each of
        them.
        """
        now = self._clock.monotonic()
        return {entity: self._stalled.left_alone_s(entity, now) for entity in self._stalled}

    def wake(self) -> None:
        """Look for jobs now, because one was queued, a slot is free, or the settings have changed."""
        self._woken.set()

    def look_for_cancellations(self) -> None:
        """Check now which of the running jobs are to be cancelled."""
        for runner in chain(*self._active):
            runner.look_for_cancellation()
        self.wake()

    def stop_claiming(self) -> None:
        """Claim no more jobs; ``run`` ends with the last one that is running."""
        self._stopping = True
        self.wake()

    async def drain(self, deadline: float) -> None:
        """Stop claiming, wait for the running jobs, and put back those that are not done at ``deadline`` (monotonic
        seconds).

        Returns when ``run`` has ended, at once if it was never started. A second call with an earlier deadline shortens
        the first one's.
        """
        self.stop_claiming()
        if self._ended is None:
            return
        if not await self._clock.wait_for(self._ended, deadline):
            self._hand_back()
            await self._ended.wait()

    async def run(self) -> None:
        """Claim and run jobs until ``stop_claiming`` or ``drain``; when cancelled, jobs are put back."""
        self._ended = anyio.Event()
        try:
            async with anyio.create_task_group() as group:
                while not self._stopping:
                    self._woken = anyio.Event()  # before looking, so that no wake-up is missed
                    await self.run_once(group)
                    next_look = self._clock.monotonic() + await self._seconds_to_next_look()
                    await self._clock.wait_for(self._woken, next_look)
        finally:
            self._ended.set()

    async def run_once(self, group: TaskGroup) -> int:
        """Start jobs in ``group`` as long as there is room and a job is due. Returns how many were started."""
        started = 0
        try:
            await self._end_interrupted()
            while not self._stopping and (room := self._room()) is not Room.NONE:
                claimed_at = self._clock.monotonic()
                lease = await self._claim_beside(claimed_at, only_short=room is Room.SHORT)
                if lease is None:
                    break
                leases = await self._with_others(lease)
                self._start(group, leases, claimed_at)
                self._make_way()
                started += len(leases)
        except ExportdError as error:
            _logger.warning("claiming failed", reason=error.reason, error=error.sentence)
        except TimeoutError:
            _logger.warning("claiming failed", error="The database did not answer in time.")
        return started

    async def _seconds_to_next_look(self) -> float:
        """Until the next poll, or until a job that was put back is due if that is sooner."""
        # Asked before the database is: a short job may get room while the query runs.
        given_up = self._slots().slot_given_up_in_s(self._occupants(), self._clock.monotonic())
        try:
            with anyio.fail_after(CLAIM_TIMEOUT_S):
                seconds = await self._table.seconds_to_next_due()
        except (ExportdError, TimeoutError):
            # Claiming fails in the same way, and logs it.
            seconds = None
        wanted = (seconds, self._seconds_to_short_room(), given_up, self._settings().capture.poll_interval_s)
        return min(second for second in wanted if second is not None)

    async def _end_interrupted(self) -> None:
        with anyio.fail_after(CLAIM_TIMEOUT_S):
            cancelled = await self._table.fail_cancelled()
            interrupted = await self._table.fail_interrupted(attempt_limit=self._settings().limits.job_attempts)
        for job_id in cancelled:
            _logger.warning("job failed", job_id=str(job_id), reason=Reason.CANCELLED.value)
        for job_id in interrupted:
            _logger.error("job failed", job_id=str(job_id), reason=Reason.INTERRUPTED.value)

    def _room(self) -> Room:
        """For which jobs there is room. It answers SHORT at most four times a second, because most wake-ups bring no
        short job.
        """
        now = self._clock.monotonic()
        room = self._slots().room(self._occupants(), now)
        if room is not Room.SHORT:
            return room
        self._look_for_short = now < self._short_looked_at + LONG_S
        if self._look_for_short:
            return Room.NONE
        self._short_looked_at = now
        return Room.SHORT

    def _seconds_to_short_room(self) -> float | None:
        """Seconds until the next look for a short job; None when there is nothing to wait for."""
        now = self._clock.monotonic()
        seconds = self._slots().short_room_in_s(self._occupants(), now)
        if seconds == 0:
            return max(0.0, self._short_looked_at + LONG_S - now) if self._look_for_short else None
        return seconds

    async def _claim_beside(self, now: float, *, only_short: bool) -> Lease | None:
        """Claim the next job that may run beside the running ones."""
        for left_out in self._slots().left_out(self._occupants(), self._stalled, now):
            with anyio.fail_after(CLAIM_TIMEOUT_S, shield=True):
                lease = await self._table.claim(
                    holder=self._holder,
                    lease_s=self._lease_s,
                    spool_id=self._spool_id,
                    attempt_limit=self._settings().limits.job_attempts,
                    left_out=left_out,
                    only_short=only_short,
                )
            if lease is not None:
                return lease
        return None

    async def _with_others(self, first: Lease) -> tuple[Lease, ...]:
        """A job together with those that can be read with it. Only the first attempt at a job of a schedule is read
        with others.
        """
        limit = self._settings().limits.jobs_together - 1
        if first.fence > 1 or first.job.schedule_id is None or not limit:
            return (first,)
        others: tuple[Lease, ...] = ()
        try:
            with anyio.fail_after(CLAIM_TIMEOUT_S, shield=True):
                others = await self._table.claim_together(
                    first, holder=self._holder, lease_s=self._lease_s, spool_id=self._spool_id, limit=limit
                )
        except (ExportdError, TimeoutError) as error:
            # The first job is claimed already and has to run.
            _logger.warning("claiming more jobs failed", error=str(error))
        if not others:
            return (first,)
        _logger.info("jobs claimed together", jobs=1 + len(others))
        return tuple(replace(lease, shares_snapshot=True) for lease in (first, *others))

    def _slots(self) -> Slots:
        return Slots.of(self._settings().limits)

    def _occupants(self) -> list[Occupant]:
        """The running jobs that are not about to end, in the order in which they were claimed."""
        return [Occupant.joined([runner.occupant(self._stalled) for runner in runners]) for runners in self._staying()]

    def _staying(self) -> list[list[AttemptRunner]]:
        staying = [[runner for runner in runners if not runner.leaving] for runners in self._active]
        return [runners for runners in staying if runners]

    def _make_way(self) -> None:
        """If too many jobs stall, stop one of them, together with the jobs that were claimed with it."""
        surplus = self._slots().surplus(self._occupants(), self._clock.monotonic())
        if surplus is not None:
            for runner in self._staying()[surplus]:
                runner.make_way()

    def _on_stall(self, entities: Collection[EntityCode]) -> None:
        """A job stalls or goes on: other jobs may get room."""
        self._stalled.stalled(entities, self._clock.monotonic())
        self.wake()

    def _on_seal(self, together: Sequence[AttemptRunner]) -> None:
        """A job has read everything. After a while it gives up its slot, so look again then if no slot is free."""
        if not all(runner.delivers for runner in together):
            return
        if self._slots().room(self._occupants(), self._clock.monotonic()) is not Room.ANY:
            self.wake()

    def _start(self, group: TaskGroup, leases: Sequence[Lease], claimed_at: float) -> None:
        first = leases[0]
        is_read = first.phase is JobPhase.EXTRACTING
        probes = self._stalled.probed(first.job.entities, claimed_at) if is_read else frozenset[EntityCode]()
        runners: list[AttemptRunner] = []
        runners += [self._runner(lease, claimed_at, probes, runners) for lease in leases]
        self._active.append(runners)
        for runner, lease in zip(tuple(runners), leases, strict=True):
            if self._handing_back:
                runner.hand_back()
            group.start_soon(self._run_attempt, runner, runners, name=f"job {lease.job.id}")

    def _runner(
        self, lease: Lease, claimed_at: float, probes: frozenset[EntityCode], together: Sequence[AttemptRunner]
    ) -> AttemptRunner:
        return AttemptRunner(
            self._table,
            self._run_job,
            lease,
            claimed_at=claimed_at,
            lease_s=self._lease_s,
            attempt_limit=self._settings().limits.job_attempts,
            clock=self._clock,
            random=self._random(),
            on_stall=self._on_stall,
            on_seal=partial(self._on_seal, together),
            probes=probes,
        )

    async def _run_attempt(self, runner: AttemptRunner, together: list[AttemptRunner]) -> None:
        try:
            await runner.run()
        finally:
            runner.remember(self._stalled)
            together.remove(runner)
            if together:
                # It may have been the last job that still had to read.
                if not runner.delivers:
                    self._on_seal(together)
            else:
                self._active.remove(together)
                self.wake()

    def _hand_back(self) -> None:
        runners = tuple(chain(*self._active))
        _logger.warning("jobs put back at the deadline", jobs=len(runners))
        self._handing_back = True
        for runner in runners:
            runner.hand_back()
