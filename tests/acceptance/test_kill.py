"""The daemon is killed in the middle of an export. The next one goes on at once, and the files show nothing of it."""

import signal
from pathlib import Path
from random import Random

import pytest

from tests.acceptance import statement_blocker
from tests.acceptance.declarations import destination, schedule
from tests.acceptance.delivered_files import DeliveredFiles
from tests.acceptance.job_observations import until_seen
from tests.acceptance.killable_daemon import COUNT_FROM_NOW, run_until_step
from tests.acceptance.sample_application import BLOCKABLE_CATALOG, CATALOG, Application
from tests.fixtures.daemon import Site, files_in, leftovers


def configure(site: Site, lake: Path, *, catalog: str = BLOCKABLE_CATALOG, **limits: object) -> None:
    site.configure(
        catalog, {"destination": [destination("lake", lake)], "schedule": [schedule()], "limits": limits or {"jobs": 2}}
    )


async def assert_exact(lake: Path, application: Application) -> None:
    bucket = DeliveredFiles.of(lake)
    bucket.assert_whole()
    assert bucket.replayed() == await application.contents()


@pytest.mark.slow
async def test_a_killed_export_goes_on_at_once_with_the_next_daemon(site: Site, application: Application) -> None:
    lake = site.destination()
    configure(site, lake)
    connection, keeper = application.connection, await site.database.connect()
    await connection.execute(statement_blocker.INSTALL)
    daemon = await site.start()
    await site.succeeded(connection, await site.first_job(connection))

    # Each time: where it is killed, what the dead left in the spool, and whether anything may be seen already.
    await connection.execute("UPDATE public.accounts SET name = 'blocked' WHERE id = 7")
    for where, phase, seen in (
        (None, "EXTRACTING", False),
        (statement_blocker.SEALING, "EXTRACTING", False),
        (statement_blocker.PUBLISHING, "SEALED", False),
        (statement_blocker.DELIVERING, "PUBLISHING", True),
        (statement_blocker.SUCCEEDING, "PUBLISHING", True),
    ):
        await application.change()
        before = DeliveredFiles.of(lake)
        async with statement_blocker.blocking(keeper, where) as closed:
            job = await site.fire()
            await closed.blocked_backend()
            await daemon.kill()
            await closed.terminate_blocked()
            state = await connection.fetchval("SELECT state || ' ' || phase FROM exportd.job WHERE id = $1", job)
            assert state == f"RUNNING {phase}"
            assert (DeliveredFiles.of(lake).objects != before.objects) is seen
            assert (len(DeliveredFiles.of(lake).manifests) > len(before.manifests)) is seen
        await application.change()
        daemon = await site.restart()
        row = await site.succeeded(connection, job)
        assert row["attempt"] == 2
        assert daemon.events_named("job of a dead daemon taken over", job_id=str(job))
        assert daemon.events_named("job started", job_id=str(job), phase=phase)
        bucket = DeliveredFiles.of(lake)
        bucket.assert_whole()
        assert leftovers(site.spool, lake) == set()
        await connection.execute("UPDATE public.accounts SET name = 'through' WHERE name = 'blocked'")
    await site.succeeded(connection, await site.fire())
    await assert_exact(lake, application)
    assert await daemon.stop() == 0
    await site.assert_clean(lake)


@pytest.mark.slow
async def test_killed_jobs_that_were_claimed_together_go_on(site: Site, application: Application) -> None:
    """They share a snapshot and the statements about their rows; each has its files, its end and its place to go on."""
    lakes = {f"often-{number}": site.destination(f"lake-{number}") for number in range(4)}
    site.configure(
        BLOCKABLE_CATALOG,
        {
            "destination": [destination(lake.name, lake) for lake in lakes.values()],
            "schedule": [schedule(code, destinations=[lake.name]) for code, lake in lakes.items()],
        },
    )
    connection, keeper = application.connection, await site.database.connect()
    await connection.execute(statement_blocker.INSTALL)
    daemon = await site.start()
    for code in lakes:
        await site.succeeded(connection, await site.first_job(connection, code))
    assert await daemon.stop() == 0

    await connection.execute("UPDATE public.accounts SET name = 'blocked' WHERE id = 7")
    for where, phase in (
        (None, "EXTRACTING"),
        (statement_blocker.SEALING, "EXTRACTING"),
        (statement_blocker.PUBLISHING, "SEALED"),
        (statement_blocker.DELIVERING, "PUBLISHING"),
        (statement_blocker.SUCCEEDING, "PUBLISHING"),
    ):
        await application.change()
        jobs = [await site.fire(code) for code in lakes]
        async with statement_blocker.blocking(keeper, where) as closed:
            daemon = await site.start()
            await closed.blocked_backend()
            assert daemon.events_named("jobs claimed together", jobs=len(lakes))
            await daemon.kill()
            await closed.terminate_blocked()
            found = await connection.fetch(
                "SELECT DISTINCT state || ' ' || phase AS state FROM exportd.job WHERE id = ANY ($1)", jobs
            )
            # Those that wait behind the one that is blocked may not have come so far.
            assert f"RUNNING {phase}" in {row["state"] for row in found}
        await application.change()
        daemon = await site.restart()
        for job in jobs:
            await site.succeeded(connection, job)
        for lake in lakes.values():
            DeliveredFiles.of(lake).assert_whole()
        assert leftovers(site.spool, *lakes.values()) == set()
        await connection.execute("UPDATE public.accounts SET name = 'through' WHERE name = 'blocked'")
        assert await daemon.stop() == 0
    jobs = [await site.fire(code) for code in lakes]
    daemon = await site.start()
    for job in jobs:
        await site.succeeded(connection, job)
    for lake in lakes.values():
        await assert_exact(lake, application)
    assert await daemon.stop() == 0
    await site.assert_clean(*lakes.values())


@pytest.mark.slow
async def test_killed_between_the_objects_of_an_export(site: Site, application: Application) -> None:
    """Many parts, and a kill when some but not all of them can be seen."""
    lake = site.destination()
    configure(site, lake, catalog=CATALOG, part_size="20 kB")
    connection = application.connection
    # Objects are counted as they get their names; up to eight get theirs at the same time.
    daemon = site.fork(run_until_step, (lake / "orgId=org-1",), 20)
    await daemon.wait_for_event("daemon ready")
    await site.succeeded(connection, await site.first_job(connection))
    await application.fill(3000)
    daemon.signal(COUNT_FROM_NOW)
    job = await site.fire()
    assert await daemon.ended() == -signal.SIGKILL
    visible = sum(str(job) in path.name for path in files_in(lake / "orgId=org-1"))
    total = await connection.fetchval("SELECT count(*) FROM exportd.part WHERE job_id = $1", job)
    assert 0 < visible < total
    assert not any(str(job) in key for key in DeliveredFiles.of(lake).manifests)
    daemon = await site.restart()
    await site.succeeded(connection, job)
    await assert_exact(lake, application)
    assert await daemon.stop() == 0
    await site.assert_clean(lake)


@pytest.mark.slow
async def test_killed_anywhere(site: Site, application: Application) -> None:
    """The moment is a number of things to be seen: files that came, states, progress. The tables are large enough to be
    read by several streams.
    """
    random = Random(2026)
    lake = site.destination()
    configure(site, lake, catalog=CATALOG, part_size="300 kB", stream_threshold="100 kB")
    await application.fill(2000)
    connection = application.connection
    daemon = await site.start()
    await site.succeeded(connection, await site.first_job(connection))
    for _ in range(4):
        await application.change()
        await connection.execute("UPDATE public.accounts SET balance = balance - 1 WHERE name LIKE 'bulk%'")
        job = await site.fire()
        await until_seen(random.randrange(1, 40), connection, job, site.spool, lake)
        await daemon.kill()
        await application.change()
        daemon = await site.restart()
        await site.succeeded(connection, job)
        DeliveredFiles.of(lake).assert_whole()
        assert leftovers(site.spool, lake) == set()
    await site.succeeded(connection, await site.fire())
    await assert_exact(lake, application)
    assert await daemon.stop() == 0
    await site.assert_clean(lake)
