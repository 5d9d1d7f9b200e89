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
from exportd.model.extraction import Extraction, Mode
from exportd.model.job import JobId
from exportd.model.reason import FullReason
from exportd.schedules.backfiller import Backfill
from exportd.schedules.firing_table import ScheduleTable
from exportd.schedules.operations import ScheduleOperator
from tests.acceptance.call_interrupter import Tripwire
from tests.acceptance.declarations import destination, schedule
from tests.acceptance.delivered_files import Bucket
from tests.acceptance.duckdb_contents import contents_of
from tests.acceptance.in_process_pipeline import Stop
from tests.acceptance.sample_application import CATALOG, ENTITIES, Contents, Key, Row, Shop
from tests.acceptance.schedule_history import applied, asking, begins, opened
from tests.fixtures.daemon import Site

pytestmark = pytest.mark.slow


def lost(bucket: Bucket, jobs: Sequence[JobId], contents: Contents) -> dict[str, dict[Key, Row]]:
    """What these jobs' files told, by key, as it is now: the table's row, or the last that was told of a deletion."""
    manifests = {manifest.job_id: manifest for chain in bucket.chains for manifest in chain.manifests}
    told: dict[str, dict[Key, Row]] = {}
    for job in jobs:
        for entity in manifests[job].entities:
            for record in bucket.records(manifests[job], entity):
                key = tuple(str(record[name]) for name in entity.key)
                told.setdefault(entity.code, {})[key] = record
    return {
        code: {
            key: {**contents[code][key], "deleted": "false"} if key in contents[code] else record
            for key, record in records.items()
        }
        for code, records in told.items()
    }


def held(bucket: Bucket, manifest: Manifest) -> dict[str, dict[Key, Row]]:
    """The records of a run by key."""
    found: dict[str, dict[Key, Row]] = {}
    for entity in manifest.entities:
        for record in bucket.records(manifest, entity):
            found.setdefault(entity.code, {})[tuple(str(record[name]) for name in entity.key)] = record
    return found


async def test_the_next_run_holds_exactly_what_has_changed_since(site: Site, shop: Shop) -> None:
    async with opened(site, shop) as shed:
        told = Previewer(shed.place.catalog, shed.place.connector, JobTable(shed.place.pool), SystemClock())
        filled = shed.last
        for past, lost_jobs in ((shed.later, (shed.later, shed.last)), (shed.past, (shed.past, shed.later, shed.last))):
            contents = await shop.contents()
            backfill = await shed.ask(past)
            (often,) = await ScheduleTable(shed.place.pool).all()
            preview = {entity.entity: entity for entity in (await told.preview(often)).entities}
            assert backfill.job_id is not None
            filled = backfill.job_id
            assert await shed.place.finish(filled, Tripwire.none()) == "SUCCEEDED"

            bucket = Bucket.of(site.folder / "lake")
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
                *(manifest for manifest in bucket.chains[0].manifests if manifest.job_id == shed.past),
            )
            assert applied(bucket, *(before if past == shed.later else before[:1]), done) == contents
            assert bucket.replayed() == contents
            assert await shed.waiting() == {}

        # From here on it goes on as ever, and the back-fill can be filled in like any other run.
        job = await shed.run()
        assert await shed.windows(job) == await shed.since(filled)
        assert Bucket.of(site.folder / "lake").run(-1).redelivers == ()
        again = await shed.ask(filled)
        assert again.job_id is not None
        await shed.place.finish(again.job_id, Tripwire.none())
        assert await shed.windows(again.job_id) == await shed.since(shed.first)
        Bucket.of(site.folder / "lake").assert_whole()


@pytest.mark.parametrize(("step", "after"), [("JobTable.start", True), ("JobTable.seal", False)])
async def test_a_job_that_has_begun_does_not_swallow_it(site: Site, shop: Shop, step: str, after: bool) -> None:
    """It has looked already where to begin, or read everything too: the next run does what was asked meanwhile."""
    async with opened(site, shop) as shed:
        asked: list[Backfill] = []

        async def ask() -> None:
            asked.append(await shed.ask(shed.past))

        await shop.change()
        job = await shed.place.fire()
        assert await shed.place.finish(job, Tripwire(step, 1, ask, after=after)) == "SUCCEEDED"
        assert (asked[0].job_id, asked[0].running) == (None, job)
        assert await shed.windows(job) == await shed.since(shed.last)
        assert await shed.waiting() == await shed.since(shed.first)
        following = await shed.run()
        assert await shed.windows(following) == await shed.since(shed.first)
        assert await shed.waiting() == {}
        bucket = Bucket.of(site.folder / "lake")
        bucket.assert_whole()
        assert bucket.run(-1).redelivers == (shed.past, shed.later, shed.last, job)
        assert bucket.replayed() == await shop.contents()


async def test_a_job_that_has_not_begun_does_it(site: Site, shop: Shop) -> None:
    async with opened(site, shop) as shed:
        asked: list[Backfill] = []

        async def ask() -> None:
            asked.append(await shed.ask(shed.past))

        # It runs, but has not looked yet where to begin.
        await shop.change()
        job = await shed.place.fire()
        assert await shed.place.finish(job, Tripwire("JobTable.start", 1, ask)) == "SUCCEEDED"
        assert asked[0].running == job
        assert await shed.windows(job) == await shed.since(shed.first)
        assert await shed.waiting() == {}

        # It waits, and nobody takes it before it is told.
        job = await shed.place.fire()
        async with asking(shed, shed.past) as backfill:
            assert backfill.job_id == job
            jobs, spool = JobTable(shed.place.pool), shed.place.spool.id
            assert await jobs.claim(holder="test", lease_s=60, spool_id=spool, attempt_limit=5) is None
        assert await shed.place.finish(job, Tripwire.none()) == "SUCCEEDED"
        assert await shed.windows(job) == await shed.since(shed.first)
        bucket = Bucket.of(site.folder / "lake")
        bucket.assert_whole()
        assert bucket.replayed() == await shop.contents()


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
async def test_a_daemon_that_leaves_on_the_way_loses_nothing(site: Site, shop: Shop, step: str, after: bool) -> None:
    async with opened(site, shop, "lake", "shore") as shed:
        backfill = await shed.ask(shed.past)
        assert backfill.job_id is not None
        await shop.change()
        stop = Stop(None)
        wire = Tripwire(step, 1, stop, after=after)
        assert await shed.place.finish(backfill.job_id, wire, stop) == "SUCCEEDED"
        assert wire.tripped
        assert await shed.windows(backfill.job_id) == await shed.since(shed.first)
        assert await shed.waiting() == {}
        following = await shed.run()
        assert await shed.windows(following) == await shed.since(backfill.job_id)
        for each in ("lake", "shore"):
            bucket = Bucket.of(site.folder / each)
            bucket.assert_whole()
            assert bucket.run(-2).redelivers == (shed.past, shed.later, shed.last)
            assert bucket.replayed() == await shop.contents()


async def test_a_run_that_fails_leaves_it_to_the_next(site: Site, shop: Shop) -> None:
    async with opened(site, shop) as shed:
        backfill = await shed.ask(shed.past)
        assert backfill.job_id is not None
        await shop.connection.execute("ALTER TABLE public.countries RENAME TO lands")
        assert await shed.place.finish(backfill.job_id, Tripwire.none(), attempts=1) == "FAILED"
        await shop.connection.execute("ALTER TABLE public.lands RENAME TO countries")
        assert await shed.waiting() == await shed.since(shed.first)
        assert await shed.windows(await shed.run()) == await shed.since(shed.first)


async def test_a_run_that_does_not_reach_everybody_is_marked_where_it_came(site: Site, shop: Shop) -> None:
    async with opened(site, shop, "lake", "shore") as shed:
        lake, shore, away = (site.folder / each for each in ("lake", "shore", "away"))
        backfill = await shed.ask(shed.past)
        assert backfill.job_id is not None
        shore.rename(away)
        assert await shed.place.finish(backfill.job_id, Tripwire.none(), attempts=1) == "FAILED"
        away.rename(shore)
        assert await shed.windows(await shed.run()) == await shed.since(shed.first)
        lost_jobs = (shed.past, shed.later, shed.last)
        for place, redelivered in ((lake, (*lost_jobs, backfill.job_id)), (shore, lost_jobs)):
            bucket = Bucket.of(place)
            bucket.assert_whole()
            assert bucket.run(-1).redelivers == redelivered
            assert bucket.replayed() == await shop.contents()


async def test_of_several_wishes_the_widest_is_done(site: Site, shop: Shop) -> None:
    async with opened(site, shop) as shed:
        asked = [await shed.ask(each) for each in (shed.later, shed.past, shed.last)]
        assert len({each.job_id for each in asked}) == 1
        assert await shed.waiting() == await shed.since(shed.first)
        (queued, *_) = asked
        assert queued.job_id is not None
        await shed.place.finish(queued.job_id, Tripwire.none())
        assert await shed.windows(queued.job_id) == await shed.since(shed.first)


async def test_an_entity_with_a_full_run_since_is_full_again(site: Site, shop: Shop) -> None:
    async with opened(site, shop) as shed:
        orders, countries = EntityCode("ORDERS"), EntityCode("COUNTRIES")
        operator = ScheduleOperator(shed.place.pool)
        refreshed = await operator.refresh(shed.schedule, orders, at_once=True, actor="test")
        assert refreshed is not None
        await shed.place.finish(refreshed, Tripwire.none())
        await shop.connection.execute("DELETE FROM exportd.position WHERE entity = $1", countries)
        told = {
            "ACCOUNTS": (await shed.extraction(shed.first)).snapshot,
            "ORDERS": FullReason.REQUESTED,
            "COUNTRIES": FullReason.ENTITY_ADDED,
        }
        backfill = await shed.ask(shed.past)
        assert begins(backfill) == told
        assert backfill.job_id is not None
        await shed.place.finish(backfill.job_id, Tripwire.none())
        assert await shed.windows(backfill.job_id) == told
        assert await shed.waiting() == {}
        everything = await shed.ask(shed.first)
        assert begins(everything) == dict.fromkeys(ENTITIES, FullReason.REQUESTED)
        bucket = Bucket.of(site.folder / "lake")
        bucket.assert_whole()
        assert bucket.replayed() == await shop.contents()


async def test_an_entity_that_is_full_meanwhile_is_full_once_more(site: Site, shop: Shop) -> None:
    """The running job, which knows nothing of the request yet, may tell of something that no log knows."""
    async with opened(site, shop) as shed:
        refreshed = await ScheduleOperator(shed.place.pool).refresh(
            shed.schedule, EntityCode("ORDERS"), at_once=True, actor="test"
        )
        assert refreshed is not None

        async def ask() -> None:
            await shed.ask(shed.past)

        await shed.place.finish(refreshed, Tripwire("JobTable.seal", 1, ask))
        assert await shed.windows(refreshed) == {**await shed.since(shed.last), "ORDERS": FullReason.REQUESTED}
        expected = {**await shed.since(shed.first), "ORDERS": FullReason.REQUESTED}
        assert await shed.waiting() == expected
        assert await shed.windows(await shed.run()) == expected
        assert await shed.waiting() == {}


async def test_triggers_that_were_replaced_since_make_it_full(site: Site, shop: Shop) -> None:
    """The guards of then are compared: what the log did not see cannot be filled in."""
    async with opened(site, shop) as shed:
        await shop.connection.execute(
            "ALTER TABLE public.accounts DISABLE TRIGGER ALL; DELETE FROM public.accounts WHERE id % 7 = 3"
        )
        backfill = await shed.ask(shed.past)
        assert backfill.job_id is not None
        await shed.place.finish(backfill.job_id, Tripwire.none())
        began = await shed.since(shed.first)
        assert await shed.windows(backfill.job_id) == {**began, "ACCOUNTS": FullReason.CAPTURE_CHANGED}
        assert await shed.waiting() == {}
        assert Bucket.of(site.folder / "lake").replayed() == await shop.contents()


async def test_the_real_daemon_is_asked_dies_and_does_it(site: Site, shop: Shop) -> None:
    """By the real command line; what arrives is verified, replayed and loaded by it too."""
    lake, connection = site.destination(), shop.connection
    declared = destination("lake", lake, loader_kit=["duckdb"])
    site.configure(CATALOG, {"destination": [declared], "schedule": [schedule()]})
    daemon = await site.restart()
    first = await site.first_job(connection)
    await site.succeeded(connection, first)
    jobs = []
    for _ in range(3):
        await shop.change()
        jobs.append(await site.fire())
        await site.succeeded(connection, jobs[-1])

    assert (await site.quickly("pause")).returncode == 0
    asked = await site.quickly("schedule", "backfill", "often", "--from", str(jobs[0]), "--json")
    assert asked.returncode == 0, asked.stderr
    answer = json.loads(asked.stdout)
    assert [(entity["entity"], "since" in entity) for entity in answer["entities"]] == [
        (entity, True) for entity in ENTITIES
    ]
    again = await site.quickly("schedule", "backfill", "often", "--from", str(jobs[1]))
    job, head, *entities = again.stdout.splitlines()
    assert (job, head.split()) == (answer["jobId"], ["ENTITY", "SINCE", "REASON"])
    assert [line.split()[0] for line in entities] == list(ENTITIES)
    assert all(line.split()[1].startswith("20") for line in entities)
    await daemon.kill()
    daemon = await site.restart()
    assert (await site.quickly("resume")).returncode == 0
    done = Extraction.from_json(json.loads((await site.succeeded(connection, UUID(job)))["extraction"]))
    (began,) = await connection.fetch(
        "SELECT extraction ->> 'snapshot' AS snapshot FROM exportd.job WHERE id = $1", first
    )
    assert {entity.previous for entity in done.entities} == {began["snapshot"]}

    refused = await site.quickly("schedule", "backfill", "often", "--from", str(uuid4()))
    assert (refused.returncode, "has no job" in refused.stderr) == (1, True)
    assert await daemon.stop() == 0
    await site.assert_clean(lake)
    verified = await site.without_configuration("verify", str(lake), "--json")
    assert verified.returncode == 0, verified.stdout
    (chain,) = json.loads(verified.stdout)["chains"]
    assert chain["redelivered"] == [str(each) for each in jobs]
    replayed, loaded = site.folder / "replayed.duckdb", site.folder / "loaded.duckdb"
    outcome = await site.without_configuration("replay", str(lake), "--into", str(replayed))
    assert outcome.returncode == 0, outcome.stderr
    with duckdb.connect(loaded) as warehouse:
        for each in (first, job):
            (script,) = lake.rglob(f"{each}.duckdb.sql")
            warehouse.execute(script.read_text())
    assert contents_of(replayed) == contents_of(loaded) == await shop.contents()
