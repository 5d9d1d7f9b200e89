"""Says what a window must hold, from two whole reads and the writers' own record, and what is wrong with one. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from exportd.model.entity import Entity
from tests.integration.exactness.tables import Key, Row, Touch, key_of


@dataclass
class Window:
    """An entity's window as it was exported, and what is known of it.

    ``before`` and ``now`` are whole reads in the previous run's snapshot and in this one's; ``touches`` the records
    that transactions of the window wrote, in order. ``full``: this run replaces everything.
    """

    entity: Entity
    full: bool
    before: Mapping[Key, Row]
    now: Mapping[Key, Row]
    touches: Sequence[Touch]
    live: Sequence[Row]
    deleted: Sequence[Row]
    counts: Counter[str] = field(default_factory=Counter)

    def faults(self) -> list[str]:
        """Everything that is wrong with the window, in words; fills ``counts``."""
        self.counts.update(live=len(self.live), deleted=len(self.deleted))
        live = {key_of(self.entity, row): row for row in self.live}
        deleted = {key_of(self.entity, row): row for row in self.deleted}
        faults = [
            *_fault("keys twice in one window", self._repeated()),
            *_fault("live rows that are not the table's", (k for k, row in live.items() if self.now.get(k) != row)),
        ]
        if self.full:
            faults += _fault("missing in a full run", self.now.keys() - live.keys())
        else:
            faults += self._judge_live(live)
        faults += self._judge_deleted(deleted)
        return faults

    def replayed(self, replica: Mapping[Key, Row]) -> dict[Key, Row]:
        """What a consumer holds after applying the window to what it held."""
        held = {} if self.full else dict(replica)
        for row in self.deleted:
            held.pop(key_of(self.entity, row), None)
        held.update((key_of(self.entity, row), row) for row in self.live)
        return held

    def _repeated(self) -> list[Key]:
        keys = Counter(key_of(self.entity, row) for row in (*self.live, *self.deleted))
        return [key for key, times in keys.items() if times > 1]

    def _judge_live(self, live: Mapping[Key, Row]) -> list[str]:
        changed = {key for key, row in self.now.items() if self.before.get(key) != row}
        # A record may be written and be as before in the end: its parent's key changed, and back.
        touched = {touch.key for touch in self.touches}
        self.counts["changed"] += len(changed)
        return [
            *_fault("changes missed", changed - live.keys()),
            *_fault("live rows without a change", live.keys() - changed - touched),
        ]

    def _judge_deleted(self, deleted: Mapping[Key, Row]) -> list[str]:
        last = {touch.key: touch.stamp for touch in self.touches}
        expected = (self.before.keys() | last.keys()) - self.now.keys()
        born_and_gone = expected - self.before.keys()
        self.counts["born and gone"] += len(born_and_gone & deleted.keys())
        faults = [
            *_fault("deletions of what is not gone or never was", deleted.keys() - expected),
            # A full run replaces everything, and names what the log still holds: no deletion twice, no image of old.
            *([] if self.full else _fault("deletions missed", expected - deleted.keys())),
        ]
        stamp = self.entity.field_names.index("stamp")
        for key in deleted.keys() & expected:
            image = deleted[key]
            if key in last:
                right = image[stamp] == last[key]
            else:
                right = self._without_relation(image) == self._without_relation(self.before[key])
            if not right:
                faults.append(f"not the last image: {image} of {self.before.get(key)}, {last.get(key)}")
        return faults

    def _without_relation(self, row: Row) -> Row:
        """``related`` may be set to NULL by a foreign key between the previous read and the deletion."""
        return tuple(value for name, value in zip(self.entity.field_names, row, strict=False) if name != "related")


def _fault(words: str, keys: Iterable[Key]) -> list[str]:
    found = sorted(keys, key=str)
    return [f"{len(found)} {words}: {found[:5]}"] if found else []
