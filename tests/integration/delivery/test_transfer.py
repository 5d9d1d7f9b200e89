"""A job's way to a destination: while it grows, at the end, and when something fails."""

import hashlib
import random
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import anyio
import pytest

from exportd.delivery.byte_limiter import ByteLimiter
from exportd.delivery.transfer import Transfer, record_nothing
from exportd.model.entity import EntityCode
from exportd.model.errors import InvariantError, PermanentError, Reason, TransientError
from exportd.model.job import Part
from exportd.model.schedule import DestinationCode
from exportd.spool.part_files import PartFile, PartLocation, SpooledPart, verify
from exportd.stores.layout import ObjectKey
from exportd.stores.retrying import RetryBudget
from exportd.stores.store import Store, StoreLimits, Upload
from tests.fixtures.store_doubles import Fault, FaultyStore, MemoryStore, Method, refused, unavailable

PIECE_BYTES = 100
QUICK = RetryBudget(timeout_s=20, first_wait_s=0.0001, max_wait_s=0.0001, jitter_s=0)
ONCE = RetryBudget(timeout_s=0.001, first_wait_s=0.0001, max_wait_s=0.0001, jitter_s=0)
BOTH_KINDS = pytest.mark.parametrize("in_order", [False, True], ids=["any order", "in order"])


def memory_store(*, in_order: bool = False, max_pieces: int = 1000) -> MemoryStore:
    return MemoryStore(limits=StoreLimits(piece_bytes=PIECE_BYTES, pieces_in_order=in_order, max_pieces=max_pieces))


def key_of(entity: EntityCode, number: int) -> ObjectKey:
    return ObjectKey(f"{entity.lower()}/{number}")


class Spooled:
    """A file of the spool that the test lets grow."""

    def __init__(self, folder: Path, entity: str, size_bytes: int, number: int = 1) -> None:
        self.content = random.Random(f"{entity}{number}").randbytes(size_bytes)
        self.file = PartFile(entity=EntityCode(entity), number=number, path=folder / f"{entity}-{number}.gz")
        self.part = Part(
            entity=EntityCode(entity),
            number=number,
            file_name=self.file.path.name,
            rows=1,
            content_bytes=size_bytes,
            size_bytes=size_bytes,
            sha256=hashlib.sha256(self.content).hexdigest(),
        )

    @property
    def key(self) -> ObjectKey:
        return key_of(self.part.entity, self.part.number)

    def grow(self, to_bytes: int) -> None:
        self.file.partial_path.write_bytes(self.content[:to_bytes])
        self.file.advance(to_bytes)

    def finish(self) -> Part:
        self.grow(len(self.content))
        self.file.partial_path.rename(self.file.path)
        self.file.finish(self.part, PartLocation(self.file.path, 0, len(self.content)))
        return self.part


def transfer_to(
    store: Store,
    *,
    retry: RetryBudget = QUICK,
    limiter: ByteLimiter | None = None,
    on_started: Callable[[Upload], Awaitable[None]] = record_nothing,
    on_published: Callable[[Part], None] = lambda _: None,
) -> Transfer:
    return Transfer(
        destination=DestinationCode("LAKE"),
        store=store,
        key_of=key_of,
        limiter=limiter or ByteLimiter(10 * PIECE_BYTES),
        retry=retry,
        on_started=on_started,
        on_published=on_published,
    )


def objects(files: Sequence[Spooled]) -> dict[ObjectKey, bytes]:
    return {file.key: file.content for file in files}


async def leftovers(store: Store) -> list[ObjectKey]:
    return [upload.key async for upload in store.list_uploads("")]


@BOTH_KINDS
@pytest.mark.parametrize("size_bytes", [1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES, 1234])
async def test_a_file_goes_up_while_it_grows_and_shows_when_published(
    tmp_path: Path, in_order: bool, size_bytes: int
) -> None:
    store = FaultyStore(inner := memory_store(in_order=in_order))
    spooled = Spooled(tmp_path, "ACCOUNTS", size_bytes)
    async with transfer_to(store) as transfer:
        transfer.add(spooled.file)
        for to_bytes in range(0, size_bytes, 70):
            spooled.grow(to_bytes)
            await anyio.wait_all_tasks_blocked()
        part = spooled.finish()
        assert inner.objects == {}
        (info,) = await transfer.publish([part])
    assert inner.objects == objects([spooled])
    assert (info.key, info.size_bytes) == (spooled.key, size_bytes)
    assert store.count("piece") == (size_bytes - 1) // PIECE_BYTES
    assert store.count("put") == (size_bytes <= PIECE_BYTES)
    assert await leftovers(store) == []


async def test_pieces_go_up_before_the_file_is_finished(tmp_path: Path) -> None:
    store = FaultyStore(memory_store())
    spooled = Spooled(tmp_path, "ACCOUNTS", 500)
    async with transfer_to(store) as transfer:
        transfer.add(spooled.file)
        spooled.grow(350)
        while store.count("piece") < 3:
            await anyio.lowlevel.checkpoint()
        await transfer.publish([spooled.finish()])


async def test_nothing_shows_until_everything_is_sent(tmp_path: Path) -> None:
    hold = anyio.Event()
    store = FaultyStore(inner := memory_store(), [Fault("piece", hold=hold)])
    files = [Spooled(tmp_path, "ACCOUNTS", 500), Spooled(tmp_path, "METERS", 50)]
    async with transfer_to(store) as transfer, anyio.create_task_group() as tasks:
        for spooled in files:
            transfer.add(spooled.file)
        parts = [spooled.finish() for spooled in files]
        tasks.start_soon(transfer.publish, parts)
        await anyio.wait_all_tasks_blocked()
        assert inner.objects == {}
        hold.set()
    assert inner.objects == objects(files)


@BOTH_KINDS
async def test_many_files_with_few_bytes_in_flight(tmp_path: Path, in_order: bool) -> None:
    store = memory_store(in_order=in_order)
    files = [Spooled(tmp_path, f"E{number}", number * 97 + 1) for number in range(20)]
    published: list[Part] = []
    async with transfer_to(store, limiter=ByteLimiter(150), on_published=published.append) as transfer:
        for spooled in files:
            transfer.add(spooled.file)
        parts = [spooled.finish() for spooled in files]
        infos = await transfer.publish(parts)
    assert store.objects == objects(files)
    assert [info.key for info in infos] == [spooled.key for spooled in files]
    assert sorted(part.entity for part in published) == sorted(part.entity for part in parts)


@pytest.mark.parametrize("after", [False, True], ids=["not done", "done but unknown"])
@pytest.mark.parametrize("method", ["start", "piece", "complete", "put"])
async def test_a_moment_of_absence_is_ridden_out(tmp_path: Path, method: Method, after: bool) -> None:
    fault = Fault(method, times=3, error=unavailable(), after=after)
    store = FaultyStore(inner := memory_store(), [fault])
    files = [Spooled(tmp_path, "ACCOUNTS", 250), Spooled(tmp_path, "METERS", 10)]
    async with transfer_to(store) as transfer:
        for spooled in files:
            transfer.add(spooled.file)
        await transfer.publish([spooled.finish() for spooled in files])
    assert inner.objects == objects(files)


@pytest.mark.parametrize("method", ["start", "piece", "complete", "put"])
async def test_a_refusal_is_reported_by_publish_and_leaves_nothing_else(tmp_path: Path, method: Method) -> None:
    fault = Fault(method, times=100, error=refused())
    store = FaultyStore(inner := memory_store(), [fault])
    files = [Spooled(tmp_path, "ACCOUNTS", 250), Spooled(tmp_path, "METERS", 10)]
    async with transfer_to(store) as transfer:
        for spooled in files:
            transfer.add(spooled.file)
        parts = [spooled.finish() for spooled in files]
        with pytest.raises(PermanentError, match="Destination LAKE: The store answered 403") as caught:
            await transfer.publish(parts)
    assert caught.value.reason is Reason.DESTINATION_REFUSED
    # Pieces that were under way beside the first one may have been refused too; none is repeated.
    assert store.count(method) <= 2
    assert await leftovers(inner) == []


async def test_a_spent_budget_is_a_transient_failure(tmp_path: Path) -> None:
    store = FaultyStore(memory_store(), [Fault("piece", times=10**6, error=unavailable())])
    spooled = Spooled(tmp_path, "ACCOUNTS", 250)
    async with transfer_to(store, retry=ONCE) as transfer:
        transfer.add(spooled.file)
        with pytest.raises(TransientError, match="Destination LAKE: The store answered 503"):
            await transfer.publish([spooled.finish()])
    assert await leftovers(store.inner) == []


@BOTH_KINDS
async def test_an_upload_that_was_aborted_from_outside_is_started_over(tmp_path: Path, in_order: bool) -> None:
    store = FaultyStore(inner := memory_store(in_order=in_order))
    spooled = Spooled(tmp_path, "ACCOUNTS", 450)
    async with transfer_to(store) as transfer:
        transfer.add(spooled.file)
        spooled.grow(150)
        while store.count("piece") < 1:
            await anyio.lowlevel.checkpoint()
        async for upload in store.list_uploads(""):
            await store.abort(upload)
        await transfer.publish([spooled.finish()])
    assert inner.objects == objects([spooled])
    assert store.count("start") == 2
    assert await leftovers(store) == []


async def test_one_that_is_gone_when_it_is_completed_is_started_over_too(tmp_path: Path) -> None:
    store = FaultyStore(inner := memory_store())
    spooled = Spooled(tmp_path, "ACCOUNTS", 450)
    async with transfer_to(store) as transfer:
        transfer.add(spooled.file)
        part = spooled.finish()
        while store.count("piece") < 4:
            await anyio.lowlevel.checkpoint()
        await anyio.wait_all_tasks_blocked()
        async for upload in store.list_uploads(""):
            await store.abort(upload)
        await transfer.publish([part])
    assert inner.objects == objects([spooled])


async def test_a_store_that_drops_every_upload_fails_the_transfer(tmp_path: Path) -> None:
    class Forgetful(MemoryStore):
        async def start(self, key: ObjectKey) -> Upload:
            upload = await super().start(key)
            await self.abort(upload)
            return upload

    store = FaultyStore(Forgetful(limits=StoreLimits(piece_bytes=PIECE_BYTES)))
    spooled = Spooled(tmp_path, "ACCOUNTS", 450)
    async with transfer_to(store) as transfer:
        transfer.add(spooled.file)
        with pytest.raises(TransientError, match="is gone"):
            await transfer.publish([spooled.finish()])
    assert store.count("start") == 3


@BOTH_KINDS
async def test_after_the_seal_an_upload_goes_on_where_it_was(tmp_path: Path, in_order: bool) -> None:
    """Nothing that the store has is sent again; what it has of another content is."""
    store = FaultyStore(inner := memory_store(in_order=in_order), [Fault("complete", times=1000, error=unavailable())])
    spooled = Spooled(tmp_path, "ACCOUNTS", 450)
    begun: list[Upload] = []

    async def write_down(upload: Upload) -> None:
        begun.append(upload)

    part = spooled.finish()
    async with transfer_to(store, retry=ONCE, on_started=write_down) as transfer:
        transfer.add(spooled.file)
        transfer.keep()
        with pytest.raises(TransientError):
            await transfer.publish([part])
    assert [upload.id for upload in begun] == [list_upload.id async for list_upload in store.list_uploads("")]
    if not in_order:
        await inner.piece(begun[0], 2, b"x" * PIECE_BYTES)
    store.faults.clear()
    store.calls.clear()
    async with transfer_to(store) as transfer:
        transfer.resume(await verify(tmp_path, [part]), begun)
        await transfer.publish([part])
    assert inner.objects == objects([spooled])
    assert (store.count("start"), store.count("piece")) == (0, 0 if in_order else 1)
    assert await leftovers(store) == []


async def test_an_upload_that_the_store_dropped_meanwhile_is_begun_anew(tmp_path: Path) -> None:
    store = FaultyStore(inner := memory_store())
    spooled = Spooled(tmp_path, "ACCOUNTS", 450)
    part = spooled.finish()
    gone = await inner.start(spooled.key)
    await inner.abort(gone)
    async with transfer_to(store) as transfer:
        transfer.resume(await verify(tmp_path, [part]), [gone])
        await transfer.publish([part])
    assert inner.objects == objects([spooled])


async def test_a_destination_that_is_left_alone_gets_nothing(tmp_path: Path) -> None:
    store = FaultyStore(inner := memory_store())
    spooled = Spooled(tmp_path, "ACCOUNTS", 450)
    async with transfer_to(store) as transfer:
        transfer.refuse(TransientError("It was away.", reason=Reason.DESTINATION_UNAVAILABLE, retry_after_s=30))
        transfer.add(spooled.file)
        with pytest.raises(TransientError, match=r"Destination LAKE: It was away\.") as caught:
            await transfer.publish([spooled.finish()])
    assert caught.value.retry_after_s == 30
    assert inner.objects == {}
    assert store.calls == []


async def test_one_failing_destination_does_not_disturb_another(tmp_path: Path) -> None:
    bad = FaultyStore(memory_store(), [Fault("piece", call=2, times=100, error=refused())])
    good = memory_store()
    limiter = ByteLimiter(3 * PIECE_BYTES)
    spooled = Spooled(tmp_path, "ACCOUNTS", 1000)
    async with transfer_to(bad, limiter=limiter) as failing, transfer_to(good, limiter=limiter) as working:
        failing.add(spooled.file)
        working.add(spooled.file)
        spooled.grow(600)
        await anyio.wait_all_tasks_blocked()
        late = Spooled(tmp_path, "METERS", 10)
        failing.add(late.file)
        working.add(late.file)
        parts = [spooled.finish(), late.finish()]
        with pytest.raises(PermanentError):
            await failing.publish(parts)
        await working.publish(parts)
    assert good.objects == objects([spooled, late])
    assert limiter.held_bytes == 0


async def test_a_job_that_fails_leaves_no_upload(tmp_path: Path) -> None:
    store = memory_store()
    spooled = Spooled(tmp_path, "ACCOUNTS", 500)
    with pytest.raises(TransientError, match="the database went away"):
        async with transfer_to(store) as transfer:
            transfer.add(spooled.file)
            spooled.grow(300)
            await anyio.wait_all_tasks_blocked()
            raise TransientError("the database went away", reason=Reason.DATABASE_CONNECTION_LOST)
    assert await leftovers(store) == []
    assert store.objects == {}


async def test_a_cancelled_job_leaves_no_upload(tmp_path: Path) -> None:
    hold = anyio.Event()
    store = FaultyStore(memory_store(), [Fault("piece", call=2, hold=hold)])
    spooled = Spooled(tmp_path, "ACCOUNTS", 500)
    with anyio.CancelScope() as scope:
        async with transfer_to(store) as transfer:
            transfer.add(spooled.file)
            spooled.grow(300)
            while store.count("piece") < 2:
                await anyio.lowlevel.checkpoint()
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert await leftovers(store) == []


async def test_clean_up_is_bounded_when_the_store_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exportd.delivery.transfer._ABORT_TIMEOUT_S", 0.01)
    store = FaultyStore(memory_store(), [Fault("abort", hold=anyio.Event())])
    spooled = Spooled(tmp_path, "ACCOUNTS", 500)
    async with transfer_to(store) as transfer:
        transfer.add(spooled.file)
        spooled.grow(300)
        while store.count("piece") < 2:
            await anyio.lowlevel.checkpoint()
    assert await leftovers(store) == [spooled.key]


async def test_an_abandoned_file_stops_its_upload(tmp_path: Path) -> None:
    store = memory_store()
    spooled = Spooled(tmp_path, "ACCOUNTS", 500)
    async with transfer_to(store) as transfer:
        transfer.add(spooled.file)
        spooled.grow(300)
        await anyio.wait_all_tasks_blocked()
        spooled.file.abandon()
        await anyio.wait_all_tasks_blocked()
        assert transfer.failure is not None
        assert transfer.failure.reason is Reason.INTERRUPTED
    assert await leftovers(store) == []


async def test_a_file_too_large_for_the_store_is_refused(tmp_path: Path) -> None:
    store = memory_store(max_pieces=3)
    fits, too_large = Spooled(tmp_path, "A", 300), Spooled(tmp_path, "B", 301)
    async with transfer_to(store) as transfer:
        transfer.add(fits.file)
        await transfer.publish([fits.finish()])
    async with transfer_to(store) as transfer:
        transfer.add(too_large.file)
        with pytest.raises(PermanentError, match=r"is larger than memory takes \(300 bytes\)"):
            await transfer.publish([too_large.finish()])
    assert await leftovers(store) == []


async def test_a_spool_file_cut_short_is_noticed(tmp_path: Path) -> None:
    store = memory_store()
    spooled = Spooled(tmp_path, "ACCOUNTS", 250)
    part = spooled.finish()
    spooled.file.path.write_bytes(spooled.content[:120])
    async with transfer_to(store) as transfer:
        transfer.add(spooled.file)
        with pytest.raises(PermanentError, match="ends before byte 200") as caught:
            await transfer.publish([part])
    assert caught.value.reason is Reason.SPOOL_DAMAGED


async def test_publishing_other_parts_than_were_added_is_a_bug(tmp_path: Path) -> None:
    files = [Spooled(tmp_path, "ACCOUNTS", 10), Spooled(tmp_path, "METERS", 10)]
    parts = [spooled.finish() for spooled in files]
    async with transfer_to(memory_store()) as transfer:
        transfer.add(files[0].file)
        with pytest.raises(InvariantError, match="not the parts of the job"):
            await transfer.publish(parts)


# After a crash.


async def resumed(store: Store, folder: Path, files: Sequence[Spooled]) -> None:
    spooled = await verify(folder, [file.part for file in files])
    async with transfer_to(store) as transfer:
        transfer.resume(spooled)
        await transfer.publish([file.part for file in files])


async def test_a_sealed_job_is_delivered_from_the_spool(tmp_path: Path) -> None:
    files = [Spooled(tmp_path, "ACCOUNTS", 450), Spooled(tmp_path, "METERS", 10)]
    for spooled in files:
        spooled.finish()
    store = memory_store()
    await resumed(store, tmp_path, files)
    assert store.objects == objects(files)


async def test_what_is_published_already_is_not_sent_again(tmp_path: Path) -> None:
    files = [Spooled(tmp_path, "ACCOUNTS", 450), Spooled(tmp_path, "METERS", 10), Spooled(tmp_path, "PLANS", 10)]
    for spooled in files:
        spooled.finish()
    store = FaultyStore(inner := memory_store())
    await resumed(inner, tmp_path, files[:2])
    await resumed(store, tmp_path, files)
    assert inner.objects == objects(files)
    assert (store.count("start"), store.count("put")) == (0, 1)


async def test_other_content_of_the_same_size_is_replaced(tmp_path: Path) -> None:
    spooled = Spooled(tmp_path, "ACCOUNTS", 450)
    spooled.finish()
    store = memory_store()
    await store.put(spooled.key, bytes(450))
    await resumed(store, tmp_path, [spooled])
    assert store.objects == objects([spooled])


async def test_a_store_that_may_not_be_read_is_written_again(tmp_path: Path) -> None:
    spooled = Spooled(tmp_path, "ACCOUNTS", 450)
    spooled.finish()
    store = FaultyStore(inner := memory_store(), [Fault("head", times=100, error=refused())])
    await inner.put(spooled.key, bytes(450))
    await resumed(store, tmp_path, [spooled])
    assert inner.objects == objects([spooled])


def damage_missing(path: Path) -> None:
    path.unlink()


def damage_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def damage_changed(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[7] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (damage_missing, "cannot be read: No such file"),
        (damage_short, "has 449 bytes instead of 450"),
        (damage_changed, "has the SHA-256"),
    ],
)
async def test_a_damaged_spool_file_is_never_delivered(
    tmp_path: Path, damage: Callable[[Path], None], sentence: str
) -> None:
    spooled = Spooled(tmp_path, "ACCOUNTS", 450)
    spooled.finish()
    damage(spooled.file.path)
    with pytest.raises(PermanentError, match=rf"ACCOUNTS-1\.gz {sentence}") as caught:
        await verify(tmp_path, [spooled.part])
    assert caught.value.reason is Reason.SPOOL_DAMAGED


async def test_stopping_at_any_call_and_going_on_ends_in_the_same_objects(tmp_path: Path) -> None:
    files = [Spooled(tmp_path, "ACCOUNTS", 350), Spooled(tmp_path, "METERS", 10), Spooled(tmp_path, "PLANS", 120)]
    for spooled in files:
        spooled.finish()
    whole = FaultyStore(memory_store())
    await resumed(whole, tmp_path, files)
    calls = {method: whole.count(method) for method, _ in whole.calls}
    for method, count in calls.items():
        for call in range(1, count + 1):
            store = FaultyStore(inner := memory_store(), [Fault(method, call=call, error=refused(), after=True)])
            try:
                await resumed(store, tmp_path, files)
            except PermanentError:
                await resumed(store, tmp_path, files)
            assert inner.objects == objects(files)
            assert await leftovers(inner) == [] or method == "start"


def test_a_part_of_the_spool_is_followed_like_a_growing_one() -> None:
    read: Callable[[SpooledPart, int, int], bytes] = SpooledPart.read
    assert callable(read)
