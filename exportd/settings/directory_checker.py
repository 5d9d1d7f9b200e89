"""Tries whether the directories of the settings can be written: spool, control socket, directory destinations; and
who may read the file of the DSN.

Apart from loading, because only the daemon and ``exportd check`` need to write there.
"""

import stat
import tempfile
from pathlib import Path

from exportd.model.errors import Problem
from exportd.settings.destination_schema import DirectoryDestination
from exportd.settings.dsn import read_dsn
from exportd.settings.lines import KeyPath
from exportd.settings.schema import DatabaseSettings, Settings


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


def dsn_risks(database: DatabaseSettings) -> list[str]:
    """What works and is a risk: a connection over a network without proof, a file that all can read.

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
