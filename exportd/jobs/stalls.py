"""Decides which jobs may run beside long jobs, and beside jobs that wait for the database or for a destination. Pure.
Times are seconds of a monotonic clock, and are passed in.

When long jobs take all slots of ``limits.jobs``, a few jobs that are expected to be short may run beside them. So a
large export of one organization does not hold up the small ones of all others. A job that has read everything and has
delivered for a while waits only for the network: up to ``limits.delivering_jobs`` of these take no slot. So the slower
a bucket answers, the more jobs deliver to it at the same time.

A job stalls while it waits for a lock or for rows, because a table is large or because code of the table's owner
sleeps. The two cannot be told apart. So a stalled job is not ended, but it must not keep others waiting either:

    slots       a job that stalls takes no slot of ``limits.jobs``: others run beside it, ``limits.stalled_jobs`` more
    memory      an entity on which a job has stalled is remembered until a job reads it without; till then a job that
                reads it counts as one that stalls from its beginning, and needs a place beside the slots
    probes      after a pause, which grows, one job that reads a remembered entity may run in a slot all the same: it
                may be slow for one organization and quick for all others
    share       of the places beside the slots, one entity gets all but one, so that one is left for another
    making way  when all places are taken and others wait, a job that stalls goes back to the queue; its attempt does
                not count. Of those of the entity with the most of them, it is the one that stalls most recently: so
                one that has a place keeps it to its end
    pauses      an entity whose silence has ended an attempt is left alone, for longer and longer, as a destination is
    no work     while nothing else is to be done, jobs that stall use the slots as all do
"""

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from exportd.destinations.circuit import Circuit, CircuitState
from exportd.model.entity import EntityCode
from exportd.settings.schema import LimitSettings

LONG_S = 0.25
"""A job that has run for this long counts as long: short jobs may run beside it."""


@dataclass(frozen=True, slots=True)
class Occupant:
    """A running job. ``troubled`` are the entities on which it stalls, and remembered ones that it has still to read.

    ``stalled_since`` is when it began to stall, None if it does not. ``since`` is when it was claimed,
    ``delivers_since`` when it had read everything, None before.
    """

    troubled: frozenset[EntityCode] = frozenset()
    stalled_since: float | None = None
    since: float = 0.0
    delivers_since: float | None = None

    @classmethod
    def joined(cls, jobs: Collection["Occupant"]) -> "Occupant":
        """Jobs that were claimed together count as one: when one of them stalls, the others wait behind it."""
        stalled = [job.stalled_since for job in jobs if job.stalled_since is not None]
        troubled = frozenset[EntityCode]().union(*(job.troubled for job in jobs))
        sealed = [job.delivers_since for job in jobs if job.delivers_since is not None]
        delivers_since = max(sealed) if len(sealed) == len(jobs) else None
        return cls(troubled, min(stalled, default=None), min(job.since for job in jobs), delivers_since)


@dataclass(frozen=True, slots=True)
class _Memory:
    """What is remembered of an entity. The circuit ``slots`` is open while no job that reads the entity may take a
    slot, ``places`` while no job may read it at all.
    """

    slots: Circuit
    places: Circuit


class StalledEntities:
    """The entities on which jobs have stalled. ``silence_timeout_s`` is how long a statement may be silent."""

    def __init__(self, silence_timeout_s: Callable[[], float]) -> None:
        self._silence_timeout_s = silence_timeout_s
        self._memories: dict[EntityCode, _Memory] = {}

    def __contains__(self, entity: object) -> bool:
        return entity in self._memories

    def __iter__(self) -> Iterator[EntityCode]:
        return iter(self._memories)

    def stalled(self, entities: Collection[EntityCode], now: float) -> None:
        """A job has begun to wait for them."""
        for entity in entities:
            self._memory(entity).slots.failed(now)

    def silent(self, entities: Collection[EntityCode], now: float) -> None:
        """An attempt was ended because nothing came from these entities."""
        for entity in entities:
            self._memory(entity).places.failed(now)

    def read(self, entities: Collection[EntityCode], *, stalled: Collection[EntityCode]) -> None:
        """A job has read these entities to their end. On some of them it had ``stalled``."""
        for entity in entities:
            if entity not in stalled:
                self._memories.pop(entity, None)
            elif entity in self._memories:
                self._memories[entity].places.succeeded()

    def probed(self, entities: Collection[EntityCode], now: float) -> frozenset[EntityCode]:
        """The remembered entities of a job that it may read in a slot as a probe. Call ``given_up`` if it did not read
        them.
        """
        return frozenset(entity for entity in entities if entity in self and self._memories[entity].slots.admits(now))

    def given_up(self, entities: Collection[EntityCode]) -> None:
        """A job has ended that neither read these entities nor stalled on them."""
        for entity in entities:
            if entity in self._memories:
                self._memories[entity].slots.given_up()

    def may_be_probed(self, entity: EntityCode, now: float) -> bool:
        return self._memories[entity].slots.would_admit(now)

    def left_alone_s(self, entity: EntityCode, now: float) -> float:
        """For how many more seconds no job may read the entity; 0 when jobs may."""
        places = self._memories[entity].places
        return places.closes_in_s(now) if places.state(now) is CircuitState.OPEN else 0.0

    def _memory(self, entity: EntityCode) -> _Memory:
        timeout_s = self._silence_timeout_s()
        alone = Circuit(first_pause_s=timeout_s / 4, longest_pause_s=2 * timeout_s)
        return self._memories.setdefault(entity, _Memory(Circuit(), alone))


class Room(Enum):
    """For which jobs there is room."""

    NONE = "none"
    SHORT = "short"
    """Only for a job that is expected to be short."""
    ANY = "any"


@dataclass(frozen=True, slots=True)
class Slots:
    """How many jobs run at a time: ``jobs`` in slots, and beside them up to ``stalled`` that stall, ``delivering`` that
    only deliver, and ``short`` ones while all jobs in slots are long.
    """

    jobs: int
    stalled: int
    short: int = 0
    delivering: int = 0

    @classmethod
    def of(cls, limits: LimitSettings) -> "Slots":
        return cls(limits.jobs, limits.stalled_jobs, limits.short_jobs, limits.delivering_jobs)

    @property
    def readers(self) -> int:
        """The greatest number of jobs that read at the same time."""
        return self.jobs + self.stalled + self.short

    def room(self, occupants: Collection[Occupant], now: float) -> Room:
        """For which jobs there is room now."""
        if len(self._in_slots(occupants, now)) < self.jobs:
            return Room.ANY
        return Room.SHORT if self.short_room_in_s(occupants, now) == 0 else Room.NONE

    def short_room_in_s(self, occupants: Collection[Occupant], now: float) -> float | None:
        """Seconds until there is room for a short job, which is when all jobs in slots count as long; None when there
        is none in sight.
        """
        taken = self._in_slots(occupants, now)
        if not self.jobs <= len(taken) < self.jobs + self.short:
            return None
        return max(0.0, max(occupant.since for occupant in taken) + LONG_S - now)

    def slot_given_up_in_s(self, occupants: Collection[Occupant], now: float) -> float | None:
        """Seconds until the next delivering job gives up its slot; None when no job is about to."""
        end = min((end for occupant in occupants if (end := _waits_from(occupant)) > now), default=math.inf)
        return None if end == math.inf else end - now

    def _in_slots(self, occupants: Collection[Occupant], now: float) -> list[Occupant]:
        """The jobs that take a slot: they do not stall, and have no place among the delivering ones."""
        moving = [occupant for occupant in occupants if occupant.stalled_since is None]
        delivering = [occupant for occupant in moving if _waits_from(occupant) <= now]
        return [*(occupant for occupant in moving if now < _waits_from(occupant)), *delivering[self.delivering :]]

    def left_out(
        self, occupants: Collection[Occupant], entities: StalledEntities, now: float
    ) -> Iterator[frozenset[EntityCode]]:
        """The entities that the next job must not read. If no job fits, the next value is tried, if there is one."""
        alone = frozenset(entity for entity in entities if entities.left_alone_s(entity, now))
        stalled = [occupant for occupant in occupants if occupant.stalled_since is not None]
        taken = _taken(stalled)
        is_full, share = len(stalled) >= self.stalled, max(1, self.stalled - 1)
        crowded = {entity for entity in entities if is_full or taken[entity] >= share}
        strict = alone | {entity for entity in crowded if not entities.may_be_probed(entity, now)}
        yield strict
        if strict != alone and len(self._in_slots(occupants, now)) + len(stalled) < self.jobs:
            yield alone

    def surplus(self, occupants: Sequence[Occupant], now: float) -> int | None:
        """The index of the occupant that has to make way; None while there are not too many."""
        stalled = [occupant for occupant in occupants if occupant.stalled_since is not None]
        in_slots = min(len(self._in_slots(occupants, now)), self.jobs)
        if not stalled or in_slots + len(stalled) <= self.jobs + self.stalled:
            return None
        taken = _taken(stalled)

        def rank(occupant: Occupant) -> tuple[int, float]:
            return max((taken[entity] for entity in occupant.troubled), default=0), occupant.stalled_since or 0.0

        return occupants.index(max(stalled, key=rank))


def _waits_from(occupant: Occupant) -> float:
    """The time from which the job counts as only delivering; infinite while it still has to read."""
    return math.inf if occupant.delivers_since is None else occupant.delivers_since + LONG_S


def _taken(stalled: Collection[Occupant]) -> Counter[EntityCode]:
    """For each entity, how many of the stalled jobs it troubles."""
    return Counter(entity for occupant in stalled for entity in occupant.troubled)
