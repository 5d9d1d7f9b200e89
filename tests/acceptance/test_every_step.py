"""Wherever an export is stopped, the next daemon ends it, and the files tell nothing of it."""

import os
from collections.abc import Mapping
from pathlib import Path
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from exportd.model.errors import PermanentError, Reason, TransientError
from tests.acceptance.call_interrupter import CallInterrupter, Interruption
from tests.acceptance.declarations import destination, gcs_destination, s3_destination, schedule
from tests.acceptance.delivered_files import DeliveredFiles
from tests.acceptance.destinations import AnyDestination, GcsBucket, LocalDirectory, S3Bucket
from tests.acceptance.in_process_pipeline import InProcessPipeline, Stop, directories, in_process_pipeline
from tests.acceptance.killable_daemon import COUNT_FROM_NOW, run_until_step
from tests.acceptance.sample_application import CATALOG, Application
from tests.fixtures.daemon import Daemon, Section, Site, leftovers, until


@pytest.mark.slow
async def test_killed_all_along(site: Site, application: Application) -> None:
    directory = site.destination()
    lake = LocalDirectory(directory)
    await _kill_all_along(site, application, lake, destination("lake", directory), (site.spool / "jobs", directory))


@pytest.mark.slow
async def test_killed_all_along_the_way_to_s3(site: Site, application: Application, empty_s3_bucket: S3Bucket) -> None:
    """Around each request for an object that has two pieces and more."""
    await application.fill(600)
    declared = s3_destination("lake", empty_s3_bucket)
    watched = (site.spool / "jobs",)
    each_time = "UPDATE public.accounts SET note = note"
    await _kill_all_along(site, application, empty_s3_bucket, declared, watched, each_time=each_time)


@pytest.mark.slow
async def test_killed_all_along_the_way_to_google(
    site: Site, application: Application, empty_gcs_bucket: GcsBucket
) -> None:
    await application.fill(2000)
    declared = gcs_destination("lake", empty_gcs_bucket)
    each_time = "UPDATE public.accounts SET note = note"
    sections = {"gcs": {"endpoint": empty_gcs_bucket.server.endpoint}}
    watched = (site.spool / "jobs",)
    await _kill_all_along(
        site, application, empty_gcs_bucket, declared, watched, each_time=each_time, sections=sections
    )


async def _kill_all_along(
    site: Site,
    application: Application,
    lake: AnyDestination,
    declared: Mapping[str, object],
    watched: tuple[Path, ...],
    *,
    each_time: str = "SELECT",
    sections: Mapping[str, Section] | None = None,
) -> None:
    """Each daemon ends the job that the one before was killed in, and is killed two steps further on."""
    declarations: dict[str, Section] = {"destination": [declared], "schedule": [schedule(entities=["ACCOUNTS"])]}
    site.configure(CATALOG, {**declarations, **(sections or {})})
    connection = application.connection
    first = await site.start()
    job = await site.first_job(connection)
    await site.succeeded(connection, job)
    assert await first.stop() == 0
    step, daemon, died = 1, first, True
    while died:
        daemon = site.fork(run_until_step, watched, step)
        await daemon.wait_for_event("daemon ready")
        await site.succeeded(connection, job)
        bucket = await lake.delivered()
        bucket.assert_whole()
        assert (leftovers(site.spool), await lake.leftovers()) == (set(), set()), f"after a kill at step {step - 2}"
        await application.change(1)
        await connection.execute(each_time)
        daemon.signal(COUNT_FROM_NOW)
        job = await site.fire()

        died = await _dies(daemon, job)
        step += 2  # two steps further: the whole takes long enough
    assert step > 20, "the steps were not counted"
    assert await daemon.stop() == 0
    assert (await lake.delivered()).replayed()["ACCOUNTS"] == (await application.contents())["ACCOUNTS"]
    await site.assert_clean()


async def _dies(daemon: Daemon, job: UUID) -> bool:
    """Whether the daemon is killed before it has ended the job."""

    async def look() -> str | None:
        if daemon.process.poll() is not None:
            return "killed"
        return "ended" if daemon.events_named("job ended", job_id=str(job)) else None

    return await until(look, what=f"the end of job {job} or its daemon") == "killed"


async def _transient() -> None:
    raise TransientError("It failed on the way.", reason=Reason.DESTINATION_UNAVAILABLE)


async def _permanent() -> None:
    raise PermanentError("It failed for good.", reason=Reason.DESTINATION_REFUSED)


EVERY_END = pytest.mark.parametrize(
    ("interruption", "after"),
    [
        pytest.param(_transient, False, id="an error that may pass, before"),
        pytest.param(_permanent, True, id="an error that stays, afterwards"),
        pytest.param(None, True, id="the daemon leaves"),
    ],
)


@pytest.mark.slow
@EVERY_END
async def test_stopped_at_every_step(
    site: Site, application: Application, interruption: Interruption | None, after: bool
) -> None:
    """Each job is stopped at another of the calls that the first one made; two destinations get the same."""
    lakes = directories(site.folder, "lake", "shore")
    await _stop_at_every_step(site, application, lakes, interruption, after=after)


@pytest.mark.slow
@EVERY_END
async def test_stopped_at_every_step_to_s3(
    site: Site, application: Application, empty_s3_bucket: S3Bucket, interruption: Interruption | None, after: bool
) -> None:
    """The same with files that take several pieces."""
    await application.fill(400)
    await _stop_at_every_step(
        site,
        application,
        {"lake": empty_s3_bucket},
        interruption,
        after=after,
        each_time="UPDATE public.accounts SET note = note",
    )


@pytest.mark.slow
@EVERY_END
async def test_stopped_at_every_step_to_google(
    site: Site, application: Application, empty_gcs_bucket: GcsBucket, interruption: Interruption | None, after: bool
) -> None:
    """Pieces go up one after the other there."""
    await application.fill(2000)
    each_time = "UPDATE public.accounts SET note = note"
    await _stop_at_every_step(
        site, application, {"lake": empty_gcs_bucket}, interruption, after=after, each_time=each_time
    )


async def _stop_at_every_step(
    site: Site,
    application: Application,
    lakes: Mapping[str, AnyDestination],
    interruption: Interruption | None,
    *,
    after: bool,
    each_time: str = "SELECT",
) -> None:
    quiet = CallInterrupter.none()

    async def change() -> None:
        await application.change(1)
        await application.connection.execute(each_time)

    with capture_logs():
        async with in_process_pipeline(site.dsn, site.folder, application.connection, lakes) as history:
            await history.finish(await history.fire(), quiet)
            await change()
            await history.finish(await history.fire(), counting := CallInterrupter.none())
            (kind,) = {type(store).__name__ for store in history.stores.values()}
            steps = {"JobTable.seal", "UploadTable.record", f"{kind}.piece", f"{kind}.put", "Spool.write_manifest"}
            assert steps <= set(counting.calls)
            for name, calls in counting.calls.items():
                for number in sorted({1, calls // 2 + 1, calls}):
                    await change()
                    stop = Stop(interruption)
                    interrupter = CallInterrupter(name, number, stop, after=after)
                    state = await history.finish(await history.fire(), interrupter, stop)
                    assert state == "SUCCEEDED" or interruption is _permanent, f"stopped at {name}"
                    assert interrupter.interrupted or number > 1
                    await history.cleaner(quiet).clear_failed_jobs()
                    await history.cleaner(quiet).abort_uploads_of_finished_jobs()
                    await history.cleaner(quiet).abort_dead_uploads()
                    assert leftovers(site.spool) == set(), f"stopped at {name}"
                    for lake in lakes.values():
                        (await lake.delivered()).assert_whole()
                        await _swept(history, lake, name)
            await history.finish(await history.fire(), quiet)
            for lake in lakes.values():
                assert (await lake.delivered()).replayed() == await application.contents()
            assert await application.connection.fetchval("SELECT count(*) FROM exportd.upload") == 0


async def _swept(history: InProcessPipeline, lake: AnyDestination, name: str) -> None:
    """An upload whose beginning was cancelled may come into being after a sweep: the next one finds it."""

    async def look() -> bool:
        await history.cleaner(CallInterrupter.none()).abort_dead_uploads()
        return await lake.leftovers() == set()

    await until(look, what=f"the end of the uploads that were stopped at {name}")


@pytest.mark.parametrize("fails", [False, True], ids=["succeeds", "fails"])
async def test_a_job_whose_spool_is_lost_is_extracted_anew_and_leaves_nothing_of_before(
    site: Site, application: Application, fails: bool
) -> None:
    """It had published some objects to one destination, and everything to the other, without saying so."""
    await application.fill(200)
    quiet = CallInterrupter.none()
    lakes = directories(site.folder, "lake", "shore")
    lake, shore = site.folder / "lake", site.folder / "shore"
    async with in_process_pipeline(site.dsn, site.folder, application.connection, lakes, part_bytes=4000) as history:
        job = await history.fire()
        stop = Stop(None)

        async def lake_has_everything() -> bool:
            # Not by rglob, which does not expect that folders go while it looks.
            return any(
                folder.endswith("/_manifests") and any(name.endswith(".json") for name in files)
                for folder, _, files in os.walk(lake)
            )

        async def stop_then() -> None:
            await until(lake_has_everything, what="the manifest in the lake")
            await stop()

        stop.runner = await history.attempt(CallInterrupter("JobTable.record_delivery", None, stop_then))
        assert stop.runner is not None
        await stop.runner.run()
        before = DeliveredFiles.of(lake).objects
        assert len(before) > 5
        for path in list(shore.rglob("*_account.0*.gz"))[::2]:
            path.unlink()
        for path in shore.rglob("*.json"):
            path.unlink()
        await application.connection.execute("DELETE FROM public.accounts WHERE id > 50")
        async with history.elsewhere(site.folder / "other") as other:
            interrupter = CallInterrupter("Extractor.extract", None, _permanent) if fails else quiet
            assert await other.finish(job, interrupter) == ("FAILED" if fails else "SUCCEEDED")
            await other.cleaner(quiet).clear_failed_jobs()
            for pipeline in (lake, shore):
                DeliveredFiles.of(pipeline).assert_whole()
            assert len(DeliveredFiles.of(shore).objects) == (0 if fails else 3)
            if fails:
                assert DeliveredFiles.of(lake).objects == before
                await other.finish(await other.fire(), quiet)
            for pipeline in (lake, shore):
                DeliveredFiles.of(pipeline).assert_whole()
                assert DeliveredFiles.of(pipeline).replayed() == await application.contents()
        assert DeliveredFiles.of(lake).run(-1).redelivers == ((job,) if fails else ())
