"""A daemon that is frozen until another one has ended its job, and goes on as if no time had passed."""

import signal
from pathlib import Path
from uuid import UUID

import pytest

from exportd.daemon import assembly
from exportd.jobs.job_table import SPOOL_GRACE_S
from exportd.model.clock import boot_time
from tests.acceptance import statement_blocker
from tests.acceptance.declarations import lake_of, of_tenants
from tests.acceptance.delivered_files import DeliveredFiles
from tests.acceptance.many_tenants import Tenants
from tests.acceptance.sample_application import CATALOG
from tests.acceptance.twin_sites import twin_of
from tests.fixtures.daemon import Site, files_in, leftovers, until
from tests.fixtures.forked_process import run_logged_daemon

LEASE_S = 3.0


def run_with_short_leases(config: Path, log: Path) -> None:
    """The same as ``exportd run``, with leases that end while a test can wait for it."""
    assembly._LEASE_S = LEASE_S
    run_logged_daemon(config, log)


@pytest.mark.slow
async def test_what_another_daemon_published_meanwhile_is_not_overwritten(site: Site, tmp_path: Path) -> None:
    """It is frozen when the next thing that it does is to publish: the statement before that waits, and goes on."""
    connection = await site.database.connect()
    tenants = Tenants(connection, ("acme",))
    await tenants.open()
    await connection.execute(statement_blocker.INSTALL)
    site.configure(CATALOG, of_tenants(site, ("acme",)))
    twin = twin_of(site, tmp_path / "twin")
    lake = site.destination(lake_of("acme"))
    try:
        frozen = site.fork(run_with_short_leases)
        await frozen.wait_for_event("daemon ready")
        await site.succeeded(connection, await site.first_job(connection, "acme-1"))
        await tenants.change()
        async with statement_blocker.blocking(await site.database.connect(), statement_blocker.PUBLISHING) as blocker:
            job = await site.fire("acme-1")
            await blocker.blocked_backend()
            frozen.signal(signal.SIGSTOP)
            frozen_at = boot_time()
        await until(
            lambda: connection.fetchval("SELECT true FROM exportd.job WHERE id = $1 AND phase = 'PUBLISHING'", job),
            what="the statement that was blocked",
        )
        await tenants.change()
        # The spool with the job's parts is not waited for any more.
        await connection.execute(
            "UPDATE exportd.job SET lease_until = clock_timestamp() - make_interval(secs => $2) WHERE id = $1",
            job,
            SPOOL_GRACE_S + 1,
        )
        await twin.start()
        await site.succeeded(connection, job)
        published = _written_at(lake, job)

        async def lease_is_over() -> bool:
            return boot_time() > frozen_at + LEASE_S

        await until(lease_is_over, what="the end of the frozen daemon's lease")
        frozen.signal(signal.SIGCONT)
        await frozen.wait_for_event("lease lost", job_id=str(job))
        await site.succeeded(connection, await site.fire("acme-1"))
        assert len(published) > 1
        assert _written_at(lake, job) == published
        for daemon in (frozen, twin.daemons[-1]):
            assert await daemon.stop() == 0
        assert leftovers(twin.spool) == set()
    finally:
        twin.close()
    bucket = DeliveredFiles.of(lake)
    bucket.assert_whole()
    assert bucket.replayed() == await tenants.contents("acme")
    assert (await site.quickly("verify", str(lake), configured=False)).returncode == 0
    await site.assert_clean(lake)


def _written_at(lake: Path, job: UUID) -> dict[Path, int]:
    """When each object of a job was written, and its manifest."""
    return {path: path.stat().st_mtime_ns for path in files_in(lake) if str(job) in str(path)}
