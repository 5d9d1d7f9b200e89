"""Roles are assumed with their external id, seldom, and each destination has its own."""

from collections import Counter
from datetime import timedelta

import anyio

from exportd.stores.layout import ObjectKey
from exportd.stores.s3.store import S3Store
from tests.fixtures.faults import Answer, Rule, assumed_role, s3_error
from tests.integration.stores.s3.watched_account import ROLE, WatchedAccount, access_key

KEY = ObjectKey("orgId=org-1/type=account/file.csv.gz")


async def many_requests(store: S3Store, count: int = 10) -> None:
    async with anyio.create_task_group() as tasks:
        for number in range(count):
            tasks.start_soon(store.put, ObjectKey(f"{KEY}{number}"), b"rows")


async def test_a_role_is_assumed_once_for_many_requests(account: WatchedAccount) -> None:
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


async def test_credentials_that_end_soon_are_renewed_once_for_many_requests(account: WatchedAccount) -> None:
    account.proxy.add(Rule(short_lived(timedelta(minutes=5)), "POST", "^/$"))
    store = account.open("bucket-one")
    await store.put(KEY, b"rows")
    assert account.keys_of("bucket-one") == {"ASIASHORT"}
    await many_requests(store)
    await many_requests(store)
    assert len(account.assumed) == 2
    signed = Counter(map(access_key, account.proxy.noted("PUT")))
    assert sorted(signed.values()) == [1, 20], "the ones that ended soon were used once"


async def test_while_they_still_hold_a_renewal_that_fails_does_no_harm(account: WatchedAccount) -> None:
    account.proxy.add(
        Rule(short_lived(timedelta(minutes=12)), "POST", "^/$"),
        Rule(s3_error(503, "ServiceUnavailable"), "POST", "^/$", times=None),
    )
    store = account.open("bucket-one")
    await many_requests(store)
    assert account.keys_of("bucket-one") == {"ASIASHORT"}


async def test_two_destinations_keep_their_own_credentials(account: WatchedAccount) -> None:
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
