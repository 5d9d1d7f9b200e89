"""The machine loses its power while a job is on its way: what the system had not written to the disk is gone."""

import json
from pathlib import Path

import pytest

from tests.acceptance import statement_blocker
from tests.acceptance.declarations import lake_of, of_tenants
from tests.acceptance.delivered_files import DeliveredFiles
from tests.acceptance.many_tenants import Tenants
from tests.acceptance.sample_application import CATALOG
from tests.fixtures.daemon import Site, files_in

ORGANIZATIONS = ("acme", "globex")


@pytest.mark.slow
@pytest.mark.parametrize("point", [statement_blocker.PUBLISHING, statement_blocker.SUCCEEDING])
async def test_a_sealed_job_ends_with_the_files_that_it_was_sealed_with(site: Site, point: str) -> None:
    """Postgres has its disk: only the spool's files are lost, all that are not in the journal."""
    connection = await site.database.connect()
    tenants = Tenants(connection, ORGANIZATIONS)
    await tenants.open()
    await connection.execute(statement_blocker.INSTALL)
    site.configure(CATALOG, of_tenants(site, ORGANIZATIONS))
    daemon = await site.start()
    codes = [f"{organization}-1" for organization in ORGANIZATIONS]
    for code in codes:
        await site.succeeded(connection, await site.first_job(connection, code))
    await tenants.change()
    async with statement_blocker.blocking(await site.database.connect(), point) as blocker:
        jobs = [await site.fire(code) for code in codes]
        await blocker.blocked_backend()
        await daemon.kill()
        await blocker.terminate_blocked()
    rows = await connection.fetch("SELECT id FROM exportd.job WHERE id = ANY ($1) AND spool_id IS NOT NULL", jobs)
    sealed = {row["id"] for row in rows}
    assert sealed
    lost = _lose(site.spool, set(map(str, sealed)))
    assert lost
    daemon = await site.start()
    (event,) = daemon.events_named("files made again of the journal")
    assert event["files"] == lost
    for job in jobs:
        await site.succeeded(connection, job)
        (started,) = daemon.events_named("job started", job_id=str(job))
        assert (started["phase"] == "EXTRACTING") == (job not in sealed), "what was sealed is not read again"
        assert json.loads((site.spool / "jobs" / str(job) / "manifest.json").read_bytes())["job_id"] == str(job)
    for organization, code in zip(ORGANIZATIONS, codes, strict=True):
        await site.succeeded(connection, await site.fire(code))
        lake = site.destination(lake_of(organization))
        bucket = DeliveredFiles.of(lake)
        bucket.assert_whole()
        assert bucket.replayed() == await tenants.contents(organization)
        assert (await site.quickly("verify", str(lake), configured=False)).returncode == 0
    assert await daemon.stop() == 0
    assert files_in(site.spool / "journal") == set()


def _lose(spool: Path, sealed: set[str]) -> int:
    """Of the files of sealed jobs, and of what was published, nothing but the names were on the disk; how many."""
    lost = 0
    for path in files_in(spool / "jobs", spool / "published"):
        if path.parent.name in sealed or path.parent.name == "published":
            path.write_bytes(b"")
            lost += 1
    return lost
