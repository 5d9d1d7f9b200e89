"""Turns what the operating system says about a destination directory into what a person can act on."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from exportd.model.errors import ExportdError, PermanentError, TransientError
from exportd.model.reason import Reason

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
