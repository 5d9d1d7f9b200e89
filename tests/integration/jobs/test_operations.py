"""Pausing all daemons, cancelling and repeating jobs."""

import json
from dataclasses import replace
from uuid import uuid4

import anyio
import pytest

from exportd.jobs.dispatcher import Dispatcher
from exportd.jobs.job_table import JobTable
from exportd.jobs.operations import JobOperator
from exportd.model.clock import SystemClock
from exportd.model.errors import PermanentError, Reason
from exportd.model.job import JobId, JobProgress, JobState, Lease, LeaseState
from tests.fixtures.requests_of_people import refresh_requests
from tests.fixtures.settings import live_settings
from tests.integration.jobs.postgres_jobs import ACCOUNTS, ATTEMPTS, LEASE_S, NOON, PLANS, SPOOL, PostgresJobs, reached


@pytest.fixture
def operator(jobs: PostgresJobs) -> JobOperator:
    return JobOperator(jobs.pool)


async def add_lake(jobs: PostgresJobs, organization: str) -> None:
    await jobs.connection.execute(
        """INSERT INTO exportd.destination (organization, code, name, origin, settings, created_by, modified_by,
                                            paused_at)
           VALUES ($1, 'lake', 'Lake', 'API', '{}', 'test', 'test', clock_timestamp())""",
        organization,
    )


class TestPause:
    async def test_no_daemon_takes_a_job_until_all_go_on(self, jobs: PostgresJobs, operator: JobOperator) -> None:
        job_id = await jobs.add_job()
        assert await operator.paused() is None
        first = await operator.pause(actor="unix:ann")
        assert await operator.pause(actor="unix:bob") == first
        assert first.paused_by == "unix:ann"
        assert await jobs.claim(holder="alpha") is None
        assert await jobs.claim(holder="beta") is None
        await operator.resume(actor="unix:bob")
        assert (await jobs.claimed()).job.id == job_id

    async def test_a_holder_keeps_its_lease(self, jobs: PostgresJobs, operator: JobOperator) -> None:
        await jobs.add_job()
        lease = await jobs.claimed()
        await operator.pause(actor="unix:ann")
        assert await jobs.table.heartbeat(lease, None, lease_s=LEASE_S) is LeaseState.HELD
        await jobs.seal(lease)

    async def test_jobs_to_a_paused_destination_wait_and_others_go_on(self, jobs: PostgresJobs) -> None:
        waiting, other = await jobs.add_job(), await jobs.add_job(organization="org-2")
        await add_lake(jobs, "org-1")
        assert (await jobs.claimed()).job.id == other
        assert await jobs.claim() is None
        await jobs.connection.execute("UPDATE exportd.destination SET paused_at = NULL")
        assert (await jobs.claimed()).job.id == waiting


async def test_a_daemon_leaves_jobs_to_destinations_that_another_one_declares(jobs: PostgresJobs) -> None:
    """A row may be planted: where a daemon writes stands in its own file, or can be set through the API."""
    waiting = await jobs.add_job()
    await jobs.connection.execute(
        """INSERT INTO exportd.destination (organization, code, name, origin, settings, created_by, modified_by)
           VALUES ('org-1', 'lake', 'Lake', 'CONFIGURATION', '{"type": "DIRECTORY", "directory": "/etc"}', 'x', 'x')"""
    )
    declared = [("org-1", "sea"), ("org-2", "lake")]
    daemon = replace(jobs, table=JobTable(jobs.pool, declared=lambda: declared))
    assert await daemon.claim() is None
    declared.append(("org-1", "lake"))
    lease = await daemon.claimed()
    assert lease.job.id == waiting

    # The job of a holder that died waits for such a daemon too.
    await jobs.end_lease(waiting)
    declared.pop()
    assert await daemon.claim() is None
    await jobs.connection.execute("UPDATE exportd.destination SET origin = 'API'")
    assert (await daemon.claimed()).job.id == waiting


class TestCancel:
    async def test_a_job_that_waits_ends_at_once(self, jobs: PostgresJobs, operator: JobOperator) -> None:
        job_id = await jobs.add_job()
        assert await operator.cancel(job_id, actor="unix:ann") is JobState.FAILED
        row = await jobs.row(job_id)
        assert (row["state"], row["reason"]) == ("FAILED", Reason.CANCELLED)
        assert await jobs.claim() is None
        with pytest.raises(PermanentError) as refused:
            await operator.cancel(job_id, actor="unix:ann")
        assert refused.value.reason is Reason.JOB_STATE_UNFIT

    async def test_an_unknown_job_cannot_be_cancelled(self, operator: JobOperator) -> None:
        with pytest.raises(PermanentError) as refused:
            await operator.cancel(JobId(uuid4()), actor="unix:ann")
        assert refused.value.reason is Reason.NOT_FOUND

    async def test_the_holder_of_a_running_job_stops_and_ends_it(
        self, jobs: PostgresJobs, operator: JobOperator
    ) -> None:
        job_id = await jobs.add_job(schedule_id=await jobs.add_schedule())
        begun, stopped = anyio.Event(), anyio.Event()

        async def work(_lease: Lease, _progress: JobProgress) -> None:
            begun.set()
            try:
                await anyio.sleep_forever()
            finally:
                stopped.set()

        dispatcher = Dispatcher(
            jobs.table,
            work,
            holder="alpha",
            spool_id=SPOOL,
            settings=live_settings(limits={"jobs": 1, "job_attempts": ATTEMPTS}, capture={"poll_interval_s": 60.0}),
            lease_s=LEASE_S,
            clock=SystemClock(),
        )
        async with anyio.create_task_group() as group:
            group.start_soon(dispatcher.run)
            await begun.wait()
            assert await operator.cancel(job_id, actor="unix:ann") is JobState.RUNNING
            dispatcher.look_for_cancellations()
            await stopped.wait()
            await dispatcher.drain(SystemClock().monotonic() + 30)
        row = await jobs.row(job_id)
        assert (row["state"], row["reason"], row["lease_holder"]) == ("FAILED", Reason.CANCELLED, None)
        assert await jobs.connection.fetch("SELECT * FROM exportd.position") == []

    async def test_a_job_whose_holder_died_meanwhile_is_ended_by_any_daemon(
        self, jobs: PostgresJobs, operator: JobOperator
    ) -> None:
        job_id = await jobs.add_job()
        await jobs.claimed()
        await operator.cancel(job_id, actor="unix:ann")
        assert await jobs.table.fail_cancelled() == ()
        await jobs.end_lease(job_id)
        assert await jobs.claim(holder="beta") is None
        assert await jobs.table.fail_cancelled() == (job_id,)
        assert (await jobs.row(job_id))["reason"] == Reason.CANCELLED

    async def test_a_job_that_is_put_back_meanwhile_is_not_taken_again(
        self, jobs: PostgresJobs, operator: JobOperator
    ) -> None:
        job_id = await jobs.add_job()
        lease = await jobs.claimed()
        await operator.cancel(job_id, actor="unix:ann")
        await jobs.table.put_back(
            lease, after_s=0, counts_attempt=False, reason=Reason.INTERRUPTED, message="The daemon leaves."
        )
        assert await jobs.claim() is None
        assert await jobs.table.fail_cancelled() == (job_id,)

    async def test_one_that_has_delivered_everything_succeeds_all_the_same(
        self, jobs: PostgresJobs, operator: JobOperator
    ) -> None:
        job_id = await jobs.add_job()
        lease = await jobs.claimed()
        await operator.cancel(job_id, actor="unix:ann")
        await jobs.table.succeed(lease, positions=[])
        assert (await jobs.row(job_id))["state"] == "SUCCEEDED"


class TestRetry:
    async def test_an_export_without_a_schedule_is_asked_for_anew(
        self, jobs: PostgresJobs, operator: JobOperator
    ) -> None:
        job_id = await jobs.add_job()
        await jobs.connection.execute("UPDATE exportd.job SET start_date = $1", NOON)
        with pytest.raises(PermanentError) as refused:
            await operator.failed(job_id)
        assert refused.value.reason is Reason.JOB_STATE_UNFIT
        lease = await jobs.claimed()
        assert lease.job.start_date == NOON
        await jobs.table.fail(lease, reason=Reason.SPOOL_FULL, message="Full.")
        assert (await operator.failed(job_id)).schedule_id is None
        again = await jobs.row(await operator.queue_again(job_id, actor="unix:ann"))
        assert (again["state"], again["entities"], again["destinations"]) == (
            "PENDING",
            ["ACCOUNTS", "PLANS"],
            ["lake"],
        )
        assert again["id"] != job_id
        assert again["start_date"] == NOON


class TestRefreshRequests:
    async def test_only_a_full_run_that_began_later_fulfils_them(self, jobs: PostgresJobs) -> None:
        schedule = await jobs.add_schedule()
        await jobs.connection.execute(
            "INSERT INTO exportd.refresh_request SELECT $1, unnest('{ACCOUNTS,PLANS}'::text[]), $2, 'test'",
            schedule,
            NOON,
        )
        for taken_at, modes, left in (
            ("2026-03-09T11:00:00+00:00", ("full", "full"), (ACCOUNTS, PLANS)),
            ("2026-03-09T13:00:00+00:00", ("full", "incremental"), (PLANS,)),
            ("2026-03-09T14:00:00+00:00", ("incremental", "full"), ()),
        ):
            due_at = NOON.replace(hour=int(taken_at[11:13]))
            job_id = await jobs.add_job(schedule_id=schedule, due_at=due_at)
            lease = await jobs.claimed()
            extraction = {
                "taken_at": taken_at,
                "entities": [
                    {"entity": entity, "mode": mode} for entity, mode in zip((ACCOUNTS, PLANS), modes, strict=True)
                ],
            }
            await jobs.table.seal(lease, parts=[], extraction=json.dumps(extraction), spool_id=SPOOL)
            await jobs.table.succeed(lease, positions=reached(job_id, ACCOUNTS, PLANS))
            assert await refresh_requests(jobs.connection, schedule) == left
