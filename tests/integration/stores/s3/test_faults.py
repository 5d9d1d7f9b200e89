"""Whatever happens to requests on their way to S3 and back, the object ends up right, once, and no upload is left."""

import base64
import hashlib
import random
import re
import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Literal, TypedDict

import anyio
import pytest

from exportd.delivery.byte_limiter import ByteLimiter
from exportd.delivery.transfer import Transfer
from exportd.model.entity import EntityCode
from exportd.model.errors import Reason, TransientError
from exportd.model.job import Part
from exportd.model.schedule import DestinationCode
from exportd.spool.part_files import SpooledPart, verify
from exportd.stores.layout import ObjectKey
from exportd.stores.retrying import RetryBudget
from exportd.stores.s3 import store as store_module
from exportd.stores.s3.connector import LightClient
from exportd.stores.s3.options import S3Options
from exportd.stores.s3.store import S3Store
from exportd.stores.store import Store, read_within
from tests.acceptance.destinations import S3Bucket
from tests.fixtures.fault_proxy import FaultProxy, Noted
from tests.fixtures.faults import Answer, Damage, DropResponse, Fault, Reset, Rule, Slow, Stall, s3_error, slow_down
from tests.fixtures.stores import give_credentials, s3_store
from tests.fixtures.swift import SMALL_PIECE_BYTES, SwiftServer

QUICK = RetryBudget(timeout_s=20, first_wait_s=0.0001, max_wait_s=0.0001, jitter_s=0)
KEY = ObjectKey("orgId=org-1/type=account/file.csv.gz")
LARGE = random.Random(1).randbytes(3 * SMALL_PIECE_BYTES + 1000)
SMALL = b"a small file"
_PIECES = [LARGE[at : at + SMALL_PIECE_BYTES] for at in range(0, len(LARGE), SMALL_PIECE_BYTES)]


class _Request(TypedDict):
    method: str
    pattern: str


START = _Request(method="POST", pattern=r"\?uploads")
PIECE = _Request(method="PUT", pattern=r"partNumber=2\b")
LAST_PIECE = _Request(method="PUT", pattern=r"partNumber=4\b")
COMPLETE = _Request(method="POST", pattern=r"uploadId=")
HEAD = _Request(method="HEAD", pattern="")
PUT = _Request(method="PUT", pattern=r"^[^?]*$")
DELETE = _Request(method="DELETE", pattern=r"^[^?]*$")
ABORT = _Request(method="DELETE", pattern=r"uploadId=")


class Way:
    """The way to a bucket: what happens there is up to ``proxy``, and ``lake`` is what lies at its end."""

    def __init__(self, proxy: FaultProxy, lake: S3Bucket, folder: Path, stack: AsyncExitStack) -> None:
        self.proxy = proxy
        self.lake = lake
        self._folder = folder
        self._stack = stack

    def open(
        self,
        options: S3Options | None = None,
        *,
        piece_bytes: int = SMALL_PIECE_BYTES,
        answer_timeout_s: float = 120.0,
    ) -> S3Store:
        store = s3_store(
            self.lake.account,
            self.lake.name,
            endpoint=self.proxy.endpoint,
            options=options,
            piece_bytes=piece_bytes,
            answer_timeout_s=answer_timeout_s,
        )
        self._stack.push_async_callback(store.aclose)
        return store

    async def deliver(self, store: Store, content: bytes, *, pieces_at_once: int = 4) -> None:
        """Deliver a file as the daemon does."""
        file = await self._spooled(content)
        async with Transfer(
            destination=DestinationCode("lake"),
            store=store,
            key_of=lambda *_: KEY,
            limiter=ByteLimiter(1 << 26),
            retry=QUICK,
            pieces_at_once=pieces_at_once,
        ) as transfer:
            transfer.add(file)
            await transfer.publish([file.part])

    async def objects(self) -> dict[str, bytes]:
        return (await self.lake.delivered()).objects

    async def _spooled(self, content: bytes) -> SpooledPart:
        part = Part(
            entity=EntityCode("ACCOUNTS"),
            number=1,
            file_name="file.csv.gz",
            rows=1,
            content_bytes=len(content),
            size_bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
        )
        (self._folder / part.file_name).write_bytes(content)
        [file] = await verify(self._folder, [part])
        return file


@pytest.fixture
async def way(
    swift: SwiftServer, swift_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Way]:
    give_credentials(swift, tmp_path, monkeypatch)
    async with FaultProxy(swift.endpoint) as proxy, AsyncExitStack() as stack:
        yield Way(proxy, S3Bucket(swift, swift_bucket), tmp_path, stack)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(slow_down(), id="throttled"),
        pytest.param(Answer(502, b"<html>Bad Gateway</html>"), id="the gateway's error"),
        pytest.param(Answer(200, b"<html><body>Please log in.</html>"), id="an answer of another server"),
        pytest.param(
            Answer(200, b"<html><body>Please log in.</body></html>"), id="a well-formed answer of another server"
        ),
        pytest.param(Reset(), id="reset"),
        pytest.param(Reset(after_bytes=1000), id="reset in the body"),
        pytest.param(DropResponse(), id="done, but the answer is lost"),
    ],
)
@pytest.mark.parametrize(
    "request_kind",
    [
        pytest.param(START, id="start"),
        pytest.param(PIECE, id="piece"),
        pytest.param(COMPLETE, id="complete"),
    ],
)
async def test_a_large_file_arrives_once_whatever_happens_to_a_request(
    way: Way, request_kind: _Request, fault: Fault
) -> None:
    way.proxy.add(Rule(fault, **request_kind, times=2))
    store = way.open()
    await way.deliver(store, LARGE)
    assert await way.objects() == {KEY: LARGE}
    assert len(way.proxy.noted(**request_kind)) >= 3
    # When the answer to its start is lost, an upload is unknown until the uploads are listed.
    unknown = [list_upload async for list_upload in store.list_uploads("orgId=org-1/")]
    assert len(unknown) == (2 if (request_kind, fault) == (START, DropResponse()) else 0)
    for upload in unknown:
        await store.abort(upload)
    assert await way.lake.leftovers() == set()


@pytest.mark.parametrize("fault", [slow_down(), Reset(), Reset(after_bytes=5), DropResponse()], ids=lambda fault: fault)
async def test_a_small_file_arrives_whatever_happens_to_its_request(way: Way, fault: Fault) -> None:
    way.proxy.add(Rule(fault, **PUT, times=2))
    store = way.open()
    await way.deliver(store, SMALL)
    assert await way.objects() == {KEY: SMALL}
    assert len(way.proxy.noted(**PUT)) >= 3


@pytest.mark.parametrize("fault", [slow_down(), Reset(), DropResponse()], ids=lambda fault: fault)
async def test_giving_up_and_removing_are_repeated(way: Way, fault: Fault) -> None:
    way.proxy.add(Rule(fault, **ABORT), Rule(fault, **DELETE))
    store = way.open()
    upload = await store.start(KEY)
    await store.piece(upload, 1, _PIECES[0])
    await QUICK.call(lambda: store.abort(upload))
    await store.put(KEY, SMALL)
    await QUICK.call(lambda: store.delete(KEY))
    assert (await way.objects(), await way.lake.leftovers()) == ({}, set())
    assert len(way.proxy.noted(**ABORT)) == len(way.proxy.noted(**DELETE)) == 2


@pytest.mark.parametrize("code", ["InternalError", "SlowDown"])
async def test_an_error_in_an_answer_that_said_200_is_an_error(way: Way, code: str) -> None:
    """S3 begins to answer before it has put the pieces together."""
    way.proxy.add(Rule(s3_error(200, code), **COMPLETE))
    store = way.open()
    upload = await store.start(KEY)
    pieces = [await store.piece(upload, number, _PIECES[number - 1]) for number in (1, 2, 3)]
    with pytest.raises(TransientError, match=code):
        await store.complete(upload, pieces, _PIECES[3])
    assert await way.objects() == {}
    await QUICK.call(lambda: store.complete(upload, pieces, _PIECES[3]))
    assert await way.objects() == {KEY: LARGE}


async def test_a_store_that_is_asked_to_wait_is_left_alone_for_as_long(way: Way) -> None:
    way.proxy.add(Rule(slow_down(retry_after_s=7), **PUT))
    store = way.open()
    with pytest.raises(TransientError, match="reduce your request rate") as caught:
        await store.put(KEY, SMALL)
    assert (caught.value.retry_after_s, caught.value.reason) == (7, Reason.DESTINATION_UNAVAILABLE)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        pytest.param(Damage(), PIECE, id="a piece"),
        pytest.param(Damage(), LAST_PIECE, id="the last piece"),
        pytest.param(s3_error(400, "BadDigest"), PIECE, id="a piece, by its checksum"),
    ],
)
async def test_what_is_damaged_on_its_way_is_sent_again(way: Way, fault: Fault, kind: _Request) -> None:
    way.proxy.add(Rule(fault, **kind))
    store = way.open()
    await way.deliver(store, LARGE)
    assert await way.objects() == {KEY: LARGE}
    assert [request.status for request in way.proxy.noted(**kind)] == [400, 200]


async def test_a_damaged_small_file_is_sent_again(way: Way) -> None:
    way.proxy.add(Rule(Damage(), **PUT))
    store = way.open()
    await way.deliver(store, SMALL)
    assert await way.objects() == {KEY: SMALL}
    assert [request.status for request in way.proxy.noted(**PUT)] == [400, 200]


@pytest.mark.parametrize("applied", [False, True], ids=["before it is done", "after it was done"])
@pytest.mark.parametrize("request_kind", [START, PIECE, COMPLETE], ids=["start", "piece", "complete"])
async def test_an_answer_that_does_not_come_is_not_waited_for(way: Way, request_kind: _Request, applied: bool) -> None:
    patient, impatient = way.open(), way.open(answer_timeout_s=0.5)
    upload = await patient.start(KEY)
    pieces = [await patient.piece(upload, number, _PIECES[number - 1]) for number in (1, 2, 3)]
    last = _PIECES[3]
    # For every request: one that the server itself answers late is broken off before it comes to the stall.
    way.proxy.add(Rule(stall := Stall(applied=applied), times=None, **request_kind))
    attempts = 0
    while not stall.reached.is_set():
        attempts += 1
        with pytest.raises(TransientError, match="did not answer in time") as caught:
            if request_kind == START:
                await impatient.start(KEY)
            elif request_kind == PIECE:
                await impatient.piece(upload, 2, _PIECES[1])
            else:
                await impatient.complete(upload, pieces, last)
        assert caught.value.reason is Reason.DESTINATION_UNAVAILABLE
    stall.release.set()
    await patient.complete(upload, pieces, last)
    assert await way.objects() == {KEY: LARGE}
    started = range(1, attempts + 1) if request_kind == START and applied else range(1)
    assert len(await way.lake.leftovers()) in started


async def test_a_store_that_stops_taking_a_body_is_not_waited_for(way: Way) -> None:
    """The body does not fit in what lies between: the request never comes to wait for its answer."""
    way.proxy.add(Rule(stall := Stall(), **PUT))
    store = way.open(piece_bytes=16 << 20, answer_timeout_s=0.4)
    with anyio.fail_after(30), pytest.raises(TransientError, match="did not answer in time"):
        await store.put(KEY, bytes(16 << 20))
    stall.release.set()


async def test_a_slow_link_is_slow_and_no_error(way: Way) -> None:
    """The pieces share it."""
    way.proxy.add(Rule(Slow(bytes_per_s=8 * SMALL_PIECE_BYTES), method="PUT", times=None))
    store = way.open()
    await way.deliver(store, LARGE)
    assert await way.objects() == {KEY: LARGE}
    assert len(way.proxy.noted("PUT")) == len(_PIECES), "nothing was sent twice"


@pytest.mark.slow
async def test_a_body_may_take_longer_than_an_answer_is_waited_for(way: Way) -> None:
    way.proxy.add(Rule(Slow(bytes_per_s=4 << 20), **PUT))
    store = way.open(answer_timeout_s=6)
    content = bytes(28 << 20)
    assert (await store.put(KEY, content)).size_bytes == len(content)
    assert (await store.head(KEY) or pytest.fail()).size_bytes == len(content)


@pytest.mark.parametrize("kind", ["FULL_OBJECT", "PIECES"])
async def test_checksums_are_declared_and_compared(way: Way, kind: Literal["FULL_OBJECT", "PIECES"]) -> None:
    await way.deliver(way.open(S3Options(kind)), LARGE)
    [start] = way.proxy.noted(**START)
    assert start.headers["x-amz-checksum-algorithm"] == "CRC32"
    assert start.headers.get("x-amz-checksum-type") == ("FULL_OBJECT" if kind == "FULL_OBJECT" else None)
    sent = way.proxy.noted("PUT", "partNumber=")
    found = {int(request.query["partNumber"]): request.headers["x-amz-checksum-crc32"] for request in sent}
    assert found == {number: crc32(content) for number, content in enumerate(_PIECES, start=1)}
    assert all("x-amz-trailer" not in request.headers and "content-encoding" not in request.headers for request in sent)
    [complete] = way.proxy.noted(**COMPLETE)
    declared = re.findall(rb"<ChecksumCRC32>(.*?)</ChecksumCRC32>", complete.body)
    assert [checksum.decode() for checksum in declared] == [crc32(content) for content in _PIECES]
    whole = ("x-amz-checksum-crc32", "x-amz-checksum-type", "x-amz-mp-object-size")
    expected = (crc32(LARGE), "FULL_OBJECT", str(len(LARGE))) if kind == "FULL_OBJECT" else (None, None, None)
    assert tuple(complete.headers.get(header) for header in whole) == expected


async def test_a_small_file_declares_its_checksum(way: Way) -> None:
    await way.deliver(way.open(), SMALL)
    [put] = way.proxy.noted(**PUT)
    assert put.headers["x-amz-checksum-crc32"] == crc32(SMALL)
    assert put.headers["x-amz-sdk-checksum-algorithm"] == "CRC32"


@pytest.mark.parametrize(
    "options",
    [S3Options(), S3Options("NONE", "AES256"), S3Options("PIECES", "KMS", "arn:aws:kms:eu-west-1:1:key/k")],
    ids=["usual", "no checksums", "a key of KMS"],
)
async def test_a_small_file_is_written_with_the_headers_of_the_library(
    way: Way, options: S3Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    way.proxy.add(Rule(Answer(200, headers={"ETag": '"tag"'}), times=None))
    key = ObjectKey("orgId=org 1%2F~(ü)+&*/type=account/file.csv.gz")
    await way.open(options).put(key, SMALL)
    monkeypatch.setattr(store_module, "_MAX_LIGHT_BYTES", -1)
    await way.open(options).put(key, SMALL)
    light, library = way.proxy.requests
    assert "expect" in library.headers
    assert "expect" not in light.headers
    assert (light.method, light.path, light.query, light.body) == (*_asked(library), SMALL)
    assert _lasting(light) == _lasting(library)


async def test_an_object_is_read_with_the_headers_of_the_library(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    way.proxy.add(Rule(Answer(200, b"content"), times=None))
    key = ObjectKey("orgId=org 1%2F~(ü)+&*/_publications/note.json")
    assert await read_within(way.open(), key, 100) == b"content"

    async def leave_it_to_the_library(*_: object) -> None:
        return None

    monkeypatch.setattr(LightClient, "read", leave_it_to_the_library)
    assert await read_within(way.open(), key, 100) == b"content"
    light, library = way.proxy.requests
    assert "amz-sdk-invocation-id" in {name.lower() for name in library.headers}
    assert "amz-sdk-invocation-id" not in {name.lower() for name in light.headers}
    assert _asked(light) == _asked(library)
    assert _lasting(light) == _lasting(library)


def _asked(noted: Noted) -> tuple[str, str, Mapping[str, str]]:
    return noted.method, noted.path, noted.query


def _lasting(noted: Noted) -> dict[str, str]:
    """Headers without what each request has of its own. The user agent names features of the library that were used."""
    of_its_own = {"expect", "x-amz-date", "amz-sdk-invocation-id", "amz-sdk-request"}
    return {
        name.lower(): re.sub(r"Signature=.*| m/\S+", "", value)
        for name, value in noted.headers.items()
        if name.lower() not in of_its_own
    }


@pytest.mark.parametrize("status", [301, 307, 400])
async def test_after_a_redirect_the_library_writes_a_small_file(way: Way, status: int) -> None:
    way.proxy.add(Rule(s3_error(status, "PermanentRedirect"), **PUT))
    store = way.open()
    for content in (SMALL, b"another"):
        await store.put(KEY, content)
    puts = way.proxy.noted(**PUT)
    assert [("expect" in put.headers, put.status) for put in puts] == [(False, status), (True, 200), (False, 200)]
    assert await way.objects() == {KEY: b"another"}


@pytest.mark.parametrize("status", [301, 307, 400])
async def test_after_a_redirect_the_library_reads(way: Way, status: int) -> None:
    store = way.open()
    await store.put(KEY, SMALL)
    way.proxy.add(Rule(s3_error(status, "PermanentRedirect"), method="GET"))
    for _ in range(2):
        assert await read_within(store, KEY, len(SMALL)) == SMALL
    gets = way.proxy.noted("GET")
    by_library = ["amz-sdk-invocation-id" in {name.lower() for name in get.headers} for get in gets]
    assert [*zip(by_library, [get.status for get in gets], strict=True)] == [(False, status), (True, 200), (False, 200)]


async def test_a_store_that_wants_no_checksums_hears_of_none(way: Way) -> None:
    store = way.open(S3Options("NONE"))
    await way.deliver(store, LARGE)
    await store.put(KEY, SMALL)
    assert len(way.proxy.requests) > 5
    for request in way.proxy.requests:
        assert not [name for name in request.headers if "checksum" in name.lower() or name == "x-amz-mp-object-size"]
        assert b"Checksum" not in request.body


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param(S3Options(), {}, id="as the bucket has it"),
        pytest.param(S3Options(encryption="AES256"), {"x-amz-server-side-encryption": "AES256"}, id="keys of S3"),
        pytest.param(
            S3Options(encryption="KMS"), {"x-amz-server-side-encryption": "aws:kms"}, id="the account's own key"
        ),
        pytest.param(
            S3Options(encryption="KMS", kms_key="arn:aws:kms:eu-west-1:1:key/k"),
            {
                "x-amz-server-side-encryption": "aws:kms",
                "x-amz-server-side-encryption-aws-kms-key-id": "arn:aws:kms:eu-west-1:1:key/k",
            },
            id="a key of KMS",
        ),
    ],
)
async def test_encryption_is_asked_for_where_an_object_begins(
    way: Way, options: S3Options, expected: Mapping[str, str]
) -> None:
    """And nowhere else: S3 refuses it with a piece."""
    # Swift offers none, so the proxy answers in its place.
    way.proxy.add(
        Rule(Answer(200, b"<InitiateMultipartUploadResult><UploadId>id</UploadId></InitiateMultipartUploadResult>"),
             **START),
        Rule(Answer(200, headers={"ETag": '"tag"'}), method="PUT", times=None),
    )  # fmt: skip
    store = way.open(options)
    upload = await store.start(KEY)
    await store.piece(upload, 1, _PIECES[0])
    await store.put(KEY, SMALL)
    start, piece, put = way.proxy.requests
    assert (_encryption(start), _encryption(piece), _encryption(put)) == (expected, {}, expected)


def _encryption(noted: Noted) -> dict[str, str]:
    return {name.lower(): value for name, value in noted.headers.items() if "encryption" in name.lower()}


def crc32(content: bytes) -> str:
    return base64.b64encode(zlib.crc32(content).to_bytes(4, "big")).decode()
