"""What was published last of a schedule, as the spool and the destinations remember it outside the database. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from exportd.model.job import JobId


@dataclass(frozen=True, slots=True)
class Publication:
    """A sealed job whose objects may be visible. ``taken_at`` is aware UTC, ``wal_position`` the server's LSN then.

    ``predecessor`` is the job whose manifest came before at the place that remembers this, if one is known.
    """

    job_id: JobId
    snapshot: str
    wal_position: str
    taken_at: datetime
    predecessor: JobId | None = None

    @property
    def token(self) -> str:
        """Tells this seal from all others: a job that is read anew after a restore has another time."""
        return f"{self.job_id} {self.taken_at.isoformat()}"

    def to_json(self) -> dict[str, str | None]:
        """What ``from_json`` makes the same publication of."""
        return {
            "job_id": str(self.job_id),
            "snapshot": self.snapshot,
            "lsn": self.wal_position,
            "taken_at": self.taken_at.isoformat(),
            "predecessor": str(self.predecessor) if self.predecessor else None,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Publication":
        """Raises KeyError, TypeError or ValueError for anything else than what ``to_json`` made."""
        taken_at = datetime.fromisoformat(document["taken_at"])
        if taken_at.tzinfo is None:
            raise ValueError("the time has no offset")
        predecessor = document["predecessor"]
        return cls(
            job_id=JobId(UUID(document["job_id"])),
            snapshot=str(document["snapshot"]),
            wal_position=str(document["lsn"]),
            taken_at=taken_at,
            predecessor=JobId(UUID(predecessor)) if predecessor else None,
        )
