"""Claims are fair: random arrivals, lengths and numbers of slots, checked claim by claim."""

from collections import Counter
from datetime import timedelta
from random import Random

import pytest

from exportd.database import migrator
from exportd.database.connector import Connector
from exportd.jobs.job_table import JobTable
from exportd.model.errors import Reason
from exportd.model.job import JobId, Lease
from tests.fixtures.postgres import Database
from tests.integration.jobs.postgres_jobs import NOON, PostgresJobs

ORGANIZATIONS = ("acme", "globex", "initech", "umbrella")
STEPS = 90


_COUNTED_SINCE = 19
_NEXT = """
WITH busy AS (SELECT organization, count(*) AS jobs FROM exportd.job WHERE state = 'RUNNING' GROUP BY organization)
SELECT job.id
FROM exportd.job
LEFT JOIN busy USING (organization)
LEFT JOIN exportd.turn USING (organization)
WHERE state = 'PENDING'
ORDER BY coalesce(busy.jobs, 0), CASE WHEN turn.number > 0 THEN turn.number END NULLS FIRST, job.due_at
LIMIT 1
"""
"""The order of claims, by looking at every job."""
_COUNTED = "SELECT organization, unfinished FROM exportd.turn WHERE unfinished <> 0 ORDER BY organization"
_UNFINISHED = (
    "SELECT organization, count(*) AS unfinished FROM exportd.job WHERE state IN ('PENDING', 'RUNNING')"
    " GROUP BY organization ORDER BY organization"
)


class Queue:
    """What the test knows of the queue, and the rule: an organization that has work and no running job waits for at
    most one job of each other organization.
    """

    def __init__(self) -> None:
        self.waiting: Counter[str] = Counter()
        self.running: dict[JobId, Lease] = {}
        self._overtaken: dict[str, Counter[str]] = {}
        """Of each organization that waits with no running job: the jobs of others that were claimed meanwhile."""

    def arrive(self, organization: str) -> None:
        self.waiting[organization] += 1
        self._begin_to_wait()

    def claim(self, lease: Lease) -> None:
        claimed = lease.job.organization
        self.waiting[claimed] -= 1
        self.running[lease.job.id] = lease
        self._overtaken.pop(claimed, None)
        for organization, others in self._overtaken.items():
            others[claimed] += 1
            assert others[claimed] <= 1, f"{organization} waited for {others[claimed]} jobs of {claimed}"
        self._begin_to_wait()

    def end(self, lease: Lease) -> None:
        del self.running[lease.job.id]
        self._begin_to_wait()

    def _begin_to_wait(self) -> None:
        busy = {lease.job.organization for lease in self.running.values()}
        for organization, waiting in self.waiting.items():
            if waiting and organization not in busy:
                self._overtaken.setdefault(organization, Counter())


@pytest.mark.parametrize("slots", [1, 2, 3])
@pytest.mark.parametrize("seed", range(8))
async def test_no_organization_waits_for_more_than_one_job_of_each_other(
    jobs: PostgresJobs, seed: int, slots: int
) -> None:
    random = Random(seed)
    queue, served = Queue(), Counter[str]()
    for _ in range(STEPS):
        step = random.random()
        if step < 0.5:
            # Backlogs of very different ages, and one organization that floods the queue.
            organization = "acme" if random.random() < 0.6 else random.choice(ORGANIZATIONS)
            due_at = NOON + timedelta(minutes=random.uniform(-10_000, 10_000))
            await jobs.add_job(organization=organization, due_at=due_at)
            queue.arrive(organization)
        elif step < 0.8 and len(queue.running) < slots:
            expected = await jobs.connection.fetchval(_NEXT)
            lease = await jobs.claim()
            assert (lease and lease.job.id) == expected
            assert (lease is not None) == bool(queue.waiting.total())
            if lease is not None:
                queue.claim(lease)
                served[lease.job.organization] += 1
        elif queue.running:
            lease = random.choice(list(queue.running.values()))
            await jobs.table.fail(lease, reason=Reason.CANCELLED, message="ended by the test")
            queue.end(lease)
    assert len(served) > 1
    assert await jobs.connection.fetch(_COUNTED) == await jobs.connection.fetch(_UNFINISHED)


@pytest.mark.every_postgres
async def test_the_walk_goes_past_all_whose_jobs_wait(jobs: PostgresJobs) -> None:
    for number in range(50):
        await jobs.add_job(organization=f"later-{number}", not_before=timedelta(hours=1))
    for number in range(50):
        await jobs.add_job(organization=f"paused-{number}", due_at=NOON - timedelta(hours=number))
    await jobs.connection.execute(
        "INSERT INTO exportd.destination"
        " (organization, code, name, origin, settings, created_by, modified_by, paused_at, paused_by)"
        " SELECT organization, 'lake', '', 'API', '{}', 'test', 'test', now(), 'test'"
        " FROM exportd.turn WHERE organization LIKE 'paused-%'"
    )
    await jobs.add_job(organization="busy")
    running = await jobs.claimed()
    of_busy = await jobs.add_job(organization="busy")
    due = [await jobs.add_job(organization="acme", due_at=NOON + timedelta(days=days)) for days in (2, 1)]
    # An organization without a running job comes first, with its oldest job; then the one whose turn is longest ago.
    assert [(await jobs.claimed()).job.id for _ in range(3)] == [due[1], of_busy, due[0]]
    assert await jobs.claim() is None
    await jobs.end_lease(running.job.id)
    assert (await jobs.claimed()).job.id == running.job.id


async def test_jobs_that_were_queued_before_they_were_counted_are_claimed(
    empty_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = await empty_database.connect()
    before = tuple(step for step in migrator.migrations() if step.number < _COUNTED_SINCE)
    with monkeypatch.context() as patched:
        patched.setattr(migrator, "migrations", lambda: before)
        await migrator.migrate(connection)
    async with Connector(empty_database.dsn).pool(2) as pool:
        jobs = PostgresJobs(JobTable(pool), pool, connection)
        late = await jobs.add_job(organization="acme")
        early = await jobs.add_job(organization="globex", due_at=NOON - timedelta(days=1))
        await jobs.add_job(organization="globex")
        await migrator.migrate(connection)
        assert await connection.fetch(_COUNTED) == await connection.fetch(_UNFINISHED)
        assert [(await jobs.claimed()).job.id for _ in range(2)] == [early, late]


async def test_an_organization_with_running_jobs_leaves_the_next_slot_to_others(jobs: PostgresJobs) -> None:
    for _ in range(3):
        await jobs.add_job(organization="acme", due_at=NOON - timedelta(days=1))
    first = await jobs.claimed()
    await jobs.add_job(organization="globex")
    second, third = await jobs.claimed(), await jobs.claimed()
    assert [lease.job.organization for lease in (first, second, third)] == ["acme", "globex", "acme"]
