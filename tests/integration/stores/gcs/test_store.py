"""The store for Google Cloud Storage where Google is stricter than an emulator, and where things fail on the way."""

import random
import traceback
from collections.abc import AsyncIterator
from functools import partial

import pytest

from exportd.model.errors import ExportdError, PermanentError, Reason, TransientError
from exportd.stores.gcs.identity import Anonymous
from exportd.stores.gcs.store import GcsStore
from exportd.stores.gcs.uploader import QUANTUM_BYTES
from exportd.stores.layout import ObjectKey
from exportd.stores.retrying import RetryBudget
from exportd.stores.store import Piece, Upload, UploadGoneError
from tests.fixtures.strict_gcs import BUCKET, StrictGcs, running_strict_gcs

KEY = ObjectKey("m3/orgId=org%2F1/date=2026-03-09/hour=04/type=account/part é+1.csv.gz")
PIECE_BYTES = 4 * QUANTUM_BYTES
CONTENT = random.Random(7).randbytes(2 * PIECE_BYTES + 1000)
TAIL = CONTENT[2 * PIECE_BYTES :]
RETRY = RetryBudget(timeout_s=20, first_wait_s=0.01, max_wait_s=0.05, jitter_s=0.01)


@pytest.fixture
async def server() -> AsyncIterator[StrictGcs]:
    async with running_strict_gcs() as running:
        yield running


@pytest.fixture
async def store(server: StrictGcs) -> AsyncIterator[GcsStore]:
    opened = new_store(server)
    yield opened
    await opened.aclose()


def new_store(server: StrictGcs) -> GcsStore:
    return GcsStore(BUCKET, Anonymous(), endpoint=server.endpoint, piece_bytes=PIECE_BYTES, stall_timeout_s=5)


async def send(store: GcsStore, upload: Upload) -> list[Piece]:
    pieces = []
    for number in (1, 2):
        data = CONTENT[(number - 1) * PIECE_BYTES : number * PIECE_BYTES]
        pieces.append(await RETRY.call(partial(store.piece, upload, number, data)))
    return pieces


async def deliver(store: GcsStore) -> None:
    """The way of a file: every call within a budget of retries."""
    upload = await RETRY.call(lambda: store.start(KEY))
    pieces = await send(store, upload)
    info = await RETRY.call(lambda: store.complete(upload, pieces, TAIL))
    assert info.size_bytes == len(CONTENT)


def chunks(server: StrictGcs) -> list[str]:
    return [request.headers["Content-Range"] for request in server.seen if "Content-Range" in request.headers]


async def test_every_object_is_made_under_a_precondition(server: StrictGcs, store: GcsStore) -> None:
    await deliver(store)
    await store.put(ObjectKey("manifest.json"), b"{}")
    creations = [request.target for request in server.seen if request.method == "POST"]
    assert len(creations) == 2
    assert all("ifGenerationMatch=0" in creation for creation in creations)
    # Nothing is asked that is known.
    assert chunks(server) == [
        f"bytes 0-{PIECE_BYTES - 1}/*",
        f"bytes {PIECE_BYTES}-{2 * PIECE_BYTES - 1}/*",
        f"bytes {2 * PIECE_BYTES}-{len(CONTENT) - 1}/{len(CONTENT)}",
    ]


async def test_what_google_does_not_keep_is_sent_again(server: StrictGcs, store: GcsStore) -> None:
    server.keeps_bytes = QUANTUM_BYTES + 5
    await deliver(store)
    assert server.objects[KEY].content == CONTENT
    assert chunks(server)[:2] == [f"bytes 0-{PIECE_BYTES - 1}/*", f"bytes {QUANTUM_BYTES}-{PIECE_BYTES - 1}/*"]


async def test_a_server_that_keeps_nothing_is_given_up(server: StrictGcs, store: GcsStore) -> None:
    server.keeps_bytes = 0
    upload = await store.start(KEY)
    with pytest.raises(TransientError, match="takes nothing more"):
        await store.piece(upload, 1, CONTENT[:PIECE_BYTES])
    assert len(chunks(server)) < 10


_STEPS = {
    "start": ("POST", "uploadType=resumable", ""),
    "first piece": ("PUT", "upload_id", r"^bytes 0-\d+/\*"),
    "second piece": ("PUT", "upload_id", rf"^bytes {PIECE_BYTES}-"),
    "tail": ("PUT", "upload_id", rf"/{len(CONTENT)}$"),
}


@pytest.mark.parametrize("kind", ["busy", "reset", "dropped"])
@pytest.mark.parametrize("step", _STEPS)
async def test_a_failure_at_any_step_leaves_one_right_object(
    server: StrictGcs, store: GcsStore, step: str, kind: str
) -> None:
    method, pattern, content_range = _STEPS[step]
    server.fail(kind, method, pattern, content_range=content_range)
    server.fail("busy", "PUT", "upload_id", content_range=r"^bytes \*/\*")
    await deliver(store)
    assert {key: held.content for key, held in server.objects.items()} == {KEY: CONTENT}
    assert server.objects[KEY].generation == 1


@pytest.mark.parametrize("kind", ["busy", "reset", "dropped"])
async def test_a_small_object_is_put_once_whatever_fails(server: StrictGcs, store: GcsStore, kind: str) -> None:
    server.fail(kind, "POST")
    server.fail("dropped", "DELETE")
    server.fail("busy", "GET", r"/o/")
    server.fail("dropped", "GET", r"/o\?")
    info = await RETRY.call(lambda: store.put(KEY, TAIL))
    assert (info.key, info.size_bytes) == (KEY, len(TAIL))
    assert server.objects[KEY].content == TAIL
    assert server.objects[KEY].generation == 1
    head = await RETRY.call(lambda: store.head(KEY))
    assert head is not None

    async def listed() -> list[str]:
        return [info.key async for info in store.list("")]

    assert await RETRY.call(listed) == [KEY]
    await RETRY.call(lambda: store.delete(KEY))
    assert server.objects == {}


async def test_reading_that_breaks_off_is_worth_another_attempt(server: StrictGcs, store: GcsStore) -> None:
    server.put(KEY, CONTENT)
    server.fail("busy", "GET", "alt=media")
    with pytest.raises(TransientError, match="HTTP 503"):
        await anext(store.read(KEY))
    assert b"".join([chunk async for chunk in store.read(KEY)]) == CONTENT


async def test_an_object_of_that_name_is_replaced_as_the_very_one_it_is(server: StrictGcs, store: GcsStore) -> None:
    server.put(KEY, b"of an earlier attempt")
    await deliver(store)
    assert server.objects[KEY].content == CONTENT
    assert "ifGenerationMatch=1" in [request.target for request in server.seen if request.method == "POST"][-1]


async def test_an_object_made_meanwhile_is_not_overwritten(server: StrictGcs, store: GcsStore) -> None:
    upload = await store.start(KEY)
    pieces = await send(store, upload)
    server.put(KEY, b"another writer's")
    with pytest.raises(UploadGoneError):
        await store.complete(upload, pieces, TAIL)
    assert server.objects[KEY].content == b"another writer's"


async def test_an_equal_object_made_meanwhile_counts(server: StrictGcs, store: GcsStore) -> None:
    upload = await store.start(KEY)
    pieces = await send(store, upload)
    server.put(KEY, CONTENT)
    assert (await store.complete(upload, pieces, TAIL)).size_bytes == len(CONTENT)


async def test_a_session_that_is_gone_is_said_to_be_gone(server: StrictGcs, store: GcsStore) -> None:
    upload = await store.start(KEY)
    await send(store, upload)
    server.sessions.clear()
    with pytest.raises(UploadGoneError):
        await store.piece(upload, 3, CONTENT[:PIECE_BYTES])
    with pytest.raises(UploadGoneError):
        await store.pieces(upload)


async def test_another_process_goes_on_where_this_one_ended(server: StrictGcs, store: GcsStore) -> None:
    upload = await store.start(KEY)
    await store.piece(upload, 1, CONTENT[:PIECE_BYTES])
    other = new_store(server)
    again = Upload(upload.key, upload.id)
    (found,) = await other.pieces(again)
    assert found.number == 1
    assert other.recognise(found, CONTENT[:PIECE_BYTES]) is not None
    pieces = await send(other, again)
    await other.complete(again, pieces, TAIL)
    assert server.objects[KEY].content == CONTENT
    assert len(await new_pieces(server, again)) == 2
    await other.aclose()


async def test_what_is_all_in_is_completed(server: StrictGcs, store: GcsStore) -> None:
    """A last chunk whose bytes were kept, but which ended in an error."""
    tail = CONTENT[:QUANTUM_BYTES]
    upload = await store.start(KEY)
    pieces = await send(store, upload)
    (session,) = server.sessions.values()
    session.content += tail
    other = new_store(server)
    await other.complete(upload, pieces, tail)
    assert server.objects[KEY].content == CONTENT[: 2 * PIECE_BYTES] + tail
    assert chunks(server)[-1] == f"bytes */{2 * PIECE_BYTES + len(tail)}"
    await other.aclose()


async def test_an_upload_that_holds_more_is_not_ours(server: StrictGcs, store: GcsStore) -> None:
    upload = await store.start(KEY)
    pieces = await send(store, upload)
    (session,) = server.sessions.values()
    session.content += CONTENT
    other = new_store(server)
    with pytest.raises(UploadGoneError):
        await other.complete(upload, pieces, TAIL)
    await other.aclose()


async def new_pieces(server: StrictGcs, upload: Upload) -> list[Piece]:
    """What a third process finds of a completed upload."""
    third = new_store(server)
    found = list(await third.pieces(upload))
    await third.aclose()
    return found


@pytest.mark.parametrize("ignores_hash", [False, True])
async def test_damage_on_the_way_never_stays_visible(server: StrictGcs, store: GcsStore, ignores_hash: bool) -> None:
    server.damages = True
    server.ignores_hash = ignores_hash
    upload = await store.start(KEY)
    pieces = await send(store, upload)
    with pytest.raises(UploadGoneError):
        await store.complete(upload, pieces, TAIL)
    assert server.objects == {}
    server.damages = False
    await deliver(store)
    assert server.objects[KEY].content == CONTENT


async def test_damage_that_may_not_be_removed_is_reported(server: StrictGcs, store: GcsStore) -> None:
    server.damages = server.ignores_hash = True
    server.denied = {"get", "list", "delete"}
    upload = await store.start(KEY)
    pieces = await send(store, upload)
    with pytest.raises(PermanentError, match=r"damaged on its way.*Grant storage\.objects\.delete"):
        await store.complete(upload, pieces, TAIL)


async def test_who_may_only_create_delivers_through_failures(server: StrictGcs, store: GcsStore) -> None:
    server.denied = {"get", "list", "delete"}
    server.fail("dropped", "PUT", "upload_id", content_range=rf"/{len(CONTENT)}$")
    server.fail("dropped", "POST", "uploadType=multipart")
    await deliver(store)
    await RETRY.call(lambda: store.put(ObjectKey("manifest.json"), b"{}"))
    assert {key: held.content for key, held in server.objects.items()} == {KEY: CONTENT, "manifest.json": b"{}"}


async def test_a_refusal_to_replace_names_the_permission(server: StrictGcs, store: GcsStore) -> None:
    server.denied = {"get", "list", "delete"}
    server.put(KEY, b"of an earlier attempt")
    with pytest.raises(PermanentError, match="is there already") as caught:
        await store.start(KEY)
    assert caught.value.sentence.endswith(
        f"Grant storage.objects.get: gcloud storage buckets add-iam-policy-binding gs://{BUCKET} "
        "--member='serviceAccount:exporter@acme.iam.gserviceaccount.com' --role=roles/storage.objectViewer"
    )
    assert "HTTP 403, request request-1" in caught.value.sentence
    server.fail("busy", "POST")
    with pytest.raises(PermanentError, match="is there already"):
        await RETRY.call(lambda: store.put(KEY, b"another"))
    assert server.objects[KEY].content == b"of an earlier attempt"


async def test_a_list_has_pages(server: StrictGcs, store: GcsStore) -> None:
    server.page_items = 2
    for number in range(5):
        server.put(f"a/{number}", b"")
    server.put("b", b"")
    assert [info.key async for info in store.list("a/")] == [f"a/{number}" for number in range(5)]


async def test_the_address_of_an_upload_is_in_no_error(server: StrictGcs, store: GcsStore) -> None:
    upload = await store.start(KEY)
    caught: list[ExportdError] = []
    for kind in ("busy", "reset", "dropped"):
        server.fail(kind, "PUT", content_range="^bytes 0-")
        with pytest.raises(TransientError) as error:
            await store.piece(upload, 1, CONTENT[:PIECE_BYTES])
        caught.append(error.value)
    server.sessions.clear()
    with pytest.raises(UploadGoneError) as gone:
        await store.pieces(upload)
    for failure in [*caught, gone.value]:
        assert "secret-session" not in "".join(traceback.format_exception(failure))


async def test_a_key_that_is_too_long_is_refused(store: GcsStore) -> None:
    with pytest.raises(PermanentError, match="has 1026 bytes") as caught:
        await store.start(ObjectKey("é" * 513))
    assert caught.value.reason is Reason.DESTINATION_REFUSED


async def test_a_server_that_is_not_there_is_transient() -> None:
    store = GcsStore(BUCKET, Anonymous(), endpoint="http://127.0.0.1:1")
    with pytest.raises(TransientError, match="cannot be reached for starting"):
        await store.start(KEY)
    await store.aclose()


def test_pieces_are_multiples_of_what_google_keeps() -> None:
    with pytest.raises(ValueError, match="no multiple"):
        GcsStore(BUCKET, Anonymous(), piece_bytes=1000)
