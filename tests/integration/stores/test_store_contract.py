"""What every store owes its callers. Sizes come from the store's own limits; keys are those of the layout."""

import random

import anyio
import pytest

from exportd.model.errors import PermanentError, Reason
from exportd.stores.layout import ObjectKey
from exportd.stores.store import ObjectInfo, Piece, Store, Upload, UploadGoneError

KEY = ObjectKey("exports/orgId=org%2F1/date=2026-03-09/hour=04/type=account/part.csv.gz")
OTHER_KEY = ObjectKey("exports/orgId=org%2F1/date=2026-03-09/hour=05/type=account/part.csv.gz")


def content_of(size_bytes: int) -> bytes:
    return random.Random(size_bytes).randbytes(size_bytes)


async def read(store: Store, key: ObjectKey) -> bytes:
    return b"".join([chunk async for chunk in store.read(key)])


async def listed(store: Store, prefix: str) -> list[ObjectInfo]:
    return [info async for info in store.list(prefix)]


async def uploads(store: Store, prefix: str) -> list[Upload]:
    return [upload async for upload in store.list_uploads(prefix)]


async def send_pieces(store: Store, upload: Upload, content: bytes) -> tuple[list[Piece], bytes]:
    """Upload all full pieces but the last; the pieces, and what is left for ``complete``."""
    size_bytes = store.limits.piece_bytes
    count = (len(content) - 1) // size_bytes
    pieces = [
        await store.piece(upload, number + 1, content[number * size_bytes : (number + 1) * size_bytes])
        for number in range(count)
    ]
    return pieces, content[count * size_bytes :]


async def test_a_small_object_is_put_and_read(store: Store) -> None:
    info = await store.put(KEY, b"rows")
    assert (info.key, info.size_bytes) == (KEY, 4)
    assert await read(store, KEY) == b"rows"
    head = await store.head(KEY)
    assert head is not None
    assert head.size_bytes == 4


async def test_an_empty_object_can_be_put(store: Store) -> None:
    await store.put(KEY, b"")
    assert await read(store, KEY) == b""


async def test_putting_again_replaces_the_object(store: Store) -> None:
    await store.put(KEY, b"the first content")
    await store.put(KEY, b"second")
    assert await read(store, KEY) == b"second"


@pytest.mark.parametrize("pieces_and_rest", [(0, 1), (1, 1), (2, 700), (3, 0)])
async def test_an_object_is_uploaded_in_pieces(store: Store, pieces_and_rest: tuple[int, int]) -> None:
    full, rest = pieces_and_rest
    content = content_of(full * store.limits.piece_bytes + rest)
    upload = await store.start(KEY)
    pieces, tail = await send_pieces(store, upload, content)
    assert 1 <= len(tail) <= store.limits.piece_bytes
    info = await store.complete(upload, pieces, tail)
    assert info.size_bytes == len(content)
    assert await read(store, KEY) == content
    assert await uploads(store, "") == []


async def test_a_store_that_gave_back_its_connections_goes_on(store: Store) -> None:
    content = content_of(store.limits.piece_bytes + 1)
    upload = await store.start(KEY)
    pieces, tail = await send_pieces(store, upload, content)
    await store.aclose()
    await store.complete(upload, pieces, tail)
    await store.aclose()
    assert await read(store, KEY) == content


async def test_nothing_is_visible_before_completion(store: Store) -> None:
    upload = await store.start(KEY)
    pieces, tail = await send_pieces(store, upload, content_of(store.limits.piece_bytes + 1))
    assert await store.head(KEY) is None
    assert await listed(store, "") == []
    with pytest.raises(PermanentError, match="no object"):
        await read(store, KEY)
    await store.complete(upload, pieces, tail)
    assert [info.key for info in await listed(store, "")] == [KEY]


async def test_the_old_object_stays_until_the_new_one_is_complete(store: Store) -> None:
    await store.put(KEY, b"old")
    upload = await store.start(KEY)
    pieces, tail = await send_pieces(store, upload, content_of(store.limits.piece_bytes + 1))
    assert await read(store, KEY) == b"old"
    await store.complete(upload, pieces, tail)
    assert await read(store, KEY) == content_of(store.limits.piece_bytes + 1)


async def test_pieces_may_come_in_any_order_unless_the_store_wants_them_in_theirs(store: Store) -> None:
    size_bytes = store.limits.piece_bytes
    content = content_of(3 * size_bytes + 10)
    upload = await store.start(KEY)
    pieces: list[Piece] = []

    async def send(number: int) -> None:
        pieces.append(await store.piece(upload, number, content[(number - 1) * size_bytes : number * size_bytes]))

    if store.limits.pieces_in_order:
        for number in (1, 2, 3):
            await send(number)
    else:
        async with anyio.create_task_group() as tasks:
            for number in (3, 1, 2):
                tasks.start_soon(send, number)
    pieces.sort(key=lambda piece: piece.number)
    await store.complete(upload, pieces, content[3 * size_bytes :])
    assert await read(store, KEY) == content


async def test_a_piece_may_be_sent_again(store: Store) -> None:
    content = content_of(store.limits.piece_bytes + 5)
    upload = await store.start(KEY)
    await send_pieces(store, upload, content)
    pieces, tail = await send_pieces(store, upload, content)
    await store.complete(upload, pieces, tail)
    assert await read(store, KEY) == content


async def test_completing_again_is_no_error(store: Store) -> None:
    content = content_of(store.limits.piece_bytes + 5)
    upload = await store.start(KEY)
    pieces, tail = await send_pieces(store, upload, content)
    await store.complete(upload, pieces, tail)
    again = await store.complete(upload, pieces, tail)
    assert again.size_bytes == len(content)
    assert await read(store, KEY) == content


async def test_completing_an_aborted_upload_fails(store: Store) -> None:
    upload = await store.start(KEY)
    pieces, tail = await send_pieces(store, upload, content_of(store.limits.piece_bytes + 5))
    await store.abort(upload)
    with pytest.raises(UploadGoneError):
        await store.complete(upload, pieces, tail)
    assert await store.head(KEY) is None


async def test_a_piece_for_an_aborted_upload_fails(store: Store) -> None:
    upload = await store.start(KEY)
    await store.abort(upload)
    with pytest.raises(UploadGoneError):
        await store.piece(upload, 1, content_of(store.limits.piece_bytes))


async def test_aborting_frees_the_upload_and_may_be_repeated(store: Store) -> None:
    upload = await store.start(KEY)
    await send_pieces(store, upload, content_of(store.limits.piece_bytes + 5))
    await store.abort(upload)
    await store.abort(upload)
    assert await uploads(store, "") == []
    assert await store.head(KEY) is None


async def test_aborting_a_completed_upload_leaves_the_object(store: Store) -> None:
    content = content_of(store.limits.piece_bytes + 5)
    upload = await store.start(KEY)
    pieces, tail = await send_pieces(store, upload, content)
    await store.complete(upload, pieces, tail)
    await store.abort(upload)
    assert await read(store, KEY) == content


async def test_uploads_in_progress_are_listed_by_prefix(store: Store) -> None:
    one = await store.start(ObjectKey("exports/orgId=a/file"))
    other = await store.start(ObjectKey("exports/orgId=b/file"))
    again = await store.start(ObjectKey("exports/orgId=a/file"))
    if not store.limits.lists_uploads:
        assert await uploads(store, "") == []
        return
    assert {upload.id for upload in await uploads(store, "exports/orgId=a/")} == {one.id, again.id}
    assert {upload.id for upload in await uploads(store, "")} == {one.id, other.id, again.id}
    for upload in await uploads(store, "exports/"):
        await store.abort(upload)
    assert await uploads(store, "") == []


async def test_an_upload_is_continued_from_its_key_and_id(store: Store) -> None:
    content = content_of(store.limits.piece_bytes + 5)
    upload = await store.start(KEY)
    again = Upload(upload.key, upload.id)
    pieces, tail = await send_pieces(store, again, content)
    await store.complete(again, pieces, tail)
    assert await read(store, KEY) == content


async def test_pieces_that_are_in_are_found_again_and_recognised(store: Store) -> None:
    size_bytes = store.limits.piece_bytes
    content = content_of(2 * size_bytes + 5)
    upload = await store.start(KEY)
    sent, tail = await send_pieces(store, upload, content)
    found = await store.pieces(Upload(upload.key, upload.id))
    # A store may have forgotten some, but never tells of others.
    assert [piece.number for piece in found] == [1, 2][: len(found)]
    recognised = [store.recognise(piece, content[(piece.number - 1) * size_bytes :][:size_bytes]) for piece in found]
    assert recognised == sent[: len(found)]
    assert await store.pieces(await store.start(OTHER_KEY)) == type(found)()
    again = [await store.piece(upload, number, content[(number - 1) * size_bytes :][:size_bytes]) for number in (1, 2)]
    await store.complete(upload, [*sent[: len(found)], *again[len(found) :]], tail)
    assert await read(store, KEY) == content


async def test_another_content_is_not_delivered_for_this_one(store: Store) -> None:
    """Pieces of an earlier content are not recognised, or completing them is refused; it never becomes visible."""
    size_bytes = store.limits.piece_bytes
    old, new = content_of(size_bytes + 5), content_of(size_bytes + 6)[: size_bytes + 5]
    upload = await store.start(KEY)
    await send_pieces(store, upload, old)
    found = await store.pieces(upload)
    recognised = [store.recognise(piece, new[:size_bytes]) for piece in found]
    if None in recognised or not found:
        return
    pieces = [piece for piece in recognised if piece is not None]
    with pytest.raises(UploadGoneError):
        await store.complete(upload, pieces, new[size_bytes:])
    assert await store.head(KEY) is None


async def test_the_pieces_of_an_aborted_upload_are_gone(store: Store) -> None:
    upload = await store.start(KEY)
    await store.abort(upload)
    with pytest.raises(UploadGoneError):
        await store.pieces(upload)


async def test_an_upload_keeps_its_id_out_of_logs(store: Store) -> None:
    upload = Upload(KEY, "the id grants access")
    assert "grants" not in repr(upload)


async def test_listing_is_by_prefix_and_in_the_order_of_bytes(store: Store) -> None:
    keys = ["a/b/1", "a-b/1", "a/b/2", "a/bc", "z", "é", "a/b.c", "a/é", "a/Z"]
    for key in keys:
        await store.put(ObjectKey(key), key.encode())
    assert [info.key for info in await listed(store, "")] == sorted(keys, key=str.encode)
    assert [info.key for info in await listed(store, "a/b")] == ["a/b.c", "a/b/1", "a/b/2", "a/bc"]
    assert [info.key for info in await listed(store, "a/b/")] == ["a/b/1", "a/b/2"]
    assert await listed(store, "nothing/here") == []
    assert [info.size_bytes for info in await listed(store, "é")] == [2]


async def test_deleting_may_be_repeated(store: Store) -> None:
    await store.put(KEY, b"rows")
    await store.delete(KEY)
    await store.delete(KEY)
    assert await store.head(KEY) is None
    assert await listed(store, "") == []


async def test_a_missing_object_is_said_to_be_missing(store: Store) -> None:
    assert await store.head(KEY) is None
    with pytest.raises(PermanentError, match="no object") as caught:
        await read(store, KEY)
    assert caught.value.reason is Reason.NOT_FOUND


@pytest.mark.parametrize("key", ["../outside", "a/../../outside", "/absolute", "a//b", "", ".", "a/", "a\0b", "a\nb"])
async def test_keys_that_are_no_plain_paths_are_refused(store: Store, key: str) -> None:
    for attempt in (store.put(ObjectKey(key), b""), store.start(ObjectKey(key)), store.head(ObjectKey(key))):
        with pytest.raises(PermanentError, match="is not a key") as caught:
            await attempt
        assert caught.value.reason is Reason.DESTINATION_REFUSED


async def test_many_uploads_go_on_at_the_same_time(store: Store) -> None:
    async def send(number: int) -> None:
        content = content_of(store.limits.piece_bytes * 2 + number)
        upload = await store.start(ObjectKey(f"many/{number}"))
        pieces, tail = await send_pieces(store, upload, content)
        await store.complete(upload, pieces, tail)
        assert await read(store, ObjectKey(f"many/{number}")) == content

    async with anyio.create_task_group() as tasks:
        for number in range(1, 6):
            tasks.start_soon(send, number)
    assert len(await listed(store, "many/")) == 5
