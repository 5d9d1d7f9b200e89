"""What the daemon needs goes away, and comes back. Nothing is lost, and nothing half-done is seen meanwhile."""

import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import asyncpg
import pytest

from exportd.database.postgres_server import PostgresServer
from tests.acceptance import gate
from tests.acceptance.bucket import Bucket
from tests.acceptance.declarations import destination, schedule
from tests.acceptance.shop import CATALOG, GATED_CATALOG, Shop
from tests.fixtures.daemon import Site, files_in, until
from tests.fixtures.postgres import Database

# Root may write anywhere; without these two capabilities it is a user like others.
ORDINARY = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--") if os.geteuid() == 0 else ()


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
    site.configure(GATED_CATALOG, {"destination": [destination("lake", lake)], "schedule": [schedule()]})
    shop = Shop(await asyncpg.connect(site.dsn))
    await shop.open()
    await shop.connection.execute(gate.INSTALL)
    daemon = await site.start()
    await site.succeeded(shop.connection, await site.first_job(shop.connection))
    await shop.connection.execute("UPDATE public.accounts SET name = 'at the gate' WHERE id = 7")
    await shop.change()
    async with gate.closed(shop.connection) as closed:
        job = await site.fire()
        await closed.reached()
        await site.database.server.kill()
        await daemon.said("listener lost its connection")
        await site.database.server.start()
        shop.connection = closed.keeper = await asyncpg.connect(site.dsn)
    await daemon.said("job put back", job_id=str(job), reason="DATABASE_CONNECTION_LOST")
    await shop.change()
    await shop.connection.execute("UPDATE exportd.job SET not_before = clock_timestamp()")
    row = await site.succeeded(shop.connection, job)
    assert row["attempt"] == 2
    # It listens again: an order is taken at once, not with the next poll.
    await daemon.said("listening", times=2)
    await site.succeeded(shop.connection, await site.fire())
    bucket = Bucket.of(lake)
    bucket.assert_whole()
    assert bucket.replayed() == await shop.contents()
    assert daemon.process.poll() is None
    assert "Traceback" not in daemon.text
    assert await daemon.stop() == 0
    await shop.connection.close()
    await site.assert_clean(lake)


@pytest.mark.slow
async def test_a_full_spool_fails_the_job_and_the_next_run_has_everything(site: Site, shop: Shop) -> None:
    lake = site.destination()
    connection = shop.connection
    sections = {
        "destination": [destination("lake", lake)],
        "schedule": [schedule()],
        "limits": {"job_attempts": 1, "part_size": "200 kB"},
    }
    with small_disk(site.spool) as full_disk:
        site.configure(CATALOG, {**sections, "spool": {"budget": "1 GB" if full_disk else "500 kB"}})
        daemon = await site.start()
        await site.succeeded(connection, await site.first_job(connection))
        await shop.fill(6000)
        job = await site.fire()
        row = await site.finished(connection, job)
        assert (row["state"], row["reason"]) == ("FAILED", "SPOOL_FULL")
        assert str(site.spool) in row["message"]
        assert ("space" if full_disk else "spool.budget") in row["message"]
        assert not [path for path in files_in(site.spool) if str(job) in path.name]
        assert await daemon.stop() == 0
        await site.assert_clean(lake)
    site.configure(CATALOG, sections)
    await shop.change()
    daemon = await site.restart()
    row = await site.succeeded(connection, await site.fire())
    bucket = Bucket.of(lake)
    bucket.assert_whole()
    assert bucket.replayed() == await shop.contents()
    assert bucket.run(-1).redelivers == ()
    assert await daemon.stop() == 0
    await site.assert_clean(lake)


@pytest.mark.slow
async def test_a_destination_that_cannot_be_written_misses_nothing_once_it_is_repaired(site: Site, shop: Shop) -> None:
    """In turn: one object cannot be written though others can, nothing can, the directory is not there."""
    lake, shore = site.destination("lake"), site.destination("shore")
    site.configure(
        CATALOG,
        {
            "destination": [destination("lake", lake), destination("shore", shore, partition_order="TYPE_FIRST")],
            "schedule": [schedule(destinations=["lake", "shore"])],
        },
    )
    connection = shop.connection
    # The ordinary user must reach the server's socket.
    site.database.server.log.parent.chmod(0o711)
    daemon = await site.start(wrapper=ORDINARY)
    await site.succeeded(connection, await site.first_job(connection))
    orders = next(shore.glob("*/type=order"))
    away = site.folder / "away"
    for what, spoil, repair in (
        (
            "a file stands",
            lambda: (orders.rename(away), orders.touch()),
            lambda: (orders.unlink(), away.rename(orders)),
        ),
        ("may not write", lambda: shore.chmod(0o500), lambda: shore.chmod(0o755)),
        ("does not exist", lambda: shore.rename(away), lambda: away.rename(shore)),
    ):
        await shop.change()
        before = set(Bucket.of(shore).objects)
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
            await daemon.said("objects of a failed job removed", job_id=str(job), destination="shore")
        assert set(Bucket.of(shore).objects) == before, what
        await shop.change()
        await site.succeeded(connection, await site.fire())
        await until(cleared, what="the end of what the failed job left")
        for directory, redelivered in ((lake, (job,)), (shore, ())):
            bucket = Bucket.of(directory)
            bucket.assert_whole()
            assert bucket.replayed() == await shop.contents(), what
            assert bucket.run(-1).redelivers == redelivered, what
    assert await daemon.stop() == 0
    await site.assert_clean(lake, shore)


@contextmanager
def small_disk(directory: Path) -> Iterator[bool]:
    """A disk of a megabyte at ``directory``; False, and none, for who may not mount one."""
    directory.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=600k,mode=700", "tmpfs", str(directory)], check=False, capture_output=True
    )
    try:
        yield mounted.returncode == 0
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", str(directory)], check=True)
