"""SIGTERM shuts the daemon down; its jobs are finished, by itself or by the next daemon."""

import signal

import pytest

from tests.acceptance import statement_blocker
from tests.acceptance.declarations import destination, schedule
from tests.acceptance.delivered_files import DeliveredFiles
from tests.acceptance.sample_application import BLOCKABLE_CATALOG, Application
from tests.fixtures.daemon import Site


@pytest.mark.slow
async def test_the_first_signal_lets_jobs_end_and_the_second_puts_them_back(
    site: Site, application: Application
) -> None:
    lake = site.destination()
    site.configure(
        BLOCKABLE_CATALOG, {"destination": [destination("lake", lake)], "schedule": [schedule(), schedule("other")]}
    )
    connection, keeper = application.connection, await site.database.connect()
    await connection.execute(statement_blocker.INSTALL)
    daemon = await site.start_program()
    for code in ("often", "other"):
        await site.succeeded(connection, await site.first_job(connection, code))
    await connection.execute("UPDATE public.accounts SET name = 'blocked' WHERE id = 7")

    # Once: the job is let through and ends; no other is begun.
    async with statement_blocker.blocking(keeper) as closed:
        job = await site.fire()
        await closed.blocked_backend()
        daemon.signal(signal.SIGTERM)
        await daemon.wait_for_event("stopping", signal="SIGTERM")
        later = await site.fire("other")
    await site.succeeded(connection, job)
    assert await daemon.ended() == 0
    assert await connection.fetchval("SELECT state::text FROM exportd.job WHERE id = $1", later) == "PENDING"
    await site.assert_clean(lake)

    # Twice: it is put back at once, as if it had not been attempted.
    async with statement_blocker.blocking(keeper) as closed:
        daemon = await site.restart()
        await closed.blocked_backend()
        daemon.signal(signal.SIGTERM)
        await daemon.wait_for_event("stopping", signal="SIGTERM")
        daemon.signal(signal.SIGINT)
        assert await daemon.ended() == 0
        row = await connection.fetchrow("SELECT state::text, attempt, reason FROM exportd.job WHERE id = $1", later)
        assert row is not None
        assert tuple(row) == ("PENDING", 0, "INTERRUPTED")
        await closed.terminate_blocked()
    await site.assert_clean(lake)

    daemon = await site.restart()
    assert (await site.succeeded(connection, later))["attempt"] == 1
    assert await daemon.stop() == 0
    bucket = DeliveredFiles.of(lake)
    bucket.assert_whole()
    await site.assert_clean(lake)


@pytest.mark.slow
async def test_a_spool_belongs_to_one_daemon(site: Site, application: Application) -> None:
    site.configure(BLOCKABLE_CATALOG, {"schedule": [schedule(destinations=[])]})
    await application.connection.execute(statement_blocker.INSTALL)
    first = await site.start()
    second = site.fork()
    assert await second.ended() == 1
    # Beside the lines of its log, which are JSON.
    (sentence,) = [line for line in second.text.splitlines() if not line.startswith("{")]
    assert sentence.startswith(f"exportd: Another process uses the spool {site.spool}.")
    await site.succeeded(application.connection, await site.first_job(application.connection))
    assert await first.stop() == 0
    await site.assert_clean()
