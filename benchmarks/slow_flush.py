"""Server programs whose WAL takes as long to flush as on other storage: a C compiler makes them, where there is one.

A commit waits for the flush and not for capture's triggers, so the slower the flush, the less one notices of them.
"""

import os
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SOURCE = Path(__file__).with_name("slow_flush.c")
_MEMORY = Path("/dev/shm")  # noqa: S108, the folder in it has a name of its own
_FLUSHES = 100
_PAGE_BYTES = 8192
_SERVER = """\
#!/bin/sh
FLUSH_MICROSECONDS={microseconds} LD_PRELOAD={library} exec {program} "$@"
"""


def compiler() -> str | None:
    """The C compiler of this machine."""
    return shutil.which("gcc") or shutil.which("cc")


@contextmanager
def slow_binaries(binaries: Path, flush_s: float) -> Iterator[Path]:
    """The folder of server programs of which ``postgres`` takes ``flush_s`` at least for a flush of the WAL.

    ``binaries`` are the real ones, which every user has to be able to run. Raises CalledProcessError when the compiler
    fails.
    """
    with _folder_for_all() as folder:
        library = folder / "slow_flush.so"
        command = [compiler() or "cc", "-shared", "-fPIC", "-O2", "-Wall", "-o", str(library), str(_SOURCE), "-ldl"]
        subprocess.run(command, check=True)
        for program in binaries.iterdir():
            if program.name != "postgres":
                (folder / program.name).symlink_to(program)
        server = folder / "postgres"
        paths = {"library": shlex.quote(str(library)), "program": shlex.quote(str(binaries / "postgres"))}
        server.write_text(_SERVER.format(microseconds=round(flush_s * 1e6), **paths))
        server.chmod(0o755)
        yield folder


@contextmanager
def folder_in_memory() -> Iterator[Path]:
    """A folder whose files need no time to be flushed; a usual one where there is no memory for it.

    It is gone at the end, so a server that has its data there has to be stopped before.
    """
    with _folder_for_all(_MEMORY if os.access(_MEMORY, os.W_OK) else None) as folder:
        yield folder / "server"


@contextmanager
def _folder_for_all(place: Path | None = None) -> Iterator[Path]:
    """A temporary folder that the server's user can read, too: if we are root, it is another one."""
    with tempfile.TemporaryDirectory(prefix="exportd-bench-", dir=place) as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def disk_flush_s(folder: Path) -> float:
    """How long the disk of a folder takes to flush a page, on average."""
    page = bytes(_PAGE_BYTES)
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(page)
        file.flush()
        start = time.perf_counter()
        for _ in range(_FLUSHES):
            os.pwrite(file.fileno(), page, 0)
            os.fdatasync(file.fileno())
        return (time.perf_counter() - start) / _FLUSHES
