"""A small spool that several organizations share: one that floods it waits alone, and no job waits in a slot."""

from collections import Counter
from pathlib import Path
from random import Random
from uuid import UUID

import pytest

from exportd.jobs.states import Retry, decide
from exportd.model.entity import OrganizationId
from exportd.model.errors import OccupiedError, Reason
from exportd.model.job import JobId
from exportd.spool.spool import Spool
from tests.fixtures.settings import live_settings

BUDGET_BYTES = 1000
JOB_BYTES = 100
QUIET = [OrganizationId(name) for name in ("globex", "initech", "umbrella")]
FLOODING = OrganizationId("acme")


def spool_in(directory: Path, *, budget_bytes: int = BUDGET_BYTES) -> Spool:
    bounds = {"directory": directory, "budget": budget_bytes, "free_space_floor": 0}
    return Spool(live_settings(spool=bounds), wait_timeout_s=0)


async def write(spool: Spool, job: JobId, size_bytes: int) -> None:
    """A job's attempt: blocks of random lengths would do; what counts is where it is turned away."""
    for _ in range(0, size_bytes, 20):
        await spool.reserve(job, 20)
        spool.settle(job, reserved_bytes=20, used_bytes=20)


@pytest.mark.parametrize("seed", range(6))
async def test_an_organization_that_floods_the_spool_waits_alone(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    done, waiting = Counter[OrganizationId](), 0
    finished: list[tuple[OrganizationId, JobId]] = []
    async with spool_in(tmp_path) as spool:
        for number in range(150):
            organization = FLOODING if random.random() < 0.7 else random.choice(QUIET)
            job = JobId(UUID(int=number + 1))
            try:
                await spool.begin_job(job, organization)
                await write(spool, job, JOB_BYTES)
            except OccupiedError as occupied:
                assert organization is FLOODING, f"{organization} waits: {occupied.sentence}"
                assert occupied.reason is Reason.SPOOL_QUOTA
                decision = decide(occupied, attempt=5, limit=5, random=0.5)
                assert isinstance(decision, Retry)
                assert not decision.counts_attempt
                waiting += 1
                await spool.remove_job(job)
            else:
                done[organization] += 1
                finished.append((organization, job))
            # Of the quiet ones one finished job stays at a time, of the flooding one all do.
            for owner, old in [pair for pair in finished if pair[0] is not FLOODING][:-1]:
                await spool.remove_job(old)
                finished.remove((owner, old))
            assert spool.usage.taken_bytes_of(FLOODING) <= BUDGET_BYTES // 2
    assert set(done) == {FLOODING, *QUIET}
    assert waiting > 50


async def test_a_job_that_was_turned_away_begins_again_when_there_is_room_for_what_it_needed(tmp_path: Path) -> None:
    """It does not read the database again in vain."""
    big, other = JobId(UUID(int=1)), JobId(UUID(int=2))
    async with spool_in(tmp_path) as spool:
        await spool.begin_job(other, FLOODING)
        await write(spool, other, 500)
        await spool.begin_job(big, QUIET[0])
        with pytest.raises(OccupiedError, match=r"waits for room in the spool .* needs 520 bytes"):
            await write(spool, big, 600)
        for _ in range(3):
            with pytest.raises(OccupiedError) as caught:
                await spool.begin_job(big, QUIET[0])
            assert caught.value.reason is Reason.SPOOL_FULL
            assert spool.usage.taken_bytes(big) == 0
        await spool.remove_job(other)
        await spool.begin_job(big, QUIET[0])
        await write(spool, big, 600)


async def test_what_was_there_before_a_start_counts_too(tmp_path: Path) -> None:
    old, new = JobId(UUID(int=1)), JobId(UUID(int=2))
    async with spool_in(tmp_path) as spool:
        folder = await spool.begin_job(old, FLOODING)
        (folder / "part").write_bytes(bytes(500))
    async with spool_in(tmp_path, budget_bytes=8192) as spool:
        spool.own({old: FLOODING})
        with pytest.raises(OccupiedError) as caught:
            await spool.begin_job(new, FLOODING)
        assert caught.value.reason is Reason.SPOOL_QUOTA
        await spool.begin_job(new, QUIET[0])
