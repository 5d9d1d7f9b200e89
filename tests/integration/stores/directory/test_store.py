"""What is special about a directory: names, modes, links, and a file system that fails."""

import errno
import os
import stat
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from threading import BoundedSemaphore

import anyio
import pytest

from exportd.model.errors import ExportdError, PermanentError, Reason, TransientError
from exportd.stores.directory.files import DirectoryFiles, translate
from exportd.stores.directory.folder_opener import UPLOADS_FOLDER
from exportd.stores.directory.store import DirectoryStore
from exportd.stores.file_reader import FILE_BLOCK_BYTES
from exportd.stores.layout import ObjectKey
from exportd.stores.store import Upload, UploadGoneError
from tests.fixtures.executors import RecordingExecutor

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


async def test_objects_are_read_in_blocks_by_threads_of_their_own(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, content = DirectoryStore(root), bytes(FILE_BLOCK_BYTES + 1)
    await store.put(KEY, content)
    files = RecordingExecutor(monkeypatch)
    blocks = [block async for block in store.read(KEY)]
    assert ([len(block) for block in blocks], b"".join(blocks)) == ([FILE_BLOCK_BYTES, 1], content)
    assert files.calls() == ["open", "read", "read", "read", "close"]
    async with aclosing(store.read(KEY)) as beginning:
        await anext(beginning)
    assert files.calls() == ["open", "read", "close"]


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


def plant_link(root: Path) -> None:
    elsewhere = root.parent / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    (root / UPLOADS_FOLDER).symlink_to(elsewhere)


def plant_open_folder(root: Path) -> None:
    (root / UPLOADS_FOLDER).mkdir()
    set_mode(root / UPLOADS_FOLDER, 0o777)


@pytest.mark.parametrize(("plant", "why"), [(plant_link, "is a link"), (plant_open_folder, "can be written by others")])
async def test_a_planted_folder_of_uploads_is_refused(root: Path, plant: Callable[[Path], None], why: str) -> None:
    plant(root)
    store = DirectoryStore(root)
    for call in (store.put(KEY, b"rows"), store.start(KEY), store.abort(Upload(KEY, "0" * 32))):
        with pytest.raises(PermanentError, match=why) as caught:
            await call
        assert caught.value.reason is Reason.DESTINATION_REFUSED
    with pytest.raises(PermanentError, match=why):
        _ = [upload async for upload in store.list_uploads("")]
    assert list((root / UPLOADS_FOLDER).iterdir()) == []


async def test_a_folder_of_uploads_of_another_user_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = DirectoryStore(root)
    await store.start(KEY)
    found = os.fstat

    def another_owner(descriptor: int) -> os.stat_result:
        fields = [*found(descriptor)]
        if Path(f"/proc/self/fd/{descriptor}").readlink().name == UPLOADS_FOLDER:
            fields[stat.ST_UID] += 1
        return os.stat_result(fields)

    monkeypatch.setattr("exportd.stores.directory.folder_opener.os.fstat", another_owner)
    with pytest.raises(PermanentError, match="belongs to another user"):
        await store.start(KEY)


async def test_a_folder_of_uploads_that_others_may_read_is_closed_to_them(root: Path) -> None:
    (root / UPLOADS_FOLDER).mkdir()
    set_mode(root / UPLOADS_FOLDER, 0o755)
    await DirectoryStore(root).start(KEY)
    assert mode_of(root / UPLOADS_FOLDER) == "0o700"


async def test_links_inside_of_an_upload_are_not_followed(root: Path, tmp_path: Path) -> None:
    store = DirectoryStore(root)
    upload = await store.start(KEY)
    target = tmp_path / "target"
    target.write_bytes(b"")
    data = root / UPLOADS_FOLDER / upload.id / "data"
    data.unlink()
    data.symlink_to(target)
    with pytest.raises(UploadGoneError):
        await store.complete(upload, [], b"rows")
    assert target.read_bytes() == b""


@pytest.mark.parametrize("upload_id", ["../..", "", ".", "..", "a\0b", f"../{UPLOADS_FOLDER}"])
async def test_an_upload_that_names_another_folder_is_gone(root: Path, upload_id: str) -> None:
    """Uploads come from rows of the database too."""
    (root / "data").write_bytes(b"kept")
    store = DirectoryStore(root)
    await store.start(KEY)
    forged = Upload(KEY, upload_id)
    await store.abort(forged)
    with pytest.raises(UploadGoneError):
        await store.complete(forged, [], b"rows")
    assert (root / "data").read_bytes() == b"kept"


def make_fifo(path: Path, _: Path) -> None:
    os.mkfifo(path)


def make_link(path: Path, secret: Path) -> None:
    path.symlink_to(secret)


def make_link_to_device(path: Path, _: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [make_fifo, make_link, make_link_to_device])
async def test_what_is_no_file_is_no_object(root: Path, tmp_path: Path, make: Callable[[Path, Path], None]) -> None:
    store = DirectoryStore(root)
    await store.put(KEY, b"rows")
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    make(root / "planted", secret)
    planted = ObjectKey("planted")
    with anyio.fail_after(10):
        assert [info.key async for info in store.list("")] == [KEY]
        assert await store.head(planted) is None
        with pytest.raises(PermanentError, match="There is no object planted") as caught:
            _ = [chunk async for chunk in store.read(planted)]
        assert caught.value.reason is Reason.NOT_FOUND
        await store.put(planted, b"mine")
    assert ((root / "planted").read_bytes(), secret.read_bytes()) == (b"mine", b"secret")


async def test_objects_behind_a_link_are_not_there(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside" / "type=account"
    outside.mkdir(parents=True)
    (outside / "file.csv.gz").write_bytes(b"theirs")
    (root / "orgId=a").symlink_to(tmp_path / "outside")
    store = DirectoryStore(root)
    assert [info async for info in store.list("")] == []
    for call in (store.head(KEY), store.delete(KEY), anext(store.read(KEY))):
        with pytest.raises(PermanentError, match="leads out of the destination directory"):
            await call
    assert (outside / "file.csv.gz").read_bytes() == b"theirs"


@pytest.fixture(params=["without names", "with names", "no names in /proc", "links refused"])
def kind_of_file_system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What it knows of files without a name: all but the first are written with names before they are visible."""
    if request.param == "with names":
        monkeypatch.setattr("exportd.stores.directory.file_writer._UNNAMED", None)
    elif request.param == "no names in /proc":
        monkeypatch.setattr("exportd.stores.directory.file_writer._DESCRIPTORS", "/proc/missing")
    elif request.param == "links refused":
        monkeypatch.setattr(os, "link", raise_unsupported)
    return str(request.param)


def raise_unsupported(*_: object, **__: object) -> None:
    raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))


TOGETHER = [(ObjectKey(f"orgId=a/type={number % 2}/{number}"), b"rows" * number) for number in range(5)]


@pytest.mark.usefixtures("kind_of_file_system")
async def test_small_objects_become_visible_together_with_few_synchronizations(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DirectoryStore(root)
    synced: list[bool] = []
    visible: list[int] = []
    fsync, rename = os.fsync, os.rename

    def counted_fsync(descriptor: int) -> None:
        synced.append(stat.S_ISDIR(os.fstat(descriptor).st_mode))
        fsync(descriptor)

    def seen_rename(source: str, target: str, **folders: int) -> None:
        if target.isdecimal():
            visible.append(synced.count(False))
        rename(source, target, **folders)

    await store.put_all(TOGETHER)  # makes the folders
    monkeypatch.setattr(os, "fsync", counted_fsync)
    monkeypatch.setattr(os, "rename", seen_rename)
    infos = await store.put_all(TOGETHER)
    assert visible == [len(TOGETHER)] * len(TOGETHER), "all are on disk before the first can be seen"
    assert synced.count(True) == 2, "one for each folder"
    assert infos == [await store.head(key) for key, _ in TOGETHER]
    assert [(root / key).read_bytes() for key, _ in TOGETHER] == [content for _, content in TOGETHER]
    assert {mode_of(root / key) for key, _ in TOGETHER} == {"0o640"}
    assert list((root / UPLOADS_FOLDER).iterdir()) == []


@pytest.mark.usefixtures("kind_of_file_system")
async def test_of_objects_with_a_wrong_one_none_becomes_visible(root: Path) -> None:
    store = DirectoryStore(root)
    with pytest.raises(PermanentError):
        await store.put_all([*TOGETHER, (ObjectKey("../out"), b"")])
    assert [info async for info in store.list("")] == []
    (root / "orgId=a" / "type=1").mkdir(parents=True)
    (root / TOGETHER[1][0]).mkdir()
    with pytest.raises(PermanentError, match=r"type=1/1\b"):
        await store.put_all(TOGETHER)
    assert list((root / UPLOADS_FOLDER).iterdir()) == []
    (root / TOGETHER[1][0]).rmdir()
    await store.put_all(TOGETHER)
    assert [info.key async for info in store.list("")] == sorted(key for key, _ in TOGETHER)


async def test_what_a_killed_daemon_leaves_of_objects_together_is_found_and_removed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DirectoryStore(root)
    monkeypatch.setattr("exportd.stores.directory.file_writer._UNNAMED", None)
    with monkeypatch.context() as killed:
        killed.setattr(DirectoryFiles, "remove_upload", lambda *_: None)
        killed.setattr(os, "fchmod", raise_killed)
        with pytest.raises(KeyboardInterrupt):
            await store.put_all(TOGETHER)
    (upload,) = [upload async for upload in store.list_uploads("orgId=a/")]
    assert upload.key == TOGETHER[0][0]
    await store.abort(upload)
    assert list((root / UPLOADS_FOLDER).iterdir()) == []


async def test_a_killed_daemon_leaves_nothing_of_objects_that_have_no_name_yet(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DirectoryStore(root)
    monkeypatch.setattr(os, "link", raise_killed)
    with pytest.raises(KeyboardInterrupt):
        await store.put_all(TOGETHER)
    assert list((root / UPLOADS_FOLDER).iterdir()) == list((root / "orgId=a" / "type=0").iterdir()) == []


async def test_what_a_killed_daemon_left_beside_an_object_goes_when_it_is_written_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DirectoryStore(root)
    await store.put(KEY, b"first")
    with monkeypatch.context() as killed:
        killed.setattr(os, "rename", raise_killed)
        killed.setattr(os, "unlink", lambda *_, **__: None)  # the dead remove nothing
        with pytest.raises(KeyboardInterrupt):
            await store.put(KEY, b"second")
    (left,) = (root / UPLOADS_FOLDER).iterdir()
    assert (left.read_bytes(), (root / KEY).read_bytes()) == (b"second", b"first")
    await store.put(KEY, b"third")
    assert list((root / UPLOADS_FOLDER).iterdir()) == []
    assert (root / KEY).read_bytes() == b"third"


@pytest.mark.parametrize("is_ours", [True, False])
async def test_an_object_may_be_put_in_its_place_by_another_that_writes_it(
    root: Path, monkeypatch: pytest.MonkeyPatch, is_ours: bool
) -> None:
    """It takes the name that both use. Where ours is gone, it is worth another try."""
    store, rename = DirectoryStore(root), os.rename
    await store.put(KEY, b"first")

    def rename_after_another(source: str, target: str, **folders: int) -> None:
        if is_ours:
            rename(source, target, **folders)
        else:
            os.unlink(source, dir_fd=folders["src_dir_fd"])
        rename(source, target, **folders)

    monkeypatch.setattr(os, "rename", rename_after_another)
    if is_ours:
        await store.put(KEY, b"second")
    else:
        with pytest.raises(TransientError, match="another daemon writes the same object"):
            await store.put(KEY, b"second")
    assert (root / KEY).read_bytes() == (b"second" if is_ours else b"first")
    assert list((root / UPLOADS_FOLDER).iterdir()) == []


async def test_while_many_write_objects_the_next_ones_do_not_wait(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight shares that hang must not stop a ninth."""
    taken = BoundedSemaphore(1)
    taken.acquire()
    monkeypatch.setattr("exportd.stores.directory.files._UNNAMED_AT_ONCE", taken)
    store = DirectoryStore(root)
    with anyio.fail_after(10):
        await store.put_all(TOGETHER)
    assert [info.key async for info in store.list("")] == sorted(key for key, _ in TOGETHER)


def raise_killed(*_: object, **__: object) -> None:
    raise KeyboardInterrupt
