"""The files of a directory destination, and what the operating system's errors about them mean.

Methods block; they raise OSError, which ``translated`` turns into a sentence, and PermanentError for bad keys.

    <root>/<key>                           an object
    <root>/.exportd-uploads/<id>/key       an upload in progress: the key it will get,
    <root>/.exportd-uploads/<id>/data      and what has arrived of it

Uploads live on the same file system as the objects and become visible by a rename, after everything is on disk.
Consumers never see them: the folder is for exportd's user only, and not part of any listing. Objects and folders get
fixed modes (readable for the group), whatever the daemon's umask; a root with the set-group-id bit passes its group on.
"""

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from exportd.model.errors import ExportdError, PermanentError, TransientError
from exportd.model.reason import Reason
from exportd.stores.layout import ObjectKey, check_key
from exportd.stores.store import ObjectInfo, Upload, UploadGoneError

UPLOADS_FOLDER = ".exportd-uploads"

_MAX_START_AGE = timedelta(hours=1)

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
    """What a store does, in the directory ``root``, as blocking calls. ``name`` is for sentences."""

    def __init__(self, root: Path, *, name: str, file_mode: int, folder_mode: int) -> None:
        self._root = root
        self._name = name
        self._file_mode = file_mode
        self._folder_mode = folder_mode

    def path(self, key: ObjectKey) -> Path:
        """Where an object is; refuses keys that would leave the root or meet the uploads."""
        try:
            check_key(key)
        except ValueError as error:
            raise PermanentError(f"{self._name}: {error}.", reason=Reason.DESTINATION_REFUSED) from error
        if key.split("/", 1)[0] == UPLOADS_FOLDER:
            raise PermanentError(
                f"{self._name}: {key!r} lies in the folder of unfinished uploads.",
                reason=Reason.DESTINATION_REFUSED,
            )
        return self._root / key

    def start(self, key: ObjectKey) -> Upload:
        self.path(key)
        uploads = self._root / UPLOADS_FOLDER
        with suppress(FileExistsError):
            uploads.mkdir(mode=0o700)
        # Complete under another name first, so that an upload that is listed always knows its key.
        folder = uploads / uuid4().hex
        unlisted = folder.with_suffix(".new")
        unlisted.mkdir(mode=0o700)
        (unlisted / "key").write_text(key, encoding="utf-8")
        (unlisted / "data").touch(mode=0o600)
        unlisted.rename(folder)
        return Upload(key, folder.name, datetime.now(UTC))

    def open_object(self, key: ObjectKey) -> BinaryIO:
        try:
            return self.path(key).open("rb")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise PermanentError(f"There is no object {key} in {self._name}.", reason=Reason.NOT_FOUND) from error

    def write_piece(self, upload: Upload, data: bytes, offset: int) -> None:
        descriptor = self._open_data(upload)
        try:
            _write_at(descriptor, data, offset)
        finally:
            os.close(descriptor)

    def require_upload(self, upload: Upload) -> None:
        """Raises UploadGoneError when there is no such upload."""
        os.close(self._open_data(upload))

    def complete(self, upload: Upload, tail: bytes, size_bytes: int) -> ObjectInfo:
        """Make an upload visible; also when an earlier call did but could not say so."""
        path = self.path(upload.key)
        try:
            descriptor = self._open_data(upload)
        except UploadGoneError:
            there = _info(upload.key, path)
            if there is None or there.size_bytes != size_bytes:
                raise
            self.remove_upload(upload)
            return there
        try:
            _write_at(descriptor, tail, size_bytes - len(tail))
            os.ftruncate(descriptor, size_bytes)
            os.fchmod(descriptor, self._file_mode)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self._make_folders(path.parent)
        (self._upload_folder(upload) / "data").rename(path)
        _sync_folder(path.parent)
        self.remove_upload(upload)
        return _info(upload.key, path) or ObjectInfo(upload.key, size_bytes)

    def put(self, key: ObjectKey, data: bytes) -> ObjectInfo:
        upload = self.start(key)
        try:
            return self.complete(upload, data, len(data))
        except BaseException:
            self.remove_upload(upload)
            raise

    def head(self, key: ObjectKey) -> ObjectInfo | None:
        return _info(key, self.path(key))

    def delete(self, key: ObjectKey) -> None:
        path = self.path(key)
        with suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()
            _sync_folder(path.parent)

    def remove_upload(self, upload: Upload) -> None:
        folder = self._upload_folder(upload)
        for name in ("data", "key"):
            (folder / name).unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            folder.rmdir()

    def uploads(self) -> Sequence[Upload]:
        """The uploads in progress. A folder without a key, left by a killed ``start``, is removed after an hour."""
        found = []
        for folder in sorted((self._root / UPLOADS_FOLDER).glob("*/")):
            started_at = datetime.now(UTC)
            try:
                started_at = datetime.fromtimestamp(folder.stat().st_mtime, UTC)
                key = ObjectKey((folder / "key").read_text(encoding="utf-8"))
            except FileNotFoundError:
                # It has just begun or ended.
                key = ObjectKey("")
            upload = Upload(key, folder.name, started_at)
            if key:
                found.append(upload)
            elif datetime.now(UTC) - started_at > _MAX_START_AGE:
                self.remove_upload(upload)
        return found

    def find(self, prefix: str) -> Sequence[ObjectInfo]:
        segments = prefix.split("/")
        if ".." in segments or segments[0] == UPLOADS_FOLDER:
            return []
        # Without this an unmounted share would look like an empty destination.
        self._root.stat()
        found = []
        for folder, subfolders, files in os.walk(self._root.joinpath(*segments[:-1]), onerror=_unless_missing):
            if Path(folder) == self._root and UPLOADS_FOLDER in subfolders:
                subfolders.remove(UPLOADS_FOLDER)
            for file in files:
                path = Path(folder) / file
                key = ObjectKey(path.relative_to(self._root).as_posix())
                # A file whose name is not UTF-8 belongs to another program: no key can name it.
                if not key.startswith(prefix) or not _is_unicode(key):
                    continue
                if (info := _info(key, path)) is not None:
                    found.append(info)
        return sorted(found, key=lambda info: info.key.encode())

    def _upload_folder(self, upload: Upload) -> Path:
        return self._root / UPLOADS_FOLDER / upload.id

    def _open_data(self, upload: Upload) -> int:
        try:
            return os.open(self._upload_folder(upload) / "data", os.O_WRONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise UploadGoneError(upload, self._name) from error

    def _make_folders(self, folder: Path) -> None:
        """Create the folders of a key, durably; refuse to follow a link out of the root."""
        missing = []
        while not folder.is_dir():
            missing.append(folder)
            folder = folder.parent
        if not folder.resolve().is_relative_to(self._root.resolve()):
            raise PermanentError(
                f"{self._name}: {folder} leads out of the destination directory. Remove that link.",
                reason=Reason.DESTINATION_REFUSED,
            )
        for folder in reversed(missing):
            try:
                folder.mkdir()
            except FileExistsError:
                if folder.is_dir():
                    continue
                raise
            # The set-group-id bit came from its parent and has to stay.
            inherited = folder.stat().st_mode & stat.S_ISGID
            folder.chmod(self._folder_mode | inherited)
            _sync_folder(folder.parent)


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


def _info(key: ObjectKey, path: Path) -> ObjectInfo | None:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return ObjectInfo(key, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))


def _is_unicode(name: str) -> bool:
    return not any(0xDC80 <= ord(character) <= 0xDCFF for character in name)


def _unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def _write_at(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems know no fsync of folders; they write names through.
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(descriptor)
