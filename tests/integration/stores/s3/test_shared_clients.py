"""Destinations with the same rights share a client and its connections; certificates are shared by all."""

from dataclasses import replace
from pathlib import Path
from shutil import copyfile
from typing import Any

import anyio
import pytest
import trustme
from aiobotocore.httpsession import AIOHTTPSession

from exportd.model.errors import PermanentError
from exportd.stores.layout import ObjectKey
from exportd.stores.s3.connector import S3Connector
from exportd.stores.s3.options import S3Access
from exportd.stores.s3.store import MAX_REQUESTS, S3Store
from tests.fixtures.faults import Rule, Stall
from tests.fixtures.stores import PROFILE, give_credentials
from tests.fixtures.swift import SwiftServer
from tests.integration.stores.s3.watched_account import ROLE, WatchedAccount

KEY = ObjectKey("orgId=org-1/type=account/file.csv.gz")


def without_roles(account: WatchedAccount) -> tuple[S3Store, S3Store]:
    return account.open("bucket-one", "", "org-1"), account.open("bucket-two", "", "org-2")


async def test_stores_with_the_same_rights_use_the_same_connections(account: WatchedAccount) -> None:
    one, two = without_roles(account)
    await one.put(KEY, b"rows")
    await two.put(KEY, b"rows")
    assert len(account.connections("bucket-one") | account.connections("bucket-two")) == 1


async def test_a_connection_lives_as_long_as_one_of_the_stores(account: WatchedAccount) -> None:
    one, two = without_roles(account)
    for store in (one, two):
        await store.put(KEY, b"rows")
    await one.aclose()
    await two.put(KEY, b"rows")
    assert len(account.connections("bucket-two")) == 1
    await two.aclose()
    await one.put(KEY, b"rows")
    assert len(account.connections("bucket-one")) == 2


async def test_roles_share_nothing_but_the_way_to_be_assumed(account: WatchedAccount) -> None:
    one = account.open("bucket-one", f"{ROLE}-one", "org-1")
    two = account.open("bucket-two", f"{ROLE}-two", "org-2")
    await one.put(KEY, b"rows")
    await two.put(KEY, b"rows")
    assert not account.connections("bucket-one") & account.connections("bucket-two")
    assumed = account.proxy.noted("POST", "^/$")
    assert len(assumed) == 2
    assert len({request.connection for request in assumed}) == 1


async def test_requests_that_hang_are_bounded_and_hold_up_no_other_store(account: WatchedAccount) -> None:
    one, two = without_roles(account)
    account.proxy.add(Rule(Stall(), "PUT", "^/bucket-one/", times=None))
    async with anyio.create_task_group() as hanging:
        for number in range(2 * MAX_REQUESTS):
            hanging.start_soon(one.put, ObjectKey(f"{KEY}{number}"), b"rows")
        with anyio.fail_after(20):
            while len(account.proxy.noted("PUT")) < MAX_REQUESTS:
                await anyio.lowlevel.checkpoint()
            await two.put(KEY, b"rows")
        assert len(account.proxy.noted("PUT", "^/bucket-one/")) == MAX_REQUESTS
        hanging.cancel_scope.cancel()


async def test_credentials_that_were_replaced_are_used_by_all_stores(
    swift: SwiftServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    buckets = ("replaced-one", "replaced-two")
    for bucket in buckets:
        swift.create_bucket(bucket)
    connector = S3Connector()
    access = S3Access(region=swift.region, endpoint=swift.endpoint, profile=PROFILE)
    stores = [S3Store(bucket, replace(access, external_id=bucket), connector) for bucket in buckets]
    give_credentials(replace(swift, secret_key="replaced-since"), tmp_path, monkeypatch)
    try:
        # Both are connected with the old ones.
        async with anyio.create_task_group() as tasks:
            for store in stores:
                tasks.start_soon(_refused, store)
        give_credentials(swift, tmp_path, monkeypatch)
        for store in stores:
            await store.put(KEY, b"rows")
    finally:
        for store in stores:
            await store.aclose()


async def _refused(store: S3Store) -> None:
    with pytest.raises(PermanentError, match="The credentials are wrong or not active"):
        await store.put(KEY, b"rows")


async def test_certificates_are_loaded_once_for_all_clients_and_again_when_they_are_replaced(
    swift: SwiftServer, swift_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_credentials(swift, tmp_path, monkeypatch)
    library: Any = AIOHTTPSession  # the method has no public name
    loaded, load = list[object](), library._build_verify_context

    def counted(session: AIOHTTPSession) -> object:
        loaded.append(session)
        return load(session)

    monkeypatch.setattr(library, "_build_verify_context", counted)
    ca_file = tmp_path / "ca.pem"
    access = S3Access(region=swift.region, endpoint=swift.tls_endpoint, profile=PROFILE, ca_file=ca_file)

    stores = [S3Store(swift_bucket, access, S3Connector()) for _ in range(3)]
    try:
        copyfile(swift.ca_file, ca_file)
        for store in stores[:2]:
            await store.put(KEY, b"rows")
        assert len(loaded) == 1
        trustme.CA().cert_pem.write_to_path(str(ca_file))
        with pytest.raises(PermanentError, match="certificate"):
            await stores[2].put(KEY, b"rows")
        assert len(loaded) == 2
        copyfile(swift.ca_file, ca_file)
        await stores[2].put(KEY, b"rows")
        assert len(loaded) == 3
    finally:
        for store in stores:
            await store.aclose()
