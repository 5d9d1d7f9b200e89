"""Claims stay fair when short jobs are claimed together: random arrivals beside an organization with huge runs.

Counted in turns. A turn is a claim, with the jobs that go along: they take one slot.
"""

from collections import Counter
from datetime import timedelta
from random import Random

import pytest

from exportd.jobs.job_table import SHORT_BYTES
from exportd.model.errors import Reason
from exportd.model.job import JobId, Lease
from exportd.model.schedule import ScheduleId
from tests.integration.jobs.postgres_jobs import NOON, PostgresJobs
from tests.integration.jobs.test_claiming_together import add_short, claim_together

HUGE = "huge"
SMALL = tuple(f"small-{number}" for number in range(6))
STEPS = 70


class Turns:
    """Who waits, who runs, and which turns an organization with work and no running job has seen meanwhile."""

    def __init__(self) -> None:
        self.waiting: dict[JobId, str] = {}
        self.running: dict[JobId, tuple[Lease, int]] = {}
        """Each with the number of its turn."""
        self.large: set[JobId] = set()
        """They are not claimed together with others."""
        self._number = 0
        self._led: dict[str, Counter[str]] = {}
        self._jobs_of_others: dict[str, Counter[str]] = {}

    @property
    def slots_taken(self) -> int:
        return len({turn for _, turn in self.running.values()})

    def arrive(self, job: JobId, organization: str, *, large: bool = False) -> None:
        self.waiting[job] = organization
        if large:
            self.large.add(job)
        self._begin_to_wait()

    def claim(self, first: Lease, others: tuple[Lease, ...]) -> None:
        self._number += 1
        assert not others or not self.large & {first.job.id, *(lease.job.id for lease in others)}
        for lease in (first, *others):
            del self.waiting[lease.job.id]
            self.running[lease.job.id] = lease, self._number
        claimed = Counter(str(lease.job.organization) for lease in (first, *others))
        for organization in claimed:
            self._led.pop(organization, None)
            self._jobs_of_others.pop(organization, None)
        for organization, led in self._led.items():
            led[str(first.job.organization)] += 1
            assert max(led.values()) == 1, f"{organization} waited for two turns of {led.most_common(1)}"
            if self._has_short(organization):
                jobs = self._jobs_of_others[organization]
                jobs.update(claimed)
                assert max(jobs.values()) == 1, f"{organization} waited for two jobs of {jobs.most_common(1)}"
        self._begin_to_wait()

    def end_turn_of(self, job: JobId) -> list[Lease]:
        """Everything that was claimed together with a job ends."""
        _, turn = self.running[job]
        ended = [lease for lease, number in self.running.values() if number == turn]
        for lease in ended:
            del self.running[lease.job.id]
        self._begin_to_wait()
        return ended

    def _has_short(self, organization: str) -> bool:
        """Whether all that it waits for could have gone along."""
        return not any(job in self.large for job, owner in self.waiting.items() if owner == organization)

    def _begin_to_wait(self) -> None:
        busy = {str(lease.job.organization) for lease, _ in self.running.values()}
        for organization in set(self.waiting.values()) - busy:
            self._led.setdefault(organization, Counter())
            self._jobs_of_others.setdefault(organization, Counter())


@pytest.mark.parametrize("slots", [1, 2])
@pytest.mark.parametrize("seed", range(6))
async def test_no_organization_waits_for_two_turns_of_another(jobs: PostgresJobs, seed: int, slots: int) -> None:
    """However large the runs of one are, and however many it has queued."""
    random = Random(f"{seed} {slots}")
    turns, shared, served = Turns(), 0, set[str]()
    for step in range(STEPS):
        chance = random.random()
        if chance < 0.6:
            organization = HUGE if random.random() < 0.3 else random.choice(SMALL)
            large = organization == HUGE and random.random() < 0.7
            job = await add_short(
                *(jobs, f"{organization}-{step}"),
                organization=organization,
                content_bytes=SHORT_BYTES + 1 if large else 100,
            )
            due_at = NOON + timedelta(minutes=random.uniform(-10_000, 10_000))
            await jobs.connection.execute("UPDATE exportd.job SET due_at = $2 WHERE id = $1", job, due_at)
            turns.arrive(job, organization, large=large)
        elif chance < 0.85 and turns.slots_taken < slots:
            first, others = await claim_together(jobs, limit=random.randint(1, 5))
            assert (first is not None) == bool(turns.waiting)
            if first is not None:
                turns.claim(first, others)
                shared += len(others)
                served |= {str(lease.job.organization) for lease in (first, *others)}
        elif turns.running:
            for lease in turns.end_turn_of(random.choice(list(turns.running))):
                await jobs.table.succeed(lease, positions=[])
    assert shared > 0
    assert HUGE in served


async def test_what_turns_out_to_be_huge_is_put_back_and_the_others_have_their_turn(jobs: PostgresJobs) -> None:
    """A tenant whose runs were small has thousands of keys now: it costs the others one turn, and then none."""
    huge = await add_short(jobs, "huge", organization=HUGE)
    small = {await add_short(jobs, name, organization=name) for name in SMALL}
    first, others = await claim_together(jobs, limit=3)
    assert first is not None
    assert huge in {first.job.id, *(lease.job.id for lease in others)}
    for lease in (first, *others):
        if lease.job.id == huge:
            reason = Reason.READ_BY_ITSELF
            await jobs.table.put_back(lease, after_s=0, counts_attempt=False, reason=reason, message="It has much.")
        else:
            await jobs.table.succeed(lease, positions=[])
            small.remove(lease.job.id)
    second, others = await claim_together(jobs, limit=3)
    assert second is not None
    assert {second.job.id, *(lease.job.id for lease in others)} == small, "they have not had a turn yet"
    third, others = await claim_together(jobs, limit=3)
    assert third is not None
    assert (third.job.id, others, third.attempt) == (huge, (), 1)


async def test_a_last_run_that_is_unknown_takes_a_turn_by_itself(jobs: PostgresJobs) -> None:
    """The first run of a schedule is complete: nothing goes along, nor does it go along with others."""
    schedule: ScheduleId = await jobs.add_schedule("new")
    new = await jobs.add_job(organization=HUGE, schedule_id=schedule)
    small = {await add_short(jobs, name, organization=name) for name in SMALL}
    claimed = []
    while True:
        first, others = await claim_together(jobs, limit=2)
        if first is None:
            break
        claimed.append({first.job.id, *(lease.job.id for lease in others)})
    assert {new} in claimed
    assert sorted(len(turn) for turn in claimed) == [1, 3, 3]
    assert set.union(*claimed) == small | {new}
