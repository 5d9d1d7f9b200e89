"""What is special about a directory: names, modes, links, and a file system that fails."""

import errno
import os
import stat
from pathlib import Path

import pytest

from exportd.model.errors import ExportdError, PermanentError, TransientError
from exportd.model.reason import Reason
from exportd.stores.directory.files import UPLOADS_FOLDER, translate
from exportd.stores.directory.store import DirectoryStore
from exportd.stores.layout import ObjectKey

KEY = ObjectKey("orgId=a/type=account/file.csv.gz")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "exports"
    root.mkdir(mode=0o750)
    return root


def set_mode(path: Path, mode: int) -> None:
    path.chmod(mode)


def mode_of(path: Path) -> str:
    return oct(stat.S_IMODE(path.stat().st_mode))


async def test_modes_do_not_depend_on_the_umask(root: Path) -> None:
    before = os.umask(0o077)
    try:
        await DirectoryStore(root).put(KEY, b"rows")
    finally:
        os.umask(before)
    assert mode_of(root / KEY) == "0o640"
    assert mode_of(root / "orgId=a") == mode_of(root / "orgId=a/type=account") == "0o750"
    assert mode_of(root / UPLOADS_FOLDER) == "0o700"


async def test_a_roots_group_bit_is_passed_on(root: Path) -> None:
    set_mode(root, 0o2750)
    await DirectoryStore(root).put(KEY, b"rows")
    assert mode_of(root / "orgId=a/type=account") == "0o2750"


async def test_an_uploads_folder_holds_nothing_when_all_is_done(root: Path) -> None:
    store = DirectoryStore(root, piece_bytes=10)
    upload = await store.start(KEY)
    piece = await store.piece(upload, 1, b"0123456789")
    assert len(list((root / UPLOADS_FOLDER).iterdir())) == 1
    await store.complete(upload, [piece], b"rest")
    await store.put(KEY, b"again")
    assert list((root / UPLOADS_FOLDER).iterdir()) == []


async def test_uploads_are_no_objects(root: Path) -> None:
    store = DirectoryStore(root)
    await store.start(KEY)
    assert [info async for info in store.list("")] == []
    assert [info async for info in store.list(f"{UPLOADS_FOLDER}/")] == []
    with pytest.raises(PermanentError, match="folder of unfinished uploads"):
        await store.put(ObjectKey(f"{UPLOADS_FOLDER}/x"), b"")


async def test_a_listing_does_not_leave_the_root(root: Path) -> None:
    (root.parent / "secret").write_text("x")
    assert [info async for info in DirectoryStore(root).list("../")] == []


async def test_a_link_out_of_the_root_is_not_followed(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (root / "orgId=a").symlink_to(outside)
    with pytest.raises(PermanentError, match="leads out of the destination directory"):
        await DirectoryStore(root).put(KEY, b"rows")
    assert list(outside.iterdir()) == []
    assert list((root / UPLOADS_FOLDER).iterdir()) == []


async def test_the_root_itself_may_be_a_link(root: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(root)
    await DirectoryStore(link).put(KEY, b"rows")
    assert (root / KEY).read_bytes() == b"rows"


async def test_a_missing_root_is_not_created(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "not-mounted")
    with pytest.raises(PermanentError, match=r"not-mounted refused .* it does not exist .* mount it") as caught:
        await store.put(KEY, b"rows")
    assert caught.value.reason is Reason.DESTINATION_REFUSED
    with pytest.raises(PermanentError, match="does not exist"):
        _ = [info async for info in store.list("")]
    assert not (tmp_path / "not-mounted").exists()


async def test_a_file_in_the_way_is_named(root: Path) -> None:
    (root / "orgId=a").write_text("")
    with pytest.raises(PermanentError, match=r"a file stands where a directory has to be \(.*orgId=a\)"):
        await DirectoryStore(root).put(KEY, b"rows")


@pytest.mark.parametrize(
    ("number", "kind", "reason"),
    [
        (errno.EACCES, PermanentError, Reason.DESTINATION_REFUSED),
        (errno.EROFS, PermanentError, Reason.DESTINATION_REFUSED),
        (errno.ENAMETOOLONG, PermanentError, Reason.DESTINATION_REFUSED),
        (errno.ENOSPC, TransientError, Reason.DESTINATION_UNAVAILABLE),
        (errno.EDQUOT, TransientError, Reason.DESTINATION_UNAVAILABLE),
        (errno.EIO, TransientError, Reason.DESTINATION_UNAVAILABLE),
        (errno.ESTALE, TransientError, Reason.DESTINATION_UNAVAILABLE),
    ],
)
def test_errors_are_sorted_by_what_helps(number: int, kind: type[ExportdError], reason: Reason) -> None:
    error = translate(OSError(number, os.strerror(number), "/exports/x"), root=Path("/exports"), doing="writing x")
    assert type(error) is kind
    assert error.reason is reason
    assert "/exports" in error.sentence


async def test_a_name_that_is_too_long_is_refused(root: Path) -> None:
    with pytest.raises(PermanentError, match="a name is too long"):
        await DirectoryStore(root).put(ObjectKey(f"orgId=a/{'x' * 300}"), b"rows")
    assert list((root / UPLOADS_FOLDER).iterdir()) == []


async def test_a_crash_after_the_rename_is_repaired_by_completing_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DirectoryStore(root, piece_bytes=10)
    upload = await store.start(KEY)
    piece = await store.piece(upload, 1, b"0123456789")
    with monkeypatch.context() as broken:

        def lost(*_: object) -> None:
            raise OSError(errno.EIO, "Input/output error")

        broken.setattr("exportd.stores.directory.files.DirectoryFiles.remove_upload", lost)
        with pytest.raises(TransientError):
            await store.complete(upload, [piece], b"rest")
    assert [list_upload.id async for list_upload in store.list_uploads("")] == [upload.id]
    assert (await store.complete(upload, [piece], b"rest")).size_bytes == 14
    assert [list_upload.id async for list_upload in store.list_uploads("")] == []
    assert (root / KEY).read_bytes() == b"0123456789rest"


async def test_a_name_that_is_not_unicode_does_not_break_a_listing(root: Path) -> None:
    os.close(os.open(os.fsencode(root) + b"/strange-\xff", os.O_CREAT | os.O_WRONLY))
    await DirectoryStore(root).put(KEY, b"rows")
    assert KEY in [info.key async for info in DirectoryStore(root).list("")]
