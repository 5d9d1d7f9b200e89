"""Two daemons on one database: they share the work, and either may die at any time."""

import asyncio
from pathlib import Path
from random import Random
from socket import gethostname
from uuid import UUID

import pytest

from exportd.jobs.job_table import SPOOL_GRACE_S
from tests.acceptance import statement_blocker
from tests.acceptance.declarations import destination, schedule
from tests.acceptance.delivered_files import DeliveredFiles
from tests.acceptance.job_observations import until_seen
from tests.acceptance.sample_application import BLOCKABLE_CATALOG, CATALOG, ORGANIZATION, Application
from tests.acceptance.twin_sites import holder_of, twin_of
from tests.fixtures.control_clients import bare
from tests.fixtures.daemon import Daemon, Site, files_in, leftovers, until

CODES = ("often", "second", "third", "fourth")


async def started(daemon: Daemon, jobs: list[UUID]) -> str:
    """Wait until a daemon has begun one of the jobs; which one."""

    async def look() -> str | None:
        ids = [str(event["job_id"]) for event in daemon.events_named("job started")]
        return next((id_ for id_ in ids if UUID(id_) in jobs), None)

    return await until(look, what=lambda: f"a job of\n{daemon.text}")


@pytest.mark.parametrize("killed", [0, 1])
async def test_both_work_and_when_one_is_killed_the_other_finishes(
    site: Site, application: Application, tmp_path: Path, killed: int
) -> None:
    lake = site.destination()
    site.configure(
        BLOCKABLE_CATALOG,
        {
            "destination": [destination("lake", lake)],
            "schedule": [schedule(code) for code in CODES],
            # One job at a time, on however slow a machine: none beside a long one, none that goes along.
            "limits": {"jobs": 1, "jobs_together": 1, "short_jobs": 0, "delivering_jobs": 0},
        },
    )
    twin = twin_of(site, tmp_path / "twin")
    connection, keeper = application.connection, await site.database.connect()
    await connection.execute(statement_blocker.INSTALL)
    try:
        # They start at the same moment: each schedule fires once for all that.
        daemons = [site.fork(), twin.fork()]
        for daemon in daemons:
            await daemon.wait_for_event("daemon ready")
        for code in CODES:
            await site.succeeded(connection, await site.first_job(connection, code))
        assert await connection.fetchval("SELECT count(*) FROM exportd.job") == len(CODES)
        assert sum(len(daemon.events_named("schedule fired")) for daemon in daemons) == len(CODES)

        await application.change()
        await connection.execute("UPDATE public.accounts SET name = 'blocked' WHERE id = 7")
        async with statement_blocker.blocking(keeper) as closed:
            jobs = [await site.fire(code) for code in CODES]
            held = [await started(daemon, jobs) for daemon in daemons]
            await closed.blocked_backend()
            await daemons[killed].kill()
        survivor, pid = daemons[1 - killed], daemons[killed].process.pid
        # The end of the dead one's lease, which is not waited for here.
        ended = await connection.execute(
            "UPDATE exportd.job SET lease_until = clock_timestamp()"
            " WHERE state = 'RUNNING' AND lease_holder LIKE '%:' || $1::text",
            str(pid),
        )
        assert ended == "UPDATE 1"
        for job in jobs:
            await site.succeeded(connection, job)
        assert survivor.events_named("job started", job_id=held[killed])
        delivered = await connection.fetch("SELECT job_id FROM exportd.delivery")
        assert len({row["job_id"] for row in delivered}) == len(delivered) == 2 * len(CODES)
        DeliveredFiles.of(lake).assert_whole()
        assert await survivor.stop() == 0
    finally:
        twin.close()
    await site.assert_clean(lake)


@pytest.mark.slow
async def test_whenever_one_is_killed_the_other_finishes(site: Site, application: Application, tmp_path: Path) -> None:
    """At each point of a job, and between two jobs. The dead one comes back; no row is lost or comes twice."""
    lake = site.destination()
    site.configure(
        BLOCKABLE_CATALOG,
        {"destination": [destination("lake", lake)], "schedule": [schedule()], "limits": {"jobs": 1}},
    )
    twin = twin_of(site, tmp_path / "twin")
    connection, keeper = application.connection, await site.database.connect()
    await connection.execute(statement_blocker.INSTALL)
    try:
        sites, daemons = (site, twin), [site.fork(), twin.fork()]
        for daemon in daemons:
            await daemon.wait_for_event("daemon ready")
        await site.succeeded(connection, await site.first_job(connection))
        for where, phase in (
            (None, "EXTRACTING"),
            (statement_blocker.SEALING, "EXTRACTING"),
            (statement_blocker.PUBLISHING, "SEALED"),
            (statement_blocker.DELIVERING, "PUBLISHING"),
            (statement_blocker.SUCCEEDING, "PUBLISHING"),
        ):
            await application.change()
            if where is None:
                await connection.execute(
                    "UPDATE public.accounts SET name = 'blocked' WHERE id = (SELECT max(id) FROM public.accounts)"
                )
            async with statement_blocker.blocking(keeper, where) as closed:
                job = await site.fire()
                await closed.blocked_backend()
                dead = await holder_of(job, connection, daemons)
                assert dead is not None
                await daemons[dead].kill()
                await closed.terminate_blocked()
            state = await connection.fetchval("SELECT state || ' ' || phase FROM exportd.job WHERE id = $1", job)
            assert state == f"RUNNING {phase}"
            await application.change()
            # The end of the lease, and of the time that a sealed job waits for its spool to come back.
            await connection.execute(
                "UPDATE exportd.job SET lease_until = clock_timestamp() - make_interval(secs => $2) WHERE id = $1",
                job,
                SPOOL_GRACE_S + 1,
            )
            row = await site.succeeded(connection, job)
            assert row["attempt"] == 2
            assert daemons[1 - dead].events_named("job started", job_id=str(job), phase="EXTRACTING")
            DeliveredFiles.of(lake).assert_whole()
            daemons[dead] = await sites[dead].start()
        for idle in (0, 1):
            await daemons[idle].kill()
            await application.change()
            await site.succeeded(connection, await site.fire())
            daemons[idle] = await sites[idle].start()
        bucket = DeliveredFiles.of(lake)
        bucket.assert_whole()
        assert bucket.replayed() == await application.contents()
        for daemon in daemons:
            assert await daemon.stop() == 0
        assert leftovers(twin.spool) == set()
    finally:
        twin.close()
    await site.assert_clean(lake)


@pytest.mark.slow
async def test_killed_anywhere(site: Site, application: Application, tmp_path: Path) -> None:
    """At random moments, with tables large enough for several streams and many parts."""
    random = Random(2026)
    lake = site.destination()
    limits = {"jobs": 1, "part_size": "300 kB", "stream_threshold": "100 kB"}
    site.configure(CATALOG, {"destination": [destination("lake", lake)], "schedule": [schedule()], "limits": limits})
    twin = twin_of(site, tmp_path / "twin")
    await application.fill(2000)
    connection = application.connection
    try:
        sites, daemons = (site, twin), [site.fork(), twin.fork()]
        for daemon in daemons:
            await daemon.wait_for_event("daemon ready")
        await site.succeeded(connection, await site.first_job(connection))
        for _ in range(4):
            await application.change()
            await connection.execute("UPDATE public.accounts SET balance = balance - 1 WHERE name LIKE 'bulk%'")
            job = await site.fire()
            await until_seen(random.randrange(1, 40), connection, job, site.spool, twin.spool, lake)
            holder = await holder_of(job, connection, daemons)
            dead = random.randrange(2) if holder is None else holder
            await daemons[dead].kill()
            await application.change()
            await connection.execute(
                "UPDATE exportd.job SET lease_until = clock_timestamp() - make_interval(secs => $2)"
                " WHERE id = $1 AND state = 'RUNNING'",
                job,
                SPOOL_GRACE_S + 1,
            )
            await site.succeeded(connection, job)
            DeliveredFiles.of(lake).assert_whole()
            daemons[dead] = await sites[dead].start()
        await site.succeeded(connection, await site.fire())
        bucket = DeliveredFiles.of(lake)
        bucket.assert_whole()
        assert bucket.replayed() == await application.contents()
        for daemon in daemons:
            assert await daemon.stop() == 0
        assert leftovers(twin.spool) == set()
    finally:
        twin.close()
    await site.assert_clean(lake)


async def test_files_are_with_the_daemon_that_ran_the_job_and_the_other_says_which(
    site: Site, application: Application, tmp_path: Path
) -> None:
    site.configure(CATALOG, {"schedule": [schedule(destinations=[])]})
    first = await site.start()
    job = await site.first_job(application.connection)
    spool = (await site.succeeded(application.connection, job))["spool_id"]
    twin = twin_of(site, tmp_path / "twin")
    try:
        second = await twin.start()
        refused = await twin.quickly("download", str(job), "--to", str(tmp_path / "copied"))
        assert refused.returncode == 1
        (sentence,) = refused.stderr.splitlines()
        assert f"was run by another daemon, and its files are with {spool}" in sentence
        assert not (tmp_path / "copied").exists()
        with bare(twin.folder / "control.sock") as http:
            url = f"/organizations/{ORGANIZATION}/dataexports/jobs/{job}/getdownloadurl"
            answer = await asyncio.to_thread(http.get, url)
        assert answer.status_code == 404
        assert f"its files are with {spool}: ask that daemon" in answer.json()["message"]
        (found,) = [line for line in (await twin.quickly("status")).stdout.splitlines() if str(spool) in line]
        assert gethostname() in found
        assert (await site.quickly("download", str(job), "--to", str(tmp_path / "copied"))).returncode == 0

        # Whichever of them takes it: the files are copied, or it is said where they are.
        wanted = await twin.quickly("export", "ACCOUNTS", "--to", str(tmp_path / "wanted"))
        (made,) = await application.connection.fetch("SELECT spool_id FROM exportd.job WHERE schedule_id IS NULL")
        if made["spool_id"] == spool:
            assert (wanted.returncode, f"with {spool}" in wanted.stderr) == (1, True)
        else:
            assert (wanted.returncode, len(files_in(tmp_path / "wanted"))) == (0, 2), "the file and its manifest"
        assert await second.stop() == 0
    finally:
        twin.close()
    assert await first.stop() == 0
    await site.assert_clean()


async def test_two_daemons_at_one_socket_are_refused(site: Site, application: Application, tmp_path: Path) -> None:
    site.configure(CATALOG, {"schedule": [schedule(destinations=[])]})
    first = await site.start()
    twin = twin_of(site, tmp_path / "twin")
    text = twin.config.read_text(encoding="utf-8")
    twin.config.write_text(text.replace('"control.sock"', f'"{site.folder / "control.sock"}"'), encoding="utf-8")
    try:
        second = twin.fork()
        assert await second.ended() == 1
        sentences = [line for line in second.text.splitlines() if line.startswith("exportd: ")]
        assert len(sentences) == 1
        assert sentences[0].startswith(f"exportd: Another daemon listens at {site.folder / 'control.sock'}.")
        # It said goodbye to the others all the same.
        rows = await application.connection.fetch("SELECT pid FROM exportd.daemon WHERE stopped_at IS NOT NULL")
        assert [row["pid"] for row in rows] == [second.process.pid]
    finally:
        twin.close()
    await site.succeeded(application.connection, await site.first_job(application.connection))
    assert await first.stop() == 0
    await site.assert_clean()
