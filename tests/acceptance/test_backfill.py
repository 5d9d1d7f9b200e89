"""A consumer has lost everything since a job: the next run holds exactly that, whatever happens meanwhile."""

import json
from collections.abc import Sequence
from uuid import UUID, uuid4

import duckdb
import pytest

from exportd.extraction.previewer import Previewer
from exportd.jobs.job_table import JobTable
from exportd.manifest.document import Manifest
from exportd.model.clock import SystemClock
from exportd.model.entity import EntityCode
from exportd.model.errors import FullReason
from exportd.model.extraction import Mode
from exportd.model.job import JobId
from exportd.schedules.firing_table import ScheduleTable
from exportd.schedules.operations import Backfill, ScheduleOperator
from tests.acceptance.call_interrupter import CallInterrupter
from tests.acceptance.declarations import destination, schedule
from tests.acceptance.delivered_files import DeliveredFiles
from tests.acceptance.duckdb_contents import contents_of
from tests.acceptance.in_process_pipeline import Stop
from tests.acceptance.sample_application import CATALOG, ENTITIES, Application, Contents, Key, Row
from tests.acceptance.schedule_history import applied, asking, begins, schedule_with_history
from tests.fixtures.daemon import Site

pytestmark = pytest.mark.slow


def lost(bucket: DeliveredFiles, jobs: Sequence[JobId], contents: Contents) -> dict[str, dict[Key, Row]]:
    """What these jobs' files told, by key, as it is now: the table's row, or the last that was told of a deletion."""
    manifests = {manifest.job_id: manifest for chain in bucket.chains for manifest in chain.manifests}
    reported: dict[str, dict[Key, Row]] = {}
    for job in jobs:
        for entity in manifests[job].entities:
            for record in bucket.records(manifests[job], entity):
                key = tuple(str(record[name]) for name in entity.key)
                reported.setdefault(entity.code, {})[key] = record
    return {
        code: {
            key: {**contents[code][key], "deleted": "false"} if key in contents[code] else record
            for key, record in records.items()
        }
        for code, records in reported.items()
    }


def held(bucket: DeliveredFiles, manifest: Manifest) -> dict[str, dict[Key, Row]]:
    """The records of a run by key."""
    found: dict[str, dict[Key, Row]] = {}
    for entity in manifest.entities:
        for record in bucket.records(manifest, entity):
            found.setdefault(entity.code, {})[tuple(str(record[name]) for name in entity.key)] = record
    return found


async def test_the_next_run_holds_exactly_what_has_changed_since(site: Site, application: Application) -> None:
    async with schedule_with_history(site, application) as history:
        reported = Previewer(
            history.pipeline.catalog, history.pipeline.connector, JobTable(history.pipeline.pool), SystemClock()
        )
        filled = history.last
        for past, lost_jobs in (
            (history.later, (history.later, history.last)),
            (history.past, (history.past, history.later, history.last)),
        ):
            contents = await application.contents()
            backfill = await history.ask(past)
            (often,) = await ScheduleTable(history.pipeline.pool).all()
            preview = {entity.entity: entity for entity in (await reported.preview(often)).entities}
            assert backfill.job_id is not None
            filled = backfill.job_id
            assert await history.pipeline.finish(filled, CallInterrupter.none()) == "SUCCEEDED"

            bucket = DeliveredFiles.of(site.folder / "lake")
            bucket.assert_whole()
            done = bucket.run(-1)
            assert done.job_id == filled
            assert done.redelivers[: len(lost_jobs)] == lost_jobs
            expected = lost(bucket, lost_jobs, contents)
            assert held(bucket, done) == {code: records for code, records in expected.items() if records}
            assert {entity.rows for entity in done.entities} != {0}
            for entity in done.entities:
                assert (preview[entity.code].mode, preview[entity.code].rows) == (Mode.INCREMENTAL, entity.rows)
            # Who has what was before, and nothing since, is level with the table.
            before = (
                bucket.run(0),
                *(manifest for manifest in bucket.chains[0].manifests if manifest.job_id == history.past),
            )
            assert applied(bucket, *(before if past == history.later else before[:1]), done) == contents
            assert bucket.replayed() == contents
            assert await history.waiting() == {}

        # From here on it goes on as ever, and the back-fill can be filled in like any other run.
        job = await history.run()
        assert await history.windows(job) == await history.since(filled)
        assert DeliveredFiles.of(site.folder / "lake").run(-1).redelivers == ()
        again = await history.ask(filled)
        assert again.job_id is not None
        await history.pipeline.finish(again.job_id, CallInterrupter.none())
        assert await history.windows(again.job_id) == await history.since(history.first)
        DeliveredFiles.of(site.folder / "lake").assert_whole()


@pytest.mark.parametrize(("step", "after"), [("JobTable.start", True), ("JobTable.seal", False)])
async def test_a_job_that_has_begun_does_not_swallow_it(
    site: Site, application: Application, step: str, after: bool
) -> None:
    """It has looked already where to begin, or read everything too: the next run does what was asked meanwhile."""
    async with schedule_with_history(site, application) as history:
        asked: list[Backfill] = []

        async def ask() -> None:
            asked.append(await history.ask(history.past))

        await application.change()
        job = await history.pipeline.fire()
        assert await history.pipeline.finish(job, CallInterrupter(step, 1, ask, after=after)) == "SUCCEEDED"
        assert (asked[0].job_id, asked[0].running) == (None, job)
        assert await history.windows(job) == await history.since(history.last)
        assert await history.waiting() == await history.since(history.first)
        following = await history.run()
        assert await history.windows(following) == await history.since(history.first)
        assert await history.waiting() == {}
        bucket = DeliveredFiles.of(site.folder / "lake")
        bucket.assert_whole()
        assert bucket.run(-1).redelivers == (history.past, history.later, history.last, job)
        assert bucket.replayed() == await application.contents()


async def test_a_job_that_has_not_begun_does_it(site: Site, application: Application) -> None:
    async with schedule_with_history(site, application) as history:
        asked: list[Backfill] = []

        async def ask() -> None:
            asked.append(await history.ask(history.past))

        # It runs, but has not looked yet where to begin.
        await application.change()
        job = await history.pipeline.fire()
        assert await history.pipeline.finish(job, CallInterrupter("JobTable.start", 1, ask)) == "SUCCEEDED"
        assert asked[0].running == job
        assert await history.windows(job) == await history.since(history.first)
        assert await history.waiting() == {}

        # It waits, and is not claimed before it is allowed to run.
        job = await history.pipeline.fire()
        async with asking(history, history.past) as backfill:
            assert backfill.job_id == job
            jobs, spool = JobTable(history.pipeline.pool), history.pipeline.spool.id
            assert await jobs.claim(holder="test", lease_s=60, spool_id=spool, attempt_limit=5) is None
        assert await history.pipeline.finish(job, CallInterrupter.none()) == "SUCCEEDED"
        assert await history.windows(job) == await history.since(history.first)
        bucket = DeliveredFiles.of(site.folder / "lake")
        bucket.assert_whole()
        assert bucket.replayed() == await application.contents()


@pytest.mark.parametrize(
    ("step", "after"),
    [
        ("JobTable.start", True),
        ("Extractor.extract", True),
        ("JobTable.seal", False),
        ("JobTable.seal", True),
        ("JobTable.record_delivery", True),
        ("JobTable.succeed", False),
        ("JobTable.succeed", True),
    ],
)
async def test_a_daemon_that_leaves_on_the_way_loses_nothing(
    site: Site, application: Application, step: str, after: bool
) -> None:
    async with schedule_with_history(site, application, "lake", "shore") as history:
        backfill = await history.ask(history.past)
        assert backfill.job_id is not None
        await application.change()
        stop = Stop(None)
        interrupter = CallInterrupter(step, 1, stop, after=after)
        assert await history.pipeline.finish(backfill.job_id, interrupter, stop) == "SUCCEEDED"
        assert interrupter.interrupted
        assert await history.windows(backfill.job_id) == await history.since(history.first)
        assert await history.waiting() == {}
        following = await history.run()
        assert await history.windows(following) == await history.since(backfill.job_id)
        for code in ("lake", "shore"):
            bucket = DeliveredFiles.of(site.folder / code)
            bucket.assert_whole()
            assert bucket.run(-2).redelivers == (history.past, history.later, history.last)
            assert bucket.replayed() == await application.contents()


async def test_a_run_that_fails_leaves_it_to_the_next(site: Site, application: Application) -> None:
    async with schedule_with_history(site, application) as history:
        backfill = await history.ask(history.past)
        assert backfill.job_id is not None
        await application.connection.execute("ALTER TABLE public.countries RENAME TO lands")
        assert await history.pipeline.finish(backfill.job_id, CallInterrupter.none(), attempts=1) == "FAILED"
        await application.connection.execute("ALTER TABLE public.lands RENAME TO countries")
        assert await history.waiting() == await history.since(history.first)
        assert await history.windows(await history.run()) == await history.since(history.first)


async def test_a_run_that_does_not_reach_all_is_marked_where_it_came(site: Site, application: Application) -> None:
    async with schedule_with_history(site, application, "lake", "shore") as history:
        lake, shore, away = (site.folder / name for name in ("lake", "shore", "away"))
        backfill = await history.ask(history.past)
        assert backfill.job_id is not None
        shore.rename(away)
        assert await history.pipeline.finish(backfill.job_id, CallInterrupter.none(), attempts=1) == "FAILED"
        away.rename(shore)
        assert await history.windows(await history.run()) == await history.since(history.first)
        lost_jobs = (history.past, history.later, history.last)
        for pipeline, redelivered in ((lake, (*lost_jobs, backfill.job_id)), (shore, lost_jobs)):
            bucket = DeliveredFiles.of(pipeline)
            bucket.assert_whole()
            assert bucket.run(-1).redelivers == redelivered
            assert bucket.replayed() == await application.contents()


async def test_of_several_wishes_the_widest_is_done(site: Site, application: Application) -> None:
    async with schedule_with_history(site, application) as history:
        asked = [await history.ask(run) for run in (history.later, history.past, history.last)]
        assert len({request.job_id for request in asked}) == 1
        assert await history.waiting() == await history.since(history.first)
        (queued, *_) = asked
        assert queued.job_id is not None
        await history.pipeline.finish(queued.job_id, CallInterrupter.none())
        assert await history.windows(queued.job_id) == await history.since(history.first)


async def test_an_entity_with_a_full_run_since_is_full_again(site: Site, application: Application) -> None:
    async with schedule_with_history(site, application) as history:
        orders, countries = EntityCode("ORDERS"), EntityCode("COUNTRIES")
        operator = ScheduleOperator(history.pipeline.pool)
        refreshed = await operator.refresh(history.schedule, orders, at_once=True, actor="test")
        assert refreshed is not None
        await history.pipeline.finish(refreshed, CallInterrupter.none())
        await application.connection.execute("DELETE FROM exportd.position WHERE entity = $1", countries)
        reported = {
            "ACCOUNTS": (await history.extraction(history.first)).snapshot,
            "ORDERS": FullReason.REQUESTED,
            "COUNTRIES": FullReason.ENTITY_ADDED,
        }
        backfill = await history.ask(history.past)
        assert begins(backfill) == reported
        assert backfill.job_id is not None
        await history.pipeline.finish(backfill.job_id, CallInterrupter.none())
        assert await history.windows(backfill.job_id) == reported
        assert await history.waiting() == {}
        everything = await history.ask(history.first)
        assert begins(everything) == dict.fromkeys(ENTITIES, FullReason.REQUESTED)
        bucket = DeliveredFiles.of(site.folder / "lake")
        bucket.assert_whole()
        assert bucket.replayed() == await application.contents()


async def test_an_entity_that_is_full_meanwhile_is_full_once_more(site: Site, application: Application) -> None:
    """The running job, which knows nothing of the request yet, may tell of something that no log knows."""
    async with schedule_with_history(site, application) as history:
        refreshed = await ScheduleOperator(history.pipeline.pool).refresh(
            history.schedule, EntityCode("ORDERS"), at_once=True, actor="test"
        )
        assert refreshed is not None

        async def ask() -> None:
            await history.ask(history.past)

        await history.pipeline.finish(refreshed, CallInterrupter("JobTable.seal", 1, ask))
        assert await history.windows(refreshed) == {**await history.since(history.last), "ORDERS": FullReason.REQUESTED}
        expected = {**await history.since(history.first), "ORDERS": FullReason.REQUESTED}
        assert await history.waiting() == expected
        assert await history.windows(await history.run()) == expected
        assert await history.waiting() == {}


async def test_triggers_that_were_replaced_since_make_it_full(site: Site, application: Application) -> None:
    """The guards of then are compared: what the log did not see cannot be filled in."""
    async with schedule_with_history(site, application) as history:
        await application.connection.execute(
            "ALTER TABLE public.accounts DISABLE TRIGGER ALL; DELETE FROM public.accounts WHERE id % 7 = 3"
        )
        backfill = await history.ask(history.past)
        assert backfill.job_id is not None
        await history.pipeline.finish(backfill.job_id, CallInterrupter.none())
        began = await history.since(history.first)
        assert await history.windows(backfill.job_id) == {**began, "ACCOUNTS": FullReason.CAPTURE_CHANGED}
        assert await history.waiting() == {}
        assert DeliveredFiles.of(site.folder / "lake").replayed() == await application.contents()


async def test_the_real_daemon_is_asked_dies_and_does_it(site: Site, application: Application) -> None:
    """By the real command line; what arrives is verified, replayed and loaded by it too."""
    lake, connection = site.destination(), application.connection
    declared = destination("lake", lake, loader_kit=["duckdb"])
    site.configure(CATALOG, {"destination": [declared], "schedule": [schedule()]})
    daemon = await site.start()
    first = await site.first_job(connection)
    await site.succeeded(connection, first)
    jobs = []
    for _ in range(3):
        await application.change()
        jobs.append(await site.fire())
        await site.succeeded(connection, jobs[-1])

    assert (await site.quickly("pause")).returncode == 0
    often = ("schedule", "backfill", "often", "--from", str(jobs[0]))
    waiting = "SELECT count(*) FROM exportd.job WHERE state = 'PENDING'"
    planned = json.loads((await site.quickly(*often, "--dry-run", "--json")).stdout)
    told = (await site.quickly(*often, "--dry-run")).stdout.splitlines()
    assert told[0] == "a back-fill of often would export:"
    assert [line.split()[0] for line in told[1:]] == ["ENTITY", *ENTITIES]
    assert (planned["jobId"], await connection.fetchval(waiting)) == (None, 0)
    asked = await site.quickly(*often, "--json")
    assert asked.returncode == 0, asked.stderr
    answer = json.loads(asked.stdout)
    assert [(entity["entity"], entity["since"] is not None) for entity in answer["entities"]] == [
        (entity, True) for entity in ENTITIES
    ]
    assert answer["entities"] == planned["entities"]
    again = await site.quickly("schedule", "backfill", "often", "--from", str(jobs[1]))
    job, head, *entities = again.stdout.splitlines()
    assert (job, head.split()) == (answer["jobId"], ["ENTITY", "SINCE", "REASON"])
    assert [line.split()[0] for line in entities] == list(ENTITIES)
    assert all(line.split()[1].startswith("20") for line in entities)
    await daemon.kill()
    daemon = await site.start()
    assert (await site.quickly("resume")).returncode == 0
    done = json.loads((await site.succeeded(connection, UUID(job)))["extraction"])
    (began,) = await connection.fetch(
        "SELECT extraction ->> 'snapshot' AS snapshot FROM exportd.job WHERE id = $1", first
    )
    assert {entity["previous"] for entity in done["entities"]} == {began["snapshot"]}

    refused = await site.quickly("schedule", "backfill", "often", "--from", str(uuid4()))
    assert (refused.returncode, "has no job" in refused.stderr) == (1, True)
    assert await daemon.stop() == 0
    await site.assert_clean(lake)
    verified = await site.without_configuration("verify", str(lake), "--json")
    assert verified.returncode == 0, verified.stdout
    (chain,) = json.loads(verified.stdout)["chains"]
    assert chain["redelivered"] == [str(id_) for id_ in jobs]
    replayed, loaded = site.folder / "replayed.duckdb", site.folder / "loaded.duckdb"
    outcome = await site.without_configuration("replay", str(lake), "--into", str(replayed))
    assert outcome.returncode == 0, outcome.stderr
    with duckdb.connect(loaded) as warehouse:
        for id_ in (first, job):
            (script,) = lake.rglob(f"{id_}.duckdb.sql")
            warehouse.execute(script.read_text())
    assert contents_of(replayed) == contents_of(loaded) == await application.contents()
