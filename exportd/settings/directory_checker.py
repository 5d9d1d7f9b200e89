"""Tries whether the directories of the settings can be written: spool, control socket, directory destinations.

Apart from loading, because only the daemon and ``exportd check`` need to write there.
"""

import tempfile
from pathlib import Path

from exportd.model.errors import Problem
from exportd.settings.destination_schema import DirectoryDestination
from exportd.settings.lines import KeyPath
from exportd.settings.schema import Settings


def check_directories(settings: Settings) -> list[Problem]:
    """A problem for each directory that is not, and cannot be made, a writable one. Leaves nothing behind."""
    directories: list[tuple[KeyPath, Path]] = [
        (("spool", "directory"), settings.spool.directory),
        (("control", "socket"), settings.control.socket.parent),
    ]
    directories += [
        (("destination", index, "directory"), destination.directory)
        for index, destination in enumerate(settings.destination)
        if isinstance(destination, DirectoryDestination)
    ]
    sentences = ((path, _sentence(directory)) for path, directory in directories)
    return [settings.document.problem(path, sentence) for path, sentence in sentences if sentence]


def _sentence(directory: Path) -> str | None:
    nearest = directory
    try:
        while not nearest.exists() and nearest != nearest.parent:
            nearest = nearest.parent
        if not nearest.is_dir():
            return f"{nearest} is not a directory; choose another path or move that file away"
        with tempfile.TemporaryFile(dir=nearest):
            return None
    except OSError as error:
        missing = "" if nearest == directory else f"{directory} does not exist and cannot be created: "
        return (
            f"{missing}{nearest} cannot be written by this user ({error.strerror}); "
            "give the daemon's user the right to write there, or choose another directory"
        )
