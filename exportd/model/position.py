"""A position: how far a schedule has exported an entity, and what lets the next run go on from there."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from exportd.model.entity import EntityCode
from exportd.model.job import JobId
from exportd.model.schedule import DestinationCode


@dataclass(frozen=True, slots=True)
class Position:
    """The snapshot of the last job of a schedule that succeeded with this entity.

    ``snapshot`` is the text of a ``pg_snapshot``, ``taken_at`` its time (aware UTC). ``guards`` is the JSON
    form of ``snapshots.guards.Guards``. ``destinations`` have received everything up to here. ``expired``:
    the change log no longer reaches back to the snapshot, so the next run is full.
    """

    entity: EntityCode
    job_id: JobId
    snapshot: str
    taken_at: datetime
    guards: Mapping[str, Any]
    destinations: tuple[DestinationCode, ...]
    expired: bool = False
