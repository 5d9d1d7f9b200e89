"""Roles are assumed with their external id, seldom, and each destination has its own."""

import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qs

import anyio
import pytest

from exportd.stores.layout import ObjectKey
from exportd.stores.s3.connector import S3Connector
from exportd.stores.s3.options import S3Access
from exportd.stores.s3.store import S3Store
from tests.fixtures.fault_proxy import FaultProxy, Noted
from tests.fixtures.faults import Answer, Rule, assumed_role, s3_error
from tests.fixtures.moto import MotoServer
from tests.fixtures.stores import PROFILE, give_credentials

KEY = ObjectKey("orgId=org-1/type=account/file.csv.gz")
ROLE = "arn:aws:iam::123456789012:role/exports"


class Account:
    """Buckets of moto behind a proxy, which sees what S3 and STS are asked."""

    def __init__(self, proxy: FaultProxy, stack: AsyncExitStack) -> None:
        self.proxy = proxy
        self._connector = S3Connector()
        self._stack = stack

    def open(self, bucket: str, role_arn: str = ROLE, external_id: str = "org-1", *, afresh: bool = False) -> S3Store:
        access = S3Access(
            region="us-east-1",
            endpoint=self.proxy.endpoint,
            sts_endpoint=self.proxy.endpoint,
            profile=PROFILE,
            role_arn=role_arn,
            external_id=external_id,
        )
        store = S3Store(bucket, access, self._connector)
        self._stack.push_async_callback(store.aclose)
        return store

    @property
    def assumed(self) -> list[dict[str, str]]:
        """What STS was asked."""
        return [
            {name: value for name, [value] in parse_qs(request.body.decode()).items()}
            for request in self.proxy.noted("POST", "^/$")
        ]

    def keys_of(self, bucket: str) -> set[str]:
        """The access keys that requests to a bucket were signed with."""
        return {_access_key(request) for request in self.proxy.noted(pattern=f"^/{bucket}/")}


def _access_key(noted: Noted) -> str:
    found = re.search(r"Credential=([^/]+)/", noted.headers["Authorization"])
    assert found is not None
    return found[1]


@pytest.fixture
async def account(moto: MotoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Account]:
    give_credentials(moto, tmp_path, monkeypatch)
    for name in ("one", "two"):
        moto.create_bucket(f"bucket-{name}")
    async with FaultProxy(moto.endpoint) as proxy, AsyncExitStack() as stack:
        yield Account(proxy, stack)


async def many_requests(store: S3Store, count: int = 10) -> None:
    async with anyio.create_task_group() as tasks:
        for number in range(count):
            tasks.start_soon(store.put, ObjectKey(f"{KEY}{number}"), b"rows")


async def test_a_role_is_assumed_once_for_many_requests(account: Account) -> None:
    store = account.open("bucket-one", external_id="org 1/é")
    await many_requests(store)
    await many_requests(store)
    [assumed] = account.assumed
    assert assumed["Action"] == "AssumeRole"
    assert assumed["RoleArn"] == ROLE
    assert assumed["ExternalId"] == "org 1/é"
    assert assumed["RoleSessionName"] == "exportd-org-1--"
    assert assumed["DurationSeconds"] == "3600"
    requests = account.proxy.noted("PUT")
    assert len(requests) == 20
    assert len({request.headers["x-amz-security-token"] for request in requests}) == 1
    assert "AKIAEXAMPLE" not in account.keys_of("bucket-one")


async def test_credentials_that_end_soon_are_renewed_once_for_many_requests(account: Account) -> None:
    account.proxy.add(Rule(short_lived(timedelta(minutes=5)), "POST", "^/$"))
    store = account.open("bucket-one")
    await store.put(KEY, b"rows")
    assert account.keys_of("bucket-one") == {"ASIASHORT"}
    await many_requests(store)
    await many_requests(store)
    assert len(account.assumed) == 2
    signed = Counter(map(_access_key, account.proxy.noted("PUT")))
    assert sorted(signed.values()) == [1, 20], "the ones that ended soon were used once"


async def test_while_they_still_hold_a_renewal_that_fails_does_no_harm(account: Account) -> None:
    account.proxy.add(
        Rule(short_lived(timedelta(minutes=12)), "POST", "^/$"),
        Rule(s3_error(503, "ServiceUnavailable"), "POST", "^/$", times=None),
    )
    store = account.open("bucket-one")
    await many_requests(store)
    assert account.keys_of("bucket-one") == {"ASIASHORT"}


async def test_two_destinations_keep_their_own_credentials(account: Account) -> None:
    one = account.open("bucket-one", f"{ROLE}-one", "org-1")
    two = account.open("bucket-two", f"{ROLE}-two", "org-2")
    async with anyio.create_task_group() as tasks:
        for store in (one, two, one, two):
            tasks.start_soon(many_requests, store, 5)
    assert Counter((role["RoleArn"], role["ExternalId"]) for role in account.assumed) == {
        (f"{ROLE}-one", "org-1"): 1,
        (f"{ROLE}-two", "org-2"): 1,
    }
    [of_one], [of_two] = account.keys_of("bucket-one"), account.keys_of("bucket-two")
    assert of_one != of_two


def short_lived(duration: timedelta) -> Answer:
    return assumed_role("ASIASHORT", duration, secret_key="secret", session_token="token")
