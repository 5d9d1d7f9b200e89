"""Writes complete files, and makes all of them durable before any of them gets its name.

If the file system supports files without a name (O_TMPFILE), they have none until then: a crash leaves nothing behind.
Otherwise they are numbered in the folder of an upload. Calls block, and raise OSError.
"""

import errno
import hashlib
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

from exportd.stores.directory.folder_opener import closed_after

# Not on every system.
_UNNAMED: Final = getattr(os, "O_TMPFILE", None)
CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# The errors of a file system that does not support them, and of one that cannot give them a name afterwards.
_UNKNOWN: Final = {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOSYS, errno.EPERM}
_DESCRIPTORS: Final = "/proc/self/fd"
FILE_MODE: Final = 0o640
_PRIVATE: Final = 0o600


class UnnamedUnsupportedError(Exception):
    """The file system does not support files without a name."""


class FileWriter(Protocol):
    """Files are numbered from 0 in the order of ``write``, which makes them durable; ``place`` makes them visible."""

    def write(self, data: bytes) -> os.stat_result: ...

    def place(self, number: int, name: str, folder: int) -> None:
        """Give a file its name in an open folder, replacing a file of that name."""


class UnnamedWriter:
    """A context manager; ``scratch`` is an open folder of the same file system that is exportd's alone.

    Each file keeps a descriptor open until the block ends. Raises UnnamedUnsupportedError if the file system does not
    support it.
    """

    def __init__(self, scratch: int) -> None:
        self._scratch = scratch
        self._files: list[int] = []
        if not Path(_DESCRIPTORS).is_dir():
            raise UnnamedUnsupportedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files:
            os.close(file)

    def write(self, data: bytes) -> os.stat_result:
        file = self._new_file()
        self._files.append(file)
        return _write_durably(file, data)

    def place(self, number: int, name: str, folder: int) -> None:
        try:
            self._link(number, name, folder)
        except FileExistsError:
            self._replace(number, name, folder)

    def _replace(self, number: int, name: str, folder: int) -> None:
        """Replace a file. A link cannot do that, so the new file gets another name first, and is then renamed.

        The other name is always the same, so a file that a killed daemon has left is removed when the object is written
        again. Another daemon that writes the same object at the same time may remove it: then another attempt may help.
        """
        place = os.fstat(folder)
        beside = f"{hashlib.sha256(f'{place.st_dev}/{place.st_ino}/{name}'.encode()).hexdigest()[:32]}.new"
        with suppress(FileNotFoundError):
            os.unlink(beside, dir_fd=self._scratch)
        try:
            self._link(number, beside, self._scratch)
            os.rename(beside, name, src_dir_fd=self._scratch, dst_dir_fd=folder)
        except (FileNotFoundError, FileExistsError) as error:
            # The other daemon may also have renamed this file instead of its own.
            if not os.path.samestat(os.fstat(self._files[number]), os.stat(name, dir_fd=folder)):
                raise OSError(errno.EAGAIN, "another daemon writes the same object") from error
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(beside, dir_fd=self._scratch)
            raise

    def _new_file(self) -> int:
        if _UNNAMED is None:
            raise UnnamedUnsupportedError
        try:
            return os.open(".", os.O_WRONLY | os.O_CLOEXEC | _UNNAMED, _PRIVATE, dir_fd=self._scratch)
        except OSError as error:
            raise _unsupported(error) from error

    def _link(self, number: int, name: str, folder: int) -> None:
        try:
            # Without capabilities a descriptor is linked through its entry in /proc only.
            os.link(f"{_DESCRIPTORS}/{self._files[number]}", name, dst_dir_fd=folder, follow_symlinks=True)
        except OSError as error:
            raise _unsupported(error) from error


class NumberedWriter:
    """Writes to the open folder of an upload. Files that are not placed have to be removed."""

    def __init__(self, folder: int) -> None:
        self._folder = folder
        self._count = 0

    def write(self, data: bytes) -> os.stat_result:
        with closed_after(os.open(str(self._count), CREATE, _PRIVATE, dir_fd=self._folder)) as file:
            self._count += 1
            return _write_durably(file, data)

    def place(self, number: int, name: str, folder: int) -> None:
        os.rename(str(number), name, src_dir_fd=self._folder, dst_dir_fd=folder)


def write_at(file: int, data: bytes, offset: int) -> None:
    """Write all of ``data`` to an open file, from ``offset`` on."""
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written


def _write_durably(file: int, data: bytes) -> os.stat_result:
    write_at(file, data, 0)
    os.fchmod(file, FILE_MODE)
    os.fsync(file)
    return os.fstat(file)


def _unsupported(error: OSError) -> Exception:
    return UnnamedUnsupportedError() if error.errno in _UNKNOWN else error
