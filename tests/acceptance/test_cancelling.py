"""A job is cancelled while it publishes: consumers never see half of it, and the next run holds everything."""

import pytest

from tests.acceptance.declarations import destination, s3_destination, schedule
from tests.acceptance.delivered_files import DeliveredFiles
from tests.acceptance.destinations import S3Bucket
from tests.acceptance.sample_application import CATALOG, Application
from tests.fixtures.daemon import Site, until
from tests.fixtures.fault_proxy import FaultProxy
from tests.fixtures.faults import Rule, Stall


async def positions(application: Application) -> list[tuple[str, str]]:
    rows = await application.connection.fetch("SELECT entity, snapshot::text FROM exportd.position ORDER BY entity")
    return [(row["entity"], row["snapshot"]) for row in rows]


@pytest.mark.parametrize(
    ("stalled", "runs"),
    [(Rule(Stall(), "PUT", "_order"), 2), (Rule(Stall(applied=True), "PUT", "_manifests"), 3)],
    ids=["among its objects", "behind its manifest"],
)
async def test_one_destination_has_everything_and_the_other_is_in_the_middle(
    site: Site, application: Application, empty_s3_bucket: S3Bucket, stalled: Rule, runs: int
) -> None:
    """``runs`` is how many the other has in the end: one whose manifest is out stays, whole."""
    connection, shore = application.connection, site.destination("shore")
    async with FaultProxy(empty_s3_bucket.account.endpoint) as proxy:
        site.configure(
            CATALOG,
            {
                "destination": [
                    s3_destination("lake", empty_s3_bucket, endpoint=proxy.endpoint),
                    destination("shore", shore),
                ],
                "schedule": [schedule(destinations=["lake", "shore"])],
            },
        )
        daemon = await site.start()
        await site.succeeded(connection, await site.first_job(connection))
        before = await positions(application)
        await application.change()

        proxy.add(stalled)
        job = await site.fire()
        assert isinstance(stalled.fault, Stall)
        await stalled.fault.reached.wait()

        async def shore_is_served() -> bool:
            return bool(await connection.fetchval("SELECT true FROM exportd.delivery WHERE job_id = $1", job))

        await until(shore_is_served, what="the delivery to the shore")
        cancelled = await site.quickly("job", "cancel", str(job))
        assert cancelled.stdout == "it is being stopped, within seconds\n"
        watched = await site.quickly("job", "watch", str(job))
        assert watched.returncode == 1
        assert watched.stdout.splitlines()[-1].endswith("A schedule's next run holds the same changes. [CANCELLED]")
        again = await site.quickly("job", "cancel", str(job))
        assert (again.returncode, "has ended already (FAILED)" in again.stderr) == (1, True)
        proxy.clear()
        stalled.fault.release.set()

        # What is out stays and is whole; of the rest there is nothing; and the next run begins where this one did.
        assert await positions(application) == before
        await application.change()
        await site.succeeded(connection, await site.fire())
        assert await daemon.stop() == 0
    for bucket, count in ((DeliveredFiles.of(shore), 3), (await empty_s3_bucket.delivered(), runs)):
        bucket.assert_whole()
        assert bucket.replayed() == await application.contents()
        (chain,) = bucket.chains
        assert len(chain.manifests) == count
    assert await empty_s3_bucket.leftovers() == set()
    assert (await site.without_configuration("verify", str(shore))).returncode == 0
    await site.assert_clean(shore)
