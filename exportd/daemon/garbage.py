"""Keeps garbage collection and memory allocation from slowing the daemon down.

A full collection traverses every object while everything else waits: a tenth of a second with 10,000 schedules, or with
hundreds of jobs that run, again and again. Frozen objects are not traversed; they are still freed when the last
reference to them goes. And jobs leave no circles of references behind, so that full collections find next to nothing:
they are made seldom, and after one that found little, the next one comes still later. (Clients of S3 are such circles:
where each organization has a role of its own, there is much to find.)
"""

import ctypes
import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

_NEVER = 1 << 30

_SELDOM = 100
"""After so many collections of younger objects comes a full one, where Python's default is 10. What waits for it can be
700,000 objects at most, which is some 70 MB."""
_MORE_SELDOM = 2 * _SELDOM
"""After a full collection that found little. Twice as much can wait then."""
_MUCH_GARBAGE = 50_000
"""How many objects a full collection finds when more than a little of what waits for it is garbage."""

_M_MMAP_THRESHOLD = -3
_LARGE_BYTES = 1 << 20


def freeze() -> None:
    """Collect once, then freeze all objects, because what a daemon has built at its start stays.

    From then on full collections are rare.
    """
    gc.collect()
    gc.freeze()
    _collect_after(_SELDOM)
    if _adapt not in gc.callbacks:
        gc.callbacks.append(_adapt)


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


def _adapt(phase: str, collection: Mapping[str, int]) -> None:
    """Python calls it before and after each collection: set when the next full one comes by what the last one found."""
    if phase == "stop" and collection["generation"] == 2:
        _collect_after(_SELDOM if collection["collected"] >= _MUCH_GARBAGE else _MORE_SELDOM)


def _collect_after(collections: int) -> None:
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, collections)


def return_large_blocks() -> None:
    """Let the C library return every freed block of a megabyte or more to the system. Does nothing without glibc.

    Otherwise glibc raises that threshold to the size of the largest freed block, and each worker thread keeps the
    buffers of its uploads.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
