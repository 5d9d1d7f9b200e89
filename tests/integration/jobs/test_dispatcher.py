"""The dispatcher: what becomes of jobs, whatever the function that runs them does."""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import anyio
import pytest
import structlog
from structlog.testing import capture_logs

from exportd.jobs import attempt_runner
from exportd.jobs.dispatcher import Dispatcher
from exportd.jobs.job_record import JobRecord
from exportd.jobs.job_table import JobTable
from exportd.jobs.stalls import LONG_S
from exportd.model.entity import OrganizationId
from exportd.model.errors import PermanentError, Reason, TransientError
from exportd.model.job import (
    EntityProgress,
    JobId,
    JobPhase,
    JobProgress,
    JobState,
    Lease,
    LeaseState,
    RunJob,
    Stall,
)
from exportd.settings.schema import LiveSettings
from tests.fixtures.fake_clock import FakeClock
from tests.fixtures.settings import live_settings, settings_with
from tests.integration.jobs.postgres_jobs import (
    ACCOUNTS,
    ATTEMPTS,
    LEASE_S,
    NOON,
    OTHER_SPOOL,
    PARTS,
    SPOOL,
    PostgresJobs,
)

AWAY = TransientError("The lake is away.", reason=Reason.DESTINATION_UNAVAILABLE)
REFUSED = PermanentError("Allow exportd to write into the lake.", reason=Reason.DESTINATION_REFUSED)
POLL_S = 5.0


@dataclass
class Dispatchers:
    """Makes dispatchers, on a clock that stands still until a test moves it."""

    jobs: PostgresJobs
    clock: FakeClock = field(default_factory=FakeClock)

    def dispatcher(
        self,
        run_job: RunJob,
        *,
        table: JobTable | None = None,
        holder: str = "alpha",
        spool_id: UUID = SPOOL,
        concurrency: int = 2,
        attempts: int = ATTEMPTS,
        settings: LiveSettings | None = None,
    ) -> Dispatcher:
        return Dispatcher(
            table or self.jobs.table,
            run_job,
            holder=holder,
            spool_id=spool_id,
            settings=settings
            or live_settings(
                limits={"jobs": concurrency, "job_attempts": attempts}, capture={"poll_interval_s": POLL_S}
            ),
            lease_s=LEASE_S,
            clock=self.clock,
            random=lambda: 0.5,
        )

    @asynccontextmanager
    async def running(self, dispatcher: Dispatcher) -> AsyncIterator[None]:
        """The dispatcher at work; at the end every job that it has is waited for."""
        async with anyio.create_task_group() as group:
            group.start_soon(dispatcher.run)
            yield
            await dispatcher.drain(self.clock.monotonic() + 1)

    async def record(self, job_id: JobId) -> JobRecord:
        record = await self.jobs.table.get(job_id)
        assert record is not None
        return record


@dataclass
class HeldJob:
    """A job's function that waits until it may end."""

    started: anyio.Event = field(default_factory=anyio.Event)
    may_end: anyio.Event = field(default_factory=anyio.Event)
    cancelled: anyio.Event = field(default_factory=anyio.Event)

    def __call__(self, table: JobTable, *, before: "Step | None" = None) -> RunJob:
        async def run_job(lease: Lease, progress: JobProgress) -> None:
            if before is not None:
                await before(lease, progress)
            self.started.set()
            try:
                await self.may_end.wait()
            except anyio.get_cancelled_exc_class():
                self.cancelled.set()
                raise
            await table.succeed(lease, positions=[])

        return run_job


Step = Callable[[Lease, JobProgress], Awaitable[None]]


def raising(error: Exception, started: anyio.Event) -> RunJob:
    async def run_job(_lease: Lease, _progress: JobProgress) -> None:
        started.set()
        raise error

    return run_job


@pytest.fixture
def dispatchers(jobs: PostgresJobs) -> Dispatchers:
    return Dispatchers(jobs)


@pytest.fixture
def held_job() -> HeldJob:
    return HeldJob()


async def attempt(dispatchers: Dispatchers, error: Exception, *, attempts: int = ATTEMPTS) -> JobRecord:
    """What a job looks like after one attempt that ended with ``error``."""
    job_id = await dispatchers.jobs.add_job()
    started = anyio.Event()
    async with dispatchers.running(dispatchers.dispatcher(raising(error, started), attempts=attempts)):
        await started.wait()
    return await dispatchers.record(job_id)


class TestTheEndOfAnAttempt:
    async def test_success_is_what_the_function_recorded(self, dispatchers: Dispatchers) -> None:
        job_id = await dispatchers.jobs.add_job()
        done = anyio.Event()

        async def run_job(lease: Lease, progress: JobProgress) -> None:
            progress.of(ACCOUNTS).rows = 10
            await dispatchers.jobs.seal(lease)
            await dispatchers.jobs.table.publishing(lease)
            progress.published_files = 3
            await dispatchers.jobs.table.succeed(lease, positions=[])
            done.set()

        async with dispatchers.running(dispatchers.dispatcher(run_job)):
            await done.wait()
        record = await dispatchers.record(job_id)
        assert (record.state, record.phase, record.attempt) == (JobState.SUCCEEDED, JobPhase.PUBLISHING, 1)
        assert record.parts == PARTS
        # The last figures are there although no heartbeat came between them and the end.
        assert record.progress == JobProgress({ACCOUNTS: EntityProgress(rows=10)}, 3)

    async def test_nothing_is_recorded_after_a_success_with_its_progress(self, dispatchers: Dispatchers) -> None:
        job_id = await dispatchers.jobs.add_job()
        done = anyio.Event()

        async def run_job(lease: Lease, progress: JobProgress) -> JobState:
            progress.of(ACCOUNTS).rows = 10
            await dispatchers.jobs.table.succeed(lease, positions=[], progress=progress)
            progress.of(ACCOUNTS).rows = 11
            done.set()
            return JobState.SUCCEEDED

        async with dispatchers.running(dispatchers.dispatcher(run_job)):
            await done.wait()
        record = await dispatchers.record(job_id)
        assert (record.state, record.progress) == (JobState.SUCCEEDED, JobProgress({ACCOUNTS: EntityProgress(rows=10)}))

    async def test_a_transient_error_puts_the_job_back_for_later(self, dispatchers: Dispatchers) -> None:
        record = await attempt(dispatchers, AWAY)
        assert (record.state, record.attempt) == (JobState.PENDING, 1)
        assert (record.reason, record.message) == (Reason.DESTINATION_UNAVAILABLE, "The lake is away.")
        assert record.started_at is not None
        assert 7.5 <= (record.not_before - record.started_at).total_seconds() < 60

    async def test_a_transient_error_in_the_last_attempt_fails_the_job(self, dispatchers: Dispatchers) -> None:
        record = await attempt(dispatchers, AWAY, attempts=1)
        assert (record.state, record.reason) == (JobState.FAILED, Reason.DESTINATION_UNAVAILABLE)
        assert record.message == "The lake is away. Gave up after the only attempt."

    @pytest.mark.parametrize("error", [REFUSED, ExceptionGroup("uploads", [AWAY, REFUSED])])
    async def test_a_permanent_error_fails_the_job(self, dispatchers: Dispatchers, error: Exception) -> None:
        record = await attempt(dispatchers, error)
        assert (record.state, record.attempt) == (JobState.FAILED, 1)
        assert (record.reason, record.message) == (Reason.DESTINATION_REFUSED, REFUSED.sentence)

    async def test_a_bug_fails_the_job_and_leaves_its_traceback_in_the_log(self, dispatchers: Dispatchers) -> None:
        with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logs:
            record = await attempt(dispatchers, ZeroDivisionError("secret"))
        assert (record.state, record.reason) == (JobState.FAILED, Reason.BUG)
        assert record.message is not None
        assert "ZeroDivisionError" in record.message
        assert "secret" not in record.message
        bugs = [log for log in logs if log["event"] == "unexpected error in job"]
        assert [(bug["job_id"], bug["schedule"], bug["organization"]) for bug in bugs] == [
            (str(record.job.id), "nightly", "org-1")
        ]
        assert bugs[0]["exc_info"]

    async def test_a_function_that_forgets_to_end_the_job_is_a_bug(self, dispatchers: Dispatchers) -> None:
        job_id = await dispatchers.jobs.add_job()
        done = anyio.Event()

        async def run_job(_lease: Lease, _progress: JobProgress) -> None:
            done.set()

        async with dispatchers.running(dispatchers.dispatcher(run_job)):
            await done.wait()
        record = await dispatchers.record(job_id)
        assert (record.state, record.reason) == (JobState.FAILED, Reason.BUG)

    async def test_an_error_after_the_success_was_committed_changes_nothing(self, dispatchers: Dispatchers) -> None:
        job_id = await dispatchers.jobs.add_job()
        done = anyio.Event()

        async def run_job(lease: Lease, _progress: JobProgress) -> None:
            await dispatchers.jobs.table.succeed(lease, positions=[])
            done.set()
            raise TransientError("The answer was lost.", reason=Reason.DATABASE_CONNECTION_LOST)

        async with dispatchers.running(dispatchers.dispatcher(run_job)):
            await done.wait()
        record = await dispatchers.record(job_id)
        assert (record.state, record.reason) == (JobState.SUCCEEDED, None)

    async def test_one_jobs_bug_leaves_the_others_alone(self, dispatchers: Dispatchers, held_job: HeldJob) -> None:
        bad_id = await dispatchers.jobs.add_job(organization="bad")
        good_id = await dispatchers.jobs.add_job(organization="good")
        good = held_job(dispatchers.jobs.table)
        failed = anyio.Event()

        async def run_job(lease: Lease, progress: JobProgress) -> JobState | None:
            if lease.job.id == good_id:
                return await good(lease, progress)
            failed.set()
            raise RuntimeError("no")

        async with dispatchers.running(dispatchers.dispatcher(run_job)):
            await failed.wait()
            await held_job.started.wait()
            held_job.may_end.set()
        assert (await dispatchers.record(bad_id)).state is JobState.FAILED
        assert (await dispatchers.record(good_id)).state is JobState.SUCCEEDED


class TestRecordingTheEnd:
    async def test_is_tried_again_while_the_database_is_away(self, dispatchers: Dispatchers) -> None:
        class Stumbling(JobTable):
            stumbles = 2

            async def fail(self, lease: Lease, *, reason: Reason, message: str) -> None:
                if self.stumbles:
                    self.stumbles -= 1
                    raise TransientError("Gone.", reason=Reason.DATABASE_CONNECTION_LOST)
                await super().fail(lease, reason=reason, message=message)

        job_id = await dispatchers.jobs.add_job()
        started = anyio.Event()
        table = Stumbling(dispatchers.jobs.pool)
        async with dispatchers.running(dispatchers.dispatcher(raising(REFUSED, started), table=table)):
            await started.wait()
        record = await dispatchers.record(job_id)
        assert (table.stumbles, record.state) == (0, JobState.FAILED)

    @pytest.mark.parametrize(
        "error", [TransientError("Gone.", reason=Reason.DATABASE_CONNECTION_LOST), RuntimeError("a bug in it")]
    )
    async def test_that_never_works_is_left_to_the_leases_end(
        self, dispatchers: Dispatchers, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        monkeypatch.setattr(attempt_runner, "RECORDING_TIMEOUT_S", 0.05)

        class Broken(JobTable):
            async def record_progress(self, lease: Lease, progress: JobProgress) -> JobState | None:
                raise error

        job_id = await dispatchers.jobs.add_job()
        started = anyio.Event()
        dispatcher = dispatchers.dispatcher(raising(REFUSED, started), table=Broken(dispatchers.jobs.pool))
        with capture_logs() as logs:
            async with dispatchers.running(dispatcher):
                await started.wait()
        assert "end of job not recorded" in [log["event"] for log in logs]
        assert (await dispatchers.record(job_id)).state is JobState.RUNNING
        await dispatchers.jobs.end_lease(job_id)
        assert (await dispatchers.jobs.claimed()).attempt == 2


class TestTheLease:
    async def test_lost_to_another_holder_stops_the_job_and_writes_nothing(
        self, dispatchers: Dispatchers, held_job: HeldJob
    ) -> None:
        job_id = await dispatchers.jobs.add_job()
        # With a second slot it would take the job again itself, before the other does.
        async with dispatchers.running(dispatchers.dispatcher(held_job(dispatchers.jobs.table), concurrency=1)):
            await held_job.started.wait()
            await dispatchers.jobs.end_lease(job_id)
            taken = await dispatchers.jobs.claimed(holder="beta")
            await dispatchers.clock.advance(LEASE_S / 3)
            await held_job.cancelled.wait()
        record = await dispatchers.record(job_id)
        assert (record.state, record.lease_holder, record.attempt) == (JobState.RUNNING, "beta", 2)
        assert record.reason is None
        await dispatchers.jobs.table.succeed(taken, positions=[])

    async def test_that_cannot_be_extended_stops_the_job_before_it_ends(
        self, dispatchers: Dispatchers, held_job: HeldJob
    ) -> None:
        class Unreachable(JobTable):
            async def heartbeat(self, lease: Lease, progress: JobProgress | None, *, lease_s: float) -> LeaseState:
                raise TransientError("Away.", reason=Reason.DATABASE_UNREACHABLE)

        job_id = await dispatchers.jobs.add_job()
        table = Unreachable(dispatchers.jobs.pool)
        async with dispatchers.running(dispatchers.dispatcher(held_job(table), table=table)):
            await held_job.started.wait()
            await dispatchers.clock.advance(LEASE_S * 0.7)
            assert not held_job.cancelled.is_set()
            await dispatchers.clock.advance(LEASE_S * 0.1)
            await held_job.cancelled.wait()
        record = await dispatchers.record(job_id)
        assert (record.state, record.reason, record.attempt) == (JobState.PENDING, Reason.LEASE_LOST, 1)

    async def test_is_extended_while_the_job_runs(self, dispatchers: Dispatchers, held_job: HeldJob) -> None:
        extended = anyio.Event()

        class Watched(JobTable):
            async def heartbeat(self, lease: Lease, progress: JobProgress | None, *, lease_s: float) -> LeaseState:
                held = await super().heartbeat(lease, progress, lease_s=lease_s)
                extended.set()
                return held

        async def read_rows(_lease: Lease, progress: JobProgress) -> None:
            progress.of(ACCOUNTS).rows = 7

        job_id = await dispatchers.jobs.add_job()
        table = Watched(dispatchers.jobs.pool)
        async with dispatchers.running(dispatchers.dispatcher(held_job(table, before=read_rows), table=table)):
            await held_job.started.wait()
            before = (await dispatchers.record(job_id)).lease_until
            await dispatchers.clock.advance(1)
            await extended.wait()
            record = await dispatchers.record(job_id)
            assert before is not None
            assert record.lease_until is not None
            assert record.lease_until > before
            assert record.progress.of(ACCOUNTS).rows == 7
            held_job.may_end.set()


class TestTakingWork:
    async def test_never_runs_more_jobs_at_once_than_it_may(self, dispatchers: Dispatchers) -> None:
        for _ in range(5):
            await dispatchers.jobs.add_job()
        running, most, ended = 0, 0, 0
        two_run, all_ended = anyio.Event(), anyio.Event()

        async def run_job(lease: Lease, _progress: JobProgress) -> None:
            nonlocal running, most, ended
            running += 1
            most = max(most, running)
            if running == 2:
                two_run.set()
            await two_run.wait()
            await dispatchers.jobs.table.succeed(lease, positions=[])
            running -= 1
            ended += 1
            if ended == 5:
                all_ended.set()

        async with dispatchers.running(dispatchers.dispatcher(run_job, concurrency=2)):
            await all_ended.wait()
        assert most == 2

    async def test_takes_as_many_as_the_settings_in_effect_allow(self, dispatchers: Dispatchers) -> None:
        """A reload swaps the settings and wakes the dispatcher; it does not stop what runs."""
        limits = {"jobs": 1}
        for _ in range(3):
            await dispatchers.jobs.add_job()
        running, begun, may_end = 0, [anyio.Event() for _ in range(3)], anyio.Event()

        async def run_job(_lease: Lease, _progress: JobProgress) -> None:
            nonlocal running
            begun[running].set()
            running += 1
            await may_end.wait()

        dispatcher = dispatchers.dispatcher(run_job, settings=lambda: settings_with(limits=limits))
        async with dispatchers.running(dispatcher):
            await begun[0].wait()
            for number in (1, 2):
                assert not begun[number].is_set()
                limits["jobs"] += 1
                dispatcher.wake()
                await begun[number].wait()
            assert running == 3
            may_end.set()

    async def test_a_job_that_waits_for_its_destinations_gives_its_slot_up(self, dispatchers: Dispatchers) -> None:
        for _ in range(4):
            await dispatchers.jobs.add_job()
        begun, may_end = [anyio.Event() for _ in range(4)], anyio.Event()
        running = 0

        async def run_job(lease: Lease, progress: JobProgress) -> None:
            nonlocal running
            looked.clear()
            progress.on_seal()
            begun[running].set()
            running += 1
            await may_end.wait()
            await dispatchers.jobs.table.succeed(lease, positions=[])

        looked = list[int]()

        class Watched(JobTable):
            async def seconds_to_next_due(self) -> float | None:
                looked.append(running)
                return None

        settings = live_settings(limits={"jobs": 1, "short_jobs": 0, "delivering_jobs": 2})
        dispatcher = dispatchers.dispatcher(run_job, table=Watched(dispatchers.jobs.pool), settings=settings)
        async with dispatchers.running(dispatcher):
            for number in range(3):
                await begun[number].wait()
                while not looked:
                    await anyio.lowlevel.checkpoint()
                assert running == number + 1, "not before it has delivered for a while"
                await dispatchers.clock.advance(LONG_S)
            looked.clear()
            dispatcher.wake()
            while not looked:
                await anyio.lowlevel.checkpoint()
            assert running == 3, "one in a slot, and two beside it"
            may_end.set()
            await begun[3].wait()

    async def test_tries_an_entity_that_is_slow_for_one_job_with_another_after_a_pause(
        self, dispatchers: Dispatchers
    ) -> None:
        """One organization's search of a large table keeps the others' exports of it waiting no longer."""
        for number in range(4):
            await dispatchers.jobs.add_job(organization=f"org-{number}", due_at=NOON + timedelta(hours=number))
        stalled, looked, may_end = anyio.Event(), anyio.Event(), anyio.Event()
        read = [anyio.Event() for _ in range(3)]
        ended: list[str] = []

        async def run_job(lease: Lease, progress: JobProgress) -> None:
            if not stalled.is_set():
                progress.replace_stall(None, Stall((ACCOUNTS,), Reason.COPY_SILENT, "It searches.", NOON))
                stalled.set()
                await may_end.wait()
            for entity in lease.job.entities:
                progress.of(entity).done = True
            await dispatchers.jobs.table.succeed(lease, positions=[])
            ended.append(lease.job.organization)
            if len(ended) <= len(read):
                read[len(ended) - 1].set()

        class Watched(JobTable):
            async def claim(self, **how: Any) -> Lease | None:
                lease = await super().claim(**how)
                if stalled.is_set():
                    looked.set()
                return lease

        dispatcher = dispatchers.dispatcher(run_job, table=Watched(dispatchers.jobs.pool), concurrency=1)
        async with dispatchers.running(dispatcher):
            await looked.wait()
            assert (ended, [*dispatcher.stalled_entities]) == ([], [ACCOUNTS]), "the others wait for now"
            await dispatchers.clock.advance(30)
            dispatcher.wake()
            for event in read:
                await event.wait()
            assert ended == ["org-1", "org-2", "org-3"]
            assert [*dispatcher.stalled_entities] == [], "it is quick again for all"
            may_end.set()

    async def test_waits_for_a_wake_up(self, dispatchers: Dispatchers, held_job: HeldJob) -> None:
        dispatcher = dispatchers.dispatcher(held_job(dispatchers.jobs.table))
        async with dispatchers.running(dispatcher):
            await looked_for_work(dispatchers)
            job_id = await dispatchers.jobs.add_job()
            assert (await dispatchers.jobs.row(job_id))["state"] == "PENDING"
            dispatcher.wake()
            await held_job.started.wait()
            held_job.may_end.set()

    async def test_polls_when_no_wake_up_comes(self, dispatchers: Dispatchers, held_job: HeldJob) -> None:
        async with dispatchers.running(dispatchers.dispatcher(held_job(dispatchers.jobs.table))):
            await looked_for_work(dispatchers)
            await dispatchers.jobs.add_job()
            await dispatchers.clock.advance(POLL_S)
            await held_job.started.wait()
            held_job.may_end.set()

    async def test_looks_again_when_a_job_that_was_put_back_is_due(
        self, dispatchers: Dispatchers, held_job: HeldJob
    ) -> None:
        class PuttingBack(JobTable):
            async def seconds_to_next_due(self) -> float | None:
                return POLL_S / 2

        table = PuttingBack(dispatchers.jobs.pool)
        async with dispatchers.running(dispatchers.dispatcher(held_job(table), table=table)):
            await looked_for_work(dispatchers)
            await dispatchers.jobs.add_job()
            await dispatchers.clock.advance(POLL_S / 2)
            await held_job.started.wait()
            held_job.may_end.set()

    async def test_goes_on_after_the_database_was_away(self, dispatchers: Dispatchers, held_job: HeldJob) -> None:
        class Stumbling(JobTable):
            stumbled = anyio.Event()

            async def claim(self, **how: Any) -> Lease | None:
                if not self.stumbled.is_set():
                    self.stumbled.set()
                    raise TransientError("Away.", reason=Reason.DATABASE_UNREACHABLE)
                return await super().claim(**how)

        await dispatchers.jobs.add_job()
        table = Stumbling(dispatchers.jobs.pool)
        async with dispatchers.running(dispatchers.dispatcher(held_job(table), table=table)):
            await table.stumbled.wait()
            await dispatchers.clock.advance(POLL_S)
            await held_job.started.wait()
            held_job.may_end.set()

    async def test_ends_a_job_whose_last_attempt_was_interrupted(
        self, dispatchers: Dispatchers, held_job: HeldJob
    ) -> None:
        job_id = await dispatchers.jobs.add_job()
        assert await dispatchers.jobs.claim(attempt_limit=1) is not None
        await dispatchers.jobs.end_lease(job_id)
        async with dispatchers.running(dispatchers.dispatcher(held_job(dispatchers.jobs.table), attempts=1)):
            await looked_for_work(dispatchers)
        assert not held_job.started.is_set()
        record = await dispatchers.record(job_id)
        assert (record.state, record.reason) == (JobState.FAILED, Reason.INTERRUPTED)

    async def test_goes_on_from_the_seal_with_the_figures_of_before(self, dispatchers: Dispatchers) -> None:
        job_id = await dispatchers.jobs.add_job()
        lease = await dispatchers.jobs.claimed()
        await dispatchers.jobs.seal(lease)
        before = JobProgress({ACCOUNTS: EntityProgress(rows=15, done=True)}, 1)
        await dispatchers.jobs.table.record_progress(lease, before)
        await dispatchers.jobs.end_lease(job_id)
        seen: list[tuple[JobPhase, int]] = []
        done = anyio.Event()

        async def run_job(lease: Lease, progress: JobProgress) -> None:
            seen.append((lease.phase, progress.of(ACCOUNTS).rows))
            progress.published_files = 3
            await dispatchers.jobs.table.succeed(lease, positions=[])
            done.set()

        async with dispatchers.running(dispatchers.dispatcher(run_job)):
            await done.wait()
        assert seen == [(JobPhase.SEALED, 15)]
        assert (await dispatchers.record(job_id)).progress == JobProgress(before.entities, 3)

    async def test_two_daemons_share_the_work_and_do_each_job_once(self, dispatchers: Dispatchers) -> None:
        queued = [await dispatchers.jobs.add_job() for _ in range(20)]
        done: list[JobId] = []
        all_done = anyio.Event()

        async def run_job(lease: Lease, _progress: JobProgress) -> None:
            await dispatchers.jobs.table.succeed(lease, positions=[])
            done.append(lease.job.id)
            if len(done) == len(queued):
                all_done.set()

        alpha = dispatchers.dispatcher(run_job, holder="alpha")
        beta = dispatchers.dispatcher(run_job, holder="beta", spool_id=OTHER_SPOOL)
        async with dispatchers.running(alpha), dispatchers.running(beta):
            await all_done.wait()
        assert Counter(done) == Counter(queued)


class TestLeaving:
    async def test_lets_running_jobs_finish_and_takes_no_others(
        self, dispatchers: Dispatchers, held_job: HeldJob
    ) -> None:
        organization = OrganizationId("one")
        running_id = await dispatchers.jobs.add_job(organization=organization)
        waiting_id = await dispatchers.jobs.add_job(organization=organization)
        dispatcher = dispatchers.dispatcher(held_job(dispatchers.jobs.table), concurrency=1)
        async with anyio.create_task_group() as group:
            group.start_soon(dispatcher.run)
            await held_job.started.wait()
            group.start_soon(dispatcher.drain, dispatchers.clock.monotonic() + 30)
            await dispatchers.clock.advance(29)
            held_job.may_end.set()
        states = {record.job.id: (record.state, record.attempt) for record in await dispatchers.jobs.records()}
        assert sorted(states.values()) == [(JobState.PENDING, 0), (JobState.SUCCEEDED, 1)]
        assert set(states) == {running_id, waiting_id}

    @pytest.mark.parametrize("sealed", [False, True])
    async def test_puts_a_job_back_at_the_deadline_without_counting_the_attempt(
        self, dispatchers: Dispatchers, held_job: HeldJob, sealed: bool
    ) -> None:
        async def begin(lease: Lease, progress: JobProgress) -> None:
            progress.of(ACCOUNTS).rows = 15
            if sealed:
                await dispatchers.jobs.seal(lease)

        job_id = await dispatchers.jobs.add_job()
        dispatcher = dispatchers.dispatcher(held_job(dispatchers.jobs.table, before=begin))
        async with anyio.create_task_group() as group:
            group.start_soon(dispatcher.run)
            await held_job.started.wait()
            group.start_soon(dispatcher.drain, dispatchers.clock.monotonic() + 30)
            await dispatchers.clock.advance(31)
        assert held_job.cancelled.is_set()
        record = await dispatchers.record(job_id)
        assert (record.state, record.attempt, record.reason) == (JobState.PENDING, 0, Reason.INTERRUPTED)
        assert record.phase is (JobPhase.SEALED if sealed else JobPhase.EXTRACTING)
        assert record.progress.of(ACCOUNTS).rows == 15
        # At once: any free daemon goes on.
        lease = await dispatchers.jobs.claimed(holder="beta")
        assert (lease.attempt, lease.phase) == (1, record.phase)

    async def test_a_second_call_hurries(self, dispatchers: Dispatchers, held_job: HeldJob) -> None:
        job_id = await dispatchers.jobs.add_job()
        dispatcher = dispatchers.dispatcher(held_job(dispatchers.jobs.table))
        async with anyio.create_task_group() as group:
            group.start_soon(dispatcher.run)
            await held_job.started.wait()
            group.start_soon(dispatcher.drain, dispatchers.clock.monotonic() + 1000)
            await anyio.wait_all_tasks_blocked()
            await dispatcher.drain(dispatchers.clock.monotonic())
        assert (await dispatchers.record(job_id)).attempt == 0

    async def test_cancelled_without_a_word_it_puts_its_jobs_back_too(
        self, dispatchers: Dispatchers, held_job: HeldJob
    ) -> None:
        job_id = await dispatchers.jobs.add_job()
        async with anyio.create_task_group() as group:
            group.start_soon(dispatchers.dispatcher(held_job(dispatchers.jobs.table)).run)
            await held_job.started.wait()
            group.cancel_scope.cancel()
        record = await dispatchers.record(job_id)
        assert (record.state, record.attempt, record.reason) == (JobState.PENDING, 0, Reason.INTERRUPTED)

    async def test_cancelled_while_claiming_it_puts_the_job_back(
        self, dispatchers: Dispatchers, held_job: HeldJob
    ) -> None:
        claimed = anyio.Event()

        class Slow(JobTable):
            async def claim(self, **how: Any) -> Lease | None:
                lease = await super().claim(**how)
                claimed.set()
                await anyio.wait_all_tasks_blocked()  # the answer is still on its way
                return lease

        job_id = await dispatchers.jobs.add_job()
        table = Slow(dispatchers.jobs.pool)
        async with anyio.create_task_group() as group:
            group.start_soon(dispatchers.dispatcher(held_job(table), table=table).run)
            await claimed.wait()
            group.cancel_scope.cancel()
        record = await dispatchers.record(job_id)
        assert (record.state, record.attempt) == (JobState.PENDING, 0)
        assert not held_job.started.is_set()

    async def test_told_to_while_claiming_it_takes_no_second_job(
        self, dispatchers: Dispatchers, held_job: HeldJob
    ) -> None:
        for _ in range(2):
            await dispatchers.jobs.add_job()

        class Watched(JobTable):
            async def claim(self, **how: Any) -> Lease | None:
                dispatcher.stop_claiming()
                return await super().claim(**how)

        held_job.may_end.set()
        table = Watched(dispatchers.jobs.pool)
        dispatcher = dispatchers.dispatcher(held_job(table), table=table)
        await dispatcher.run()
        states = sorted(record.state for record in await dispatchers.jobs.records())
        assert states == [JobState.PENDING, JobState.SUCCEEDED]

    async def test_an_error_while_a_job_is_stopped_does_not_count_against_it(self, dispatchers: Dispatchers) -> None:
        started = anyio.Event()

        async def run_job(_lease: Lease, _progress: JobProgress) -> None:
            started.set()
            try:
                await anyio.sleep_forever()
            finally:
                raise REFUSED

        job_id = await dispatchers.jobs.add_job()
        dispatcher = dispatchers.dispatcher(run_job)
        async with anyio.create_task_group() as group:
            group.start_soon(dispatcher.run)
            await started.wait()
            await dispatcher.drain(dispatchers.clock.monotonic())
        assert (await dispatchers.record(job_id)).state is JobState.PENDING

    async def test_is_defined_before_the_start_and_after_the_end(
        self, dispatchers: Dispatchers, held_job: HeldJob
    ) -> None:
        await dispatchers.jobs.add_job()
        dispatcher = dispatchers.dispatcher(held_job(dispatchers.jobs.table))
        await dispatcher.drain(dispatchers.clock.monotonic() + 30)
        await dispatcher.run()
        await dispatcher.drain(dispatchers.clock.monotonic() + 30)
        assert not held_job.started.is_set()


async def looked_for_work(dispatchers: Dispatchers) -> None:
    """Wait until a dispatcher has looked for jobs and sleeps until its next poll."""
    while not dispatchers.clock.sleepers:
        await anyio.lowlevel.checkpoint()
