"""What a killed daemon leaves of uploads that it was just starting."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from exportd.stores.directory.folder_opener import UPLOADS_FOLDER
from exportd.stores.directory.store import DirectoryStore
from exportd.stores.store import Upload


async def listed(store: DirectoryStore) -> list[Upload]:
    return [list_upload async for list_upload in store.list_uploads("")]


async def test_an_upload_that_was_being_started_is_listed_and_can_be_aborted(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    unborn = tmp_path / UPLOADS_FOLDER / "0123.new"
    unborn.mkdir(parents=True)
    (unborn / "key").write_text("a/b")
    (upload,) = await listed(store)
    assert upload.key == "a/b"
    await store.abort(upload)
    assert not unborn.exists()


async def test_one_without_a_key_is_removed_when_it_is_old(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    young, old = (tmp_path / UPLOADS_FOLDER / f"{name}.new" for name in ("young", "old"))
    for folder in (young, old):
        folder.mkdir(parents=True)
        (folder / "key").touch()
    yesterday = (datetime.now(UTC) - timedelta(days=1)).timestamp()
    os.utime(old, (yesterday, yesterday))
    assert await listed(store) == []
    assert young.exists()
    assert not old.exists()


async def test_an_object_that_was_about_to_replace_another_is_removed_when_it_is_old(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    young, old = (tmp_path / UPLOADS_FOLDER / f"{name}.new" for name in ("young", "old"))
    young.parent.mkdir()
    for path in (young, old):
        path.touch()
    yesterday = (datetime.now(UTC) - timedelta(days=1)).timestamp()
    os.utime(old, (yesterday, yesterday))
    assert await listed(store) == []
    assert young.exists()
    assert not old.exists()
