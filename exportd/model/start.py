"""Decides where a schedule's next run starts: at its positions, unless a request asks for more. Pure.

A position says how far a schedule has exported an entity, and holds everything that the next run needs to continue
there.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from exportd.model.entity import EntityCode
from exportd.model.errors import FullReason
from exportd.model.identity_cache import IdentityCache
from exportd.model.job import JobId
from exportd.model.schedule import DestinationCode


@dataclass(frozen=True, slots=True)
class Position:
    """The snapshot of the last job of a schedule that succeeded with this entity.

    ``snapshot`` is the text of a ``pg_snapshot``, ``taken_at`` its time (aware UTC). ``guards`` is the JSON form of
    ``extraction.guards.Guards``. ``destinations`` have received everything up to here. ``expired``: the change log no
    longer reaches back to the snapshot, so the next run is full. ``put_back``: so it is because the database has been
    put back to an older state since.
    """

    entity: EntityCode
    job_id: JobId
    snapshot: str
    taken_at: datetime
    guards: Mapping[str, Any]
    destinations: tuple[DestinationCode, ...]
    expired: bool = False
    put_back: bool = False


@dataclass(frozen=True, slots=True)
class SharedDocument:
    """JSON that thousands of jobs have in common. The database stores it once, and rows name it by its digest."""

    digest: str
    text: str

    @classmethod
    def of(cls, document: object) -> "SharedDocument":
        """Equal documents have the same digest."""
        text = json.dumps(document, sort_keys=True)
        return cls(hashlib.sha256(text.encode()).hexdigest()[:32], text)


shared_guards = IdentityCache[Mapping[str, Any], SharedDocument](SharedDocument.of)
"""Makes the document of guards once for each object."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """The beginning of a past window: as in a position, the snapshot, its time (aware UTC) and the guards at that
    time.
    """

    snapshot: str
    taken_at: datetime
    guards: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class BackfillRequest:
    """A request to export an entity's changes since the past job ``job_id`` again, including those of that job.

    ``begins`` is where that job's window began, or the reason why the run is full because it cannot go back to it.
    """

    entity: EntityCode
    job_id: JobId
    begins: Beginning | FullReason

    def to_json(self) -> dict[str, Any]:
        """The JSON from which ``from_json`` makes the same request."""
        past = None if isinstance(self.begins, FullReason) else self.begins
        return {
            "entity": self.entity,
            "job_id": str(self.job_id),
            "snapshot": past and past.snapshot,
            "taken_at": past and past.taken_at.isoformat(),
            "guards": past and dict(past.guards),
            "full_reason": self.begins if past is None else None,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "BackfillRequest":
        begins = (
            FullReason(document["full_reason"])
            if document["full_reason"]
            else Beginning(document["snapshot"], datetime.fromisoformat(document["taken_at"]), document["guards"])
        )
        return cls(EntityCode(document["entity"]), JobId(UUID(document["job_id"])), begins)


@dataclass(frozen=True, slots=True)
class Start:
    """Where a run starts. ``forced`` are entities that must be full in any case."""

    positions: Mapping[EntityCode, Position] = field(default_factory=dict)
    forced: Mapping[EntityCode, FullReason] = field(default_factory=dict)


def wider(one: BackfillRequest, other: BackfillRequest) -> BackfillRequest:
    """The one of two requests for an entity that covers both."""
    if isinstance(one.begins, FullReason):
        return one
    if isinstance(other.begins, FullReason) or other.begins.taken_at < one.begins.taken_at:
        return other
    return one


def start_of(
    positions: Mapping[EntityCode, Position],
    refreshed: Iterable[EntityCode],
    backfills: Iterable[BackfillRequest],
) -> Start:
    """Combine positions with requests: entities to be read in full, and back-fills.

    An entity without a position is full anyway, for another reason.
    """
    moved, forced = dict(positions), dict.fromkeys(refreshed, FullReason.REQUESTED)
    for backfill in backfills:
        if isinstance(backfill.begins, FullReason):
            forced.setdefault(backfill.entity, backfill.begins)
        elif backfill.entity in positions:
            begins, position = backfill.begins, positions[backfill.entity]
            # Not expired: the request holds the change log by itself.
            moved[backfill.entity] = replace(
                position, snapshot=begins.snapshot, taken_at=begins.taken_at, guards=begins.guards, expired=False
            )
    forced |= {code: FullReason.DATABASE_PUT_BACK for code, position in positions.items() if position.put_back}
    return Start(moved, {code: reason for code, reason in forced.items() if code in positions})
