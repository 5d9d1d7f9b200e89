"""The daemon leaves when it is asked to; what it was doing is ended, by itself or by the next one."""

import signal

import pytest

from tests.acceptance import statement_blocker
from tests.acceptance.declarations import destination, schedule
from tests.acceptance.delivered_files import Bucket
from tests.acceptance.sample_application import GATED_CATALOG, Shop
from tests.fixtures.daemon import Site


@pytest.mark.slow
async def test_the_first_signal_lets_jobs_end_and_the_second_puts_them_back(site: Site, shop: Shop) -> None:
    lake = site.destination()
    site.configure(
        GATED_CATALOG, {"destination": [destination("lake", lake)], "schedule": [schedule(), schedule("other")]}
    )
    connection, keeper = shop.connection, await site.database.connect()
    await connection.execute(statement_blocker.INSTALL)
    daemon = await site.start()
    for code in ("often", "other"):
        await site.succeeded(connection, await site.first_job(connection, code))
    await connection.execute("UPDATE public.accounts SET name = 'at the gate' WHERE id = 7")

    # Once: the job is let through and ends; no other is begun.
    async with statement_blocker.closed(keeper) as closed:
        job = await site.fire()
        await closed.reached()
        daemon.signal(signal.SIGTERM)
        await daemon.said("stopping", signal="SIGTERM")
        later = await site.fire("other")
    await site.succeeded(connection, job)
    assert await daemon.ended() == 0
    assert await connection.fetchval("SELECT state::text FROM exportd.job WHERE id = $1", later) == "PENDING"
    await site.assert_clean(lake)

    # Twice: it is put back at once, as if it had not been attempted.
    async with statement_blocker.closed(keeper) as closed:
        daemon = await site.restart()
        await closed.reached()
        daemon.signal(signal.SIGTERM)
        await daemon.said("stopping", signal="SIGTERM")
        daemon.signal(signal.SIGINT)
        assert await daemon.ended() == 0
        row = await connection.fetchrow("SELECT state::text, attempt, reason FROM exportd.job WHERE id = $1", later)
        assert row is not None
        assert tuple(row) == ("PENDING", 0, "INTERRUPTED")
        await closed.turn_away()
    await site.assert_clean(lake)

    daemon = await site.restart()
    assert (await site.succeeded(connection, later))["attempt"] == 1
    assert await daemon.stop() == 0
    bucket = Bucket.of(lake)
    bucket.assert_whole()
    await site.assert_clean(lake)


@pytest.mark.slow
async def test_a_spool_belongs_to_one_daemon(site: Site, shop: Shop) -> None:
    site.configure(GATED_CATALOG, {"schedule": [schedule(destinations=[])]})
    await shop.connection.execute(statement_blocker.INSTALL)
    first = await site.start()
    second = site.fork()
    assert await second.ended() == 1
    (sentence,) = second.text.splitlines()
    assert sentence.startswith(f"exportd: Another process uses the spool {site.spool}.")
    await site.succeeded(shop.connection, await site.first_job(shop.connection))
    assert await first.stop() == 0
    await site.assert_clean()
