"""How many more files this process may open. Exports need them, so connections over TCP leave a reserve."""

import os
import resource

_MAX_RESERVED = 512
"""Spool files, COPY streams, uploads and the pool need a few hundred at the largest settings."""


def files_left() -> int:
    """How many files may still be opened. Counts those that are open: a few hundred at most, so it is quick."""
    return _limit() - _open_files()


def reserved_files() -> int:
    """How many of the files that may be open are kept for exports and the Unix socket."""
    return min(_MAX_RESERVED, _limit() // 2)


def connections_affordable(wanted: int) -> int:
    """So many connections of one listener as ``wanted``, or what a quarter of the files that may be open allows."""
    return max(1, min(wanted, _limit() // 4))


def _open_files() -> int:
    with os.scandir("/proc/self/fd") as entries:
        return sum(1 for _ in entries)


def _limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if soft == resource.RLIM_INFINITY else soft
