"""Opens the folders of a directory destination, and no others: a name that is a link is never followed.

Others may write in a destination. They could replace a folder by a link between a check and its use. So each folder is
opened from the one above it, and files are named relative to the open folder. Calls block. They raise OSError with the
whole path, and PermanentError DESTINATION_REFUSED for links and planted folders.
"""

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from exportd.model.errors import PermanentError, Reason

UPLOADS_FOLDER = ".exportd-uploads"

_FOLDER_MODE = 0o750
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class FolderOpener:
    """Opens the folders below ``root``, which may itself be a link. ``name`` is used in sentences."""

    def __init__(self, root: Path, *, name: str) -> None:
        self._root = root
        self._name = name

    @contextmanager
    def opened(self, segments: Sequence[str], *, make: bool = False) -> Iterator[int]:
        """Open the folder with these names and return its descriptor. With ``make``, missing folders are made,
        durably.
        """
        with self.tree() as tree:
            folder = tree.open(segments, make=make)
            tree.sync_made()
            yield folder

    @contextmanager
    def tree(self) -> Iterator["FolderTree"]:
        """Open several folders. Each is opened only once, as are the folders above it."""
        tree = FolderTree(self, self._root)
        try:
            yield tree
        finally:
            tree.close()

    @contextmanager
    def uploads(self, *, make: bool = False) -> Iterator[int]:
        """Open the folder of uploads, which must belong to exportd alone. Raises FileNotFoundError when there is
        none.
        """
        path = self._root / UPLOADS_FOLDER
        with closed_after(os.open(self._root, _OPEN_FOLDER)) as root:
            try:
                folder = self.open(root, path)
            except FileNotFoundError:
                if not make:
                    raise
                with suppress(FileExistsError), about(path):
                    os.mkdir(UPLOADS_FOLDER, mode=0o700, dir_fd=root)
                folder = self.open(root, path)
            owner_of_root = os.fstat(root).st_uid
        with closed_after(folder):
            self._require_ours(folder, path, owner_of_root)
            yield folder

    @contextmanager
    def upload(self, upload_id: str) -> Iterator[int]:
        """Open an upload's folder and return its descriptor. Raises FileNotFoundError when there is none."""
        if upload_id in {"", ".", ".."} or "/" in upload_id or "\0" in upload_id:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), upload_id)
        path = self._root / UPLOADS_FOLDER / upload_id
        with self.uploads() as uploads, closed_after(self.open(uploads, path)) as folder:
            yield folder

    def make(self, above: int, path: Path) -> bool:
        """Make a folder in the one above it. Returns False when it exists already. Its name is not durable yet."""
        try:
            with about(path):
                os.mkdir(path.name, dir_fd=above)
        except FileExistsError:
            return False
        with closed_after(self.open(above, path)) as folder:
            # Keep the set-group-id bit that it got from its parent.
            os.fchmod(folder, _FOLDER_MODE | os.fstat(folder).st_mode & stat.S_ISGID)
        return True

    def open(self, above: int, path: Path) -> int:
        """Open a folder in the open one above it, and return its descriptor."""
        with about(path):
            try:
                return os.open(path.name, _OPEN_FOLDER | os.O_NOFOLLOW, dir_fd=above)
            except OSError as error:
                if error.errno not in {errno.ENOTDIR, errno.ELOOP}:
                    raise
                if stat.S_ISLNK(os.stat(path.name, dir_fd=above, follow_symlinks=False).st_mode):
                    raise self._refused(
                        f"{path} is a link, and so leads out of the destination directory. Remove that link."
                    ) from error
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from error

    def _require_ours(self, folder: int, path: Path, owner_of_root: int) -> None:
        found = os.fstat(folder)
        # A share may show all files as owned by the owner of the share, who controls the destination anyway.
        if found.st_uid not in {os.geteuid(), owner_of_root}:
            raise self._refused(
                f"{path}, the folder of unfinished uploads, belongs to another user ({found.st_uid}). Look at what "
                "made it, and remove it: exportd makes its own."
            )
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise self._refused(
                f"{path}, the folder of unfinished uploads, can be written by others than its owner (mode "
                f"{stat.S_IMODE(found.st_mode):o}). Look at what made it, and remove it: exportd makes its own."
            )
        if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            # Not every share supports modes. It may show fixed ones that cannot be changed.
            with suppress(OSError):
                os.fchmod(folder, stat.S_IMODE(found.st_mode) & ~(stat.S_IRWXG | stat.S_IRWXO))

    def _refused(self, sentence: str) -> PermanentError:
        return PermanentError(f"{self._name}: {sentence}", reason=Reason.DESTINATION_REFUSED)


class FolderTree:
    """Open folders below ``root``, until ``close``."""

    def __init__(self, opener: FolderOpener, root: Path) -> None:
        self._opener = opener
        self._root = root
        self._open: dict[tuple[str, ...], int] = {(): os.open(root, _OPEN_FOLDER)}
        self._made_in: set[int] = set()

    def open(self, segments: Sequence[str], *, make: bool = False) -> int:
        """Open the folder with these names and return its descriptor."""
        names = tuple(segments)
        folder = self._open.get(names)
        if folder is None:
            above = self.open(names[:-1], make=make)
            folder = self._open[names] = self._step(above, self._root.joinpath(*names), make=make)
        return folder

    def sync_made(self) -> None:
        for folder in self._made_in:
            sync(folder)
        self._made_in.clear()

    def close(self) -> None:
        for folder in self._open.values():
            os.close(folder)

    def _step(self, above: int, path: Path, *, make: bool) -> int:
        try:
            return self._opener.open(above, path)
        except FileNotFoundError:
            if not make:
                raise
        if self._opener.make(above, path):
            self._made_in.add(above)
        return self._opener.open(above, path)


def sync(folder: int) -> None:
    """Make the names in an open folder durable."""
    try:
        os.fsync(folder)
    except OSError as error:
        # Some network file systems do not support fsync of folders. They write names at once.
        if error.errno != errno.EINVAL:
            raise


@contextmanager
def closed_after(descriptor: int) -> Iterator[int]:
    """The descriptor, which is closed at the end of the block."""
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def about(path: Path, *below: str) -> Iterator[None]:
    """Put the whole path into OSErrors of the block, which have only a name in an open folder."""
    try:
        yield
    except OSError as error:
        error.filename = str(path.joinpath(*below))
        raise
