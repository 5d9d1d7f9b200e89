"""What happens to one of several jobs that were claimed together is no other's fate: its destination is away, or its
tenant goes.
"""

import pytest

from tests.acceptance import statement_blocker
from tests.acceptance.declarations import lake_of, of_tenants, s3_destination
from tests.acceptance.delivered_files import DeliveredFiles
from tests.acceptance.destinations import S3Bucket
from tests.acceptance.firing import fire_together
from tests.acceptance.many_tenants import Tenants
from tests.acceptance.sample_application import BLOCKABLE_CATALOG, CATALOG
from tests.fixtures.daemon import Site
from tests.fixtures.fault_proxy import FaultProxy
from tests.fixtures.faults import Reset, Rule

ORGANIZATIONS = ("acme", "globex", "initech", "umbrella")
AWAY = "initech"


@pytest.fixture
async def tenants(site: Site) -> Tenants:
    tenants = Tenants(await site.database.connect(), ORGANIZATIONS)
    await tenants.open()
    return tenants


async def assert_exact(delivered: DeliveredFiles, tenants: Tenants, organization: str) -> None:
    delivered.assert_whole()
    assert delivered.replayed() == await tenants.contents(organization)


@pytest.mark.slow
async def test_a_destination_that_is_away_puts_back_its_own_job_only(
    site: Site, tenants: Tenants, empty_s3_bucket: S3Bucket
) -> None:
    connection = tenants.connection
    codes = {organization: f"{organization}-1" for organization in ORGANIZATIONS}
    async with FaultProxy(empty_s3_bucket.account.endpoint) as proxy:
        sections = of_tenants(site, ORGANIZATIONS)
        sections["destination"][ORGANIZATIONS.index(AWAY)] = s3_destination(
            "lake", empty_s3_bucket, organization=AWAY, endpoint=proxy.endpoint
        )
        site.configure(CATALOG, {**sections, "limits": {"delivery_timeout_s": 0.5}})
        daemon = await site.start()
        for code in codes.values():
            await site.succeeded(connection, await site.first_job(connection, code))

        proxy.add(Rule(Reset(), times=None))
        await tenants.change()
        await tenants.touch()
        jobs = dict(zip(ORGANIZATIONS, await fire_together(site, codes.values()), strict=True))
        await daemon.wait_for_event("jobs claimed together", jobs=len(jobs))
        put_back = await daemon.wait_for_event("job put back", job_id=str(jobs[AWAY]))
        assert put_back["reason"] == "DESTINATION_UNAVAILABLE"
        for organization, job in jobs.items():
            if organization != AWAY:
                row = await site.succeeded(connection, job)
                assert (row["attempt"], row["fence"]) == (1, 1)
        assert len(daemon.events_named("job put back")) == 1
        waiting = await connection.fetchrow("SELECT * FROM exportd.job WHERE id = $1", jobs[AWAY])
        assert waiting is not None
        assert (waiting["state"], waiting["attempt"], waiting["reason"]) == ("PENDING", 1, "DESTINATION_UNAVAILABLE")

        # It goes on from its seal with another daemon, which does not remember that the destination was away.
        assert await daemon.stop() == 0
        proxy.clear()
        await tenants.change()
        await connection.execute("UPDATE exportd.job SET not_before = clock_timestamp() WHERE state = 'PENDING'")
        daemon = await site.start()
        row = await site.succeeded(connection, jobs[AWAY])
        assert (row["attempt"], row["extraction"]) == (2, waiting["extraction"])
        for job in await fire_together(site, codes.values()):
            await site.succeeded(connection, job)
        assert await daemon.stop() == 0
    for organization in ORGANIZATIONS:
        lake = site.destination(lake_of(organization))
        delivered = await empty_s3_bucket.delivered() if organization == AWAY else DeliveredFiles.of(lake)
        await assert_exact(delivered, tenants, organization)
    assert await empty_s3_bucket.leftovers() == set()
    await site.assert_clean(*(site.destination(lake_of(organization)) for organization in ORGANIZATIONS))


@pytest.mark.slow
async def test_tenants_that_come_and_go_between_the_claim_and_the_read(site: Site, tenants: Tenants) -> None:
    """A schedule is deleted, one is paused, a job is cancelled, and another tenant's job comes."""
    connection, keeper = tenants.connection, await site.database.connect()
    await connection.execute(statement_blocker.INSTALL)
    *first, late = ORGANIZATIONS
    codes = [f"{organization}-{number}" for organization in first for number in (1, 2)]
    sections = of_tenants(site, ORGANIZATIONS, schedules=2)
    limits = {"jobs": 1, "short_jobs": 0, "delivering_jobs": 0}
    site.configure(BLOCKABLE_CATALOG, {**sections, "limits": limits})
    daemon = await site.start()
    for code in (*codes, f"{late}-1", f"{late}-2"):
        await site.succeeded(connection, await site.first_job(connection, code))

    await tenants.change()
    await connection.execute("UPDATE public.accounts SET name = 'blocked'")
    async with statement_blocker.blocking(keeper) as closed:
        jobs = dict(zip(codes, await fire_together(site, codes), strict=True))
        await closed.blocked_backend()
        await daemon.wait_for_event("jobs claimed together", jobs=len(jobs))
        # The one that reads for all is left alone.
        reading = (await daemon.wait_for_event("snapshot shared", jobs=len(jobs)))["job_id"]
        deleted, paused, cancelled, *_ = [code for code in codes if str(jobs[code]) != reading]
        positions = await _positions(tenants, deleted, cancelled)
        sections["schedule"] = [one for one in sections["schedule"] if one["code"] != deleted]
        site.configure(BLOCKABLE_CATALOG, {**sections, "limits": limits})
        assert (await site.quickly("reload")).returncode == 0
        for words in (
            ("schedule", "pause", paused, "--organization", paused[:-2]),
            ("job", "cancel", str(jobs[cancelled])),
        ):
            done = await site.quickly(*words)
            assert done.returncode == 0, done.stderr
        came = await site.fire(f"{late}-1")
        row = await site.finished(connection, jobs[cancelled])
        assert (row["state"], row["reason"]) == ("FAILED", "CANCELLED")
        assert await connection.fetchval("SELECT state::text FROM exportd.job WHERE id = $1", came) == "PENDING"
    for code, job in {**jobs, f"{late}-1": came}.items():
        if code != cancelled:
            row = await site.succeeded(connection, job)
            assert row["attempt"] == 1
    assert {event["reason"] for event in daemon.events_named("job put back")} <= {"READ_BY_ITSELF"}
    assert not await connection.fetchval("SELECT count(*) FROM exportd.delivery WHERE job_id = $1", jobs[cancelled])
    assert await _positions(tenants, deleted, cancelled) == {**positions, deleted: []}

    # What the cancelled job would have had is in the next run. The paused one runs when a person asks for it.
    await connection.execute("UPDATE public.accounts SET name = 'through'")
    left = [code for code in (*codes, f"{late}-1", f"{late}-2") if code != deleted]
    for job in await fire_together(site, left):
        await site.succeeded(connection, job)
    assert await daemon.stop() == 0
    for organization in ORGANIZATIONS:
        bucket = DeliveredFiles.of(site.destination(lake_of(organization)))
        bucket.assert_whole()
        for chain in bucket.chains:
            schedule = chain.manifests[-1].schedule
            assert schedule is not None
            if schedule.code != deleted:
                assert bucket.replayed(chain) == await tenants.contents(organization)
    await site.assert_clean(*(site.destination(lake_of(organization)) for organization in ORGANIZATIONS))


async def _positions(tenants: Tenants, *codes: str) -> dict[str, list[str]]:
    """How far schedules have come, entity by entity."""
    return {
        code: [
            row["snapshot"]
            for row in await tenants.connection.fetch(
                "SELECT position.snapshot::text FROM exportd.position"
                " JOIN exportd.schedule ON schedule.id = position.schedule_id AND schedule.deleted_at IS NULL"
                " WHERE schedule.code = $1 ORDER BY entity",
                code,
            )
        ]
        for code in codes
    }
