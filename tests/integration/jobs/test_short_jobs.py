"""Short jobs do not wait for the end of long ones."""

from datetime import timedelta

import anyio
import pytest

from exportd.jobs.dispatcher import Dispatcher
from exportd.jobs.job_table import SHORT_S
from exportd.jobs.stalls import LONG_S
from exportd.model.job import JobId, JobProgress, Lease
from exportd.model.schedule import ScheduleId
from tests.fixtures.fake_clock import FakeClock
from tests.fixtures.settings import live_settings
from tests.integration.jobs.postgres_jobs import ATTEMPTS, LEASE_S, NOON, SPOOL, PostgresJobs

REFRESH = "INSERT INTO exportd.refresh_request (schedule_id, entity, requested_by) VALUES ($1, 'ACCOUNTS', 'test')"
BACKFILL = """INSERT INTO exportd.backfill_request (schedule_id, entity, job_id, full_reason, requested_by)
              VALUES ($1, 'ACCOUNTS', gen_random_uuid(), 'ASKED', 'test')"""
HOUR = timedelta(hours=1)


async def add_run(jobs: PostgresJobs, schedule: ScheduleId, seconds: float, *, ago: int, state: str) -> None:
    """A run of the schedule that ended ``ago`` hours before noon."""
    await jobs.connection.execute(
        """INSERT INTO exportd.job
               (organization, schedule_id, schedule_code, due_at, entities, format, destinations, state, started_at,
                finished_at)
           VALUES ('org-1', $1, 'nightly', $2::timestamptz, '{ACCOUNTS,PLANS}', 'CSV', '{lake}', $4::exportd.job_state,
                   $2::timestamptz - make_interval(secs => $3), $2)""",
        schedule,
        NOON - ago * HOUR,
        seconds,
        state,
    )


async def add_short(jobs: PostgresJobs, code: str) -> JobId:
    """A job whose schedule's last run was short."""
    schedule = await jobs.add_schedule(code)
    await add_run(jobs, schedule, 1.0, ago=1, state="SUCCEEDED")
    return await jobs.add_job(schedule_id=schedule)


@pytest.mark.parametrize(
    ("runs", "asked_for", "is_short"),
    [
        ([(0.3, "SUCCEEDED")], None, True),
        ([(SHORT_S + 1, "SUCCEEDED"), (0.3, "SUCCEEDED")], None, True),
        ([(0.3, "SUCCEEDED"), (SHORT_S + 1, "SUCCEEDED")], None, False),
        ([(0.3, "SUCCEEDED"), (0.3, "FAILED")], None, False),
        ([], None, False),
        ([(0.3, "SUCCEEDED")], REFRESH, False),
        (
            [(0.3, "SUCCEEDED")],
            BACKFILL,
            False,
        ),
    ],
)
async def test_what_counts_as_short(
    jobs: PostgresJobs, runs: list[tuple[float, str]], asked_for: str | None, is_short: bool
) -> None:
    schedule = await jobs.add_schedule()
    for ago, (seconds, state) in zip(range(len(runs), 0, -1), runs, strict=True):
        await add_run(jobs, schedule, seconds, ago=ago, state=state)
    if asked_for is not None:
        await jobs.connection.execute(asked_for, schedule)
    expected = await jobs.add_job(schedule_id=schedule)
    await jobs.add_job(organization="org-2", due_at=NOON - HOUR)  # an ad hoc export, due before
    lease = await jobs.table.claim(
        holder="alpha", lease_s=LEASE_S, spool_id=SPOOL, attempt_limit=ATTEMPTS, only_short=True
    )
    assert (lease and lease.job.id) == (expected if is_short else None)


async def test_a_short_job_runs_beside_long_ones(jobs: PostgresJobs) -> None:
    long_jobs = [await jobs.add_job(organization=f"org-{hour}", due_at=NOON + hour * HOUR) for hour in range(3)]
    clock, running, ending = FakeClock(), set[JobId](), anyio.Event()
    changed = anyio.Condition()

    async def run_job(lease: Lease, _progress: JobProgress) -> None:
        async with changed:
            running.add(lease.job.id)
            changed.notify_all()
        if lease.job.id in long_jobs:
            await ending.wait()
        await jobs.table.succeed(lease, positions=[])

    async def seen(expected: set[JobId]) -> None:
        with anyio.fail_after(20):
            async with changed:
                while running != expected:
                    await changed.wait()

    dispatcher = Dispatcher(
        jobs.table,
        run_job,
        holder="alpha",
        spool_id=SPOOL,
        settings=live_settings(limits={"jobs": 2, "short_jobs": 1}, capture={"poll_interval_s": 30.0}),
        lease_s=LEASE_S,
        clock=clock,
    )
    async with anyio.create_task_group() as group:
        group.start_soon(dispatcher.run)
        await seen({*long_jobs[:2]})
        short = await add_short(jobs, "first")
        dispatcher.wake()
        await clock.advance(LONG_S / 2)
        assert short not in running, "the others might end in a moment"
        await clock.advance(LONG_S / 2)
        await seen({*long_jobs[:2], short})
        another = await add_short(jobs, "second")
        dispatcher.wake()
        await clock.advance(LONG_S)
        await seen({*long_jobs[:2], short, another})
        ending.set()
        await seen({*long_jobs, short, another})
        await dispatcher.drain(clock.monotonic() + 1)
