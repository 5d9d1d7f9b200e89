"""The sink of one entity: parts in the spool, backpressure, progress, and nothing left when it fails."""

import asyncio
import errno
import gzip
import hashlib
import os
import random
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO
from uuid import UUID

import anyio
import anyio.to_thread
import pytest
from structlog.testing import capture_logs

from exportd.model.entity import EntityCode
from exportd.model.errors import PermanentError, Reason, TransientError
from exportd.model.job import EntityProgress, JobId, Part
from exportd.model.schedule import ExportFormat
from exportd.spool import entity_writer, folders
from exportd.spool.entity_writer import EntityWriter, finish_together
from exportd.spool.folders import disk_bytes
from exportd.spool.journal_keeper import read_records
from exportd.spool.part_files import ARCHIVE_NAME, PartFile, find_parts
from exportd.spool.part_sequence import Fed, PartSequence
from exportd.spool.spool import Spool
from exportd.stores.file_reader import file_blocks
from tests.fixtures.settings import live_settings

JOB = JobId(UUID(int=7))
HEADER = b"id,value,deleted\n"
BUDGET_BYTES = 50_000_000


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[Spool]:
    settings = live_settings(spool={"directory": tmp_path / "spool", "budget": BUDGET_BYTES, "free_space_floor": 0})
    async with Spool(settings, wait_timeout_s=0.05) as opened:
        await opened.begin_job(JOB)
        yield opened


def writer_to(
    spool: Spool,
    *,
    entity: str = "ACCOUNTS",
    cap_bytes: int = 10**9,
    progress: EntityProgress | None = None,
    on_part_started: Callable[[PartFile], None] = lambda _: None,
) -> EntityWriter:
    return EntityWriter(
        spool=spool,
        folder=spool.job_folder(JOB),
        job=JOB,
        entity=EntityCode(entity),
        type_token="account" if entity == "ACCOUNTS" else entity.lower(),
        file_format=ExportFormat.CSV,
        header=HEADER,
        cap_bytes=cap_bytes,
        progress=progress or EntityProgress(),
        on_part_started=on_part_started,
    )


async def contents_of(spool: Spool, parts: Sequence[Part]) -> list[bytes]:
    """Their files, wherever they lie."""

    def read() -> list[bytes]:
        found = find_parts(spool.job_folder(JOB), [part.file_name for part in parts])
        return [found[part.file_name].read(0, part.size_bytes + 1) for part in parts]

    return await anyio.to_thread.run_sync(read)


async def test_a_part_is_written_while_files_on_a_dead_share_hang_on_opening(spool: Spool, tmp_path: Path) -> None:
    share, loop = tmp_path / "share", asyncio.get_running_loop()
    os.mkfifo(share)  # opening it hangs until there is a writer
    hanging: asyncio.Queue[None] = asyncio.Queue()
    hanging_threads = 8  # all that there are

    def open_and_hang(path: str, flags: int) -> int:
        loop.call_soon_threadsafe(hanging.put_nowait, None)
        return os.open(path, flags)

    async def read() -> None:
        assert [block async for block in file_blocks(share, open_and_hang)] == []

    async with anyio.create_task_group() as tasks:
        for number in range(hanging_threads):
            tasks.start_soon(read, name=f"read {number}")
        for _ in range(hanging_threads):
            await hanging.get()
        try:
            writer = writer_to(spool)
            await writer.write(b"1,a,false\n")
            (part,) = await finish_together([writer])
            assert await loop.run_in_executor(None, part.file_name.endswith, ".csv.gz")
        finally:
            os.close(os.open(share, os.O_RDWR))  # the share is back
    assert gzip.decompress((spool.job_folder(JOB) / part.file_name).read_bytes()) == HEADER + b"1,a,false\n"


def rows_of(stream: int, count: int) -> list[bytes]:
    return [b'%d,"row %d\nof stream %d",false\n' % (number, number, stream) for number in range(count)]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entity_writer, "BLOCK_BYTES", 1000)


@pytest.mark.usefixtures("small_blocks")
async def test_several_streams_write_one_sequence_of_parts(spool: Spool) -> None:
    progress = EntityProgress()
    writer = writer_to(spool, cap_bytes=3000, progress=progress)

    async def stream(number: int) -> None:
        for row in rows_of(number, 400):
            await writer.write(row)

    async with anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(stream, number)
    parts = await finish_together([writer])

    folder = spool.job_folder(JOB)
    assert [part.file_name for part in parts][:2] == [f"{JOB}_account.csv.gz", f"{JOB}_account.0002.csv.gz"]
    assert sorted(path.name for path in folder.iterdir()) == sorted(part.file_name for part in parts)
    written: list[bytes] = []
    for part in parts:
        assert part.size_bytes <= 3000
        content = gzip.decompress((folder / part.file_name).read_bytes())
        assert content.startswith(HEADER)
        written += [row + b",false\n" for row in content[len(HEADER) :].split(b",false\n")[:-1]]
    assert sorted(written) == sorted(row for number in range(3) for row in rows_of(number, 400))

    assert progress == EntityProgress(
        rows=1200,
        content_bytes=sum(part.content_bytes for part in parts),
        size_bytes=sum(part.size_bytes for part in parts),
        files=len(parts),
        done=True,
    )
    assert spool.usage.used_bytes == sum(disk_bytes(part.size_bytes) for part in parts)
    assert spool.usage.reserved_bytes == 0


async def test_an_entity_without_rows_gets_one_file(spool: Spool) -> None:
    started: list[PartFile] = []
    (part,) = await finish_together([writer_to(spool, on_part_started=started.append)])
    assert gzip.decompress((spool.job_folder(JOB) / part.file_name).read_bytes()) == HEADER
    assert [file.part for file in started] == [part]


async def test_rows_larger_than_the_cap_are_counted_and_logged_once_for_each_part(spool: Spool) -> None:
    progress = EntityProgress()
    writer = writer_to(spool, cap_bytes=150, progress=progress)
    giant = bytes(range(35, 120)).hex().encode()
    with capture_logs() as entries:
        await writer.write(b"1,small,false\n2,%s,false\n3,small,false\n4,%s,false\n" % (giant, giant))
        parts = await finish_together([writer])
    oversized = [part for part in parts if part.size_bytes > 150]
    assert [part.rows for part in parts] == [1, 1, 1, 1]
    assert [part.number for part in oversized] == [2, 4]
    assert progress.oversized_parts == 2
    assert entries == [
        {
            "event": "part larger than the size cap",
            "log_level": "warning",
            "entity": "ACCOUNTS",
            "file": part.file_name,
            "size_bytes": part.size_bytes,
            "cap_bytes": 150,
        }
        for part in oversized
    ]


async def test_parts_within_the_cap_are_not_reported(spool: Spool) -> None:
    progress = EntityProgress()
    writer = writer_to(spool, cap_bytes=150, progress=progress)
    with capture_logs() as entries:
        await writer.write(b"1,small,false\n")
        await finish_together([writer])
    assert progress.oversized_parts == 0
    assert entries == []


class HeldThread:
    """Holds the worker thread inside ``feed``, from a block on, until released; notes the blocks that got
    there."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, from_block: int = 1) -> None:
        self.entered = threading.Event()
        self.release = threading.Event()
        self.blocks: list[int] = []
        feed = PartSequence.feed

        def held(sequence: PartSequence, chunks: list[bytes]) -> Fed:
            self.blocks.append(sum(map(len, chunks)))
            if len(self.blocks) >= from_block:
                self.entered.set()
                assert self.release.wait(10)
            return feed(sequence, chunks)

        monkeypatch.setattr(PartSequence, "feed", held)


@pytest.mark.usefixtures("small_blocks")
async def test_writers_wait_while_one_block_is_in_the_thread_and_one_is_full(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = HeldThread(monkeypatch)
    writer = writer_to(spool)
    written_bytes = 0

    async def stream() -> None:
        nonlocal written_bytes
        for _ in range(20):
            await writer.write(b"x" * 99 + b"\n")
            written_bytes += 100

    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(stream)
        await anyio.to_thread.run_sync(held.entered.wait, 10)
        await anyio.wait_all_tasks_blocked()
        # A block is 1000 bytes, and at most one more chunk of each stream, which was on its way when it was
        # full.
        assert len(held.blocks) == 1
        assert held.blocks[0] <= 1200
        assert written_bytes <= held.blocks[0] + 1200
        held.release.set()
    (part,) = await finish_together([writer])
    assert part.rows == 40


@pytest.mark.usefixtures("small_blocks")
async def test_a_full_spool_fails_the_writer_and_nothing_is_left(spool: Spool) -> None:
    spool.settle(JobId(UUID(int=8)), reserved_bytes=0, used_bytes=BUDGET_BYTES - 5500)
    writer = writer_to(spool)
    await writer.write(b"x" * 1000 + b"\n")
    spool.settle(JobId(UUID(int=8)), reserved_bytes=0, used_bytes=4000)
    with pytest.raises(TransientError, match="waits for room") as caught:
        await writer.write(b"x" * 1000 + b"\n")
    assert caught.value.reason is Reason.SPOOL_FULL
    with pytest.raises(TransientError, match="waits for room"):
        await writer.write(b"y\n")
    with pytest.raises(TransientError, match="waits for room"):
        await finish_together([writer])
    await writer.abort()
    assert list(spool.job_folder(JOB).iterdir()) == []
    assert spool.usage.used_bytes == BUDGET_BYTES - 1500
    assert spool.usage.reserved_bytes == 0


@pytest.mark.parametrize(
    ("number", "kind", "reason"),
    [
        (errno.ENOSPC, TransientError, Reason.SPOOL_FULL),
        (errno.EDQUOT, TransientError, Reason.SPOOL_FULL),
        (errno.EIO, PermanentError, Reason.SPOOL_UNWRITABLE),
        (errno.EROFS, PermanentError, Reason.SPOOL_UNWRITABLE),
    ],
)
@pytest.mark.usefixtures("small_blocks")
async def test_a_disk_that_fails_is_reported_and_the_files_removed(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception], reason: Reason
) -> None:
    writer = writer_to(spool)
    await writer.write(b"x" * 1000 + b"\n")

    def failing(descriptor: int) -> None:
        raise OSError(number, "it failed")

    monkeypatch.setattr("exportd.spool.folders.os.fsync", failing)
    with pytest.raises(kind, match=str(spool.directory)) as caught:
        await finish_together([writer])
    assert getattr(caught.value, "reason", None) is reason
    await writer.abort()
    assert list(spool.job_folder(JOB).iterdir()) == []
    assert spool.usage.used_bytes == 0


async def test_a_really_full_disk_is_reported_and_leaves_no_file(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    def create(path: Path) -> BinaryIO:
        # Linux's disk without space.
        return Path("/dev/full").open("wb")

    monkeypatch.setattr("exportd.spool.folders.create", create)
    writer = writer_to(spool)
    await writer.write(b"x,y\n" * 300_000)
    with pytest.raises(TransientError, match="ran out of disk space while writing ACCOUNTS") as caught:
        await finish_together([writer])
    assert caught.value.reason is Reason.SPOOL_FULL
    await writer.abort()
    assert list(spool.job_folder(JOB).iterdir()) == []


@pytest.mark.usefixtures("small_blocks")
async def test_a_cancelled_writer_leaves_nothing(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[PartFile] = []
    held = HeldThread(monkeypatch, from_block=3)
    writer = writer_to(spool, on_part_started=started.append)
    await writer.write(b"x" * 1000 + b"\n")
    await writer.write(b"x" * 1000 + b"\n")
    with anyio.CancelScope() as scope:
        await writer.write(b"x" * 1000 + b"\n")
        await anyio.to_thread.run_sync(held.entered.wait, 10)
        scope.cancel()
        await writer.write(b"x" * 1000 + b"\n")
    assert scope.cancelled_caught
    held.release.set()
    await writer.abort()
    assert list(spool.job_folder(JOB).iterdir()) == []
    assert (spool.usage.used_bytes, spool.usage.reserved_bytes) == (0, 0)
    with pytest.raises(TransientError, match="interrupted"):
        await writer.write(b"late\n")
    with pytest.raises(TransientError, match="given up"):
        await started[0].grown(10**6)


@pytest.mark.usefixtures("small_blocks")
async def test_a_follower_reads_the_file_while_it_grows(spool: Spool) -> None:
    started: list[PartFile] = []
    writer = writer_to(spool, on_part_started=started.append)
    await writer.write(b"x" * 1000 + b"\n")
    await writer.write(b"y" * 1000 + b"\n")
    (file,) = started
    copied = b""

    async def follow() -> None:
        nonlocal copied
        while await file.grown(len(copied)):
            copied += await anyio.to_thread.run_sync(file.read, len(copied), file.available_bytes - len(copied))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(follow)
        for _ in range(20):
            await writer.write(b"z" * 500 + b"\n")
        (part,) = await finish_together([writer])
    assert file.part == part
    assert file.path == spool.job_folder(JOB) / part.file_name
    assert len(copied) == part.size_bytes
    assert gzip.decompress(copied).count(b"z\n") == 20


async def test_small_files_of_a_job_are_made_in_one_call_and_their_names_durable_at_once(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, synced = [], []
    end_all, sync = entity_writer._end_all, folders.sync

    def counted_end_all(ends: Sequence[Callable[[], Fed]], *others: Any) -> list[Fed | OSError]:
        calls.append(len(ends))
        return end_all(ends, *others)

    def counted_sync(folder: Path) -> None:
        synced.append((folder.name, len(list(folder.iterdir()))))
        sync(folder)

    monkeypatch.setattr(entity_writer, "_end_all", counted_end_all)
    monkeypatch.setattr(folders, "sync", counted_sync)
    started: list[PartFile] = []
    writers = [
        writer_to(spool, entity=f"E{number}", on_part_started=started.append, progress=EntityProgress())
        for number in range(4)
    ]
    await writers[1].write(b"1,a,false\n")
    await writers[2].write(b"1,%b,false\n" % (b"x" * 100_000))
    parts = await finish_together(writers)
    assert calls == [1, 3], "the larger one by itself"
    assert synced == [(str(JOB), 1), ("jobs", 1), ("journal", 1)], "the file that has grown, then the journal's name"
    (journal,) = (spool.directory / "journal").iterdir()
    archive = await anyio.to_thread.run_sync((spool.job_folder(JOB) / ARCHIVE_NAME).read_bytes)
    (record,) = read_records(BytesIO(await anyio.to_thread.run_sync(journal.read_bytes)))
    assert (record.name, record.content) == (f"jobs/{JOB}/{ARCHIVE_NAME}", archive)
    assert [(part.entity, part.rows) for part in parts] == [("E0", 0), ("E1", 1), ("E2", 1), ("E3", 0)]
    assert {file.part for file in started} == {*parts}
    assert spool.usage.taken_bytes(JOB) == 2 * 4096, "those in one file take a block of the disk together"
    assert {path.name for path in spool.job_folder(JOB).iterdir()} == {parts[2].file_name, ARCHIVE_NAME}
    contents = await contents_of(spool, parts)
    for file, part, content in zip(sorted(started, key=lambda file: file.entity), parts, contents, strict=True):
        assert content == await anyio.to_thread.run_sync(file.read, 0, part.size_bytes)
        assert hashlib.sha256(content).hexdigest() == part.sha256
        assert gzip.decompress(content).startswith(HEADER)


@pytest.mark.usefixtures("small_blocks")
async def test_an_entity_that_has_a_file_already_stays_out_of_the_small_parts(spool: Spool) -> None:
    writers = [writer_to(spool, entity=f"E{number}") for number in range(3)]
    await writers[1].write(b"1,%b,false\n" % (b"x" * 2000))
    await writers[1].write(b"2,b,false\n")
    parts = await finish_together(writers)
    assert [part.rows for part in parts] == [0, 2, 0]
    assert {path.name for path in spool.job_folder(JOB).iterdir()} == {parts[1].file_name, ARCHIVE_NAME}


async def test_a_part_without_rows_is_the_same_alone_and_among_small_parts(spool: Spool) -> None:
    progress = [EntityProgress() for _ in range(3)]
    alone, *together = [writer_to(spool, entity=f"E{number}", progress=progress[number]) for number in range(3)]
    (part,) = await finish_together([alone])
    for other in await finish_together(together):
        assert replace(other, entity=part.entity, file_name=part.file_name) == part
        assert await contents_of(spool, [other]) == await contents_of(spool, [part])
    assert progress[1] == progress[2] == progress[0]
    assert alone.parts == (part,)


async def test_small_parts_keep_to_the_size_cap(spool: Spool) -> None:
    writers = [writer_to(spool, entity=f"E{number}", cap_bytes=200) for number in range(2)]
    rows = [b"%d,%b,false\n" % (number, random.Random(number).randbytes(60).hex().encode()) for number in range(9)]
    await writers[1].write(b"".join(rows))
    parts = await finish_together(writers)
    assert len(parts) > 3
    contents = await contents_of(spool, [part for part in parts if part.entity == "E1"])
    assert b"".join(gzip.decompress(content).removeprefix(HEADER) for content in contents) == b"".join(rows)
    assert all(part.size_bytes <= 200 for part in parts)


async def test_a_disk_that_fails_at_one_of_the_small_files_leaves_none_of_them(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = folders.create

    def full(path: Path) -> BinaryIO:
        if path.name.startswith(ARCHIVE_NAME):
            raise OSError(errno.ENOSPC, "full")
        return create(path)

    monkeypatch.setattr(folders, "create", full)
    writers = [writer_to(spool, entity=f"E{number}") for number in range(4)]
    with pytest.raises(TransientError) as caught:
        await finish_together(writers)
    assert caught.value.reason is Reason.SPOOL_FULL
    assert "writing E0 of" in caught.value.sentence
    for writer in writers:
        await writer.abort()
    assert list(spool.job_folder(JOB).iterdir()) == []
    assert spool.usage.taken_bytes(JOB) == 0


async def test_a_disk_that_fills_up_at_the_journal_leaves_nothing_that_comes_back(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def full(descriptor: int) -> None:
        fsync(descriptor)  # so the record may be on the disk, though it was not promised
        if Path(f"/proc/self/fd/{descriptor}").readlink().parent.name == "journal":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    writers = [writer_to(spool, entity=f"E{number}") for number in range(4)]
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(TransientError) as caught:
            await finish_together(writers)
        assert caught.value.reason is Reason.SPOOL_FULL
        with pytest.raises(TransientError) as caught:
            await spool.write_manifest(JobId(UUID(int=8)), b"{}")
        assert caught.value.reason is Reason.SPOOL_FULL
    for writer in writers:
        await writer.abort()
    await spool.begin_job(JOB)
    writers = [writer_to(spool, entity=f"E{number}") for number in range(4)]
    await writers[2].write(b"1,of the second attempt,false\n")
    parts = await finish_together(writers)
    archive = spool.job_folder(JOB) / ARCHIVE_NAME
    before = await anyio.to_thread.run_sync(archive.read_bytes)
    spool.close()
    async with Spool(spool.usage._settings) as again:
        assert await anyio.to_thread.run_sync((again.job_folder(JOB) / ARCHIVE_NAME).read_bytes) == before
        assert len(await contents_of(again, parts)) == 4
