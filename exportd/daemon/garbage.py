"""Keeps the garbage collector from looking at what stays.

A full collection looks at every object, and everything else waits: a tenth of a second with 10,000 schedules, again and
again. Most of what there is goes without it, when nothing refers to it any more.
"""

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager

_NEVER = 1 << 30


def keep_what_is_there() -> None:
    """What there is now, of a daemon that has just started, is not looked at again."""
    gc.collect()
    gc.freeze()


@contextmanager
def building_what_stays() -> Iterator[None]:
    """What there is at the end of the block, which throws little away, is not looked at: neither in it nor later.

    Unless it ends by an error.
    """
    gc.collect()
    young, middle, old = gc.get_threshold()
    gc.set_threshold(young, middle, _NEVER)
    try:
        yield
    finally:
        gc.set_threshold(young, middle, old)
    gc.freeze()


# MERGED: Tells the C library's allocator how the daemon uses memory.


_M_MMAP_THRESHOLD = -3
_LARGE_BYTES = 1 << 20


def return_large_blocks() -> None:
    """From now on every block of a megabyte or more goes back to the system when it is freed.

    By itself glibc raises the size from which that is so to that of the largest block freed: each worker thread then
    keeps the pieces of uploads that it has read. Without glibc nothing is done.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
