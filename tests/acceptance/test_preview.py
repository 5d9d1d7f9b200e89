"""A preview says what the next run then holds, and leaves everything as it was."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from uuid import UUID

import pytest

from exportd.extraction.previewer import EntityPreview, Figure, Preview, Previewer
from exportd.jobs.job_table import JobTable
from exportd.model.clock import SystemClock
from exportd.model.entity import EntityCode
from exportd.model.errors import PermanentError, Reason, TransientError
from exportd.model.extraction import Extraction
from exportd.schedules.firing_table import ScheduleTable
from exportd.schedules.operations import ScheduleOperator
from tests.acceptance.call_interrupter import CallInterrupter
from tests.acceptance.declarations import destination, schedule
from tests.acceptance.in_process_pipeline import InProcessPipeline, directories, in_process_pipeline
from tests.acceptance.sample_application import CATALOG, Application
from tests.fixtures.control_clients import bare
from tests.fixtures.daemon import Site

ACCOUNTS, ORDERS, COUNTRIES = map(EntityCode, ("ACCOUNTS", "ORDERS", "COUNTRIES"))

CAPTURE = """
    SELECT (SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal) AS triggers,
           (SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace('exportd')) AS tables,
           (SELECT count(*) FROM exportd.job) AS jobs, (SELECT count(*) FROM exportd.audit) AS deeds
"""


async def previewed(pipeline: InProcessPipeline, *, counting_s: float = 60) -> Preview:
    (found,) = await ScheduleTable(pipeline.pool).all()
    previewer = Previewer(
        pipeline.catalog, pipeline.connector, JobTable(pipeline.pool), SystemClock(), counting_s=counting_s
    )
    return await previewer.preview(found)


async def by_entity(pipeline: InProcessPipeline, *, counting_s: float = 60) -> Mapping[EntityCode, EntityPreview]:
    return {entity.entity: entity for entity in (await previewed(pipeline, counting_s=counting_s)).entities}


async def run(pipeline: InProcessPipeline) -> Extraction:
    job = await pipeline.fire()
    assert await pipeline.finish(job, CallInterrupter.none()) == "SUCCEEDED"
    document = await JobTable(pipeline.pool).extraction(job)
    assert document is not None
    return Extraction.from_json(document)


async def assert_reported(pipeline: InProcessPipeline) -> Mapping[EntityCode, EntityPreview]:
    """Preview, run, compare; what is not said to be an estimate is as it was told."""
    reported = await by_entity(pipeline)
    for entity in (await run(pipeline)).entities:
        preview = reported[entity.entity]
        assert (preview.mode, preview.full_reason) == (entity.mode, entity.full_reason)
        if Figure.ROWS not in preview.estimated:
            assert preview.rows == entity.rows
        if Figure.DELETED_ROWS not in preview.estimated:
            assert preview.deleted_rows == entity.deleted_rows
    return reported


@pytest.mark.slow
@pytest.mark.every_postgres
async def test_what_is_told_is_what_the_run_holds(site: Site, application: Application, tmp_path: Path) -> None:
    async with in_process_pipeline(
        site.database.dsn, tmp_path, application.connection, directories(tmp_path, "lake")
    ) as pipeline:
        # Before the first run nothing is captured; afterwards neither.
        before = await application.connection.fetchrow(CAPTURE)
        reported = await by_entity(pipeline)
        assert await application.connection.fetchrow(CAPTURE) == before
        assert {preview.full_reason for preview in reported.values()} == {"FIRST_RUN"}
        await application.connection.execute("ANALYZE public.accounts, public.orders, public.countries")
        reported = await assert_reported(pipeline)
        assert reported[ACCOUNTS].rows == 40
        assert reported[ACCOUNTS].content_bytes > 40 * 10
        for _ in range(6):
            await application.change(8)
            reported = await assert_reported(pipeline)
            assert all(
                preview.full_reason is None and Figure.ROWS not in preview.estimated for preview in reported.values()
            )
        # An empty partition or child is no reason for a full run, and a preview knows it before it is captured.
        await application.connection.execute("CREATE TABLE public.isles () INHERITS (public.countries)")
        (quiet, *others) = (await assert_reported(pipeline)).values()
        assert {preview.full_reason for preview in others} == {None}
        assert (quiet.rows, quiet.content_bytes, quiet.estimated) == (0, 0, ())


@pytest.mark.slow
async def test_why_a_run_would_be_full_is_told_and_nothing_is_repaired(
    site: Site, application: Application, tmp_path: Path
) -> None:
    async with in_process_pipeline(
        site.database.dsn, tmp_path, application.connection, directories(tmp_path, "lake")
    ) as pipeline:
        await run(pipeline)
        await application.connection.execute(
            "ALTER TABLE public.accounts DISABLE TRIGGER ALL; CREATE TABLE public.isles () INHERITS (public.countries);"
            " INSERT INTO public.isles VALUES ('MT', 'Malta')"
        )
        (often,) = await ScheduleTable(pipeline.pool).all()
        await ScheduleOperator(pipeline.pool).refresh(often.id, ORDERS, at_once=False, actor="test")
        before = await application.connection.fetchrow(CAPTURE)
        reported = await by_entity(pipeline)
        assert {code: preview.full_reason for code, preview in reported.items()} == {
            ACCOUNTS: "CAPTURE_CHANGED",
            ORDERS: "REQUESTED",
            COUNTRIES: "PARTITIONS_CHANGED",
        }
        assert Figure.DELETED_ROWS in reported[ACCOUNTS].estimated, "the run may name them"
        assert Figure.DELETED_ROWS not in reported[ORDERS].estimated
        assert await application.connection.fetchrow(CAPTURE) == before
        await assert_reported(pipeline)


@pytest.mark.slow
async def test_a_deleted_record_that_cannot_be_read_back_makes_the_preview_full_too(
    site: Site, application: Application, tmp_path: Path
) -> None:
    await application.connection.execute(
        "CREATE DOMAIN public.short AS text; ALTER TABLE public.countries ALTER label TYPE public.short"
    )
    async with in_process_pipeline(
        site.database.dsn, tmp_path, application.connection, directories(tmp_path, "lake")
    ) as pipeline:
        await run(pipeline)
        await application.connection.execute(
            "DELETE FROM public.countries WHERE code = 'CH';ALTER DOMAIN public.short ADD CHECK (length(value) < 3)"
        )
        await application.connection.execute("UPDATE public.orders SET paid = NOT paid")
        reported = await assert_reported(pipeline)
        assert reported[COUNTRIES].full_reason == "IMAGES_UNREADABLE"
        assert reported[ORDERS].full_reason is None


@pytest.mark.slow
async def test_what_cannot_be_counted_in_time_is_estimated(
    site: Site, application: Application, tmp_path: Path
) -> None:
    async with in_process_pipeline(
        site.database.dsn, tmp_path, application.connection, directories(tmp_path, "lake")
    ) as pipeline:
        await run(pipeline)
        await application.connection.execute("UPDATE public.accounts SET note = 'n' WHERE organization_id = 'org-1'")
        reported = await by_entity(pipeline, counting_s=0)
        assert reported[ACCOUNTS].estimated == tuple(Figure)
        assert reported[ACCOUNTS].rows == await application.connection.fetchval(
            "SELECT count(*) FROM public.accounts WHERE organization_id = 'org-1'"
        )
        assert (reported[COUNTRIES].rows, reported[COUNTRIES].estimated) == (0, ())


@pytest.mark.slow
async def test_a_count_that_is_too_slow_is_given_up_and_the_others_are_made(
    site: Site, application: Application, tmp_path: Path
) -> None:
    """Sixty thousand keys take longer than a few milliseconds; that nothing happened elsewhere is told all the same."""
    async with in_process_pipeline(
        site.database.dsn, tmp_path, application.connection, directories(tmp_path, "lake")
    ) as pipeline:
        await run(pipeline)
        await application.fill(60_000, note_bytes=0)
        reported = await by_entity(pipeline, counting_s=0.004)
        assert reported[ACCOUNTS].estimated == tuple(Figure)
        assert reported[ACCOUNTS].rows == 60_000
        assert (reported[COUNTRIES].rows, reported[COUNTRIES].estimated) == (0, ())


@pytest.mark.slow
async def test_who_holds_a_table_is_not_waited_for_long_and_what_is_missing_is_named(
    site: Site, application: Application, tmp_path: Path
) -> None:
    async with in_process_pipeline(
        site.database.dsn, tmp_path, application.connection, directories(tmp_path, "lake")
    ) as pipeline:
        async with application.connection.transaction():
            await application.connection.execute("LOCK TABLE public.accounts IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(TransientError) as busy:
                await previewed(pipeline)
        assert busy.value.reason is Reason.LOCK_NOT_AVAILABLE
        await application.connection.execute("ALTER TABLE public.orders RENAME TO gone")
        with pytest.raises(PermanentError, match=r"public\.orders does not exist") as missing:
            await previewed(pipeline)
        assert missing.value.reason is Reason.TABLE_MISSING


@pytest.mark.slow
async def test_the_daemon_is_asked_for_a_preview(site: Site, application: Application) -> None:
    lake = site.destination()
    site.configure(CATALOG, {"destination": [destination("lake", lake)], "schedule": [schedule()]})
    daemon = await site.start()
    await site.succeeded(application.connection, await site.first_job(application.connection))
    await application.connection.execute(
        "INSERT INTO public.countries VALUES ('AT', 'Österreich'), ('IT', NULL);"
        "DELETE FROM public.countries WHERE code = 'CH'"
    )
    document = json.loads((await site.quickly("preview", "often", "--organization", "org-1", "--json")).stdout)
    countries = next(entity for entity in document["entities"] if entity["entity"] == "COUNTRIES")
    assert (countries["mode"], countries["rows"], countries["deletedRows"]) == ("incremental", 3, 1)
    assert countries["estimated"] == ["contentBytes"]
    assert (document["rows"], document["deletedRows"]) == (3, 1)

    (row,) = await application.connection.fetch("SELECT id FROM exportd.schedule")
    assert (await _asked(site, row["id"]))["entities"] == document["entities"]
    table = (await site.quickly("preview", str(row["id"]))).stdout
    assert "In all 3 rows (1 deleted)" in table
    dry = await site.quickly("export", "COUNTRIES", "--destinations", "lake", "--dry-run", "--json")
    assert [(entity["entity"], entity["mode"]) for entity in json.loads(dry.stdout)["entities"]] == [
        ("COUNTRIES", "full")
    ], dry.stderr
    table = (await site.quickly("export", "COUNTRIES", "ACCOUNTS", "--dry-run")).stdout
    assert table.splitlines()[0].split() == ["ENTITY", "MODE", "REASON", "ROWS", "DELETED", "SIZE"]
    assert [line.split()[0] for line in table.splitlines()[1:3]] == ["COUNTRIES", "ACCOUNTS"]
    refused = await site.quickly("export", "COUNTRIES", "--dry-run", "--wait")
    assert (refused.returncode, "leave --wait and --to out" in refused.stderr) == (2, True), refused.stderr
    assert await application.connection.fetchval("SELECT count(*) FROM exportd.job") == 1, "nothing was run"
    answer = await site.quickly("preview", "seldom")
    assert (answer.returncode, "no schedule seldom" in answer.stderr) == (1, True), answer.stderr
    assert await daemon.stop() == 0


async def _asked(site: Site, schedule_id: UUID) -> dict[str, list[object]]:
    def ask() -> dict[str, list[object]]:
        with bare(site.folder / "control.sock") as http:
            answer: dict[str, list[object]] = http.get(f"/v1/schedules/{schedule_id}/preview").raise_for_status().json()
            return answer

    return await asyncio.to_thread(ask)


async def test_a_function_of_an_owner_that_sleeps_holds_a_preview_no_longer_than_its_limit(
    site: Site, application: Application, tmp_path: Path
) -> None:
    """The planner calls it, and it catches the server's time-out."""
    lake = directories(tmp_path, "lake")
    async with in_process_pipeline(site.database.dsn, tmp_path, application.connection, lake) as pipeline:
        await run(pipeline)
        await application.connection.execute("""
            CREATE FUNCTION public.asleep(int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
            BEGIN
              IF pg_catalog.current_setting('application_name') LIKE '%export' THEN
                PERFORM pg_catalog.pg_sleep(3600);
              END IF;
              RETURN true;
            EXCEPTION WHEN query_canceled THEN PERFORM pg_catalog.pg_sleep(3600); RETURN true;
            END $$;
            CREATE INDEX ON public.accounts (id) WHERE public.asleep(1)""")
        (found,) = await ScheduleTable(pipeline.pool).all()
        previewer = Previewer(pipeline.catalog, pipeline.connector, JobTable(pipeline.pool), SystemClock(), limit_s=0.5)
        with pytest.raises(TransientError, match=r"did not answer for 0\.5 s while the next run was estimated"):
            await previewer.preview(found)
        left = (
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name LIKE '%export'"
        )
        async with asyncio.timeout(30):
            while await application.connection.fetchval(left):
                pass
