"""Tells the C library's allocator how the daemon uses memory."""

import ctypes

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
