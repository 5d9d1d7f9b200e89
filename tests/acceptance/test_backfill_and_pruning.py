"""The pruner keeps what a requested back-fill needs; a back-fill to what was pruned before is refused or full."""

import asyncio

import pytest

from exportd.capture.pruner import Pruned
from exportd.database import queries
from exportd.model.errors import FullReason
from tests.acceptance.call_interrupter import CallInterrupter
from tests.acceptance.delivered_files import DeliveredFiles
from tests.acceptance.sample_application import ENTITIES, Application
from tests.acceptance.schedule_history import applied, asking, begins, blocked, schedule_with_history
from tests.fixtures.daemon import Site

pytestmark = pytest.mark.slow

_LET_GO = queries.load("changes")["let_go"]


async def test_jobs_hold_the_log_for_a_while_and_requests_until_they_are_done(
    site: Site, application: Application
) -> None:
    async with schedule_with_history(site, application) as history:
        kept = await history.log_rows()
        assert kept > 0
        assert await history.pruned(keep_s=3600) == 0
        backfill = await history.ask(history.past)
        assert backfill.job_id is not None
        assert await history.pruned(keep_s=0) == 0
        await history.pipeline.finish(backfill.job_id, CallInterrupter.none())
        assert await history.windows(backfill.job_id) == await history.since(history.first)
        # The back-fill can be filled in itself, for a while.
        assert await history.pruned(keep_s=3600) == 0
        assert await history.pruned(keep_s=0) == kept
        assert DeliveredFiles.of(site.folder / "lake").replayed() == await application.contents()


async def test_what_the_log_no_longer_holds_is_full_and_says_so(site: Site, application: Application) -> None:
    async with schedule_with_history(site, application) as history:
        await history.pruner(keep_s=0).run_once()
        backfill = await history.ask(history.past)
        assert begins(backfill) == dict.fromkeys(ENTITIES, FullReason.LOG_PRUNED)
        assert backfill.job_id is not None
        await history.pipeline.finish(backfill.job_id, CallInterrupter.none())
        assert await history.windows(backfill.job_id) == dict.fromkeys(ENTITIES, FullReason.LOG_PRUNED)
        assert await history.waiting() == {}


async def test_who_has_begun_to_go_back_is_waited_for(site: Site, application: Application) -> None:
    async with schedule_with_history(site, application) as history:
        pruning: asyncio.Task[Pruned] | None = None
        async with asking(history, history.past) as backfill:
            pruning = asyncio.create_task(history.pruner(keep_s=0).run_once())
            await blocked(application, "exportd pruner")
        assert pruning is not None
        await pruning
        assert backfill.job_id is not None
        await application.change()
        await history.pipeline.finish(backfill.job_id, CallInterrupter.none())
        assert await history.windows(backfill.job_id) == await history.since(history.first)
        bucket = DeliveredFiles.of(site.folder / "lake")
        assert applied(bucket, bucket.run(0), bucket.run(-1)) == await application.contents()


async def test_who_comes_while_it_lets_go_finds_nothing_to_go_back_to(site: Site, application: Application) -> None:
    async with schedule_with_history(site, application) as history:
        other = await site.database.connect()
        async with other.transaction():
            await other.execute(_LET_GO, 0.0)
            asking = asyncio.create_task(history.ask(history.past))
            await blocked(application, "exportd tables")
        assert begins(await asking) == dict.fromkeys(ENTITIES, FullReason.LOG_PRUNED)


async def test_what_was_asked_for_and_not_done_for_too_long_is_full(site: Site, application: Application) -> None:
    async with schedule_with_history(site, application) as history:
        backfill = await history.ask(history.past)
        await application.connection.execute(
            "UPDATE exportd.backfill_request SET requested_at = requested_at - interval '8 days'"
        )
        assert (await history.pruner(keep_s=0).run_once()).expired_positions == len(ENTITIES)
        assert await history.waiting() == dict.fromkeys(ENTITIES, FullReason.HORIZON_PASSED)
        assert await history.log_rows() == 0
        assert backfill.job_id is not None
        await history.pipeline.finish(backfill.job_id, CallInterrupter.none())
        assert await history.windows(backfill.job_id) == dict.fromkeys(ENTITIES, FullReason.HORIZON_PASSED)


@pytest.mark.parametrize("backfill", [False, True])
async def test_what_expires_under_a_job_that_has_begun_keeps_its_log(
    site: Site, application: Application, backfill: bool
) -> None:
    async with schedule_with_history(site, application) as history:
        await application.change()
        job = await history.pipeline.fire()
        if backfill:
            assert (await history.ask(history.past)).job_id == job

        async def expire_and_prune() -> None:
            await history.pruner(keep_s=0, horizon_s=0).run_once()

        await history.pipeline.finish(job, CallInterrupter("JobTable.start", 1, expire_and_prune, after=True))
        assert await history.windows(job) == await history.since(history.first if backfill else history.last)
        bucket = DeliveredFiles.of(site.folder / "lake")
        loaded = (bucket.run(0), bucket.run(-1)) if backfill else bucket.chains[0].manifests
        assert applied(bucket, *loaded) == await application.contents()
