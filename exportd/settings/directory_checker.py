"""Checks whether the directories of the settings can be written: spool, control socket, directory destinations; and who
may read the file of the DSN.

Separate from loading, because only the daemon and ``exportd check`` need to write there.
"""

import os
import shutil
import stat
import tempfile
from pathlib import Path

from exportd.model.errors import Problem
from exportd.settings.destination_schema import DirectoryDestination
from exportd.settings.document import KeyPath
from exportd.settings.dsn import read_dsn
from exportd.settings.schema import DatabaseSettings, Settings
from exportd.settings.section import format_size

MAX_SOCKET_BYTES = 107


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


def overlapping_directories(settings: Settings) -> list[Problem]:
    """A problem for each directory destination that is the spool, is inside it, or contains it, because each would
    remove or deliver the other's files. Links are followed.
    """
    spool = settings.spool.directory.resolve()
    problems = []
    for index, destination in enumerate(settings.destination):
        if not isinstance(destination, DirectoryDestination):
            continue
        directory = destination.directory.resolve()
        if directory == spool or spool in directory.parents or directory in spool.parents:
            how = "is" if directory == spool else "lies in" if spool in directory.parents else "holds"
            sentence = f"{destination.directory} {how} the spool, {settings.spool.directory}; choose a directory apart"
            problems.append(settings.document.problem(("destination", index, "directory"), sentence))
    return problems


def check_places(settings: Settings) -> list[Problem]:
    """A problem for a spool whose disk has less room than its floor, and for a socket whose path is too long."""
    problems = []
    spool, socket = settings.spool, settings.control.socket
    try:
        free = shutil.disk_usage(_nearest(spool.directory)).free
    except OSError:
        free = None  # another sentence says that it cannot be used
    if free is not None and free <= spool.free_space_floor:
        sentence = (
            f"the disk of {spool.directory} has {format_size(free)} left, and spool.free_space_floor keeps "
            f"{format_size(spool.free_space_floor)} free: no job can write; make room, or lower the floor"
        )
        problems.append(settings.document.problem(("spool", "directory"), sentence))
    if len(os.fsencode(socket)) > MAX_SOCKET_BYTES:
        sentence = (
            f"the path has more than {MAX_SOCKET_BYTES} bytes, the most that a socket can have; choose a shorter one"
        )
        problems.append(settings.document.problem(("control", "socket"), sentence))
    return problems


def dsn_risks(database: DatabaseSettings) -> list[str]:
    """Risks that do not prevent working: a connection over a network without verification, a file that all users can
    read.

    Looks at the file only.
    """
    read = read_dsn(database.dsn)
    risks = []
    if read.crosses_network and not read.verifies_server:
        how = "encrypted, but" if read.options.get("sslmode") == "require" else "perhaps not encrypted, and"
        risks.append(
            f"database.dsn: the connection to {read.hosts} is {how} nothing proves that it is this server; "
            "add sslmode=verify-full and sslrootcert=FILE"
        )
    if database.dsn_file is not None and read.has_password:
        try:
            mode = stat.S_IMODE(database.dsn_file.stat().st_mode)
        except OSError:
            mode = 0  # the DSN came from the environment
        if mode & stat.S_IROTH:
            risks.append(
                f"database.dsn_file: every user of this machine can read the password in {database.dsn_file} "
                f"(mode {mode:04o}): chmod o= {database.dsn_file}"
            )
    return risks


def _sentence(directory: Path) -> str | None:
    nearest = directory
    try:
        nearest = _nearest(directory)
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


def _nearest(directory: Path) -> Path:
    """The directory, or the nearest one above it that exists."""
    while not directory.exists() and directory != directory.parent:
        directory = directory.parent
    return directory
