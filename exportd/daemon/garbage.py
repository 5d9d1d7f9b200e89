"""Keeps the garbage collector from looking at what stays.

A full collection looks at every object, and everything else waits: a tenth of a second with 10,000 schedules, again and
again. Most of what there is goes without it, when nothing refers to it any more.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_NEVER = 1 << 30


def keep_what_is_there() -> None:
    """What there is now, of a daemon that has just started or reloaded, is not looked at again."""
    gc.collect()
    gc.freeze()


@contextmanager
def full_collections_put_off() -> Iterator[None]:
    """To the end of the block, which builds much and throws little away."""
    young, middle, old = gc.get_threshold()
    gc.set_threshold(young, middle, _NEVER)
    try:
        yield
    finally:
        gc.set_threshold(young, middle, old)
