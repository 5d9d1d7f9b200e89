"""What dead daemons and failed jobs leave in the table, and how it is put right."""

from datetime import UTC, datetime, timedelta

from exportd.model.errors import Reason
from exportd.model.job import JobId, JobPhase, JobState, Lease
from exportd.model.schedule import DestinationCode
from exportd.spool.retention import SpooledJob
from tests.integration.jobs.postgres_jobs import LAKE, OTHER_SPOOL, SPOOL, PostgresJobs, reached

SHORE = DestinationCode("shore")


async def published_halfway(jobs: PostgresJobs) -> Lease:
    lease = await jobs.claimed()
    await jobs.seal(lease)
    await jobs.table.publishing(lease)
    return lease


async def failed_ids(jobs: PostgresJobs) -> list[JobId]:
    return [record.job.id for record in await jobs.table.failed_halfway()]


async def test_a_daemon_that_locks_a_spool_takes_its_jobs_over_at_once(jobs: PostgresJobs) -> None:
    mine = await jobs.add_job()
    lease = await jobs.claimed(spool_id=SPOOL)
    await jobs.add_job(organization="org-2")
    other = await jobs.claimed(spool_id=OTHER_SPOOL)
    await jobs.seal(lease)
    assert await jobs.claim() is None

    assert await jobs.table.end_leases_of_spool(SPOOL) == (mine,)
    again = await jobs.claimed(holder="beta")
    assert (again.job.id, again.phase, again.attempt) == (mine, JobPhase.SEALED, 2)
    assert await jobs.claim(spool_id=OTHER_SPOOL) is None, f"{other.job.id} has a holder"
    assert await jobs.table.end_leases_of_spool(SPOOL) == (mine,), "the new holder has the same spool"


async def test_a_lease_that_has_ended_has_no_holder(jobs: PostgresJobs) -> None:
    job_id = await jobs.add_job()
    lease = await jobs.claimed()
    await jobs.table.put_back(lease, after_s=0, counts_attempt=True, reason=Reason.INTERRUPTED, message="later")
    assert await jobs.table.end_leases_of_spool(SPOOL) == ()
    assert (await jobs.row(job_id))["lease_spool_id"] is None


async def test_a_job_that_failed_after_publishing_began_is_to_be_cleared(jobs: PostgresJobs) -> None:
    await jobs.add_job()
    lease = await published_halfway(jobs)
    assert await failed_ids(jobs) == []
    await jobs.table.fail(lease, reason=Reason.DESTINATION_REFUSED, message="no")
    assert await failed_ids(jobs) == [lease.job.id]
    await jobs.table.mark_cleared(lease.job.id)
    assert await failed_ids(jobs) == []


async def test_jobs_that_failed_before_and_jobs_that_succeeded_are_not(jobs: PostgresJobs) -> None:
    await jobs.add_job()
    early = await jobs.claimed()
    await jobs.table.fail(early, reason=Reason.TABLE_MISSING, message="no")
    await jobs.add_job(organization="org-2")
    good = await published_halfway(jobs)
    await jobs.table.succeed(good, positions=reached(good.job.id))
    assert await failed_ids(jobs) == []


async def test_a_job_that_starts_over_may_still_have_something_visible(jobs: PostgresJobs) -> None:
    await jobs.add_job()
    lease = await published_halfway(jobs)
    await jobs.connection.execute("UPDATE exportd.job SET lease_until = clock_timestamp() - interval '1 day'")
    anew = await jobs.claimed(spool_id=OTHER_SPOOL)
    assert anew.phase is JobPhase.EXTRACTING
    await jobs.table.fail(anew, reason=Reason.TABLE_MISSING, message="no")
    assert await failed_ids(jobs) == [lease.job.id]


async def test_only_the_schedules_own_jobs_are_asked_for(jobs: PostgresJobs) -> None:
    mine, other = await jobs.add_schedule("mine"), await jobs.add_schedule("other")
    await jobs.add_job(schedule_id=mine)
    lease = await published_halfway(jobs)
    await jobs.table.fail(lease, reason=Reason.DESTINATION_REFUSED, message="no")
    assert [record.job.id for record in await jobs.table.failed_halfway(mine)] == [lease.job.id]
    assert await jobs.table.failed_halfway(other) == ()


async def test_a_delivery_that_was_found_counts_as_of_the_jobs_end(jobs: PostgresJobs) -> None:
    schedule = await jobs.add_schedule()
    await jobs.add_job(schedule_id=schedule)
    lease = await published_halfway(jobs)
    await jobs.table.fail(lease, reason=Reason.DESTINATION_REFUSED, message="no")
    for _ in range(2):
        await jobs.table.record_found_delivery(lease.job.id, LAKE, "ab" * 32)
    assert await jobs.table.last_delivery(schedule, LAKE) == (lease.job.id, "ab" * 32)
    assert await jobs.table.redelivered(schedule, LAKE) == (lease.job.id,)
    assert await jobs.table.last_delivery(schedule, SHORE) is None
    (found,) = await jobs.table.deliveries(lease.job.id)
    assert found.published_at == (await jobs.row(lease.job.id))["finished_at"]


async def test_the_owners_of_jobs_are_found_by_their_ids(jobs: PostgresJobs, unknown_job: JobId) -> None:
    first, second = await jobs.add_job(), await jobs.add_job(organization="org-2")
    await jobs.add_job(organization="org-3")
    assert await jobs.table.owners([first, second, unknown_job]) == {first: "org-1", second: "org-2"}


async def test_of_a_spools_jobs_those_are_over_that_it_may_drop(jobs: PostgresJobs, unknown_job: JobId) -> None:
    old, young, elsewhere, unsealed, running, waiting, not_stored = [await jobs.add_job() for _ in range(7)]
    now = datetime.now(UTC)
    for job, state, spool, finished_at in (
        (old, "SUCCEEDED", SPOOL, now - timedelta(hours=2)),
        (young, "FAILED", SPOOL, now),
        (elsewhere, "SUCCEEDED", OTHER_SPOOL, now),
        (unsealed, "FAILED", None, now),
        (running, "RUNNING", OTHER_SPOOL, None),
        (waiting, "PENDING", None, None),
        (not_stored, "SUCCEEDED", SPOOL, now - timedelta(hours=2)),
    ):
        await jobs.connection.execute(
            "UPDATE exportd.job SET state = $2, spool_id = $3, finished_at = $4 WHERE id = $1",
            job,
            state,
            spool,
            finished_at,
        )
    stored = [old, young, elsewhere, unsealed, running, waiting, unknown_job]
    over = {job.id: job for job in await jobs.table.over_in_spool(stored, SPOOL, now - timedelta(hours=1))}
    assert over.keys() == {old, elsewhere, unsealed, unknown_job}
    assert over[old] == SpooledJob(old, JobState.SUCCEEDED, sealed_here=True, finished_at=now - timedelta(hours=2))
    assert (over[elsewhere].sealed_here, over[unsealed].sealed_here) == (False, False)
    assert over[unknown_job].state is None
