"""Turns what the operating system says about the spool into what a person can act on."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from exportd.model.errors import ExportdError, PermanentError, TransientError
from exportd.model.reason import Reason

_FULL = {errno.ENOSPC, errno.EDQUOT}


def translate(error: OSError, *, directory: Path, doing: str) -> ExportdError:
    """The error to raise for ``error``, met in the spool in ``directory`` while ``doing`` something."""
    what = error.strerror or str(error)
    if error.errno in _FULL:
        return TransientError(
            f"The spool {directory} ran out of disk space while {doing}. Free space on its file system, "
            "lower spool.budget so that exportd stops earlier, or move the spool.",
            reason=Reason.SPOOL_FULL,
        )
    return PermanentError(
        f"The spool {directory} failed while {doing}: {what}. Check the directory's owner, its mode, that it "
        "is not mounted read-only, and the health of the disk.",
        reason=Reason.SPOOL_UNWRITABLE,
    )


@contextmanager
def translated(*, directory: Path, doing: str) -> Iterator[None]:
    """Raise OSErrors of the block as TransientError or PermanentError."""
    try:
        yield
    except OSError as error:
        raise translate(error, directory=directory, doing=doing) from error
