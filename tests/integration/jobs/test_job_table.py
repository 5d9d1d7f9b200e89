"""Claiming jobs, fencing, and what a job leaves behind, in a real Postgres."""

import json
from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from typing import Any

import anyio
import pytest

from exportd.database import queries
from exportd.jobs.job_record import Download, download
from exportd.jobs.operations import JobOperator
from exportd.jobs.requests import JobSearch, OwnedJobTable
from exportd.jobs.states import Transition, after
from exportd.model.change_log import EVENTS_CHANNEL
from exportd.model.entity import OrganizationId
from exportd.model.errors import PermanentError, Reason, TransientError
from exportd.model.job import EntityProgress, JobId, JobPhase, JobProgress, JobState, Lease, LeaseState
from tests.integration.jobs.postgres_jobs import (
    ACCOUNTS,
    ATTEMPTS,
    LAKE,
    LEASE_S,
    NOON,
    OTHER_SPOOL,
    PARTS,
    PLANS,
    SPOOL,
    PostgresJobs,
    Write,
    reached,
)

FENCED_WRITES: dict[Transition | str, Write] = {
    Transition.SEAL: lambda jobs, lease: jobs.seal(lease),
    Transition.PUBLISH: lambda jobs, lease: jobs.table.publishing(lease),
    Transition.PUT_BACK: lambda jobs, lease: jobs.table.put_back(
        lease, after_s=5, counts_attempt=True, reason=Reason.SPOOL_FULL, message="full"
    ),
    Transition.SUCCEED: lambda jobs, lease: jobs.table.succeed(lease, positions=reached(lease.job.id, ACCOUNTS)),
    Transition.FAIL: lambda jobs, lease: jobs.table.fail(lease, reason=Reason.BUG, message="oh"),
    "delivery": lambda jobs, lease: jobs.table.record_delivery(lease, LAKE, "ff"),
}


class TestTheEnums:
    """SQL and Python say the same."""

    @pytest.mark.parametrize(("sql", "python"), [("job_state", JobState), ("job_phase", JobPhase)])
    async def test_agree_in_names_and_order(
        self, jobs: PostgresJobs, sql: str, python: type[JobState] | type[JobPhase]
    ) -> None:
        labels = await jobs.connection.fetchval(f"SELECT enum_range(NULL::exportd.{sql})::text[]")
        assert labels == [member.value for member in python]

    @pytest.mark.parametrize("event", list(Transition))
    async def test_the_table_of_states_is_what_the_statements_do(self, jobs: PostgresJobs, event: Transition) -> None:
        for state in JobState:
            job_id = await jobs.add_job()
            lease = await jobs.claimed()
            await jobs.connection.execute(
                """UPDATE exportd.job SET state = $2::text::exportd.job_state,
                       lease_until = CASE WHEN $2 = 'RUNNING' THEN clock_timestamp() - interval '1 s' END
                   WHERE id = $1""",
                job_id,
                state.value,
            )
            expected = after(state, event)
            if event in (Transition.CLAIM, Transition.TAKE_OVER):
                # One statement makes both; which of them it is depends on the state it finds.
                expected = after(state, Transition.CLAIM) or after(state, Transition.TAKE_OVER)
                assert (await jobs.claim() is not None) == (expected is not None)
            elif event is Transition.CANCEL:
                # One that runs is ended by its holder, or without one by any daemon.
                with nullcontext() if expected else pytest.raises(PermanentError):
                    await JobOperator(jobs.pool).cancel(job_id, actor="test")
                await jobs.table.fail_cancelled()
            elif expected is None:
                with pytest.raises(TransientError) as raised:
                    await FENCED_WRITES[event](jobs, lease)
                assert raised.value.reason is Reason.LEASE_LOST
            else:
                await FENCED_WRITES[event](jobs, lease)
            assert (await jobs.row(job_id))["state"] == (expected or state)
            await jobs.connection.execute("DELETE FROM exportd.job")


class TestAttempts:
    async def found(self, jobs: PostgresJobs, job_id: JobId) -> list[tuple[object, ...]]:
        record = await jobs.table.get(job_id)
        assert record is not None
        return [
            (attempt.number, attempt.holder, attempt.ended_at is not None, attempt.reason, attempt.message)
            for attempt in record.attempts
        ]

    async def test_are_kept_with_why_each_of_them_ended(self, jobs: PostgresJobs) -> None:
        job_id = await jobs.add_job()
        assert await self.found(jobs, job_id) == []
        first = await jobs.claimed(holder="alpha")
        await jobs.table.put_back(first, after_s=0, counts_attempt=True, reason=Reason.SPOOL_FULL, message="full")
        await jobs.claimed(holder="beta")
        await jobs.end_lease(job_id)
        third = await jobs.claimed(holder="gamma")
        ended = [(1, "alpha", True, "SPOOL_FULL", "full"), (2, "beta", True, "INTERRUPTED", None)]
        assert await self.found(jobs, job_id) == [*ended, (3, "gamma", False, None, None)]
        with pytest.raises(TransientError):
            await jobs.table.fail(replace(third, fence=2), reason=Reason.BUG, message="late")
        await jobs.table.succeed(third, positions=[])
        assert await self.found(jobs, job_id) == [*ended, (3, "gamma", True, None, None)]

    async def test_that_do_not_count_are_kept_too_and_the_newest_hundred_stay(self, jobs: PostgresJobs) -> None:
        job_id = await jobs.add_job()
        for _ in range(105):
            lease = await jobs.claimed()
            await jobs.table.put_back(
                lease, after_s=0, counts_attempt=False, reason=Reason.DESTINATION_UNAVAILABLE, message="away"
            )
        found = await self.found(jobs, job_id)
        assert found == [(1, "alpha", True, "DESTINATION_UNAVAILABLE", "away")] * 100

    async def test_go_with_their_job(self, jobs: PostgresJobs) -> None:
        job_id = await jobs.add_job()
        await jobs.table.fail(await jobs.claimed(), reason=Reason.BUG, message="oh")
        await jobs.connection.execute("DELETE FROM exportd.job WHERE id = $1", job_id)
        assert await jobs.connection.fetchval("SELECT count(*) FROM exportd.attempt") == 0


@pytest.mark.every_postgres
class TestClaiming:
    async def test_gives_nothing_when_nothing_is_due(self, jobs: PostgresJobs) -> None:
        assert await jobs.claim() is None
        await jobs.add_job(not_before=timedelta(hours=1))
        assert await jobs.claim() is None

    async def test_gives_the_whole_job_with_the_first_fence_and_attempt(self, jobs: PostgresJobs) -> None:
        schedule_id = await jobs.add_schedule()
        job_id = await jobs.add_job(schedule_id=schedule_id)
        lease = await jobs.claimed()
        assert (lease.fence, lease.attempt, lease.phase) == (1, 1, JobPhase.EXTRACTING)
        job = lease.job
        assert (job.id, job.organization, job.schedule_id, job.schedule_code, job.due_at) == (
            job_id,
            "org-1",
            schedule_id,
            "nightly",
            NOON,
        )
        assert (job.entities, job.file_format, job.destinations) == ((ACCOUNTS, PLANS), "CSV", (LAKE,))

    async def test_leases_by_the_servers_clock(self, jobs: PostgresJobs) -> None:
        job_id = await jobs.add_job()
        before = await jobs.connection.fetchval("SELECT clock_timestamp()")
        await jobs.claimed(holder="alpha")
        row = await jobs.row(job_id)
        now = await jobs.connection.fetchval("SELECT clock_timestamp()")
        assert before < row["started_at"] < now
        assert before < row["lease_until"] - timedelta(seconds=LEASE_S) < now
        assert row["lease_holder"] == "alpha"

    async def test_holds_the_change_log_from_before_the_jobs_own_snapshot(self, jobs: PostgresJobs) -> None:
        job_id = await jobs.add_job()
        await jobs.claimed()
        assert await jobs.connection.fetchval(
            "SELECT log_hold > '3' AND log_hold <= pg_snapshot_xmin(pg_current_snapshot())"
            " FROM exportd.job WHERE id = $1",
            job_id,
        )

    async def test_takes_the_oldest_due_first(self, jobs: PostgresJobs) -> None:
        due = [NOON + timedelta(hours=hours) for hours in (3, 1, 2)]
        ids = [await jobs.add_job(due_at=instant) for instant in due]
        taken = [(await jobs.claimed()).job.id for _ in due]
        assert taken == [ids[1], ids[2], ids[0]]

    async def test_lets_another_organization_pass_a_flood_of_one(self, jobs: PostgresJobs) -> None:
        for _ in range(3):
            await jobs.add_job(organization="flood", due_at=NOON)
        await jobs.add_job(organization="other", due_at=NOON + timedelta(minutes=10))
        taken = [(await jobs.claimed()).job.organization for _ in range(4)]
        assert taken == ["flood", "other", "flood", "flood"]

    async def test_goes_round_the_organizations_whatever_the_age_of_a_backlog(self, jobs: PostgresJobs) -> None:
        for _ in range(41):
            await jobs.add_job(organization="flood", due_at=NOON)
        await jobs.add_job(organization="other", due_at=NOON + timedelta(hours=2))
        taken: list[str] = []
        for _ in range(3):  # one at a time, so that none is running when the next is claimed
            lease = await jobs.claimed()
            taken.append(lease.job.organization)
            await jobs.table.fail(lease, reason=Reason.CANCELLED, message="ended by the test")
        assert taken == ["flood", "other", "flood"]

    async def test_by_many_at_once_gives_each_job_to_one(self, jobs: PostgresJobs) -> None:
        queued = [await jobs.add_job(due_at=NOON + timedelta(minutes=n)) for n in range(60)]
        taken: list[JobId] = []

        async def claim_until_empty(holder: str) -> None:
            misses = 0
            while misses < 3:  # SKIP LOCKED may find nothing while others hold what is left
                lease = await jobs.claim(holder=holder)
                if lease is None:
                    misses += 1
                else:
                    assert lease.fence == 1
                    taken.append(lease.job.id)

        async with anyio.create_task_group() as group:
            for number in range(8):
                group.start_soon(claim_until_empty, f"holder-{number}")
        assert Counter(taken) == Counter(queued)
        holders = await jobs.connection.fetchval("SELECT count(DISTINCT lease_holder) FROM exportd.job")
        assert holders > 1


@pytest.mark.every_postgres
class TestTakingOver:
    async def test_leaves_a_job_alone_whose_lease_has_not_ended(self, jobs: PostgresJobs) -> None:
        await jobs.add_job()
        await jobs.claimed()
        assert await jobs.claim(holder="beta") is None

    async def test_takes_a_job_whose_holder_died(self, jobs: PostgresJobs) -> None:
        job_id = await jobs.add_job()
        first = await jobs.claimed(holder="alpha")
        started_at = (await jobs.row(job_id))["started_at"]
        await jobs.end_lease(job_id)
        second = await jobs.claimed(holder="beta")
        assert (second.job, second.fence, second.attempt) == (first.job, 2, 2)
        row = await jobs.row(job_id)
        assert (row["lease_holder"], row["started_at"]) == ("beta", started_at)

    @pytest.mark.parametrize("write", list(FENCED_WRITES))
    async def test_keeps_the_old_holder_from_writing(self, jobs: PostgresJobs, write: Transition | str) -> None:
        schedule_id = await jobs.add_schedule()
        job_id = await jobs.add_job(schedule_id=schedule_id)
        old = await jobs.claimed(holder="alpha")
        await jobs.end_lease(job_id)
        await jobs.claimed(holder="beta")
        before = await jobs.row(job_id)
        with pytest.raises(TransientError) as raised:
            await FENCED_WRITES[write](jobs, old)
        assert raised.value.reason is Reason.LEASE_LOST
        assert await jobs.row(job_id) == before
        assert await jobs.table.parts(job_id) == ()
        assert await jobs.table.deliveries(job_id) == ()
        assert await jobs.positions(schedule_id) == {}

    async def test_keeps_the_old_holder_from_extending_and_reporting(self, jobs: PostgresJobs) -> None:
        job_id = await jobs.add_job()
        old = await jobs.claimed(holder="alpha")
        await jobs.end_lease(job_id)
        await jobs.claimed(holder="beta")
        before = await jobs.row(job_id)
        progress = JobProgress({ACCOUNTS: EntityProgress(rows=7)})
        assert await jobs.table.heartbeat(old, progress, lease_s=LEASE_S) is LeaseState.LOST
        assert await jobs.table.record_progress(old, progress) is None
        assert await jobs.row(job_id) == before

    async def test_ends_a_job_that_kills_its_daemon_each_time(self, jobs: PostgresJobs) -> None:
        job_id = await jobs.add_job()
        for attempt in range(1, ATTEMPTS + 1):
            assert await jobs.table.fail_interrupted(attempt_limit=ATTEMPTS) == ()
            assert (await jobs.claimed()).attempt == attempt
            await jobs.end_lease(job_id)
        assert await jobs.claim() is None
        assert await jobs.table.fail_interrupted(attempt_limit=ATTEMPTS) == (job_id,)
        record = await jobs.table.get(job_id)
        assert record is not None
        assert (record.state, record.reason) == (JobState.FAILED, Reason.INTERRUPTED)
        assert record.message is not None
        assert "alpha" in record.message
        assert record.finished_at is not None
        assert (await jobs.row(job_id))["log_hold"] is None

    async def test_does_not_end_a_job_in_its_last_attempt_while_its_holder_lives(self, jobs: PostgresJobs) -> None:
        await jobs.add_job()
        await jobs.claim(attempt_limit=1)
        assert await jobs.table.fail_interrupted(attempt_limit=1) == ()


class TestSecondsToNextDue:
    async def test_is_the_time_of_the_job_that_comes_first(self, jobs: PostgresJobs) -> None:
        for after_s in (60.0, 20.0):
            await jobs.add_job()
            await jobs.table.put_back(
                await jobs.claimed(),
                after_s=after_s,
                counts_attempt=True,
                reason=Reason.INTERRUPTED,
                message="Again.",
            )
        seconds = await jobs.table.seconds_to_next_due()
        assert seconds is not None
        assert 0 < seconds <= 20

    async def test_jobs_that_are_due_or_running_are_not_waited_for(self, jobs: PostgresJobs) -> None:
        await jobs.add_job()
        assert await jobs.table.seconds_to_next_due() is None
        await jobs.claimed()
        assert await jobs.table.seconds_to_next_due() is None


class TestHeartbeat:
    async def test_extends_the_lease_and_writes_progress(self, jobs: PostgresJobs) -> None:
        job_id = await jobs.add_job()
        lease = await jobs.claimed()
        progress = JobProgress({ACCOUNTS: EntityProgress(rows=7, size_bytes=2**40, done=True)}, 2)
        before = (await jobs.row(job_id))["lease_until"]
        assert await jobs.table.heartbeat(lease, progress, lease_s=LEASE_S * 2) is LeaseState.HELD
        assert (await jobs.row(job_id))["lease_until"] - before > timedelta(seconds=LEASE_S - 1)
        assert await jobs.table.progress(job_id) == progress
        assert await jobs.table.heartbeat(lease, None, lease_s=LEASE_S) is LeaseState.HELD
        assert await jobs.table.progress(job_id) == progress

    async def test_keeps_a_lease_that_ended_but_was_not_taken(self, jobs: PostgresJobs) -> None:
        job_id = await jobs.add_job()
        lease = await jobs.claimed()
        await jobs.end_lease(job_id)
        assert await jobs.table.heartbeat(lease, None, lease_s=LEASE_S) is LeaseState.HELD
        assert await jobs.claim(holder="beta") is None

    async def test_the_last_progress_can_be_written_after_the_end(self, jobs: PostgresJobs) -> None:
        job_id = await jobs.add_job()
        lease = await jobs.claimed()
        await jobs.table.succeed(lease, positions=[])
        progress = JobProgress({PLANS: EntityProgress(rows=1)})
        assert await jobs.table.record_progress(lease, progress) is JobState.SUCCEEDED
        assert await jobs.table.progress(job_id) == progress
        assert await jobs.table.record_progress(lease, JobProgress()) is JobState.SUCCEEDED
        assert await jobs.table.progress(job_id) == progress


class TestPuttingBack:
    async def put_back(self, jobs: PostgresJobs, lease: Lease, *, counts_attempt: bool) -> None:
        await jobs.table.put_back(
            lease,
            after_s=3600,
            counts_attempt=counts_attempt,
            reason=Reason.DESTINATION_UNAVAILABLE,
            message="lake is away",
        )

    async def test_makes_the_job_wait(self, jobs: PostgresJobs) -> None:
        job_id = await jobs.add_job()
        await self.put_back(jobs, await jobs.claimed(), counts_attempt=True)
        assert await jobs.claim() is None
        record = await jobs.table.get(job_id)
        assert record is not None
        assert (record.state, record.reason, record.message) == (
            JobState.PENDING,
            Reason.DESTINATION_UNAVAILABLE,
            "lake is away",
        )
        assert record.started_at is not None
        assert record.not_before - record.started_at > timedelta(seconds=3599)
        assert (record.lease_holder, record.lease_until) == (None, None)
        await jobs.make_due(job_id)
        assert (await jobs.claimed()).attempt == 2

    async def test_by_a_leaving_daemon_does_not_count_the_attempt(self, jobs: PostgresJobs) -> None:
        job_id = await jobs.add_job()
        await self.put_back(jobs, await jobs.claimed(), counts_attempt=False)
        await jobs.make_due(job_id)
        again = await jobs.claimed()
        assert (again.attempt, again.fence) == (1, 2)

    async def test_lets_go_of_the_change_log_unless_the_job_is_sealed(self, jobs: PostgresJobs) -> None:
        job_id = await jobs.add_job()
        await self.put_back(jobs, await jobs.claimed(), counts_attempt=True)
        assert (await jobs.row(job_id))["log_hold"] is None
        await jobs.make_due(job_id)
        lease = await jobs.claimed()
        held = (await jobs.row(job_id))["log_hold"]
        assert held is not None
        await jobs.seal(lease)
        await jobs.connection.execute("CREATE TABLE moves_the_xid_on ()")
        await self.put_back(jobs, lease, counts_attempt=True)
        await jobs.make_due(job_id)
        await jobs.claimed()
        assert (await jobs.row(job_id))["log_hold"] == held


class TestTheSeal:
    async def test_keeps_parts_and_extraction(self, jobs: PostgresJobs) -> None:
        job_id = await jobs.add_job()
        lease = await jobs.claimed()
        assert await jobs.table.extraction(job_id) is None
        extraction = {"snapshot": "1:2:", "entities": [{"text": "Ünïcode \\ \" '"}]}
        await jobs.table.seal(lease, parts=PARTS, extraction=json.dumps(extraction), spool_id=SPOOL)
        assert await jobs.table.parts(job_id) == PARTS
        assert await jobs.table.extraction(job_id) == extraction
        record = await jobs.table.get(job_id)
        assert record is not None
        assert (record.phase, record.spool_id, record.parts) == (JobPhase.SEALED, SPOOL, PARTS)
        assert record.sealed_at is not None

    async def test_is_whole_or_not_at_all(self, jobs: PostgresJobs) -> None:
        job_id = await jobs.add_job()
        lease = await jobs.claimed()
        with pytest.raises(Exception, match="part_pkey"):
            await jobs.table.seal(lease, parts=(PARTS[0], PARTS[0]), extraction="{}", spool_id=SPOOL)
        assert (await jobs.row(job_id))["phase"] == JobPhase.EXTRACTING
        assert await jobs.table.parts(job_id) == ()

    @pytest.mark.parametrize("put_back", [True, False])
    @pytest.mark.parametrize("phase", [JobPhase.SEALED, JobPhase.PUBLISHING])
    async def test_is_where_a_holder_with_the_spool_goes_on(
        self, jobs: PostgresJobs, phase: JobPhase, put_back: bool
    ) -> None:
        job_id = await self.sealed_and_left(jobs, phase, put_back=put_back)
        lease = await jobs.claimed(holder="beta", spool_id=SPOOL)
        assert (lease.phase, lease.attempt) == (phase, 2)
        assert await jobs.table.parts(job_id) == PARTS
        assert await jobs.table.extraction(job_id) == {"rows": 15}
        assert [delivery.destination for delivery in await jobs.table.deliveries(job_id)] == [LAKE]
        assert (await jobs.table.progress(job_id)).of(ACCOUNTS).rows == 15

    @pytest.mark.parametrize("put_back", [True, False])
    @pytest.mark.parametrize("phase", [JobPhase.SEALED, JobPhase.PUBLISHING])
    async def test_waits_for_its_spool_and_then_starts_over_with_another(
        self, jobs: PostgresJobs, phase: JobPhase, put_back: bool
    ) -> None:
        job_id = await self.sealed_and_left(jobs, phase, put_back=put_back)
        assert await jobs.claim(holder="beta", spool_id=OTHER_SPOOL) is None
        await jobs.connection.execute(
            "UPDATE exportd.job SET lease_until = lease_until - interval '301 s',"
            " not_before = not_before - interval '301 s'"
        )
        lease = await jobs.claimed(holder="beta", spool_id=OTHER_SPOOL)
        assert (lease.phase, lease.attempt) == (JobPhase.EXTRACTING, 2)
        assert await jobs.table.parts(job_id) == ()
        assert await jobs.table.extraction(job_id) is None
        # The new parts differ from what was delivered, so that every destination must get them.
        assert await jobs.table.deliveries(job_id) == ()
        assert await jobs.table.progress(job_id) == JobProgress()
        row = await jobs.row(job_id)
        assert (row["spool_id"], row["sealed_at"]) == (None, None)
        assert row["log_hold"] is not None

    async def sealed_and_left(self, jobs: PostgresJobs, phase: JobPhase, *, put_back: bool) -> JobId:
        job_id = await jobs.add_job()
        lease = await jobs.claimed(holder="alpha")
        await jobs.seal(lease)
        if phase is JobPhase.PUBLISHING:
            await jobs.table.publishing(lease)
        await jobs.table.record_delivery(lease, LAKE, "ff")
        await jobs.table.record_progress(lease, JobProgress({ACCOUNTS: EntityProgress(rows=15)}))
        if put_back:
            await jobs.table.put_back(
                lease, after_s=0, counts_attempt=True, reason=Reason.DESTINATION_UNAVAILABLE, message="away"
            )
        else:
            await jobs.end_lease(job_id)
        return job_id


@pytest.mark.every_postgres
class TestPositions:
    async def test_move_when_the_job_succeeds(self, jobs: PostgresJobs) -> None:
        schedule_id = await jobs.add_schedule()
        job_id = await jobs.add_job(schedule_id=schedule_id)
        lease = await jobs.claimed()
        expected = reached(job_id, ACCOUNTS, PLANS, guards={"cluster": {"timeline": "1"}, "columns": "é"})
        await jobs.table.succeed(lease, positions=expected)
        assert await jobs.positions(schedule_id) == {position.entity: position for position in expected}
        record = await jobs.table.get(job_id)
        assert record is not None
        assert (record.state, record.reason, record.lease_until) == (JobState.SUCCEEDED, None, None)
        assert record.finished_at is not None

    async def test_are_replaced_by_the_next_job_and_come_back_to_life(self, jobs: PostgresJobs) -> None:
        schedule_id = await jobs.add_schedule()
        await jobs.add_job(schedule_id=schedule_id)
        first = await jobs.claimed()
        await jobs.table.succeed(first, positions=reached(first.job.id, ACCOUNTS, PLANS))
        await jobs.connection.execute("UPDATE exportd.position SET expired = true")
        assert (await jobs.positions(schedule_id))[ACCOUNTS].expired
        await jobs.add_job(schedule_id=schedule_id, due_at=NOON + timedelta(days=1))
        second = await jobs.claimed()
        moved = reached(second.job.id, ACCOUNTS, snapshot="200:200:")
        await jobs.table.succeed(second, positions=moved)
        positions = await jobs.positions(schedule_id)
        assert positions[ACCOUNTS] == moved[0]
        assert (positions[PLANS].job_id, positions[PLANS].expired) == (first.job.id, True)

    async def test_stay_when_the_job_fails(self, jobs: PostgresJobs) -> None:
        schedule_id = await jobs.add_schedule()
        job_id = await jobs.add_job(schedule_id=schedule_id)
        lease = await jobs.claimed()
        await jobs.table.fail(lease, reason=Reason.DESTINATION_REFUSED, message="lake says no")
        assert await jobs.positions(schedule_id) == {}
        record = await jobs.table.get(job_id)
        assert record is not None
        assert (record.state, record.reason, record.message) == (
            JobState.FAILED,
            Reason.DESTINATION_REFUSED,
            "lake says no",
        )
        assert (await jobs.row(job_id))["log_hold"] is None

    async def test_are_not_moved_by_an_ad_hoc_job(self, jobs: PostgresJobs) -> None:
        await jobs.add_job(schedule_id=None)
        lease = await jobs.claimed()
        await jobs.table.succeed(lease, positions=reached(lease.job.id, ACCOUNTS))
        assert await jobs.connection.fetchval("SELECT count(*) FROM exportd.position") == 0

    async def test_are_not_made_for_a_deleted_schedule(self, jobs: PostgresJobs) -> None:
        schedule_id = await jobs.add_schedule()
        await jobs.add_job(schedule_id=schedule_id)
        lease = await jobs.claimed()
        await jobs.connection.execute("UPDATE exportd.schedule SET deleted_at = clock_timestamp()")
        await jobs.table.succeed(lease, positions=reached(lease.job.id, ACCOUNTS))
        assert await jobs.positions(schedule_id) == {}

    async def test_are_not_made_for_an_entity_that_an_edit_took_out(self, jobs: PostgresJobs) -> None:
        schedule_id = await jobs.add_schedule()
        await jobs.add_job(schedule_id=schedule_id)
        lease = await jobs.claimed()
        await jobs.connection.execute("UPDATE exportd.schedule SET entities = '{PLANS}'")
        await jobs.table.succeed(lease, positions=reached(lease.job.id, ACCOUNTS, PLANS))
        assert set(await jobs.positions(schedule_id)) == {PLANS}

    async def test_wait_for_an_edit_that_is_being_made(self, jobs: PostgresJobs) -> None:
        schedule_id = await jobs.add_schedule()
        job_id = await jobs.add_job(schedule_id=schedule_id)
        lease = await jobs.claimed()
        done = anyio.Event()

        async def succeed() -> None:
            await jobs.table.succeed(lease, positions=reached(job_id, ACCOUNTS, PLANS))
            done.set()

        async with anyio.create_task_group() as group, jobs.connection.transaction():
            await jobs.connection.execute("UPDATE exportd.schedule SET entities = '{PLANS}'")
            group.start_soon(succeed)
            while not await jobs.pool.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE cardinality(pg_blocking_pids(pid)) > 0"
            ):
                await anyio.lowlevel.checkpoint()
            # A firing, too, holds the schedule and then wants the job's row: both would wait for ever
            # if the row were touched first.
            await jobs.connection.execute("SELECT FROM exportd.job WHERE id = $1 FOR UPDATE", job_id)
            assert not done.is_set()
        assert set(await jobs.positions(schedule_id)) == {PLANS}


class TestDeliveries:
    async def test_of_the_last_job_are_found_by_schedule_and_destination(self, jobs: PostgresJobs) -> None:
        schedule_id = await jobs.add_schedule()
        assert await jobs.table.last_delivery(schedule_id, LAKE) is None
        ids = []
        for day in range(2):
            await jobs.add_job(schedule_id=schedule_id, due_at=NOON + timedelta(days=day))
            lease = await jobs.claimed()
            await jobs.table.record_delivery(lease, LAKE, f"hash-{day}")
            await jobs.table.succeed(lease, positions=[])
            ids.append(lease.job.id)
        assert await jobs.table.last_delivery(schedule_id, LAKE) == (ids[1], "hash-1")
        assert await jobs.table.last_delivery(schedule_id, LAKE, other_than=ids[1]) == (ids[0], "hash-0")
        other_id = await jobs.add_schedule("weekly")
        assert await jobs.table.last_delivery(other_id, LAKE) is None

    async def test_repeated_replace_the_manifests_hash(self, jobs: PostgresJobs) -> None:
        job_id = await jobs.add_job()
        lease = await jobs.claimed()
        await jobs.table.record_delivery(lease, LAKE, "one")
        await jobs.table.record_delivery(lease, LAKE, "two")
        assert [delivery.manifest_sha256 for delivery in await jobs.table.deliveries(job_id)] == ["two"]


class TestReading:
    async def test_an_unknown_job_gives_none(self, jobs: PostgresJobs, unknown_job: JobId) -> None:
        assert await jobs.table.get(unknown_job) is None
        assert await jobs.table.progress(unknown_job) == JobProgress()


class TestSearching:
    async def test_finds_the_newest_first_by_what_is_asked_for(self, jobs: PostgresJobs) -> None:
        ids = [await jobs.add_job(organization=organization, due_at=NOON) for organization in ("a", "b", "a")]
        lease = await jobs.claimed()
        await jobs.seal(lease)
        table = OwnedJobTable(jobs.pool)

        async def found(search: JobSearch, organization: OrganizationId | None = None, limit: int = 9) -> list[JobId]:
            return [job.id for job in (await table.search(organization, search, limit=limit))[0]]

        assert await found(JobSearch()) == ids[::-1]
        assert await found(JobSearch(state=JobState.RUNNING), lease.job.organization) == [lease.job.id]
        assert len(await found(JobSearch(schedule_code="nightly"), limit=2)) == 2
        assert await found(JobSearch(schedule_code="unknown")) == []

    async def test_goes_on_where_it_has_looked_at_as_many_jobs_as_it_may(self, jobs: PostgresJobs) -> None:
        wanted = await jobs.add_job()
        await jobs.connection.execute("UPDATE exportd.job SET destinations = '{shelf}'")
        for _ in range(25):
            await jobs.add_job()
        table, search = OwnedJobTable(jobs.pool), JobSearch(destination="shelf")
        sizes, found, place = [], [], None
        while True:
            page, place = await table.search(None, search, after=place, limit=5, max_examined=10)
            sizes.append(len(page))
            found += [job.id for job in page]
            if place is None:
                break
        assert (sizes, found) == ([0, 0, 1], [wanted])
        page, place = await table.search(None, JobSearch(), limit=5, max_examined=10)
        assert (len(page), place) == (5, None)

    async def test_reads_no_more_of_the_table_than_it_shows(self, jobs: PostgresJobs) -> None:
        schedule_id = await jobs.add_schedule()
        await jobs.connection.execute(
            """INSERT INTO exportd.job
                   (organization, schedule_id, due_at, entities, format, destinations, state, reason)
               SELECT 'org-' || n % 50, CASE WHEN n % 2 = 0 THEN $1::uuid END, now() + n * interval '1 hour', '{}',
                      'CSV', '{}', CASE WHEN n % 20 = 0 THEN 'FAILED' ELSE 'SUCCEEDED' END::exportd.job_state,
                      CASE WHEN n % 20 = 0 THEN 'REASON_' || n % 4 END
               FROM generate_series(1, 5000) AS n""",
            schedule_id,
        )
        await jobs.connection.execute("ANALYZE exportd.job")
        statement = queries.load("owned_jobs")["search"]
        for index, (organization, schedule, state, reason) in {
            "job_newest": (None, None, None, None),
            "job_of_organization": ("org-7", None, None, None),
            "job_of_schedule": (None, schedule_id, None, None),
            "job_failed": (None, None, "FAILED", None),
            "job_with_reason": (None, None, None, "REASON_2"),
        }.items():
            rows = await jobs.connection.fetch(
                f"EXPLAIN {statement}",
                organization,
                schedule,
                state,
                reason,
                *[None] * 4,
                10_000,
                *[None] * 3,
                101,
                None,
            )
            plan = "\n".join(row["QUERY PLAN"] for row in rows)
            assert index in plan, plan
            assert "Seq Scan on job" not in plan, plan


class TestRetention:
    async def test_marks_finished_jobs_whose_files_are_dropped_as_expired_once(self, jobs: PostgresJobs) -> None:
        job_id = await jobs.add_job()
        lease = await jobs.claimed()
        await jobs.seal(lease)
        assert await jobs.table.active_ids() == {job_id}
        assert not await jobs.table.mark_expired(job_id)
        await jobs.table.succeed(lease, positions=[])
        assert await jobs.table.active_ids() == set()
        record = await jobs.table.get(job_id)
        assert record is not None
        assert download(record, spool_id=SPOOL) is Download.READY
        assert await jobs.table.mark_expired(job_id)
        assert not await jobs.table.mark_expired(job_id)
        record = await jobs.table.get(job_id)
        assert record is not None
        assert download(record, spool_id=SPOOL) is Download.GONE


class TestNotifications:
    async def test_are_sent_for_every_change_of_state(self, jobs: PostgresJobs) -> None:
        events: list[dict[str, Any]] = []
        done = anyio.Event()

        def note(_connection: object, _pid: int, _channel: str, payload: object) -> None:
            events.append(json.loads(str(payload)))
            if len(events) == 6:
                done.set()

        await jobs.connection.add_listener(EVENTS_CHANNEL, note)
        job_id = await jobs.add_job()
        lease = await jobs.claimed()
        await FENCED_WRITES[Transition.PUT_BACK](jobs, lease)
        await jobs.make_due(job_id)
        await jobs.table.succeed(await jobs.claimed(), positions=[])
        failing_id = await jobs.add_job()
        await FENCED_WRITES[Transition.FAIL](jobs, await jobs.claimed())
        await done.wait()
        assert [(event["kind"], event["id"], event["state"]) for event in events] == [
            ("job_started", str(job_id), "RUNNING"),
            ("job_queued", str(job_id), "PENDING"),
            ("job_started", str(job_id), "RUNNING"),
            ("job_finished", str(job_id), "SUCCEEDED"),
            ("job_started", str(failing_id), "RUNNING"),
            ("job_finished", str(failing_id), "FAILED"),
        ]
        rows = await jobs.connection.fetch("SELECT id::text, schedule_id::text FROM exportd.job")
        assert {row["id"]: row["schedule_id"] for row in rows} == {
            event["id"]: event["schedule"] for event in events if event["kind"] == "job_finished"
        }
        await jobs.connection.remove_listener(EVENTS_CHANNEL, note)
