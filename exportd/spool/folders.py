"""Files and folders of the spool: private, durable, complete under their final names. Blocking; raises OSError.

``translated`` turns such an OSError into an error whose sentence says what to do.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from exportd.model.errors import ExportdError, PermanentError, Reason, TransientError

FOLDER_MODE = 0o700
FILE_MODE = 0o600

PARTIAL_SUFFIX = ".partial"

BLOCK_BYTES = 4096
"""The block size of file systems: the smallest file takes this much."""

_FULL = {errno.ENOSPC, errno.EDQUOT}


def partial_path(path: Path) -> Path:
    """Where a file is written until it is complete and durable."""
    return path.with_name(path.name + PARTIAL_SUFFIX)


def disk_bytes(size_bytes: int) -> int:
    """The bytes that a file of ``size_bytes`` takes on the disk, in whole blocks."""
    return -(-size_bytes // BLOCK_BYTES) * BLOCK_BYTES


def taken_bytes(folder: Path) -> int:
    """The bytes that the files of a flat folder take on the disk."""
    return sum(disk_bytes(path.stat().st_size) for path in folder.iterdir())


def create(path: Path) -> BinaryIO:
    """Create an empty file that only the daemon's user can read and write."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
    return os.fdopen(descriptor, "wb")


def replace(path: Path, data: bytes) -> int:
    """Write a small file in one go, replacing one that is there. Returns by how many bytes the space on the disk grows.

    After a crash of the machine the file may be the old one, or none, or damaged.
    """
    before = path.stat().st_size if path.exists() else 0
    make(path.parent)
    with create(partial_path(path)) as file:
        file.write(data)
    partial_path(path).rename(path)
    return disk_bytes(len(data)) - disk_bytes(before)


def finish(file: BinaryIO, path: Path, *, syncs_name: bool = True) -> None:
    """Close a file written at ``partial_path(path)`` and give it its final name, so that both survive a crash.

    Without ``syncs_name`` the name is durable only after ``sync`` of the folder.
    """
    file.flush()
    os.fsync(file.fileno())
    file.close()
    partial_path(path).rename(path)
    if syncs_name:
        sync(path.parent)


def write_durably(path: Path, data: bytes) -> None:
    """Write a small file in one go and make it durable, replacing one that is there."""
    with create(partial_path(path)) as file:
        file.write(data)
        finish(file, path)


def sync(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make(folder: Path) -> None:
    """Create a folder and its parents; one that exists is left as it is. It is durable after ``sync`` of its parent."""
    if not folder.is_dir():
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        folder.chmod(FOLDER_MODE)


def remove(folder: Path, first: str) -> int:
    """Remove a flat folder, the file named ``first`` before all others. Returns the freed bytes."""
    removed_bytes = taken_bytes(folder)
    for path in sorted(folder.iterdir(), key=lambda path: path.name != first):
        path.unlink()
    folder.rmdir()
    return removed_bytes


def translate(error: OSError, *, directory: Path, doing: str) -> ExportdError:
    """The error to raise for ``error``, which occurred in the spool in ``directory`` while ``doing`` something."""
    what = error.strerror or str(error)
    if error.errno in _FULL:
        return TransientError(
            f"The spool {directory} ran out of disk space while {doing}. Free space on its file system, lower "
            "spool.budget so that exportd stops earlier, or move the spool.",
            reason=Reason.SPOOL_FULL,
        )
    return PermanentError(
        f"The spool {directory} failed while {doing}: {what}. Check the directory's owner, its mode, that it is not "
        "mounted read-only, and the health of the disk.",
        reason=Reason.SPOOL_UNWRITABLE,
    )


@contextmanager
def translated(*, directory: Path, doing: str) -> Iterator[None]:
    """Raise OSErrors of the block as TransientError or PermanentError."""
    try:
        yield
    except OSError as error:
        raise translate(error, directory=directory, doing=doing) from error
