"""Wherever an export is stopped, the next daemon ends it, and the files tell nothing of it."""

from collections.abc import Mapping
from pathlib import Path
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from exportd.model.errors import PermanentError, TransientError
from exportd.model.reason import Reason
from tests.acceptance.call_interrupter import Trip, Tripwire
from tests.acceptance.declarations import destination, gcs_destination, s3_destination, schedule
from tests.acceptance.delivered_files import Bucket
from tests.acceptance.destinations import DirectoryLake, GcsLake, Lake, S3Lake
from tests.acceptance.in_process_pipeline import Stop, Workshop, directories, workshop
from tests.acceptance.killable_daemon import COUNT_FROM_NOW, live_until
from tests.acceptance.sample_application import CATALOG, Shop
from tests.fixtures.daemon import Daemon, Section, Site, leftovers, until


@pytest.mark.slow
async def test_killed_all_along(site: Site, shop: Shop) -> None:
    directory = site.destination()
    lake = DirectoryLake(directory)
    await _kill_all_along(site, shop, lake, destination("lake", directory), (site.spool / "jobs", directory))


@pytest.mark.slow
async def test_killed_all_along_the_way_to_s3(site: Site, shop: Shop, s3_lake: S3Lake) -> None:
    """Around each request for an object that has two pieces and more."""
    await shop.fill(600)
    declared = s3_destination("lake", s3_lake)
    watched = (site.spool / "jobs",)
    each_time = "UPDATE public.accounts SET note = note"
    await _kill_all_along(site, shop, s3_lake, declared, watched, each_time=each_time)


@pytest.mark.slow
async def test_killed_all_along_the_way_to_google(site: Site, shop: Shop, gcs_lake: GcsLake) -> None:
    await shop.fill(2000)
    declared = gcs_destination("lake", gcs_lake)
    each_time = "UPDATE public.accounts SET note = note"
    sections = {"gcs": {"endpoint": gcs_lake.server.endpoint}}
    watched = (site.spool / "jobs",)
    await _kill_all_along(site, shop, gcs_lake, declared, watched, each_time=each_time, sections=sections)


async def _kill_all_along(
    site: Site,
    shop: Shop,
    lake: Lake,
    declared: Mapping[str, object],
    watched: tuple[Path, ...],
    *,
    each_time: str = "SELECT",
    sections: Mapping[str, Section] | None = None,
) -> None:
    """Each daemon ends the job that the one before was killed in, and is killed two steps further on."""
    declarations: dict[str, Section] = {"destination": [declared], "schedule": [schedule(entities=["ACCOUNTS"])]}
    site.configure(CATALOG, {**declarations, **(sections or {})})
    connection = shop.connection
    first = await site.start()
    job = await site.first_job(connection)
    await site.succeeded(connection, job)
    assert await first.stop() == 0
    step, daemon, died = 1, first, True
    while died:
        daemon = site.fork(live_until, watched, step)
        await daemon.said("daemon ready")
        await site.succeeded(connection, job)
        bucket = await lake.bucket()
        bucket.assert_whole()
        assert (leftovers(site.spool), await lake.leftovers()) == (set(), set()), f"after a kill at step {step - 2}"
        await shop.change(1)
        await connection.execute(each_time)
        daemon.signal(COUNT_FROM_NOW)
        job = await site.fire()

        died = await _dies(daemon, job)
        step += 2  # two steps further: the whole takes long enough
    assert step > 20, "the steps were not counted"
    assert await daemon.stop() == 0
    assert (await lake.bucket()).replayed()["ACCOUNTS"] == (await shop.contents())["ACCOUNTS"]
    await site.assert_clean()


async def _dies(daemon: Daemon, job: UUID) -> bool:
    """Whether the daemon is killed before it has ended the job."""

    async def look() -> str | None:
        if daemon.process.poll() is not None:
            return "killed"
        return "ended" if daemon.heard("job ended", job_id=str(job)) else None

    return await until(look, what=f"the end of job {job} or its daemon") == "killed"


async def _transient() -> None:
    raise TransientError("It failed on the way.", reason=Reason.DESTINATION_UNAVAILABLE)


async def _permanent() -> None:
    raise PermanentError("It failed for good.", reason=Reason.DESTINATION_REFUSED)


EVERY_END = pytest.mark.parametrize(
    ("trip", "after"),
    [
        pytest.param(_transient, False, id="an error that may pass, before"),
        pytest.param(_permanent, True, id="an error that stays, afterwards"),
        pytest.param(None, True, id="the daemon leaves"),
    ],
)


@pytest.mark.slow
@EVERY_END
async def test_stopped_at_every_step(site: Site, shop: Shop, trip: Trip | None, after: bool) -> None:
    """Each job is stopped at another of the calls that the first one made; two destinations get the same."""
    lakes = directories(site.folder, "lake", "shore")
    await _stop_at_every_step(site, shop, lakes, trip, after=after)


@pytest.mark.slow
@EVERY_END
async def test_stopped_at_every_step_to_s3(
    site: Site, shop: Shop, s3_lake: S3Lake, trip: Trip | None, after: bool
) -> None:
    """The same with files that take several pieces."""
    await shop.fill(400)
    await _stop_at_every_step(
        site, shop, {"lake": s3_lake}, trip, after=after, each_time="UPDATE public.accounts SET note = note"
    )


@pytest.mark.slow
@EVERY_END
async def test_stopped_at_every_step_to_google(
    site: Site, shop: Shop, gcs_lake: GcsLake, trip: Trip | None, after: bool
) -> None:
    """Pieces go up one after the other there."""
    await shop.fill(2000)
    each_time = "UPDATE public.accounts SET note = note"
    await _stop_at_every_step(site, shop, {"lake": gcs_lake}, trip, after=after, each_time=each_time)


async def _stop_at_every_step(
    site: Site, shop: Shop, lakes: Mapping[str, Lake], trip: Trip | None, *, after: bool, each_time: str = "SELECT"
) -> None:
    quiet = Tripwire.none()

    async def change() -> None:
        await shop.change(1)
        await shop.connection.execute(each_time)

    with capture_logs():
        async with workshop(site.dsn, site.folder, shop.connection, lakes) as shed:
            await shed.finish(await shed.fire(), quiet)
            await change()
            await shed.finish(await shed.fire(), counting := Tripwire.none())
            (kind,) = {type(store).__name__ for store in shed.stores.values()}
            steps = {"JobTable.seal", "UploadTable.record", f"{kind}.piece", f"{kind}.put", "Spool.write_manifest"}
            assert steps <= set(counting.calls)
            for name, calls in counting.calls.items():
                for number in sorted({1, calls // 2 + 1, calls}):
                    await change()
                    stop = Stop(trip)
                    wire = Tripwire(name, number, stop, after=after)
                    state = await shed.finish(await shed.fire(), wire, stop)
                    assert state == "SUCCEEDED" or trip is _permanent, f"stopped at {name}"
                    assert wire.tripped or number > 1
                    await shed.cleaner(quiet).clear_failed_jobs()
                    await shed.cleaner(quiet).abort_uploads_of_finished_jobs()
                    await shed.cleaner(quiet).abort_dead_uploads()
                    assert leftovers(site.spool) == set(), f"stopped at {name}"
                    for lake in lakes.values():
                        (await lake.bucket()).assert_whole()
                        await _swept(shed, lake, name)
            await shed.finish(await shed.fire(), quiet)
            for lake in lakes.values():
                assert (await lake.bucket()).replayed() == await shop.contents()
            assert await shop.connection.fetchval("SELECT count(*) FROM exportd.upload") == 0


async def _swept(shed: Workshop, lake: Lake, name: str) -> None:
    """An upload whose beginning was cancelled may come into being after a sweep: the next one finds it."""

    async def look() -> bool:
        await shed.cleaner(Tripwire.none()).abort_dead_uploads()
        return await lake.leftovers() == set()

    await until(look, what=f"the end of the uploads that were stopped at {name}")


@pytest.mark.parametrize("fails", [False, True], ids=["succeeds", "fails"])
async def test_a_job_whose_spool_is_lost_is_extracted_anew_and_leaves_nothing_of_before(
    site: Site, shop: Shop, fails: bool
) -> None:
    """It had published some objects to one destination, and everything to the other, without saying so."""
    await shop.fill(200)
    quiet = Tripwire.none()
    lakes = directories(site.folder, "lake", "shore")
    lake, shore = site.folder / "lake", site.folder / "shore"
    async with workshop(site.dsn, site.folder, shop.connection, lakes, part_bytes=4000) as shed:
        job = await shed.fire()
        stop = Stop(None)
        stop.runner = await shed.attempt(Tripwire("JobTable.record_delivery", None, stop))
        assert stop.runner is not None
        await stop.runner.run()
        before = Bucket.of(lake).objects
        assert len(before) > 5
        for path in list(shore.rglob("*_account.0*.gz"))[::2]:
            path.unlink()
        for path in shore.rglob("*.json"):
            path.unlink()
        await shop.connection.execute("DELETE FROM public.accounts WHERE id > 50")
        async with shed.elsewhere(site.folder / "other") as other:
            wire = Tripwire("Extractor.extract", None, _permanent) if fails else quiet
            assert await other.finish(job, wire) == ("FAILED" if fails else "SUCCEEDED")
            await other.cleaner(quiet).clear_failed_jobs()
            for each in (lake, shore):
                Bucket.of(each).assert_whole()
            assert len(Bucket.of(shore).objects) == (0 if fails else 3)
            if fails:
                assert Bucket.of(lake).objects == before
                await other.finish(await other.fire(), quiet)
            for each in (lake, shore):
                Bucket.of(each).assert_whole()
                assert Bucket.of(each).replayed() == await shop.contents()
        assert Bucket.of(lake).run(-1).redelivers == ((job,) if fails else ())
