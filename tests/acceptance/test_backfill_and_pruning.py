"""The pruner deletes nothing that a back-fill goes back to, and whoever goes back finds what is no longer there."""

import asyncio

import pytest

from exportd.capture.pruner import Pruned
from exportd.database import queries
from exportd.model.reason import FullReason
from tests.acceptance.call_interrupter import Tripwire
from tests.acceptance.delivered_files import Bucket
from tests.acceptance.sample_application import ENTITIES, Shop
from tests.acceptance.schedule_history import applied, asking, begins, blocked, opened
from tests.fixtures.daemon import Site

pytestmark = pytest.mark.slow

_LET_GO = queries.load("changes")["let_go"]


async def test_jobs_hold_the_log_for_a_while_and_requests_until_they_are_done(site: Site, shop: Shop) -> None:
    async with opened(site, shop) as shed:
        kept = await shed.log_rows()
        assert kept > 0
        assert await shed.pruned(keep_s=3600) == 0
        backfill = await shed.ask(shed.past)
        assert backfill.job_id is not None
        assert await shed.pruned(keep_s=0) == 0
        await shed.place.finish(backfill.job_id, Tripwire.none())
        assert await shed.windows(backfill.job_id) == await shed.since(shed.first)
        # The back-fill can be filled in itself, for a while.
        assert await shed.pruned(keep_s=3600) == 0
        assert await shed.pruned(keep_s=0) == kept
        assert Bucket.of(site.folder / "lake").replayed() == await shop.contents()


async def test_what_the_log_no_longer_holds_is_full_and_says_so(site: Site, shop: Shop) -> None:
    async with opened(site, shop) as shed:
        await shed.pruner(keep_s=0).run_once()
        backfill = await shed.ask(shed.past)
        assert begins(backfill) == dict.fromkeys(ENTITIES, FullReason.LOG_PRUNED)
        assert backfill.job_id is not None
        await shed.place.finish(backfill.job_id, Tripwire.none())
        assert await shed.windows(backfill.job_id) == dict.fromkeys(ENTITIES, FullReason.LOG_PRUNED)
        assert await shed.waiting() == {}


async def test_who_has_begun_to_go_back_is_waited_for(site: Site, shop: Shop) -> None:
    async with opened(site, shop) as shed:
        pruning: asyncio.Task[Pruned] | None = None
        async with asking(shed, shed.past) as backfill:
            pruning = asyncio.create_task(shed.pruner(keep_s=0).run_once())
            await blocked(shop, "exportd pruner")
        assert pruning is not None
        await pruning
        assert backfill.job_id is not None
        await shop.change()
        await shed.place.finish(backfill.job_id, Tripwire.none())
        assert await shed.windows(backfill.job_id) == await shed.since(shed.first)
        bucket = Bucket.of(site.folder / "lake")
        assert applied(bucket, bucket.run(0), bucket.run(-1)) == await shop.contents()


async def test_who_comes_while_it_lets_go_finds_nothing_to_go_back_to(site: Site, shop: Shop) -> None:
    async with opened(site, shop) as shed:
        other = await site.database.connect()
        async with other.transaction():
            await other.execute(_LET_GO, 0.0)
            asking = asyncio.create_task(shed.ask(shed.past))
            await blocked(shop, "exportd tables")
        assert begins(await asking) == dict.fromkeys(ENTITIES, FullReason.LOG_PRUNED)


async def test_what_was_asked_for_and_not_done_for_too_long_is_full(site: Site, shop: Shop) -> None:
    async with opened(site, shop) as shed:
        backfill = await shed.ask(shed.past)
        await shop.connection.execute(
            "UPDATE exportd.backfill_request SET requested_at = requested_at - interval '8 days'"
        )
        assert (await shed.pruner(keep_s=0).run_once()).expired_positions == len(ENTITIES)
        assert await shed.waiting() == dict.fromkeys(ENTITIES, FullReason.HORIZON_PASSED)
        assert await shed.log_rows() == 0
        assert backfill.job_id is not None
        await shed.place.finish(backfill.job_id, Tripwire.none())
        assert await shed.windows(backfill.job_id) == dict.fromkeys(ENTITIES, FullReason.HORIZON_PASSED)


@pytest.mark.parametrize("backfill", [False, True])
async def test_what_expires_under_a_job_that_has_begun_keeps_its_log(site: Site, shop: Shop, backfill: bool) -> None:
    async with opened(site, shop) as shed:
        await shop.change()
        job = await shed.place.fire()
        if backfill:
            assert (await shed.ask(shed.past)).job_id == job

        async def expire_and_prune() -> None:
            await shed.pruner(keep_s=0, horizon_s=0).run_once()

        await shed.place.finish(job, Tripwire("JobTable.start", 1, expire_and_prune, after=True))
        assert await shed.windows(job) == await shed.since(shed.first if backfill else shed.last)
        bucket = Bucket.of(site.folder / "lake")
        loaded = (bucket.run(0), bucket.run(-1)) if backfill else bucket.chains[0].manifests
        assert applied(bucket, *loaded) == await shop.contents()
