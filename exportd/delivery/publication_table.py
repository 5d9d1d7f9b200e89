"""What Postgres knows of what was published last, by place.

All methods raise TransientError when the database is out of reach and PermanentError when it refuses.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from exportd.database import queries
from exportd.database.call_batcher import CallBatcher
from exportd.database.translator import translated
from exportd.jobs.leases import lease_lost
from exportd.model.job import JobId, Lease, Publication
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
        self._records = CallBatcher(self._record_all)

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
        """Write down what the places (one or more) are told next; ``places`` has what each held before.

        Raises TransientError LEASE_LOST when the lease is over.
        """
        if not await self._records.ask((lease, token, places)):
            raise lease_lost(lease)

    async def _record_all(self, publications: Sequence[tuple[Lease, str, Mapping[str, str | None]]]) -> list[bool]:
        """For each whether its lease is held."""
        told = [
            (lease.job.id, lease.fence, token, place, found)
            for lease, token, places in publications
            for place, found in places.items()
        ]
        with translated("recording what is published"):
            rows = await self._pool.fetch(_RECORD, *map(list, zip(*told, strict=True)))
        held = {row["id"] for row in rows}
        return [lease.job.id in held for lease, _, _ in publications]

    async def note_put_back(self, schedule: ScheduleId) -> None:
        """Mark the schedule's positions: each entity is full until a run has succeeded."""
        with translated("recording that the database was put back"):
            await self._pool.execute(_NOTE_PUT_BACK, schedule)

    async def is_older(self, job: JobId, time: datetime) -> bool:
        """Whether a job was created before a time (aware)."""
        with translated("reading when a job was created"):
            return bool(await self._pool.fetchval(_IS_OLDER, job, time))
