"""Files with secrets of the API, which other users may not read. Blocking."""

import os
import stat
from pathlib import Path

from exportd.model.errors import SettingsError


def read_private(path: Path, *, where: str) -> bytes:
    """What is in it. Raises SettingsError when it cannot be read, and when every user can."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read()
    except OSError as error:
        raise SettingsError.of(f"the file {path} cannot be read: {error.strerror or error}", where=where) from error
    if mode & stat.S_IRWXO:
        raise SettingsError.of(
            f"the file {path} is open to every user of this machine (mode {mode:04o}): chmod o= {path}", where=where
        )
    return content
