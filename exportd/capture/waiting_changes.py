"""Which entities have changes that no run has read yet, as far as the doorbell told. Pure.

Any role may send a notification, so what is not an entity of the catalog is counted and forgotten.
"""

from collections.abc import Collection, Mapping
from datetime import datetime

from exportd.model.entity import EntityCode


class WaitingChanges:
    """Remembers for each of the ``entities`` the first ring and the newest that no run has read past."""

    def __init__(self, entities: Collection[EntityCode]) -> None:
        self._entities = frozenset(entities)
        self._rings: dict[EntityCode, tuple[datetime, datetime]] = {}

    def adjust(self, entities: Collection[EntityCode]) -> None:
        """Go by another catalog."""
        self._entities = frozenset(entities)
        self._rings = {entity: rings for entity, rings in self._rings.items() if entity in self._entities}

    def record_ring(self, name: str, now: datetime) -> bool:
        """Take a ring; False when it is of no entity."""
        entity = EntityCode(name)
        if entity not in self._entities:
            return False
        first, _ = self._rings.get(entity, (now, now))
        self._rings[entity] = first, now
        return True

    def forget_read(self, read_until: Mapping[EntityCode, datetime]) -> None:
        """Forget what has been read: for each entity, until when every schedule has."""
        for entity, (first, newest) in list(self._rings.items()):
            moment = read_until.get(entity)
            if moment is None or moment <= first:
                continue
            if newest <= moment:
                del self._rings[entity]
            else:
                self._rings[entity] = newest, newest

    @property
    def since(self) -> dict[EntityCode, datetime]:
        """The entities with changes, and when the first of them was heard of (UTC)."""
        return {entity: first for entity, (first, _) in self._rings.items()}
