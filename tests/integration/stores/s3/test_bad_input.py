"""What is wrong with a bucket, a role or credentials is said in a sentence, with what to grant or change."""

import json
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from exportd.model.errors import ExportdError, PermanentError, Reason, TransientError
from exportd.stores.layout import ObjectKey
from exportd.stores.s3.connector import S3Connector
from exportd.stores.s3.options import S3Access, S3Options
from exportd.stores.s3.store import S3Store
from tests.fixtures.fault_proxy import FaultProxy
from tests.fixtures.faults import Answer, Rule, clock_skew, s3_error
from tests.fixtures.moto import MotoServer
from tests.fixtures.s3 import S3Account
from tests.fixtures.stores import PROFILE, give_credentials
from tests.fixtures.swift import SwiftServer

KEY = ObjectKey("orgId=org-1/type=account/file.csv.gz")


class Opener:
    """Opens stores, which are closed when the test ends."""

    def __init__(self, folder: Path, environment: pytest.MonkeyPatch, stack: AsyncExitStack) -> None:
        self._folder = folder
        self._environment = environment
        self._stack = stack

    def as_user(self, account: S3Account) -> None:
        """From now on the environment has the credentials of this user."""
        give_credentials(account, self._folder, self._environment)

    def __call__(self, bucket: str, options: S3Options | None = None, **access: Any) -> S3Store:
        usual = {"region": "us-east-1", "profile": PROFILE}
        store = S3Store(bucket, S3Access(**{**usual, **access}), S3Connector(), options=options)
        self._stack.push_async_callback(store.aclose)
        return store


@pytest.fixture
async def open_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Opener]:
    # The machine may have credentials of its own; and none are asked for over the network.
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "there-is-none"))
    async with AsyncExitStack() as stack:
        yield Opener(tmp_path, monkeypatch, stack)


async def refused(attempt: Awaitable[object]) -> str:
    """The sentence of a permanent refusal."""
    with pytest.raises(PermanentError) as caught:
        await attempt
    assert caught.value.reason is Reason.DESTINATION_REFUSED
    return _checked(caught.value)


def _checked(error: ExportdError) -> str:
    assert "s3://" in error.sentence, "the place is named"
    assert error.sentence.rstrip().endswith((".", ")"))
    assert "Traceback" not in error.sentence
    assert "\n" not in error.sentence
    return error.sentence


def _allowed(*actions: str) -> dict[str, object]:
    return {"Effect": "Allow", "Action": list(actions), "Resource": "*"}


# What servers say


async def test_a_bucket_that_is_not_there(swift: SwiftServer, open_store: Opener) -> None:
    open_store.as_user(swift)
    store = open_store("missing-bucket", endpoint=swift.endpoint)
    for attempt in (store.put(KEY, b"rows"), store.start(KEY)):
        sentence = await refused(attempt)
        assert "s3://missing-bucket" in sentence
        assert "NoSuchBucket, HTTP 404, request tx" in sentence
        assert "There is no such bucket: create it, or correct `bucket`." in sentence


async def test_a_region_that_is_not_the_buckets_is_found_out(
    swift: SwiftServer, swift_bucket: str, open_store: Opener
) -> None:
    """The library asks the store and signs again."""
    open_store.as_user(swift)
    store = open_store(swift_bucket, endpoint=swift.endpoint, region="eu-west-1")
    await store.put(KEY, b"rows")
    assert [info.size_bytes async for info in store.list("")] == [4]


async def test_a_secret_that_is_wrong(swift: SwiftServer, swift_bucket: str, open_store: Opener) -> None:
    open_store.as_user(replace(swift, secret_key="s3cr3t"))
    sentence = await refused(open_store(swift_bucket, endpoint=swift.endpoint).put(KEY, b"rows"))
    assert "SignatureDoesNotMatch, HTTP 403, request tx" in sentence
    assert "The credentials are wrong or not active: correct them." in sentence
    assert "s3cr3t" not in sentence


async def test_a_user_who_is_not_there(moto: MotoServer, open_store: Opener) -> None:
    moto.create_bucket("mine")
    await moto.enforce_policies()
    open_store.as_user(moto)
    sentence = await refused(open_store("mine", endpoint=moto.endpoint).put(KEY, b"rows"))
    assert "InvalidAccessKeyId, HTTP 403, request " in sentence
    assert "The credentials are wrong or not active: correct them." in sentence


async def test_no_credentials_at_all(swift: SwiftServer, swift_bucket: str, open_store: Opener) -> None:
    sentence = await refused(open_store(swift_bucket, endpoint=swift.endpoint, profile="").put(KEY, b"rows"))
    assert "there are no AWS credentials" in sentence
    assert "the environment, a profile, a role of the machine" in sentence


async def test_half_of_the_credentials(
    swift: SwiftServer, swift_bucket: str, monkeypatch: pytest.MonkeyPatch, open_store: Opener
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    sentence = await refused(open_store(swift_bucket, endpoint=swift.endpoint, profile="").put(KEY, b"rows"))
    assert "AWS_SECRET_ACCESS_KEY" in sentence.upper()


async def test_a_profile_that_is_not_there(swift: SwiftServer, swift_bucket: str, open_store: Opener) -> None:
    open_store.as_user(swift)
    sentence = await refused(open_store(swift_bucket, endpoint=swift.endpoint, profile="exprots").put(KEY, b"rows"))
    assert "(The config profile (exprots) could not be found)" in sentence
    assert "or name their profile" in sentence


async def test_a_certificate_of_an_unknown_authority(swift: SwiftServer, swift_bucket: str, open_store: Opener) -> None:
    open_store.as_user(swift)
    sentence = await refused(open_store(swift_bucket, endpoint=swift.tls_endpoint).put(KEY, b"rows"))
    assert "certificate verify failed" in sentence
    assert "name the authority in ca_file" in sentence
    await open_store(swift_bucket, endpoint=swift.tls_endpoint, ca_file=swift.ca_file).put(KEY, b"rows")


async def test_tls_where_there_is_none(swift: SwiftServer, swift_bucket: str, open_store: Opener) -> None:
    open_store.as_user(swift)
    endpoint = swift.endpoint.replace("http:", "https:")
    sentence = await refused(open_store(swift_bucket, endpoint=endpoint).put(KEY, b"rows"))
    assert "speaks no TLS" in sentence


async def test_no_server_listens(swift: SwiftServer, swift_bucket: str, open_store: Opener) -> None:
    open_store.as_user(swift)
    store = open_store(swift_bucket, endpoint="http://127.0.0.1:1")
    with pytest.raises(TransientError, match="cannot be reached for writing") as caught:
        await store.put(KEY, b"rows")
    assert caught.value.reason is Reason.DESTINATION_UNAVAILABLE
    assert "Connect call failed" in _checked(caught.value)


async def test_no_permission_to_put(moto: MotoServer, open_store: Opener) -> None:
    moto.create_bucket("mine")
    reader = await moto.create_user("reader", _allowed("s3:GetObject"))
    await moto.enforce_policies()
    open_store.as_user(reader)
    store = open_store("mine", endpoint=moto.endpoint)
    for attempt in (store.put(KEY, b"rows"), store.start(KEY)):
        sentence = await refused(attempt)
        assert "AccessDenied, HTTP 403, request " in sentence
        assert "Grant s3:PutObject" in sentence
    assert "Grant s3:ListBucket" in await refused(anext(aiter(store.list(""))))


async def test_no_permission_to_look(moto: MotoServer, open_store: Opener) -> None:
    """The answer to HEAD has no body to say why."""
    moto.create_bucket("mine")
    writer = await moto.create_user("writer", _allowed("s3:PutObject"))
    await moto.enforce_policies()
    open_store.as_user(writer)
    store = open_store("mine", endpoint=moto.endpoint)
    await store.put(KEY, b"rows")
    sentence = await refused(store.head(KEY))
    assert "(403, HTTP 403, request " in sentence
    assert "Grant s3:GetObject" in sentence


async def test_a_policy_that_demands_an_encryption(moto: MotoServer, open_store: Opener) -> None:
    moto.create_bucket("guarded")
    user = await moto.create_user("exportd", _allowed("s3:*"))
    statement = {"Effect": "Deny", "Principal": "*", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::guarded/*"}
    async with moto.client() as owner:
        await owner.put_bucket_policy(
            Bucket="guarded", Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        )
    await moto.enforce_policies()
    open_store.as_user(user)
    sentence = await refused(open_store("guarded", endpoint=moto.endpoint).put(KEY, b"rows"))
    assert "A bucket's policy may also demand an encryption (set `encryption`)" in sentence


async def test_a_bucket_with_object_lock_takes_what_has_a_checksum(moto: MotoServer, open_store: Opener) -> None:
    async with moto.client() as client:
        await client.create_bucket(Bucket="locked", ObjectLockEnabledForBucket=True)
        await client.put_object_lock_configuration(
            Bucket="locked",
            ObjectLockConfiguration={
                "ObjectLockEnabled": "Enabled",
                "Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 1}},
            },
        )
    open_store.as_user(moto)
    await open_store("locked", endpoint=moto.endpoint).put(KEY, b"rows")
    bare = open_store("locked", S3Options("NONE"), endpoint=moto.endpoint)
    sentence = await refused(bare.put(KEY, b"rows"))
    assert 'set checksum = "FULL_OBJECT" or "PIECES"' in sentence


# Roles


async def test_a_role_that_is_not_there(moto: MotoServer, open_store: Opener) -> None:
    user = await moto.create_user("exportd", _allowed("s3:*"))
    await moto.create_role("exports", _allowed("s3:*"), external_id="org-1")
    await moto.enforce_policies()
    open_store.as_user(user)
    role: dict[str, Any] = {"endpoint": moto.endpoint, "sts_endpoint": moto.endpoint, "external_id": "org-1"}
    for arn in ("arn:aws:iam::123456789012:role/exprots", "arn:aws:iam::123456789012:role/exports"):
        sentence = await refused(open_store("mine", role_arn=arn, **role).put(KEY, b"rows"))
        assert "AccessDenied, HTTP 403, request " in sentence
        assert "sts:AssumeRole" in sentence
        assert "correct role_arn" in sentence


async def test_a_role_that_wants_another_external_id(moto: MotoServer, open_store: Opener) -> None:
    user = await moto.create_user("exportd", _allowed("sts:AssumeRole"))
    arn = await moto.create_role("exports", _allowed("s3:*"), external_id="org-1")
    await moto.enforce_policies()
    open_store.as_user(user)
    store = open_store("mine", endpoint=moto.endpoint, sts_endpoint=moto.endpoint, role_arn=arn, external_id="org-2")
    sentence = await refused(store.put(KEY, b"rows"))
    assert "AccessDenied, HTTP 403" in sentence
    assert "with the organization's id as sts:ExternalId" in sentence


# What AWS documents and no server of the tests says


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        pytest.param(
            s3_error(400, "ExpiredToken", "The provided token has expired."),
            "ExpiredToken, HTTP 400, request FAULT). The credentials have expired: renew them",
            id="expired credentials",
        ),
        pytest.param(
            clock_skew(timedelta(hours=1)),
            "RequestTimeTooSkewed, HTTP 403, request FAULT). The clock of this host and the store's differ too much",
            id="clock skew",
        ),
        pytest.param(
            s3_error(501, "NotImplemented", "A header you provided implies functionality that is not implemented."),
            "NotImplemented, HTTP 501, request FAULT). The store does not take the header x-amz-checksum-crc32: set "
            'checksum = "PIECES", or "NONE".',
            id="no checksum header",
        ),
        pytest.param(
            Answer(501, b"<html>Not Implemented</html>"),
            "The store does not offer this: it has to know the multipart uploads of S3.",
            id="no multipart, and no S3",
        ),
        pytest.param(
            s3_error(405, "MethodNotAllowed", "The specified method is not allowed against this resource."),
            "MethodNotAllowed, HTTP 405, request FAULT). The store does not offer this",
            id="no such method",
        ),
        pytest.param(
            s3_error(403, "AccessDenied", "User: u is not authorized to perform: kms:GenerateDataKey on resource: k"),
            "AccessDenied, HTTP 403, request FAULT). Grant kms:GenerateDataKey and kms:Decrypt for the key",
            id="no use of the key",
        ),
        pytest.param(
            s3_error(400, "KMS.NotFoundException", "Invalid keyId k"),
            "KMS.NotFoundException, HTTP 400, request FAULT). Grant kms:GenerateDataKey",
            id="no such key",
        ),
        pytest.param(
            s3_error(403, "AllAccessDisabled", "All access to this object has been disabled."),
            "Grant s3:PutObject",
            id="access disabled",
        ),
        pytest.param(
            s3_error(400, "InvalidRequest", "Checksum Type mismatch occurred, expected checksum Type: null"),
            'set checksum = "PIECES", or "NONE"',
            id="another kind of checksum",
        ),
    ],
)
async def test_a_refusal_says_what_to_change(
    moto: MotoServer,
    open_store: Opener,
    answer: Answer,
    says: str,
) -> None:
    open_store.as_user(moto)
    async with FaultProxy(moto.endpoint) as proxy:
        proxy.add(Rule(answer, times=None))
        sentence = await refused(open_store("mine", endpoint=proxy.endpoint).start(KEY))
        assert len(proxy.requests) == 1, "it is not tried again"
    assert says in sentence


async def test_a_bucket_elsewhere(moto: MotoServer, open_store: Opener) -> None:
    """Also where the store does not lead there."""
    open_store.as_user(moto)
    async with FaultProxy(moto.endpoint) as proxy:
        moved = s3_error(301, "PermanentRedirect", "The bucket must be addressed using the specified endpoint.")
        proxy.add(Rule(moved, times=None))
        sentence = await refused(open_store("mine", endpoint=proxy.endpoint).start(KEY))
        assert "PermanentRedirect, HTTP 301, request FAULT). The bucket lies in another region, or" in sentence
        proxy.clear()
        answer = s3_error(400, "IllegalLocationConstraintException", "no", **{"x-amz-bucket-region": "eu-west-3"})
        proxy.add(Rule(answer, times=None))
        sentence = await refused(open_store("mine", endpoint=proxy.endpoint).start(KEY))
        assert 'set `region` = "eu-west-3"' in sentence


async def test_a_role_whose_trust_policy_misses_the_external_id(moto: MotoServer, open_store: Opener) -> None:
    """STS says the same as of a role that is not there."""
    open_store.as_user(moto)
    body = (
        b'<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>'
        b"<Code>AccessDenied</Code><Message>User: arn:aws:iam::1:user/e is not authorized to perform: sts:AssumeRole "
        b"on resource: arn:aws:iam::1:role/exports</Message></Error><RequestId>STS-FAULT</RequestId></ErrorResponse>"
    )
    async with FaultProxy(moto.endpoint) as proxy:
        proxy.add(Rule(Answer(403, body, {"Content-Type": "text/xml"}), "POST", times=None))
        role: dict[str, Any] = {"sts_endpoint": proxy.endpoint, "role_arn": "arn:aws:iam::1:role/exports"}
        sentence = await refused(open_store("mine", endpoint=moto.endpoint, **role).put(KEY, b"rows"))
    assert "AccessDenied, HTTP 403, request STS-FAULT" in sentence
    assert "as sts:ExternalId" in sentence
