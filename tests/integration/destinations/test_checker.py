"""A check shows whether a destination would work now, not whether it did when its credentials were read."""

from pathlib import Path

import pytest

from exportd.destinations.checker import DestinationChecker
from exportd.destinations.finding import PermissionState
from exportd.destinations.opener import DestinationOpener
from exportd.destinations.permission import Permission
from exportd.model.clock import SystemClock
from exportd.settings.destination_schema import S3Destination
from exportd.stores.layout import ObjectKey
from tests.fixtures.fault_proxy import FaultProxy
from tests.fixtures.faults import Rule, s3_error
from tests.fixtures.moto import MotoServer
from tests.fixtures.settings import settings_with
from tests.fixtures.stores import PROFILE, give_credentials

DECLARED = S3Destination(
    code="lake",
    organization="org-1",
    type="S3",
    bucket="bucket-checked",
    role_arn="arn:aws:iam::123456789012:role/exports",
)


async def test_a_role_that_is_refused_by_now_is_found_out(
    moto: MotoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_credentials(moto, tmp_path, monkeypatch)
    moto.create_bucket("bucket-checked")
    async with FaultProxy(moto.endpoint) as proxy:
        access = {"region": "us-east-1", "profile": PROFILE, "endpoint": proxy.endpoint, "sts_endpoint": proxy.endpoint}
        opener = DestinationOpener(settings_with(s3=access))
        store = opener.open(DECLARED).store
        checker = DestinationChecker(opener, SystemClock())
        try:
            await store.put(ObjectKey("before"), b"rows")
            assert (await checker.check(DECLARED, measures=False)).state(Permission.WRITE) is PermissionState.THERE
            proxy.add(Rule(s3_error(403, "AccessDenied"), "POST", "^/$", times=None))
            await store.put(ObjectKey("after"), b"rows")
            assert (await checker.check(DECLARED, measures=False)).state(Permission.WRITE) is PermissionState.MISSING
        finally:
            await store.aclose()
