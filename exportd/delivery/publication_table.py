"""What Postgres knows of what was published last, by place.

All methods raise TransientError when the database is out of reach and PermanentError when it refuses.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from exportd.database import queries
from exportd.database.translator import translated
from exportd.model.errors import TransientError
from exportd.model.job import JobId, Lease
from exportd.model.publication import Publication
from exportd.model.reason import Reason
from exportd.model.schedule import ScheduleId

if TYPE_CHECKING:
    from exportd.database.connector import Pool

_SQL = queries.load("publications")
_UNKNOWN = _SQL["unknown"]
_RECORD = _SQL["record"]
_NOTE_PUT_BACK = _SQL["note_put_back"]
_IS_OLDER = _SQL["is_older"]


class PublicationTable:
    """``exportd.publication``, and the mark of positions that cannot be gone on from."""

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool

    async def unknown(self, schedule: ScheduleId, held: Mapping[str, Publication]) -> frozenset[str]:
        """The places that remember something which is not part of the database's history."""
        if not held:
            return frozenset()
        with translated("comparing with what was published"):
            rows = await self._pool.fetch(
                _UNKNOWN,
                schedule,
                list(held),
                [publication.job_id for publication in held.values()],
                [publication.token for publication in held.values()],
                [publication.taken_at.isoformat() for publication in held.values()],
            )
        return frozenset(row["place"] for row in rows)

    async def record(self, lease: Lease, token: str, places: Mapping[str, str | None]) -> None:
        """Write down what the places are told next; ``places`` has what each held before.

        Raises TransientError LEASE_LOST when the lease is over.
        """
        with translated("recording what is published"):
            rows = await self._pool.fetch(
                _RECORD, lease.job.id, lease.fence, token, list(places), list(places.values())
            )
        if not rows:
            raise TransientError(
                f"The lease of job {lease.job.id} is lost: it expired and another daemon took the job, or the job "
                "has ended.",
                reason=Reason.LEASE_LOST,
            )

    async def note_put_back(self, schedule: ScheduleId) -> None:
        """Mark the schedule's positions: each entity is full until a run has succeeded."""
        with translated("recording that the database was put back"):
            await self._pool.execute(_NOTE_PUT_BACK, schedule)

    async def is_older(self, job: JobId, time: datetime) -> bool:
        """Whether a job was created before a time (aware)."""
        with translated("reading when a job was created"):
            return bool(await self._pool.fetchval(_IS_OLDER, job, time))
