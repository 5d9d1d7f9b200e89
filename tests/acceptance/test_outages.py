"""What the daemon needs goes away, and comes back. Nothing is lost, and nothing half-done is seen meanwhile."""

import os
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import anyio.to_thread
import asyncpg
import pytest

from exportd.postgres.postgres_server import PostgresServer
from exportd.spool.spool import Spool
from tests.acceptance import statement_blocker
from tests.acceptance.call_interrupter import CallInterrupter
from tests.acceptance.declarations import destination, schedule
from tests.acceptance.delivered_files import DeliveredFiles
from tests.acceptance.in_process_pipeline import directories, in_process_pipeline
from tests.acceptance.sample_application import BLOCKABLE_CATALOG, CATALOG, Application
from tests.fixtures.daemon import Section, Site, files_in, until
from tests.fixtures.postgres import Database
from tests.fixtures.settings import settings_with

# Root may write anywhere; without these two capabilities it is a user like others.
_DROP = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--")
IS_ROOT = os.geteuid() == 0
MAY_DROP = IS_ROOT and subprocess.run([*_DROP, "true"], check=False, capture_output=True).returncode == 0
ORDINARY = _DROP if MAY_DROP else ()


@pytest.fixture
async def frail_site(tmp_path: Path) -> AsyncIterator[Site]:
    """A site with a server of its own, which may be killed."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(PostgresServer(settings={"fsync": "off"}))
        dsn = await server.create_database("shop")
        site = Site(tmp_path, Database(server, "shop", stack), dsn)
        stack.callback(site.close)
        yield site


@pytest.mark.slow
async def test_the_database_goes_away_in_the_middle(frail_site: Site) -> None:
    site, lake = frail_site, frail_site.destination()
    # It polls so seldom that whatever happens here happens because it listens.
    site.configure(
        BLOCKABLE_CATALOG,
        {
            "destination": [destination("lake", lake)],
            "schedule": [schedule()],
            "capture": {"poll_interval_s": 3600, "prune_interval_s": 1},
        },
    )
    application = Application(await asyncpg.connect(site.dsn))
    await application.open()
    await application.connection.execute(statement_blocker.INSTALL)
    daemon = await site.start()
    await site.succeeded(application.connection, await site.first_job(application.connection))
    await application.connection.execute("UPDATE public.accounts SET name = 'blocked' WHERE id = 7")
    await application.change()
    async with statement_blocker.blocking(application.connection) as closed:
        job = await site.fire()
        await closed.blocked_backend()
        await site.database.server.kill()
        await daemon.wait_for_event("listener lost its connection")
        await site.database.server.start()
        application.connection = await asyncpg.connect(site.dsn)
    await daemon.wait_for_event("job put back", job_id=str(job), reason="DATABASE_CONNECTION_LOST")
    await application.change()
    await daemon.wait_for_event("listening", times=2)
    await application.connection.execute("UPDATE exportd.job SET not_before = clock_timestamp()")
    await application.connection.execute("""SELECT pg_notify('exportd_events', '{"kind": "job_queued"}')""")
    row = await site.succeeded(application.connection, job)
    assert row["attempt"] == 2
    await site.succeeded(application.connection, await site.fire())
    bucket = DeliveredFiles.of(lake)
    bucket.assert_whole()
    assert bucket.replayed() == await application.contents()
    assert daemon.process.poll() is None
    assert "Traceback" not in daemon.text
    assert await daemon.stop() == 0
    await application.connection.close()
    await site.assert_clean(lake)


@pytest.mark.slow
async def test_a_full_spool_fails_the_job_and_the_next_run_has_everything(site: Site, application: Application) -> None:
    lake = site.destination()
    connection = application.connection
    sections: dict[str, Section] = {"destination": [destination("lake", lake)], "schedule": [schedule()]}
    site.configure(CATALOG, {**sections, "spool": {"budget": "500 kB"}, "limits": {"part_size": "200 kB"}})
    daemon = await site.start()
    await site.succeeded(connection, await site.first_job(connection))
    await application.fill(6000)
    job = await site.fire()
    row = await site.finished(connection, job)
    assert (row["state"], row["reason"]) == ("FAILED", "SPOOL_FULL")
    assert "Raise spool.budget" in row["message"]
    assert not [path for path in files_in(site.spool) if str(job) in path.name]
    assert await daemon.stop() == 0
    await site.assert_clean(lake)

    site.configure(CATALOG, sections)
    await application.change()
    daemon = await site.restart()
    await site.succeeded(connection, await site.fire())
    bucket = DeliveredFiles.of(lake)
    bucket.assert_whole()
    assert bucket.replayed() == await application.contents()
    assert bucket.run(-1).redelivers == ()
    assert await daemon.stop() == 0
    await site.assert_clean(lake)


async def test_a_full_disk_fails_the_job_and_the_next_run_has_everything(site: Site, application: Application) -> None:
    """A real one where the test may mount one; elsewhere the floor of free space is reached."""
    quiet = CallInterrupter.none()
    with small_disk(site.folder / "disk") as grow:
        # Below the floor nothing is even tried; with none the disk itself says that it is full.
        floor_bytes = -(1 << 40) if grow else 1 << 60
        bounds = {"directory": site.folder / "disk", "budget": 1 << 40, "free_space_floor": floor_bytes}
        spool = Spool(lambda: settings_with(spool=bounds), wait_timeout_s=0)
        lakes = directories(site.folder, "lake")
        async with (
            spool,
            in_process_pipeline(site.dsn, site.folder, application.connection, lakes, spool=spool) as pipeline,
        ):
            await application.fill(3000)
            job = await pipeline.fire()
            assert await pipeline.finish(job, quiet, attempts=1) == "FAILED"
            record = await pipeline.record(job)
            assert record.reason == "SPOOL_FULL"
            assert "space" in (record.message or "")
            assert await anyio.to_thread.run_sync(files_in, spool.directory / "jobs") == set()
            assert spool.usage.used_bytes + spool.usage.reserved_bytes == 0
            if grow:
                grow()
            else:
                bounds["free_space_floor"] = 1
            await application.change()
            assert await pipeline.finish(await pipeline.fire(), quiet, attempts=1) == "SUCCEEDED"
            bucket = DeliveredFiles.of(site.folder / "lake")
            bucket.assert_whole()
            assert bucket.replayed() == await application.contents()


@pytest.mark.slow
async def test_a_destination_that_cannot_be_written_misses_nothing_once_it_is_repaired(
    site: Site, application: Application
) -> None:
    """In turn: one object cannot be written though others can, nothing can, the directory is not there."""
    lake, shore = site.destination("lake"), site.destination("shore")
    site.configure(
        CATALOG,
        {
            "destination": [destination("lake", lake), destination("shore", shore, partition_order="TYPE_FIRST")],
            "schedule": [schedule(destinations=["lake", "shore"])],
        },
    )
    connection = application.connection
    # The ordinary user must reach the server's socket.
    site.database.server.log.parent.chmod(0o711)
    daemon = await site.start_program(wrapper=ORDINARY)
    await site.succeeded(connection, await site.first_job(connection))
    orders = next(shore.glob("*/type=order"))
    away = site.folder / "away"
    for what, spoil, repair in (
        ("a file stands", lambda: _file_instead(orders, away), lambda: _folder_again(orders, away)),
        *(
            [("may not write", lambda: shore.chmod(0o000), lambda: shore.chmod(0o755))]
            if ORDINARY or not IS_ROOT
            else ()
        ),
        ("does not exist", lambda: shore.rename(away), lambda: away.rename(shore)),
    ):
        await application.change()
        before = DeliveredFiles.of(shore).objects.keys()
        spoil()
        job = await site.fire()
        row = await site.finished(connection, job)
        assert (row["state"], row["reason"]) == ("FAILED", "DESTINATION_REFUSED"), what
        assert row["message"].startswith(f"Destination shore: The destination directory {shore} refused")
        repair()

        async def cleared(job: object = job) -> bool:
            return not await connection.fetchval("SELECT objects_visible FROM exportd.job WHERE id = $1", job)

        if what == "a file stands":
            # What could be written is of no use without the rest, and does not stay.
            await daemon.wait_for_event("objects of a failed job removed", job_id=str(job), destination="shore")
        assert DeliveredFiles.of(shore).objects.keys() == before, what
        await application.change()
        await site.succeeded(connection, await site.fire())
        await until(cleared, what="the end of what the failed job left")
        for directory, redelivered in ((lake, (job,)), (shore, ())):
            bucket = DeliveredFiles.of(directory)
            bucket.assert_whole()
            assert bucket.replayed() == await application.contents(), what
            assert bucket.run(-1).redelivers == redelivered, what
    assert await daemon.stop() == 0
    await site.assert_clean(lake, shore)


@contextmanager
def small_disk(directory: Path) -> Iterator[Callable[[], object] | None]:
    """A disk of half a megabyte at ``directory``, and what makes it larger; None where mounting is not allowed."""
    directory.mkdir()

    def mount(options: str) -> bool:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0

    mounted = mount("size=500k,mode=700")
    try:
        yield (lambda: mount("remount,size=50m")) if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(directory)], check=True)


def _file_instead(folder: Path, away: Path) -> None:
    folder.rename(away)
    folder.touch()


def _folder_again(folder: Path, away: Path) -> None:
    folder.unlink()
    away.rename(folder)
