"""Lets a socket's buffer fill before it is read again.

The server flushes 8 KB at a time, and a fast reader wakes up for each: three times the client's CPU, taken from the
compression beside it. So after a small chunk the reader naps. How long matters: a Unix socket holds about 190 KB, which
COPY fills in 1.4 ms, and whenever it is full the server stands still. An event loop's own timers count in whole
milliseconds (uvloop's ``sleep(0.001)`` takes up to two, ``sleep(0.0004)`` none), which cost a tenth of the throughput;
so this blocks the loop, for less time than one compressed block would keep the interpreter busy.
"""

import time
from collections.abc import Callable

_SMALL_CHUNK_BYTES = 64 * 1024
_NAP_S = 0.0008


class Pacer:
    """One for all streams that share an event loop: a nap fills the buffers of all of them, so however many there are,
    there is at most one nap for each time that all have been read.
    """

    def __init__(self, nap: Callable[[float], None] = time.sleep) -> None:
        self._nap = nap
        self._naps = 0

    def stream(self) -> Callable[[int], None]:
        """What a stream calls with each chunk's size in bytes: it naps after a small one, unless another stream has
        done so since this one's chunk before.
        """
        naps_seen = self._naps

        def pace(chunk_bytes: int) -> None:
            nonlocal naps_seen
            if chunk_bytes < _SMALL_CHUNK_BYTES and naps_seen == self._naps:
                self._nap(_NAP_S)
                self._naps += 1
            naps_seen = self._naps

        return pace
