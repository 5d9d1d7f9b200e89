"""Reads and writes the files of a directory destination, and translates the errors of the operating system.

Methods block; they raise OSError, which ``translated`` turns into a sentence, and PermanentError for bad keys.

    <root>/<key>                           an object
    <root>/.exportd-uploads/<id>/key       an upload in progress: the key it will get,
    <root>/.exportd-uploads/<id>/data      and what has arrived of it
    <root>/.exportd-uploads/<id>/<n>       objects that come whole and become visible together; the key is the first's
    <root>/.exportd-uploads/<hex>.new      one that is about to replace an object

Uploads are on the same file system as the objects, and become visible by a rename after everything is on disk. Complete
objects have no name before that if the file system supports it, and are uploads otherwise: see ``file_writer``.
Consumers never see uploads: their folder is accessible to exportd's user only, and not part of any listing. Objects are
regular files. Links, devices and pipes are not objects, and are not followed or read (see ``folder_opener``). Objects
and folders get fixed modes (readable for the group), whatever the daemon's umask is. A root with the set-group-id bit
passes its group on.
"""

import errno
import os
import stat
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import BoundedSemaphore
from uuid import uuid4

from exportd.model.errors import ExportdError, PermanentError, Reason, TransientError
from exportd.stores.directory.file_writer import (
    CREATE,
    FILE_MODE,
    FileWriter,
    NumberedWriter,
    UnnamedUnsupportedError,
    UnnamedWriter,
    write_at,
)
from exportd.stores.directory.folder_opener import UPLOADS_FOLDER, FolderOpener, about, closed_after, sync
from exportd.stores.layout import ObjectKey
from exportd.stores.store import ObjectInfo, Upload, UploadGoneError, require_key

_MAX_KEY_BYTES = 64 << 10
_MAX_START_AGE = timedelta(hours=1)

# Each of them keeps a descriptor for each of its objects.
_UNNAMED_AT_ONCE = BoundedSemaphore(8)

_SPACE = {errno.ENOSPC, errno.EDQUOT}
_REFUSED = {
    errno.EACCES: "exportd's user may not write there",
    errno.EPERM: "exportd's user may not do that there",
    errno.EROFS: "it is mounted read-only",
    errno.ENOENT: "it does not exist",
    errno.ENOTDIR: "something on the way is not a directory",
    errno.EEXIST: "a file stands where a directory has to be",
    errno.EISDIR: "a directory stands where a file has to be",
    errno.ENAMETOOLONG: "a name is too long for its file system",
    errno.ELOOP: "its symbolic links go in circles",
}


class DirectoryFiles:
    """The operations of a store in the directory ``root``, as blocking calls. ``name`` is used in sentences."""

    def __init__(self, root: Path, *, name: str) -> None:
        self._root = root
        self._name = name
        self._folders = FolderOpener(root, name=name)
        self._knows_unnamed = True

    def start(self, key: ObjectKey) -> Upload:
        self._segments(key)
        with self._folders.uploads(make=True) as uploads:
            # Complete under another name first, so that an upload that is listed always knows its key.
            upload_id = uuid4().hex
            unlisted = f"{upload_id}.new"
            with about(self._root, UPLOADS_FOLDER, unlisted):
                os.mkdir(unlisted, mode=0o700, dir_fd=uploads)
                with closed_after(self._folders.open(uploads, self._root / UPLOADS_FOLDER / unlisted)) as folder:
                    for name, content in (("key", key.encode()), ("data", b"")):
                        with closed_after(os.open(name, CREATE, 0o600, dir_fd=folder)) as file:
                            write_at(file, content, 0)
                os.rename(unlisted, upload_id, src_dir_fd=uploads, dst_dir_fd=uploads)
        return Upload(key, upload_id, datetime.now(UTC))

    def open_object(self, key: ObjectKey) -> int:
        """Open an object for reading, and return its descriptor. Raises PermanentError NOT_FOUND when there is no such
        object.
        """
        *folders, name = self._segments(key)
        try:
            with self._folders.opened(folders) as folder, about(self._root, key):
                return _open_regular(name, os.O_RDONLY, folder)
        except (FileNotFoundError, FileExistsError, _NotRegularError) as error:
            raise PermanentError(f"There is no object {key} in {self._name}.", reason=Reason.NOT_FOUND) from error

    def write_piece(self, upload: Upload, data: bytes, offset: int) -> None:
        with closed_after(self._open_data(upload)) as file:
            write_at(file, data, offset)

    def require_upload(self, upload: Upload) -> None:
        """Raises UploadGoneError when there is no such upload."""
        os.close(self._open_data(upload))

    def complete(self, upload: Upload, tail: bytes, size_bytes: int) -> ObjectInfo:
        """Make an upload visible. Succeeds too if an earlier call did that but was interrupted."""
        *folders, name = self._segments(upload.key)
        try:
            file = self._open_data(upload)
        except UploadGoneError:
            there = self.head(upload.key)
            if there is None or there.size_bytes != size_bytes:
                raise
            self.remove_upload(upload)
            return there
        with closed_after(file):
            write_at(file, tail, size_bytes - len(tail))
            os.ftruncate(file, size_bytes)
            os.fchmod(file, FILE_MODE)
            os.fsync(file)
        with self._folders.opened(folders, make=True) as folder:
            with self._folders.upload(upload.id) as uploaded, about(self._root, upload.key):
                os.rename("data", name, src_dir_fd=uploaded, dst_dir_fd=folder)
            sync(folder)
        self.remove_upload(upload)
        return self.head(upload.key) or ObjectInfo(upload.key, size_bytes)

    def put_all(self, objects: Sequence[tuple[ObjectKey, bytes]]) -> Sequence[ObjectInfo]:
        """Write complete objects. All of them are on disk before the first becomes visible."""
        places = [self._segments(key) for key, _ in objects]
        # When all places are taken, write with names. Do not wait: a share that hangs may hold all places.
        if self._knows_unnamed and _UNNAMED_AT_ONCE.acquire(blocking=False):
            try:
                with (
                    self._folders.uploads(make=True) as uploads,
                    UnnamedWriter(uploads) as writer,
                ):
                    return self._put_all(objects, places, writer)
            except UnnamedUnsupportedError:
                self._knows_unnamed = False
            finally:
                _UNNAMED_AT_ONCE.release()
        upload = self.start(objects[0][0])
        try:
            with self._folders.upload(upload.id) as folder:
                return self._put_all(objects, places, NumberedWriter(folder))
        finally:
            self.remove_upload(upload)

    def _put_all(
        self, objects: Sequence[tuple[ObjectKey, bytes]], places: Sequence[Sequence[str]], writer: FileWriter
    ) -> Sequence[ObjectInfo]:
        infos = []
        by_folder: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for number, (key, data) in enumerate(objects):
            with about(self._root, key):
                written = writer.write(data)
            infos.append(ObjectInfo(key, written.st_size, datetime.fromtimestamp(written.st_mtime, UTC)))
            by_folder[tuple(places[number][:-1])].append(number)
        with self._folders.tree() as tree:
            for segments, numbers in by_folder.items():
                folder = tree.open(segments, make=True)
                for number in numbers:
                    with about(self._root, objects[number][0]):
                        writer.place(number, places[number][-1], folder)
            # Synchronize after all have their names: a file system's journal writes several folders at once.
            tree.sync_made()
            for segments in by_folder:
                sync(tree.open(segments))
        return infos

    def head(self, key: ObjectKey) -> ObjectInfo | None:
        *folders, name = self._segments(key)
        try:
            with self._folders.opened(folders) as folder, about(self._root, key):
                return _info(key, name, folder)
        except (FileNotFoundError, FileExistsError):
            return None

    def delete(self, key: ObjectKey) -> None:
        *folders, name = self._segments(key)
        with suppress(FileNotFoundError, FileExistsError), self._folders.opened(folders) as folder:
            with about(self._root, key):
                os.unlink(name, dir_fd=folder)
            sync(folder)

    def remove_upload(self, upload: Upload) -> None:
        with suppress(FileNotFoundError):
            with self._folders.upload(upload.id) as folder:
                # Without its key the upload is not found any more.
                with os.scandir(folder) as entries:
                    names = [entry.name for entry in entries]
                for name in sorted(names, key=lambda name: name == "key"):
                    with suppress(FileNotFoundError):
                        os.unlink(name, dir_fd=folder)
            with self._folders.uploads() as uploads:
                os.rmdir(upload.id, dir_fd=uploads)

    def uploads(self) -> Sequence[Upload]:
        """The uploads in progress. Folders without a key, which a killed daemon has left, are removed after an hour."""
        found = []
        for upload_id in self._upload_ids():
            started_at = datetime.now(UTC)
            key = ObjectKey("")
            # The upload may just begin or end.
            with suppress(FileNotFoundError), self._folders.upload(upload_id) as folder:
                started_at = datetime.fromtimestamp(os.fstat(folder).st_mtime, UTC)
                key = _key_in(folder)
            upload = Upload(key, upload_id, started_at)
            if key:
                found.append(upload)
            elif datetime.now(UTC) - started_at > _MAX_START_AGE:
                self.remove_upload(upload)
        return found

    def find(self, prefix: str) -> Sequence[ObjectInfo]:
        *segments, beginning = prefix.split("/")
        if {"", ".", ".."} & {*segments} or UPLOADS_FOLDER in {*segments[:1], beginning if not segments else ""}:
            return []
        # Without this check an unmounted share would look like an empty destination.
        self._root.stat()
        found = []
        with suppress(FileNotFoundError, FileExistsError), self._folders.opened(segments) as start:
            for folder, subfolders, files, descriptor in os.fwalk(".", dir_fd=start, onerror=_unless_missing):
                below = [*segments, *Path(folder).parts]
                if not below and UPLOADS_FOLDER in subfolders:
                    subfolders.remove(UPLOADS_FOLDER)
                for file in files:
                    key = ObjectKey("/".join([*below, file]))
                    # A file whose name is not UTF-8 belongs to another program: no key can name it.
                    if not key.startswith(prefix) or not _is_unicode(key):
                        continue
                    with suppress(FileNotFoundError):
                        if (info := _info(key, file, descriptor)) is not None:
                            found.append(info)
        return sorted(found, key=lambda info: info.key.encode())

    def _segments(self, key: ObjectKey) -> list[str]:
        """The names of the folders and the file of a key. Refuses keys that would leave the root or reach the
        uploads.
        """
        require_key(key, store=self._name)
        segments = key.split("/")
        if segments[0] == UPLOADS_FOLDER:
            raise PermanentError(
                f"{self._name}: {key!r} lies in the folder of unfinished uploads.",
                reason=Reason.DESTINATION_REFUSED,
            )
        return segments

    def _upload_ids(self) -> Sequence[str]:
        """The ids of uploads. Files that were meant to replace an object are removed after an hour."""
        oldest = (datetime.now(UTC) - _MAX_START_AGE).timestamp()
        found = []
        try:
            with self._folders.uploads() as uploads, os.scandir(uploads) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        found.append(entry.name)
                    elif entry.stat(follow_symlinks=False).st_mtime < oldest:
                        os.unlink(entry.name, dir_fd=uploads)
        except FileNotFoundError:
            return []
        return sorted(found)

    def _open_data(self, upload: Upload) -> int:
        try:
            with self._folders.upload(upload.id) as folder:
                return _open_regular("data", os.O_WRONLY, folder)
        except (FileNotFoundError, _NotRegularError) as error:
            raise UploadGoneError(upload, self._name) from error


class _NotRegularError(Exception):
    """A link, a device, a pipe or a folder, where a file has to be."""


def translate(error: OSError, *, root: Path, doing: str) -> ExportdError:
    """The error to raise for ``error``, met in the destination ``root`` while ``doing`` something."""
    if error.errno in _SPACE:
        return TransientError(
            f"The destination directory {root} has no space left while {doing}. Free space on its file system.",
            reason=Reason.DESTINATION_UNAVAILABLE,
        )
    why = _REFUSED.get(error.errno or 0)
    if why is not None:
        return PermanentError(
            f"The destination directory {root} refused {doing}: {why} ({error.filename or root}). Create the "
            "directory or mount it, and make it writable for the user exportd runs as.",
            reason=Reason.DESTINATION_REFUSED,
        )
    return TransientError(
        f"The destination directory {root} failed while {doing}: {error.strerror or error}.",
        reason=Reason.DESTINATION_UNAVAILABLE,
    )


@contextmanager
def translated(*, root: Path, doing: str) -> Iterator[None]:
    """Raise OSErrors of the block as TransientError or PermanentError."""
    try:
        yield
    except OSError as error:
        raise translate(error, root=root, doing=doing) from error


def _open_regular(name: str, flags: int, folder: int) -> int:
    """Open a regular file and return its descriptor. Raises _NotRegularError for links, devices and everything else."""
    try:
        # O_NONBLOCK, because opening a pipe without a writer would wait.
        descriptor = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENXIO, errno.EISDIR}:
            raise _NotRegularError from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _NotRegularError
    return descriptor


def _key_in(folder: int) -> ObjectKey:
    """The key in an upload's folder; empty when there is none."""
    try:
        descriptor = _open_regular("key", os.O_RDONLY, folder)
    except _NotRegularError:
        return ObjectKey("")
    with closed_after(descriptor):
        return ObjectKey(os.read(descriptor, _MAX_KEY_BYTES).decode(errors="replace"))


def _info(key: ObjectKey, name: str, folder: int) -> ObjectInfo | None:
    found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if not stat.S_ISREG(found.st_mode):
        return None
    return ObjectInfo(key, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))


def _is_unicode(name: str) -> bool:
    return not any(0xDC80 <= ord(character) <= 0xDCFF for character in name)


def _unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error
