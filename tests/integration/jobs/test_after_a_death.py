"""What dead daemons and failed jobs leave in the table, and how it is put right."""

from exportd.model.job import JobId, JobPhase, Lease
from exportd.model.reason import Reason
from exportd.model.schedule import DestinationCode
from tests.integration.jobs.postgres_jobs import LAKE, OTHER_SPOOL, SPOOL, Workshop, reached

SHORE = DestinationCode("shore")


async def published_halfway(workshop: Workshop) -> Lease:
    lease = await workshop.claimed()
    await workshop.seal(lease)
    await workshop.table.publishing(lease)
    return lease


async def failed_ids(workshop: Workshop) -> list[JobId]:
    return [each.job.id for each in await workshop.table.failed_halfway()]


async def test_whoever_locks_a_spool_takes_its_jobs_over_at_once(workshop: Workshop) -> None:
    mine = await workshop.add_job()
    lease = await workshop.claimed(spool_id=SPOOL)
    await workshop.add_job(organization="org-2")
    other = await workshop.claimed(spool_id=OTHER_SPOOL)
    await workshop.seal(lease)
    assert await workshop.claim() is None

    assert await workshop.table.end_leases_of_spool(SPOOL) == (mine,)
    again = await workshop.claimed(holder="beta")
    assert (again.job.id, again.phase, again.attempt) == (mine, JobPhase.SEALED, 2)
    assert await workshop.claim(spool_id=OTHER_SPOOL) is None, f"{other.job.id} has a holder"
    assert await workshop.table.end_leases_of_spool(SPOOL) == (mine,), "the new holder has the same spool"


async def test_a_lease_that_ended_is_nobodys(workshop: Workshop) -> None:
    job_id = await workshop.add_job()
    lease = await workshop.claimed()
    await workshop.table.put_back(lease, after_s=0, counts_attempt=True, reason=Reason.INTERRUPTED, message="later")
    assert await workshop.table.end_leases_of_spool(SPOOL) == ()
    assert (await workshop.row(job_id))["lease_spool_id"] is None


async def test_a_job_that_failed_after_publishing_began_is_to_be_cleared(workshop: Workshop) -> None:
    await workshop.add_job()
    lease = await published_halfway(workshop)
    assert await failed_ids(workshop) == []
    await workshop.table.fail(lease, reason=Reason.DESTINATION_REFUSED, message="no")
    assert await failed_ids(workshop) == [lease.job.id]
    await workshop.table.mark_cleared(lease.job.id)
    assert await failed_ids(workshop) == []


async def test_jobs_that_failed_before_and_jobs_that_succeeded_are_not(workshop: Workshop) -> None:
    await workshop.add_job()
    early = await workshop.claimed()
    await workshop.table.fail(early, reason=Reason.TABLE_MISSING, message="no")
    await workshop.add_job(organization="org-2")
    good = await published_halfway(workshop)
    await workshop.table.succeed(good, positions=reached(good.job.id))
    assert await failed_ids(workshop) == []


async def test_a_job_that_starts_over_may_still_have_something_visible(workshop: Workshop) -> None:
    await workshop.add_job()
    lease = await published_halfway(workshop)
    await workshop.connection.execute("UPDATE exportd.job SET lease_until = clock_timestamp() - interval '1 day'")
    anew = await workshop.claimed(spool_id=OTHER_SPOOL)
    assert anew.phase is JobPhase.EXTRACTING
    await workshop.table.fail(anew, reason=Reason.TABLE_MISSING, message="no")
    assert await failed_ids(workshop) == [lease.job.id]


async def test_only_the_schedules_own_jobs_are_asked_for(workshop: Workshop) -> None:
    mine, other = await workshop.add_schedule("mine"), await workshop.add_schedule("other")
    await workshop.add_job(schedule_id=mine)
    lease = await published_halfway(workshop)
    await workshop.table.fail(lease, reason=Reason.DESTINATION_REFUSED, message="no")
    assert [each.job.id for each in await workshop.table.failed_halfway(mine)] == [lease.job.id]
    assert await workshop.table.failed_halfway(other) == ()


async def test_a_delivery_that_was_found_counts_as_of_the_jobs_end(workshop: Workshop) -> None:
    schedule = await workshop.add_schedule()
    await workshop.add_job(schedule_id=schedule)
    lease = await published_halfway(workshop)
    await workshop.table.fail(lease, reason=Reason.DESTINATION_REFUSED, message="no")
    for _ in range(2):
        await workshop.table.record_found_delivery(lease.job.id, LAKE, "ab" * 32)
    assert await workshop.table.last_delivery(schedule, LAKE) == (lease.job.id, "ab" * 32)
    assert await workshop.table.redelivered(schedule, LAKE) == (lease.job.id,)
    assert await workshop.table.last_delivery(schedule, SHORE) is None
    (found,) = await workshop.table.deliveries(lease.job.id)
    assert found.published_at == (await workshop.row(lease.job.id))["finished_at"]


async def test_jobs_are_found_by_their_ids(workshop: Workshop, unknown_job: JobId) -> None:
    first, second = await workshop.add_job(), await workshop.add_job(organization="org-2")
    await workshop.add_job(organization="org-3")
    found = await workshop.table.known([first, second, unknown_job])
    assert {each.job.id for each in found} == {first, second}
