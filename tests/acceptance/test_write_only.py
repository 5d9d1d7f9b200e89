"""A destination that lets us put objects and nothing else gets its exports, also when an attempt fails on the way."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from exportd.model.errors import PermanentError, Reason, TransientError
from exportd.stores.s3.connector import S3Connector
from exportd.stores.s3.options import S3Access
from exportd.stores.s3.store import S3Store
from exportd.stores.store import Store
from tests.acceptance.call_interrupter import CallInterrupter, Interruption
from tests.acceptance.delivered_files import DeliveredFiles
from tests.acceptance.destinations import S3Bucket
from tests.acceptance.in_process_pipeline import Stop, in_process_pipeline
from tests.acceptance.sample_application import Application
from tests.fixtures.daemon import Site
from tests.fixtures.fault_proxy import FaultProxy
from tests.fixtures.faults import Rule, s3_error
from tests.fixtures.moto import MotoServer
from tests.fixtures.stores import PROFILE, give_credentials, s3_store


@dataclass(frozen=True)
class WriteOnlyLake:
    """A bucket that its owner may look into, and exportd may not: ``proxy`` refuses it everything but writing."""

    owned: S3Bucket
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

    async def delivered(self) -> DeliveredFiles:
        return await self.owned.delivered()

    async def leftovers(self) -> set[str]:
        return await self.owned.leftovers()


@pytest.fixture
async def lake(empty_s3_bucket: S3Bucket) -> AsyncIterator[WriteOnlyLake]:
    async with FaultProxy(empty_s3_bucket.account.endpoint) as proxy:
        yield WriteOnlyLake(empty_s3_bucket, proxy)


async def _transient() -> None:
    raise TransientError("It failed on the way.", reason=Reason.DESTINATION_UNAVAILABLE)


async def _permanent() -> None:
    raise PermanentError("It failed for good.", reason=Reason.DESTINATION_REFUSED)


@pytest.mark.parametrize(
    ("name", "interruption"),
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
    site: Site, application: Application, lake: WriteOnlyLake, name: str, interruption: Interruption | None
) -> None:
    await application.fill(400)
    with capture_logs():
        async with in_process_pipeline(site.dsn, site.folder, application.connection, {"lake": lake}) as history:
            stop = Stop(interruption)
            interrupter = CallInterrupter(name, 1, stop, after=True)
            assert await history.finish(await history.fire(), interrupter, stop) == "SUCCEEDED"
            assert interrupter.interrupted
            (await lake.delivered()).assert_whole()
            await application.change()
            assert await history.finish(await history.fire(), CallInterrupter.none()) == "SUCCEEDED"
    bucket = await lake.delivered()
    bucket.assert_whole()
    assert bucket.replayed() == await application.contents()


async def test_what_a_failed_job_left_does_not_stop_the_next(
    site: Site, application: Application, lake: WriteOnlyLake
) -> None:
    """It cannot be removed, and no manifest describes it. That is said once."""
    with capture_logs() as logs:
        async with in_process_pipeline(site.dsn, site.folder, application.connection, {"lake": lake}) as history:
            stop = Stop(_permanent)
            failed = await history.fire()
            assert await history.finish(failed, CallInterrupter("S3Store.put", 2, stop, after=True), stop) == "FAILED"
            assert len((await lake.delivered()).objects) > 0
            cleaner = history.cleaner(CallInterrupter.none())
            for _ in range(2):
                await cleaner.clear_failed_jobs()
                await cleaner.abort_dead_uploads()
            for _ in range(2):
                await application.change()
                assert await history.finish(await history.fire(), CallInterrupter.none()) == "SUCCEEDED"
    bucket = await lake.delivered()
    assert bucket.replayed() == await application.contents()
    described = {part.key for run in bucket.chains[0].manifests for entity in run.entities for part in entity.parts}
    left = set(bucket.objects) - described
    assert left
    assert all(str(failed) in leftover for leftover in left)
    said = [log["event"] for log in logs if "s3:GetObject" in log.get("error", "")]
    assert said.count("objects of a failed job not removed yet") == 1


async def test_a_role_that_may_put_and_nothing_else(
    site: Site, application: Application, moto: MotoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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

    class RoleLake(S3Bucket):
        def open(self) -> Store:
            return S3Store(self.name, access, S3Connector())

    lake = RoleLake(owner, "theirs")
    with capture_logs():
        async with in_process_pipeline(site.dsn, site.folder, application.connection, {"lake": lake}) as history:
            for name in ("S3Store.put", "JobTable.record_delivery"):
                stop = Stop(_transient)
                assert await history.finish(await history.fire(), CallInterrupter(name, 1, stop), stop) == "SUCCEEDED"
                await application.change()
            assert await history.finish(await history.fire(), CallInterrupter.none()) == "SUCCEEDED"
    bucket = await lake.delivered()
    bucket.assert_whole()
    assert bucket.replayed() == await application.contents()


def _allowed(*actions: str) -> dict[str, object]:
    return {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
