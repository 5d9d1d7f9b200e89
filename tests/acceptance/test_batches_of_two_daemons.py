"""Two daemons with jobs that are claimed together, of many organizations, while one of them is killed."""

import signal
from pathlib import Path
from random import Random
from uuid import UUID

import pytest

from exportd.jobs.job_table import SPOOL_GRACE_S
from tests.acceptance.declarations import lake_of, of_tenants
from tests.acceptance.delivered_files import DeliveredFiles
from tests.acceptance.firing import fire_together
from tests.acceptance.many_tenants import Tenants
from tests.acceptance.sample_application import CATALOG
from tests.acceptance.twin_sites import twin_of
from tests.fixtures.daemon import Daemon, Site, leftovers, until

ORGANIZATIONS = tuple(f"org-{number:02}" for number in range(1, 9))
CODES = tuple(f"{organization}-{number}" for organization in ORGANIZATIONS for number in (1, 2))
LIMITS = {"jobs": 2, "short_jobs": 0, "delivering_jobs": 0, "jobs_together": 3}
MAX_HELD = 2 * 3

_COUNT_HELD = """
    CREATE TABLE public.held (holder text, jobs bigint);
    CREATE FUNCTION public.count_held() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO public.held
        SELECT lease_holder, count(*) FROM exportd.job WHERE state = 'RUNNING' GROUP BY lease_holder;
        RETURN NULL;
    END $$;
    CREATE TRIGGER count_held AFTER UPDATE OF fence ON exportd.job
    FOR EACH STATEMENT EXECUTE FUNCTION public.count_held();
"""
"""After each claim: how many jobs each daemon holds."""


@pytest.mark.slow
async def test_when_one_is_killed_each_window_is_exported_once(site: Site, tmp_path: Path) -> None:
    random = Random(2026)
    connection = await site.database.connect()
    tenants = Tenants(connection, ORGANIZATIONS)
    await tenants.open()
    site.configure(CATALOG, {**of_tenants(site, ORGANIZATIONS, schedules=2), "limits": LIMITS})
    twin = twin_of(site, tmp_path / "twin")
    sites = (site, twin)
    try:
        daemons = [await one.start() for one in sites]
        for code in CODES:
            await site.succeeded(connection, await site.first_job(connection, code))
        await connection.execute(_COUNT_HELD)
        for dead in (0, 1, 0):
            await tenants.change(20)
            jobs = await fire_together(site, CODES)
            await _kill_in_the_middle(site, daemons[dead], jobs, delivered=random.randrange(len(CODES) // 2))
            await tenants.change(3)
            for job in jobs:
                await site.succeeded(connection, job)
            daemons[dead] = await sites[dead].start()
        for job in await fire_together(site, CODES):
            await site.succeeded(connection, job)
        assert await connection.fetchval("SELECT count(*) FROM exportd.job WHERE state <> 'SUCCEEDED'") == 0
        assert await connection.fetchval("SELECT count(*) FROM exportd.job") == 5 * len(CODES)
        held = [row["jobs"] for row in await connection.fetch("SELECT DISTINCT jobs FROM public.held")]
        assert max(held) <= MAX_HELD
        for daemon in daemons:
            assert await daemon.stop() == 0
        together = [
            event["jobs"]
            for one in sites
            for daemon in one.daemons
            for event in daemon.events_named("jobs claimed together")
        ]
        assert max(together) == LIMITS["jobs_together"]
        assert leftovers(twin.spool) == set()
    finally:
        twin.close()
    for organization in ORGANIZATIONS:
        await _assert_each_window_once(site, tenants, organization)
    await site.assert_clean(*(site.destination(lake_of(organization)) for organization in ORGANIZATIONS))


async def _kill_in_the_middle(site: Site, daemon: Daemon, jobs: list[UUID], *, delivered: int) -> None:
    """Kill a daemon that holds several jobs, once so many of them all were delivered; and let its leases end."""
    connection = await site.database.connect()

    async def in_the_middle() -> bool:
        daemon.signal(signal.SIGSTOP)  # else it would be further when it is killed
        row = await connection.fetchrow(
            """SELECT (SELECT count(*) FROM exportd.delivery WHERE job_id = ANY ($1)) AS delivered,
                      (SELECT count(*) FROM exportd.job
                       WHERE state = 'RUNNING' AND lease_holder LIKE '%:' || $2::text) AS held""",
            jobs,
            str(daemon.process.pid),
        )
        if row is not None and row["delivered"] >= delivered and row["held"] > 1:
            return True
        daemon.signal(signal.SIGCONT)
        return False

    await until(in_the_middle, what="a daemon with jobs that were claimed together")
    await daemon.kill()
    # The end of its leases, and of the time that a sealed job waits for its spool to come back.
    ended = await connection.fetch(
        "UPDATE exportd.job SET lease_until = clock_timestamp() - make_interval(secs => $2)"
        " WHERE state = 'RUNNING' AND lease_holder LIKE '%:' || $1::text RETURNING id",
        str(daemon.process.pid),
        SPOOL_GRACE_S + 1,
    )
    assert {row["id"] for row in ended} <= set(jobs)


async def _assert_each_window_once(site: Site, tenants: Tenants, organization: str) -> None:
    """Each run of a schedule begins where the one before it ended, and its consumer holds what the tables hold."""
    lake = site.destination(lake_of(organization))
    verified = await site.quickly("verify", str(lake), configured=False)
    assert verified.returncode == 0, verified.stdout
    bucket = DeliveredFiles.of(lake)
    bucket.assert_whole()
    assert len(bucket.chains) == 2
    for chain in bucket.chains:
        assert len(chain.manifests) == 5
        for before, after in zip(chain.manifests[:-1], chain.manifests[1:], strict=True):
            assert [entity.window.previous for entity in after.entities] == [
                entity.window.snapshot for entity in before.entities
            ]
            assert after.redelivers == ()
        assert bucket.replayed(chain) == await tenants.contents(organization)
