"""The CPU time of a Postgres server of ours, from /proc."""

import os
from pathlib import Path


def server_cpu_s(log: Path) -> float:
    """The CPU seconds of the server whose data folder stands beside the log, sessions that have ended included."""
    parent = int(next(log.parent.rglob("postmaster.pid")).read_text().split()[0])
    ticks = sum(map(int, _stat(parent)[11:15]))
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and int(folder.name) != parent:
            try:
                fields = _stat(int(folder.name))
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has just ended
            if int(fields[1]) == parent:
                ticks += sum(map(int, fields[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _stat(process: int) -> list[str]:
    """The fields of /proc/<pid>/stat from the state on."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
