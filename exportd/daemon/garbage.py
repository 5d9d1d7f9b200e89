"""Keeps garbage collection and memory allocation from slowing the daemon down.

A full collection traverses every object while everything else waits: a tenth of a second with 10,000 schedules, or with
hundreds of jobs that run, again and again. Frozen objects are not traversed; they are still freed when the last
reference to them goes. And jobs leave no circles of references behind, so that full collections find next to nothing:
they are made seldom.
"""

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager

_NEVER = 1 << 30

_SELDOM = 100
"""After so many collections of younger objects comes a full one, where Python's default is 10. What waits for it can be
700,000 objects at most, which is some 70 MB."""

_M_MMAP_THRESHOLD = -3
_LARGE_BYTES = 1 << 20


def freeze() -> None:
    """Collect once, then freeze every object that there is: what a daemon has built at its start stays.

    From then on full collections are rare.
    """
    gc.collect()
    gc.freeze()
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, _SELDOM)


@contextmanager
def freezing() -> Iterator[None]:
    """Disables full collections during the block, then freezes what it built; freezes nothing after an error.

    For a block that builds much and discards little.
    """
    gc.collect()
    young, middle, old = gc.get_threshold()
    gc.set_threshold(young, middle, _NEVER)
    try:
        yield
    finally:
        gc.set_threshold(young, middle, old)
    gc.freeze()


def return_large_blocks() -> None:
    """Have the C library return every freed block of a megabyte or more to the system. Does nothing without glibc.

    By itself glibc raises that threshold to the size of the largest block freed: each worker thread then keeps the
    buffers of the uploads that it has read.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
