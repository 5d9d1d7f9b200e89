"""Claims are fair: random arrivals, lengths and numbers of slots, checked claim by claim."""

from collections import Counter
from datetime import timedelta
from random import Random

import pytest

from exportd.model.job import JobId, Lease
from exportd.model.reason import Reason
from tests.integration.jobs.postgres_jobs import NOON, PostgresJobs

ORGANIZATIONS = ("acme", "globex", "initech", "umbrella")
STEPS = 90


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
            due_at = NOON + timedelta(minutes=random.randrange(-10_000, 10_000))
            await jobs.add_job(organization=organization, due_at=due_at)
            queue.arrive(organization)
        elif step < 0.8 and len(queue.running) < slots:
            lease = await jobs.claim()
            assert (lease is not None) == bool(queue.waiting.total())
            if lease is not None:
                queue.claim(lease)
                served[lease.job.organization] += 1
        elif queue.running:
            lease = random.choice(list(queue.running.values()))
            await jobs.table.fail(lease, reason=Reason.CANCELLED, message="ended by the test")
            queue.end(lease)
    assert len(served) > 1


async def test_an_organization_with_running_jobs_leaves_the_next_slot_to_others(jobs: PostgresJobs) -> None:
    for _ in range(3):
        await jobs.add_job(organization="acme", due_at=NOON - timedelta(days=1))
    first = await jobs.claimed()
    await jobs.add_job(organization="globex")
    second, third = await jobs.claimed(), await jobs.claimed()
    assert [lease.job.organization for lease in (first, second, third)] == ["acme", "globex", "acme"]
