"""A destination that lets us put objects and nothing else gets its exports, also when an attempt fails on the way."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from exportd.model.errors import PermanentError, TransientError
from exportd.model.reason import Reason
from exportd.stores.s3.connector import S3Connector
from exportd.stores.s3.options import S3Access
from exportd.stores.s3.store import S3Store
from exportd.stores.store import Store
from tests.acceptance.call_interrupter import Trip, Tripwire
from tests.acceptance.delivered_files import Bucket
from tests.acceptance.destinations import S3Lake
from tests.acceptance.in_process_pipeline import Stop, workshop
from tests.acceptance.sample_application import Shop
from tests.fixtures.daemon import Site
from tests.fixtures.fault_proxy import FaultProxy
from tests.fixtures.faults import Rule, s3_error
from tests.fixtures.moto import MotoServer
from tests.fixtures.stores import PROFILE, give_credentials, s3_store


@dataclass(frozen=True)
class WriteOnlyLake:
    """A bucket that its owner may look into, and exportd may not: ``proxy`` refuses it everything but writing."""

    owned: S3Lake
    proxy: FaultProxy
    refusals: list[Rule] = field(
        default_factory=lambda: [
            Rule(s3_error(403, "AccessDenied", "Access Denied"), method, times=None)
            for method in ("GET", "HEAD", "DELETE")
        ]
    )

    def open(self) -> Store:
        self.proxy.add(*self.refusals)
        return s3_store(self.owned.account, self.owned.name, endpoint=self.proxy.endpoint)

    async def bucket(self) -> Bucket:
        return await self.owned.bucket()

    async def leftovers(self) -> set[str]:
        return await self.owned.leftovers()


@pytest.fixture
async def lake(s3_lake: S3Lake) -> AsyncIterator[WriteOnlyLake]:
    async with FaultProxy(s3_lake.account.endpoint) as proxy:
        yield WriteOnlyLake(s3_lake, proxy)


async def _transient() -> None:
    raise TransientError("It failed on the way.", reason=Reason.DESTINATION_UNAVAILABLE)


async def _permanent() -> None:
    raise PermanentError("It failed for good.", reason=Reason.DESTINATION_REFUSED)


@pytest.mark.parametrize(
    ("name", "trip"),
    [
        pytest.param("S3Store.piece", _transient, id="a piece was sent"),
        pytest.param("Extractor.extract", _transient, id="everything was extracted"),
        pytest.param("JobTable.seal", _transient, id="the job was sealed"),
        pytest.param("S3Store.put", _transient, id="an object is visible"),
        pytest.param("JobTable.record_delivery", _transient, id="everything is there"),
        pytest.param("JobTable.record_delivery", None, id="the daemon leaves when everything is there"),
    ],
)
async def test_a_second_attempt_ends_what_the_first_began(
    site: Site, shop: Shop, lake: WriteOnlyLake, name: str, trip: Trip | None
) -> None:
    await shop.fill(400)
    with capture_logs():
        async with workshop(site.dsn, site.folder, shop.connection, {"lake": lake}) as shed:
            stop = Stop(trip)
            wire = Tripwire(name, 1, stop, after=True)
            assert await shed.finish(await shed.fire(), wire, stop) == "SUCCEEDED"
            assert wire.tripped
            (await lake.bucket()).assert_whole()
            await shop.change()
            assert await shed.finish(await shed.fire(), Tripwire.none()) == "SUCCEEDED"
    bucket = await lake.bucket()
    bucket.assert_whole()
    assert bucket.replayed() == await shop.contents()


async def test_what_a_failed_job_left_does_not_stop_the_next(site: Site, shop: Shop, lake: WriteOnlyLake) -> None:
    """It cannot be removed, and no manifest describes it. That is said once."""
    with capture_logs() as logs:
        async with workshop(site.dsn, site.folder, shop.connection, {"lake": lake}) as shed:
            stop = Stop(_permanent)
            failed = await shed.fire()
            assert await shed.finish(failed, Tripwire("S3Store.put", 1, stop, after=True), stop) == "FAILED"
            assert len((await lake.bucket()).objects) > 0
            cleaner = shed.cleaner(Tripwire.none())
            for _ in range(2):
                await cleaner.clear_failed_jobs()
                await cleaner.abort_dead_uploads()
            for _ in range(2):
                await shop.change()
                assert await shed.finish(await shed.fire(), Tripwire.none()) == "SUCCEEDED"
    bucket = await lake.bucket()
    assert bucket.replayed() == await shop.contents()
    described = {part.key for run in bucket.chains[0].manifests for entity in run.entities for part in entity.parts}
    left = set(bucket.objects) - described
    assert left
    assert all(str(failed) in each for each in left)
    said = [log["event"] for log in logs if "s3:GetObject" in log.get("error", "")]
    assert said.count("objects of a failed job not removed yet") == 1


async def test_a_role_that_may_put_and_nothing_else(
    site: Site, shop: Shop, moto: MotoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moto.create_bucket("theirs")
    owner = await moto.create_user("owner", _allowed("s3:*"))
    exportd = await moto.create_user("exportd", _allowed("sts:AssumeRole"))
    role = await moto.create_role("exports", _allowed("s3:PutObject"), external_id="org-1")
    await moto.enforce_policies()
    give_credentials(exportd, tmp_path, monkeypatch)
    access = S3Access(
        region=moto.region,
        endpoint=moto.endpoint,
        sts_endpoint=moto.endpoint,
        profile=PROFILE,
        role_arn=role,
        external_id="org-1",
    )

    class RoleLake(S3Lake):
        def open(self) -> Store:
            return S3Store(self.name, access, S3Connector())

    lake = RoleLake(owner, "theirs")
    with capture_logs():
        async with workshop(site.dsn, site.folder, shop.connection, {"lake": lake}) as shed:
            for name in ("S3Store.put", "JobTable.record_delivery"):
                stop = Stop(_transient)
                assert await shed.finish(await shed.fire(), Tripwire(name, 1, stop), stop) == "SUCCEEDED"
                await shop.change()
            assert await shed.finish(await shed.fire(), Tripwire.none()) == "SUCCEEDED"
    bucket = await lake.bucket()
    bucket.assert_whole()
    assert bucket.replayed() == await shop.contents()


def _allowed(*actions: str) -> dict[str, object]:
    return {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
