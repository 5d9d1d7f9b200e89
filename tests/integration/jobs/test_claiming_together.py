"""Jobs that can be read in one snapshot are claimed together, in the rounds of all claims."""

from collections import Counter
from datetime import timedelta
from random import Random

import anyio
import pytest

from exportd.jobs.dispatcher import Dispatcher
from exportd.jobs.job_table import SHORT_BYTES
from exportd.model.errors import Reason
from exportd.model.job import JobId, JobProgress, Lease
from tests.fixtures.fake_clock import FakeClock
from tests.fixtures.settings import live_settings
from tests.integration.jobs.postgres_jobs import ATTEMPTS, LEASE_S, NOON, SPOOL, PostgresJobs

HOUR = timedelta(hours=1)


async def add_short(jobs: PostgresJobs, code: str, *, organization: str = "org-1", content_bytes: int = 100) -> JobId:
    """A job whose schedule's last run was quick, and had so much content."""
    schedule = await jobs.add_schedule(code)
    await jobs.connection.execute("UPDATE exportd.schedule SET organization = $2 WHERE id = $1", schedule, organization)
    last = await jobs.connection.fetchval(
        """INSERT INTO exportd.job
               (organization, schedule_id, schedule_code, due_at, entities, format, destinations, state, started_at,
                sealed_at, finished_at)
           VALUES ($1, $2, $3, $4, '{ACCOUNTS,PLANS}', 'CSV', '{lake}', 'SUCCEEDED', $4, $4, $4) RETURNING id""",
        organization,
        schedule,
        code,
        NOON - HOUR,
    )
    await jobs.connection.execute(
        """INSERT INTO exportd.part (job_id, entity, number, file_name, rows, content_bytes, size_bytes, sha256)
           VALUES ($1, 'ACCOUNTS', 1, 'accounts', 1, $2, 1, repeat('a', 64))""",
        last,
        content_bytes,
    )
    return await jobs.add_job(organization=organization, schedule_id=schedule)


async def claim_together(jobs: PostgresJobs, limit: int = 10) -> tuple[Lease | None, tuple[Lease, ...]]:
    """The job that is claimed first, and those that go along."""
    first = await jobs.table.claim(holder="alpha", lease_s=LEASE_S, spool_id=SPOOL, attempt_limit=ATTEMPTS)
    if first is None:
        return None, ()
    return first, await jobs.table.claim_together(first, holder="alpha", lease_s=LEASE_S, spool_id=SPOOL, limit=limit)


async def test_short_jobs_over_the_same_entities_go_along(jobs: PostgresJobs) -> None:
    short = [await add_short(jobs, f"short-{number}") for number in range(4)]
    first, others = await claim_together(jobs)
    assert first is not None
    assert {first.job.id, *(lease.job.id for lease in others)} == set(short)
    assert {(lease.fence, lease.attempt) for lease in others} == {(1, 1)}
    held = await jobs.connection.fetch("SELECT log_hold::text::bigint AS hold FROM exportd.job WHERE state = 'RUNNING'")
    assert len(held) == 4
    assert all(row["hold"] > 0 for row in held), "the change log must not be pruned below what they read"


@pytest.mark.parametrize(
    "otherwise",
    [
        "UPDATE exportd.job SET entities = '{ACCOUNTS}' WHERE id = $1",
        "UPDATE exportd.job SET not_before = now() + interval '1 hour' WHERE id = $1",
        "UPDATE exportd.job SET cancel_requested_at = now() WHERE id = $1",
        "UPDATE exportd.job SET schedule_id = NULL, schedule_code = NULL WHERE id = $1",
        """INSERT INTO exportd.refresh_request (schedule_id, entity, requested_by)
           SELECT schedule_id, 'ACCOUNTS', 'test' FROM exportd.job WHERE id = $1""",
        """INSERT INTO exportd.backfill_request (schedule_id, entity, job_id, full_reason, requested_by)
           SELECT schedule_id, 'ACCOUNTS', id, 'ASKED', 'test' FROM exportd.job WHERE id = $1""",
        """UPDATE exportd.job SET state = 'FAILED' WHERE state = 'SUCCEEDED'
           AND schedule_id = (SELECT schedule_id FROM exportd.job WHERE id = $1)""",
        """UPDATE exportd.job SET sealed_at = sealed_at + interval '1 minute' WHERE state = 'SUCCEEDED'
           AND schedule_id = (SELECT schedule_id FROM exportd.job WHERE id = $1)""",
        """INSERT INTO exportd.destination
               (organization, code, name, origin, settings, created_by, modified_by, paused_at)
           SELECT organization, 'lake', 'lake', 'API', '{}', 'test', 'test', now() FROM exportd.job WHERE id = $1""",
    ],
)
async def test_what_has_to_be_read_by_itself_does_not_go_along(jobs: PostgresJobs, otherwise: str) -> None:
    first = await add_short(jobs, "first", organization="org-1")
    other = await add_short(jobs, "other", organization="org-2")
    third = await add_short(jobs, "third", organization="org-3")
    await jobs.connection.execute("UPDATE exportd.job SET due_at = due_at - interval '1 day' WHERE id = $1", first)
    await jobs.connection.execute(otherwise, other)
    claimed, others = await claim_together(jobs)
    assert claimed is not None
    assert [lease.job.id for lease in (claimed, *others)] == [first, third]


async def test_a_slow_destination_does_not_have_jobs_read_one_by_one(jobs: PostgresJobs) -> None:
    """Of many that are delivered at the same time each takes long, and it costs the least to read these together."""
    slow = {await add_short(jobs, f"slow-{number}", organization=f"org-{number}") for number in range(3)}
    await jobs.connection.execute(
        "UPDATE exportd.job SET finished_at = sealed_at + interval '1 hour' WHERE state = 'SUCCEEDED'"
    )
    first, others = await claim_together(jobs)
    assert first is not None
    assert {first.job.id, *(lease.job.id for lease in others)} == slow


async def add_first(jobs: PostgresJobs, code: str, *, organization: str) -> JobId:
    """The first job of a schedule."""
    schedule = await jobs.add_schedule(code)
    await jobs.connection.execute("UPDATE exportd.schedule SET organization = $2 WHERE id = $1", schedule, organization)
    return await jobs.add_job(organization=organization, schedule_id=schedule)


@pytest.mark.parametrize("is_short_first", [False, True])
async def test_first_runs_go_along_with_each_other_only(jobs: PostgresJobs, is_short_first: bool) -> None:
    kinds = [[await add_first(jobs, f"new-{number}", organization=f"new-{number}") for number in range(3)]]
    kinds.append([await add_short(jobs, f"old-{number}", organization=f"old-{number}") for number in range(3)])
    ran_before = await add_first(jobs, "again", organization="other")
    await jobs.connection.execute(
        """INSERT INTO exportd.job
               (organization, schedule_id, schedule_code, due_at, entities, format, destinations, state, finished_at)
           SELECT organization, schedule_id, schedule_code, due_at - interval '1 hour', entities, format, destinations,
                  'FAILED', now()
           FROM exportd.job WHERE id = $1""",
        ran_before,
    )
    together = kinds[is_short_first]
    await jobs.connection.execute(
        "UPDATE exportd.turn SET number = (organization <> $1)::integer", "old-1" if is_short_first else "new-1"
    )
    first, others = await claim_together(jobs)
    assert first is not None
    assert {first.job.id, *(lease.job.id for lease in others)} == set(together)


async def test_a_second_attempt_is_made_by_itself(jobs: PostgresJobs) -> None:
    """Its first attempt may have left something behind, or did not belong with the others."""
    again = await add_short(jobs, "again")
    first, _ = await claim_together(jobs)
    assert first is not None
    sentence = "It is read by itself."
    await jobs.table.put_back(first, after_s=0.0, counts_attempt=False, reason=Reason.READ_BY_ITSELF, message=sentence)
    other = await add_short(jobs, "other", organization="org-2")
    claimed, others = await claim_together(jobs)
    assert claimed is not None
    assert (claimed.job.id, others) == (other, ()), "the organization that had no turn comes first"
    claimed, others = await claim_together(jobs)
    assert claimed is not None
    assert (claimed.job.id, claimed.attempt, claimed.fence, others) == (again, 1, 2, ())


async def test_nothing_goes_along_with_a_job_that_may_be_long(jobs: PostgresJobs) -> None:
    large = await add_short(jobs, "large", content_bytes=SHORT_BYTES + 1)
    await jobs.connection.execute("UPDATE exportd.job SET due_at = due_at - interval '1 day'")
    await add_short(jobs, "small")
    first, others = await claim_together(jobs)
    assert first is not None
    assert (first.job.id, others) == (large, ())


@pytest.mark.parametrize("seed", range(4))
async def test_rounds_go_over_the_organizations(jobs: PostgresJobs, seed: int) -> None:
    """However long a backlog is, no organization gets a second place while another one has none."""
    random = Random(seed)
    waiting = Counter({f"org-{number}": random.randint(1, 9) for number in range(5)})
    for organization, number in waiting.items():
        for place in range(number):
            await add_short(jobs, f"{organization}-{place}", organization=organization)
    while waiting.total():
        first, others = await claim_together(jobs, limit=random.randint(1, 6))
        assert first is not None
        claimed = Counter(str(lease.job.organization) for lease in (first, *others))
        left = waiting - claimed
        assert all(claimed[one] <= claimed[other] + 1 for one in claimed for other in left), claimed
        waiting = left
        for lease in (first, *others):
            await jobs.table.succeed(lease, positions=[])


ALL_THAT_WAITS = """
SELECT due.id
FROM (
    SELECT
        job.id, job.organization, job.due_at,
        row_number() OVER (PARTITION BY job.organization ORDER BY job.due_at, job.id)
            + (SELECT count(*) FROM exportd.job AS running
               WHERE running.organization = job.organization AND running.state = 'RUNNING') AS rounds
    FROM exportd.job
    WHERE job.state = 'PENDING' AND job.fence = 0 AND job.not_before <= now() AND job.entities = $1
) AS due
JOIN exportd.turn USING (organization)
ORDER BY rounds, turn.number, organization, due_at, id
"""
"""Those over the same entities, in the order of their turns."""


@pytest.mark.parametrize("seed", range(6))
async def test_the_turns_are_those_of_a_sort_over_all_that_waits(jobs: PostgresJobs, seed: int) -> None:
    """Whether there are organizations enough for a walk over their first jobs or not."""
    random = Random(seed)
    short = set()
    for number in range(70):
        organization = f"org-{number}"
        for place in range(random.choice((1, 1, 1, 2, 5))):
            is_short = random.random() < 0.8
            code = f"{organization}-{place}"
            job = await add_short(jobs, code, organization=organization, content_bytes=1 if is_short else 1 << 30)
            short |= {job} if is_short else set()
            if random.random() < 0.1:
                await jobs.connection.execute("UPDATE exportd.job SET not_before = 'infinity' WHERE id = $1", job)
            elif random.random() < 0.1:
                await jobs.connection.execute("UPDATE exportd.job SET entities = '{PLANS}' WHERE id = $1", job)
    for _ in range(random.randint(0, 20)):
        await jobs.table.claim(holder="beta", lease_s=LEASE_S, spool_id=SPOOL, attempt_limit=ATTEMPTS)
    limits = [2, 10, 12, 25]
    random.shuffle(limits)
    for limit in limits:
        first, _ = await claim_together(jobs, limit=0)
        assert first is not None
        waiting = [row["id"] for row in await jobs.connection.fetch(ALL_THAT_WAITS, first.job.entities)]
        others = await jobs.table.claim_together(first, holder="alpha", lease_s=LEASE_S, spool_id=SPOOL, limit=limit)
        looked_at = waiting[: 4 * limit] if first.job.id in short else []
        assert {lease.job.id for lease in others} == {*[job for job in looked_at if job in short][:limit]}


async def test_what_waits_is_not_looked_at_for_each_organization(jobs: PostgresJobs) -> None:
    """Statistics that are an hour old know of no queue, and by them the planner would sort all that waits each time."""
    waiting = 2_000
    await jobs.connection.execute(
        """INSERT INTO exportd.schedule (organization, code, name, entities, format, destinations, rule, next_due_at)
           SELECT 'org-' || number, 'hourly', '', '{ACCOUNTS}', 'CSV', '{lake}', '{}', $2
           FROM generate_series(1, $1::integer) AS number""",
        waiting,
        NOON,
    )
    await jobs.connection.execute(
        """INSERT INTO exportd.job (organization, schedule_id, schedule_code, due_at, entities, format, destinations,
                                    state, started_at, sealed_at, finished_at)
           SELECT organization, id, code, $1, entities, format, destinations, 'SUCCEEDED', $1, $1, $1
           FROM exportd.schedule""",
        NOON - HOUR,
    )
    for table in ("job", "turn", "schedule"):
        await jobs.connection.execute(f"ANALYZE exportd.{table}")
    await jobs.connection.execute(
        """INSERT INTO exportd.job (organization, schedule_id, schedule_code, due_at, entities, format, destinations)
           SELECT organization, id, code, $1, entities, format, destinations FROM exportd.schedule""",
        NOON,
    )
    first = await jobs.claimed()
    before = await _rows_read(jobs)
    others = await jobs.table.claim_together(first, holder="alpha", lease_s=LEASE_S, spool_id=SPOOL, limit=5)
    assert len(others) == 5
    assert 0 < await _rows_read(jobs) - before < 3 * waiting


async def _rows_read(jobs: PostgresJobs) -> int:
    """Of the tables in which jobs wait, by all sessions so far."""
    # Statistics leave a session when it likes, unless it is told to.
    for session in (jobs.pool, jobs.connection):
        await session.execute("SELECT pg_stat_force_next_flush()")
    rows: int = await jobs.connection.fetchval(
        """SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0))::bigint
           FROM pg_stat_user_tables WHERE schemaname = 'exportd' AND relname IN ('job', 'turn')"""
    )
    return rows


async def test_jobs_that_were_claimed_together_take_one_slot(jobs: PostgresJobs) -> None:
    short = {await add_short(jobs, f"short-{number}") for number in range(3)}
    long_job = await jobs.add_job(due_at=NOON + HOUR)
    clock, running, ending = FakeClock(), dict[JobId, bool](), anyio.Event()
    changed = anyio.Condition()

    async def run_job(lease: Lease, _progress: JobProgress) -> None:
        async with changed:
            running[lease.job.id] = lease.shares_snapshot
            changed.notify_all()
        await ending.wait()
        await jobs.table.succeed(lease, positions=[])

    dispatcher = Dispatcher(
        jobs.table,
        run_job,
        holder="alpha",
        spool_id=SPOOL,
        settings=live_settings(limits={"jobs": 2, "short_jobs": 0}),
        lease_s=LEASE_S,
        clock=clock,
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(dispatcher.run)
        with anyio.fail_after(20):
            async with changed:
                while len(running) < 4:
                    await changed.wait()
        assert running == {**dict.fromkeys(short, True), long_job: False}
        ending.set()
        await dispatcher.drain(clock.monotonic() + 60)
    states = await jobs.connection.fetch("SELECT DISTINCT state::text FROM exportd.job")
    assert [row["state"] for row in states] == ["SUCCEEDED"]
