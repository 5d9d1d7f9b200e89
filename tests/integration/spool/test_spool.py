"""The spool bounds the disk, survives crashes, and belongs to one process."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import anyio
import pytest

from exportd.model.errors import PermanentError, Reason, TransientError
from exportd.model.job import JobId
from exportd.spool import spool as spool_module
from exportd.spool.spool import MANIFEST_NAME, Spool
from tests.fixtures.settings import live_settings, settings_with

A, B = JobId(UUID(int=1)), JobId(UUID(int=2))


def spool_in(
    directory: Path, *, budget_bytes: int = 1000, free_space_floor_bytes: int = 0, wait_timeout_s: float = 10
) -> Spool:
    return Spool(
        live_settings(
            spool={"directory": directory, "budget": budget_bytes, "free_space_floor": free_space_floor_bytes}
        ),
        wait_timeout_s=wait_timeout_s,
    )


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[Spool]:
    async with spool_in(tmp_path / "spool") as opened:
        yield opened


def store_file(spool: Spool, job: JobId, name: str, size_bytes: int) -> Path:
    path = spool.job_folder(job) / name
    path.write_bytes(bytes(size_bytes))
    spool.settle(job, reserved_bytes=0, used_bytes=size_bytes)
    return path


async def test_its_folders_are_private(spool: Spool) -> None:
    folder = await spool.begin_job(A)
    assert [oct(path.stat().st_mode & 0o777) for path in (spool.directory, folder.parent, folder)] == ["0o700"] * 3


async def test_it_keeps_its_id(tmp_path: Path) -> None:
    async with spool_in(tmp_path / "spool") as first, spool_in(tmp_path / "other") as other:
        kept = first.id
        assert other.id != kept
    async with spool_in(tmp_path / "spool") as again:
        assert again.id == kept


async def test_a_damaged_id_is_not_replaced_silently(tmp_path: Path) -> None:
    (tmp_path / "spool.id").write_text("nonsense")
    with pytest.raises(PermanentError, match=r"spool\.id does not hold a spool's id") as caught:
        await spool_in(tmp_path).open()
    assert caught.value.reason is Reason.SPOOL_DAMAGED


async def test_a_second_process_is_refused(spool: Spool) -> None:
    attempt = (
        "import anyio, sys\n"
        "from exportd.settings.schema import Settings\n"
        "from exportd.spool.spool import Spool\n"
        "settings = Settings.model_validate("
        "{'database': {'dsn': 'postgresql://'}, 'spool': {'directory': sys.argv[1]}})\n"
        "anyio.run(Spool(lambda: settings).open)\n"
    )
    run = await anyio.run_process(
        [sys.executable, "-c", attempt, str(spool.directory)], check=False, stderr=subprocess.PIPE
    )
    assert run.returncode != 0
    assert b"Another process uses the spool" in run.stderr


async def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PermanentError, match=r"file/spool failed while opening it: Not a directory") as caught:
        await spool_in(tmp_path / "file" / "spool").open()
    assert caught.value.reason is Reason.SPOOL_UNWRITABLE


async def test_what_is_stored_is_known_after_a_restart(spool: Spool) -> None:
    await spool.begin_job(A)
    store_file(spool, A, "part.gz", 300)
    spool.close()
    async with spool_in(spool.directory) as again:
        assert again.usage.used_bytes == 4096
        assert await again.jobs() == (A,)


async def test_recovery_removes_temporary_files_of_the_dead_only(spool: Spool) -> None:
    await spool.begin_job(A)
    kept = store_file(spool, A, "part.gz", 300)
    left = store_file(spool, A, "next.gz.partial", 200)
    spool.close()
    async with spool_in(spool.directory, budget_bytes=10_000) as again:
        await again.begin_job(B)
        alive = store_file(again, B, "part.gz.partial", 50)
        assert await again.recover() == 1
        assert again.usage.used_bytes == 4096 + 50
    assert kept.exists()
    assert alive.exists()
    assert not left.exists()


async def test_beginning_a_job_removes_what_an_earlier_attempt_left(spool: Spool) -> None:
    await spool.begin_job(A)
    store_file(spool, A, "part.gz", 300)
    assert list((await spool.begin_job(A)).iterdir()) == []
    assert spool.usage.used_bytes == 0


async def test_what_an_earlier_attempt_left_is_gone_for_good_before_the_next_writes(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loss of power may undo a removal until the folder above is synchronized: then a small_parts.zip of the earlier
    attempt would hide files of the next."""
    folder = await spool.begin_job(A)
    store_file(spool, A, "small_parts.zip", 300)
    seen: list[tuple[Path, bool]] = []
    fsync = os.fsync

    def synchronize(descriptor: int) -> None:
        seen.append((Path(f"/proc/self/fd/{descriptor}").readlink(), folder.exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", synchronize)
    await spool.begin_job(A)
    assert (folder.parent, False) in seen
    seen.clear()
    await spool.begin_job(A)
    assert not seen, "there was nothing to remove"


async def test_removing_a_job_removes_its_manifest_first(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    await spool.begin_job(A)
    store_file(spool, A, "a-part.gz", 300)
    await spool.write_manifest(A, b"{}")
    removed: list[str] = []
    unlink = Path.unlink

    def noted(path: Path) -> None:
        removed.append(path.name)
        unlink(path)

    monkeypatch.setattr(Path, "unlink", noted)
    assert await spool.remove_job(A) == 2 * 4096
    assert removed == [MANIFEST_NAME, "a-part.gz"]
    assert not spool.job_folder(A).exists()
    assert spool.usage.used_bytes == 0
    assert await spool.remove_job(A) == 0


async def test_a_manifest_that_is_written_again_counts_once(spool: Spool) -> None:
    await spool.begin_job(A)
    for size_bytes in (2, 5000, 4096):
        await spool.write_manifest(A, bytes(size_bytes))
    assert spool.usage.used_bytes == 4096


async def test_a_full_budget_makes_writers_wait_until_room_is_made(spool: Spool) -> None:
    await spool.begin_job(A)
    store_file(spool, A, "part.gz", 900)
    order: list[str] = []
    async with anyio.create_task_group() as tasks:

        async def writer() -> None:
            await spool.reserve(B, 200)
            order.append("reserved")

        tasks.start_soon(writer)
        await anyio.wait_all_tasks_blocked()
        order.append("removing")
        await spool.remove_job(A)
    assert order == ["removing", "reserved"]


async def test_a_budget_that_is_raised_meanwhile_lets_a_waiting_writer_go_on(tmp_path: Path) -> None:
    bounds = {"directory": tmp_path, "budget": 1000, "free_space_floor": 0}
    async with Spool(lambda: settings_with(spool=bounds), wait_timeout_s=60) as spool:
        spool.settle(A, reserved_bytes=0, used_bytes=900)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(spool.reserve, B, 200)
            await anyio.wait_all_tasks_blocked()
            assert spool.usage.reserved_bytes == 0
            bounds["budget"] = 2000
        assert spool.usage.reserved_bytes == 200
        assert spool.usage.budget_bytes == 2000


async def test_waiting_ends_with_a_sentence(tmp_path: Path) -> None:
    async with spool_in(tmp_path, wait_timeout_s=0.01) as spool:
        spool.settle(A, reserved_bytes=0, used_bytes=900)
        with pytest.raises(TransientError, match=r"900 of 1000 bytes are taken.*Raise spool\.budget") as caught:
            await spool.reserve(B, 200)
    assert caught.value.reason is Reason.SPOOL_FULL


async def test_a_job_that_can_never_fit_does_not_wait(spool: Spool) -> None:
    with pytest.raises(PermanentError, match="more than the whole budget") as caught:
        await spool.reserve(A, 1001)
    assert caught.value.reason is Reason.SPOOL_FULL


async def test_the_free_space_floor_is_kept(tmp_path: Path) -> None:
    async with spool_in(tmp_path, free_space_floor_bytes=2**62, wait_timeout_s=0.01) as spool:
        with pytest.raises(TransientError, match="must stay free"):
            await spool.reserve(A, 1)


async def test_space_freed_by_others_on_the_disk_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free_blocks = 0
    real = os.statvfs

    def statvfs(path: str | Path) -> object:
        known = real(path)
        return type("Disk", (), {"f_bavail": free_blocks, "f_frsize": known.f_frsize})

    monkeypatch.setattr("exportd.spool.spool.os.statvfs", statvfs)
    monkeypatch.setattr(spool_module, "_FREE_SPACE_AGE_S", 0.001)
    async with spool_in(tmp_path, free_space_floor_bytes=4096) as spool, anyio.create_task_group() as tasks:
        tasks.start_soon(spool.reserve, A, 10)
        await anyio.wait_all_tasks_blocked()
        assert spool.usage.reserved_bytes == 0
        free_blocks = 10**6
    assert spool.usage.reserved_bytes == 10
