"""The store for Google Cloud Storage on the emulator, with a proxy in between that fails at every kind of request."""

import ssl
from collections.abc import AsyncIterator
from functools import partial

import pytest
import trustme
from aiohttp import web

from exportd.model.errors import PermanentError, TransientError
from exportd.stores.gcs.identity import Anonymous
from exportd.stores.gcs.store import GcsStore
from exportd.stores.gcs.uploader import QUANTUM_BYTES
from exportd.stores.layout import ObjectKey
from exportd.stores.retrying import RetryBudget
from tests.fixtures.fault_proxy import FaultProxy
from tests.fixtures.faults import Answer, DropResponse, Fault, Reset, Rule, Stall
from tests.fixtures.gcs_server import GcsServer

KEY = ObjectKey("m3/orgId=a/part.csv.gz")
CONTENT = bytes(range(256)) * (2 * QUANTUM_BYTES // 256) + b"the tail"
RETRY = RetryBudget(timeout_s=20, first_wait_s=0.01, max_wait_s=0.05, jitter_s=0.01)

FAULTS: dict[str, Fault] = {
    "busy": Answer(503, b"", {"Retry-After": "0"}),
    "reset": Reset(),
    "reset in the body": Reset(after_bytes=1000),
    "dropped": DropResponse(),
}
NUMBERS = {"first piece": 1, "second piece": 2, "tail": 3}


@pytest.fixture
async def proxy(gcs: GcsServer) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(gcs.endpoint) as running:
        yield running


@pytest.fixture
async def store(proxy: FaultProxy, gcs_bucket: str) -> AsyncIterator[GcsStore]:
    opened = GcsStore(gcs_bucket, Anonymous(), endpoint=proxy.endpoint, piece_bytes=QUANTUM_BYTES, stall_timeout_s=10)
    yield opened
    await opened.aclose()


async def deliver(store: GcsStore) -> None:
    upload = await RETRY.call(partial(store.start, KEY))
    pieces = [
        await RETRY.call(
            partial(store.piece, upload, number, CONTENT[(number - 1) * QUANTUM_BYTES : number * QUANTUM_BYTES])
        )
        for number in (1, 2)
    ]
    info = await RETRY.call(partial(store.complete, upload, pieces, CONTENT[2 * QUANTUM_BYTES :]))
    assert info.size_bytes == len(CONTENT)


async def content(store: GcsStore) -> dict[str, bytes]:
    return {
        info.key: b"".join([chunk async for chunk in store.read(info.key)])
        for info in [i async for i in store.list("")]
    }


async def test_every_creation_goes_out_under_a_precondition(proxy: FaultProxy, store: GcsStore) -> None:
    await deliver(store)
    await store.put(ObjectKey("manifest.json"), b"{}")
    creations = proxy.noted("POST")
    assert [creation.query["uploadType"] for creation in creations] == ["resumable", "multipart"]
    assert [creation.query["ifGenerationMatch"] for creation in creations] == ["0", "0"]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("step", NUMBERS)
async def test_a_chunk_that_fails_is_in_once(proxy: FaultProxy, store: GcsStore, step: str, fault: str) -> None:
    proxy.add(Rule(FAULTS[fault], "PUT", "upload_id", first=NUMBERS[step]))
    await deliver(store)
    assert await content(store) == {KEY: CONTENT}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_start_that_fails_is_repeated(proxy: FaultProxy, store: GcsStore, fault: str) -> None:
    proxy.add(Rule(FAULTS[fault], "POST", "uploadType=resumable"))
    await deliver(store)
    assert await content(store) == {KEY: CONTENT}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_small_object_arrives_whatever_fails(proxy: FaultProxy, store: GcsStore, fault: str) -> None:
    proxy.add(Rule(FAULTS[fault], "POST", "uploadType=multipart"))
    await RETRY.call(partial(store.put, KEY, CONTENT))
    assert await content(store) == {KEY: CONTENT}


@pytest.mark.parametrize("fault", FAULTS)
async def test_looking_and_deleting_are_repeated(proxy: FaultProxy, store: GcsStore, fault: str) -> None:
    await store.put(KEY, b"rows")
    proxy.add(Rule(FAULTS[fault], "GET", times=2), Rule(FAULTS[fault], "DELETE", times=2))
    info = await RETRY.call(partial(store.head, KEY))
    assert info is not None
    await RETRY.call(partial(store.delete, KEY))
    assert await content(store) == {}


async def test_where_nothing_moves_a_request_ends(proxy: FaultProxy, gcs_bucket: str) -> None:
    store = GcsStore(gcs_bucket, Anonymous(), endpoint=proxy.endpoint, stall_timeout_s=0.2)
    proxy.add(Rule(Stall(), "POST"))
    with pytest.raises(TransientError, match="nothing moved for too long"):
        await store.put(KEY, b"rows")
    await store.put(KEY, b"rows")
    assert await content(store) == {KEY: b"rows"}
    await store.aclose()


async def test_an_unknown_certificate_is_a_permanent_error() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)

    async def answer(request: web.BaseRequest) -> web.Response:
        return web.Response()

    runner = web.ServerRunner(web.Server(answer), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    store = GcsStore("acme", Anonymous(), endpoint=f"https://localhost:{runner.addresses[0][1]}")
    with pytest.raises(PermanentError, match=r"no secure connection for writing .* SSL_CERT_FILE"):
        await store.put(KEY, b"rows")
    await store.aclose()
    await runner.cleanup()
