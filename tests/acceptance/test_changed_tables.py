"""Between two runs the tables or the catalog are changed: the next run is right, or fails and says why."""

from pathlib import Path

import pytest

from exportd.model.errors import FullReason
from exportd.model.extraction import Mode
from tests.acceptance.declarations import destination, schedule
from tests.acceptance.delivered_files import DeliveredFiles
from tests.acceptance.sample_application import CATALOG, ORGANIZATION, Application
from tests.fixtures.daemon import Site

TALKING = CATALOG.replace('"name", "balance"', '{ name = "name", expression = "public.talking(name)" }, "balance"')


@pytest.mark.slow
async def test_changed_tables_make_full_runs_with_a_reason_or_failures_with_one(
    site: Site, application: Application
) -> None:
    lake = site.destination()
    site.configure(
        CATALOG,
        {
            "destination": [destination("lake", lake)],
            "schedule": [schedule()],
            "limits": {"job_attempts": 1},
            # The daemon looks at the entities when a job has failed, and not before one does.
            "capture": {"poll_interval_s": 3600},
        },
    )
    connection = application.connection
    daemon = await site.start()
    await site.succeeded(connection, await site.first_job(connection))

    # A wider column: everything is said again, and why.
    await connection.execute("ALTER TABLE public.accounts ALTER COLUMN balance TYPE numeric(14, 3)")
    await site.succeeded(connection, await site.fire())
    assert _modes(lake) == {
        "ACCOUNTS": (Mode.FULL, FullReason.COLUMNS_CHANGED),
        "ORDERS": (Mode.INCREMENTAL, None),
        "COUNTRIES": (Mode.INCREMENTAL, None),
    }
    # A new column that is not exported, and no deletions: nothing changes.
    await connection.execute("ALTER TABLE public.accounts ADD COLUMN secret text")
    await connection.execute("UPDATE public.accounts SET note = 'after the column'")
    await site.succeeded(connection, await site.fire())
    assert _modes(lake)["ACCOUNTS"] == (Mode.INCREMENTAL, None)
    # Triggers switched off: what happened meanwhile is unknown.
    await connection.execute("ALTER TABLE public.accounts DISABLE TRIGGER ALL")
    await connection.execute("UPDATE public.accounts SET note = 'unseen' WHERE id = 3")
    await site.succeeded(connection, await site.fire())
    assert _modes(lake)["ACCOUNTS"] == (Mode.FULL, FullReason.CAPTURE_CHANGED)
    bucket = DeliveredFiles.of(lake)
    bucket.assert_whole()
    assert bucket.replayed() == await application.contents()

    # An exported column is gone, then a table: the job fails, says so, and moves nothing.
    before = bucket.objects.keys()
    await connection.execute("ALTER TABLE public.accounts RENAME COLUMN note TO remark")
    row = await site.finished(connection, await site.fire())
    assert (row["state"], row["reason"]) == ("FAILED", "CATALOG_MISMATCH")
    assert "ACCOUNTS" in row["message"]
    assert "note" in row["message"]
    # From then on a job looks for itself before it begins.
    await daemon.wait_for_event("entity out of order", entity="ACCOUNTS")
    await connection.execute("ALTER TABLE public.accounts RENAME COLUMN remark TO note")
    await connection.execute("ALTER TABLE public.countries RENAME TO lands")
    row = await site.finished(connection, await site.fire())
    assert (row["state"], row["reason"]) == ("FAILED", "ENTITY_OUT_OF_ORDER")
    assert "COUNTRIES" in row["message"]
    assert "public.countries" in row["message"]
    await connection.execute("ALTER TABLE public.lands RENAME TO countries")
    assert DeliveredFiles.of(lake).objects.keys() == before
    await application.change()
    await site.succeeded(connection, await site.fire())
    bucket = DeliveredFiles.of(lake)
    bucket.assert_whole()
    assert bucket.replayed() == await application.contents()

    # Capture is removed by hand while the daemon runs: it is put back, and the next run is full.
    removed = await site.quickly("capture", "uninstall")
    assert removed.returncode == 0, removed.stderr
    assert (await site.quickly("capture", "status")).returncode == 1
    await application.change()
    await site.succeeded(connection, await site.fire())
    assert {mode for mode, _ in _modes(lake).values()} == {Mode.FULL}
    assert (await site.quickly("capture", "status")).returncode == 0
    bucket = DeliveredFiles.of(lake)
    bucket.assert_whole()
    assert bucket.replayed() == await application.contents()
    assert daemon.process.poll() is None
    assert "Traceback" not in daemon.text
    assert await daemon.stop() == 0
    await site.assert_clean(lake)


@pytest.mark.slow
async def test_an_entity_taken_out_of_the_catalog_fails_the_jobs_that_still_want_it(
    site: Site, application: Application
) -> None:
    lake = site.destination()
    sections = {"destination": [destination("lake", lake)], "schedule": [schedule()]}
    site.configure(CATALOG, sections)
    connection = application.connection
    daemon = await site.start()
    await site.succeeded(connection, await site.first_job(connection))
    assert await daemon.stop() == 0
    waiting = await site.fire()
    without_countries, _ = CATALOG.split('\n[[entity]]\ncode = "COUNTRIES"')
    site.configure(without_countries, sections)
    daemon = await site.start()
    row = await site.finished(connection, waiting)
    assert (row["state"], row["reason"]) == ("FAILED", "CATALOG_MISMATCH")
    assert "COUNTRIES" in row["message"]
    # The schedule says ALL: from now on that is less.
    await application.change()
    await site.succeeded(connection, await site.fire())
    bucket = DeliveredFiles.of(lake)
    bucket.assert_whole()
    assert [entity.code for entity in bucket.run(-1).entities] == ["ACCOUNTS", "ORDERS"]
    assert bucket.replayed() == {**await application.contents(), "COUNTRIES": bucket.replayed()["COUNTRIES"]}
    assert await daemon.stop() == 0
    await site.assert_clean(lake)


@pytest.mark.slow
async def test_a_message_from_the_server_during_copy_fails_the_export(site: Site, application: Application) -> None:
    """INFO reaches the client whatever client_min_messages says, and asyncpg loses rows to it."""
    connection, lake = application.connection, site.destination()
    await connection.execute(
        """CREATE FUNCTION public.talking(value text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
           BEGIN
               IF value = 'says something' THEN RAISE INFO 'hello'; END IF;
               RETURN value;
           END $$"""
    )
    await connection.execute(
        "INSERT INTO public.accounts VALUES (-100, $1, 'says something', NULL, NULL)", ORGANIZATION
    )
    site.configure(
        TALKING,
        {"destination": [destination("lake", lake)], "schedule": [schedule()], "limits": {"job_attempts": 1}},
    )
    daemon = await site.start()
    row = await site.finished(connection, await site.first_job(connection))
    assert (row["state"], row["reason"]) == ("FAILED", "NOTICE_DURING_COPY")
    assert "hello" in row["message"]
    assert DeliveredFiles.of(lake).objects == {}
    await connection.execute("DELETE FROM public.accounts WHERE id = -100")
    await site.succeeded(connection, await site.fire())
    bucket = DeliveredFiles.of(lake)
    bucket.assert_whole()
    assert bucket.replayed() == await application.contents()
    assert await daemon.stop() == 0
    await site.assert_clean(lake)


def _modes(lake: Path) -> dict[str, tuple[Mode, FullReason | None]]:
    """How the last run exported each entity."""
    run = DeliveredFiles.of(lake).run(-1)
    return {entity.code: (entity.mode, entity.full_reason) for entity in run.entities}
