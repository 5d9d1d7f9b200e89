"""A hierarchical timer wheel: a million timers, each inserted, cancelled and expired in constant time. Pure.

Time is handed in, in whole milliseconds since an epoch of the caller's. A due time is read as a number of base 64,
and each of its eight digits has a ring of 64 slots. A timer waits in the ring of the highest digit in which its due
time differs from the wheel's time: far ones in coarse slots, near ones in slots of a millisecond. When the wheel's
time enters a slot, what is due in it has expired and the rest moves to finer rings; so a timer moves at most seven
times, however long it waits. A ring knows its occupied slots by the bits of a number, so that stretches in which
nothing happens cost nothing.

The idea is Varghese's and Lauck's; the arrangement by digits is that of tokio.
"""

from operator import attrgetter
from typing import Generic, TypeVar

T = TypeVar("T")

_BITS = 6
_SLOTS = 1 << _BITS
_RINGS = 8

LATEST_MS = (1 << _BITS * _RINGS) - 1
"""The latest due time: some 8900 years."""


class Timer(Generic[T]):
    """A handle to an item in a wheel."""

    __slots__ = ("_slot", "due_ms", "item")

    def __init__(self, due_ms: int, item: T) -> None:
        self.due_ms = due_ms
        self.item = item
        self._slot: _Slot[T] | None = None

    @property
    def waiting(self) -> bool:
        """False once it has expired or was cancelled."""
        return self._slot is not None


# A dict is a set that keeps the order of insertion: timers due at the same millisecond expire in that order.
_Timers = dict[Timer[T], None]


class _Slot(Generic[T]):
    __slots__ = ("bit", "ring", "timers")

    def __init__(self, ring: "_Ring[T]", bit: int) -> None:
        self.ring = ring
        self.bit = bit
        self.timers: _Timers[T] = {}


class _Ring(Generic[T]):
    """``occupied`` has a bit for each slot that holds timers; ``shift`` is its digit's place."""

    __slots__ = ("occupied", "shift", "slots")

    def __init__(self, shift: int) -> None:
        self.shift = shift
        self.occupied = 0
        self.slots = [_Slot(self, 1 << number) for number in range(_SLOTS)]


class TimerWheel(Generic[T]):
    """Timers by their due times. ``now_ms`` is the time up to which they have been handed out."""

    def __init__(self, now_ms: int = 0) -> None:
        if not 0 <= now_ms <= LATEST_MS:
            raise ValueError(f"a wheel's time is 0 to {LATEST_MS} ms, not {now_ms}")
        self.now_ms = now_ms
        self._count = 0
        self._rings: list[_Ring[T]] = [_Ring(_BITS * number) for number in range(_RINGS)]
        # By the length in bits of what differs between a due time and the wheel's time.
        self._ring_of_length = [self._rings[max(0, bits - 1) // _BITS] for bits in range(_BITS * _RINGS + 1)]

    def __len__(self) -> int:
        """How many timers wait."""
        return self._count

    def insert(self, due_ms: int, item: T) -> Timer[T]:
        """Insert ``item``. The first ``advance`` that reaches ``due_ms``, which may have passed already, returns it.

        Raises ValueError for a due time after LATEST_MS.
        """
        if due_ms > LATEST_MS:
            raise ValueError(f"a due time of {due_ms} ms is after {LATEST_MS}")
        timer = Timer(due_ms, item)
        self._place(timer)
        self._count += 1
        return timer

    def cancel(self, timer: Timer[T]) -> bool:
        """Remove a timer. Returns False when it has expired or was cancelled before."""
        slot = timer._slot
        if slot is None:
            return False
        del slot.timers[timer]
        if not slot.timers:
            slot.ring.occupied &= ~slot.bit
        timer._slot = None
        self._count -= 1
        return True

    def advance(self, now_ms: int) -> list[T]:
        """Move the wheel's time forward and return the items whose due time it has reached, in due order.

        Nothing happens when ``now_ms`` is before the wheel's time. Raises ValueError after LATEST_MS.
        """
        if now_ms > LATEST_MS:
            raise ValueError(f"a time of {now_ms} ms is after {LATEST_MS}")
        if now_ms < self.now_ms:
            return []
        expired: list[T] = []
        while (earliest := self._earliest()) is not None and earliest[0] <= now_ms:
            _, slot = earliest
            timers, slot.timers = slot.timers, {}
            slot.ring.occupied &= ~slot.bit
            # Only the last slot can hold both: all before it lie wholly in the past. What one slot of a coarse
            # ring holds is put in order here, instead of moving it through the finer rings.
            due = [timer for timer in timers if timer.due_ms <= now_ms]
            due.sort(key=attrgetter("due_ms"))
            for timer in due:
                timer._slot = None
            expired += [timer.item for timer in due]
            self._count -= len(due)
            if len(due) < len(timers):
                self.now_ms = now_ms
                for timer in timers:
                    if timer.due_ms > now_ms:
                        self._place(timer)
        self.now_ms = now_ms
        return expired

    def next_tick(self) -> int | None:
        """The time for the next call of ``advance``. It is never after the earliest due time, and often before a
        distant one, because timers then move to finer rings. None when no timer waits.
        """
        earliest = self._earliest()
        return None if earliest is None else earliest[0]

    def _place(self, timer: Timer[T]) -> None:
        due_ms = max(timer.due_ms, self.now_ms)
        ring = self._ring_of_length[(due_ms ^ self.now_ms).bit_length()]
        slot = ring.slots[due_ms >> ring.shift & _SLOTS - 1]
        slot.timers[timer] = None
        ring.occupied |= slot.bit
        timer._slot = slot

    def _earliest(self) -> tuple[int, _Slot[T]] | None:
        """The earliest occupied slot and its start. Everything in a finer ring is before all in coarser ones."""
        for ring in self._rings:
            if ring.occupied:
                number = (ring.occupied & -ring.occupied).bit_length() - 1
                turn = ring.shift + _BITS
                return (self.now_ms >> turn << turn) + (number << ring.shift), ring.slots[number]
        return None
