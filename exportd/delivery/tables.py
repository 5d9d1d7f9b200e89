"""The tables of deliveries in Postgres: the running uploads of jobs, and the last publications.

After a crash a transfer continues its uploads. Publications are compared with what their places remember.

All methods raise TransientError when the database is out of reach and PermanentError when it refuses.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from exportd.database import queries
from exportd.database.call_batcher import CallBatcher
from exportd.database.unit_of_work import statements
from exportd.jobs.leases import lease_lost
from exportd.model.entity import OrganizationId
from exportd.model.job import JobId, Lease, Publication
from exportd.model.schedule import DestinationCode, ScheduleId
from exportd.stores.layout import ObjectKey
from exportd.stores.store import Upload

if TYPE_CHECKING:
    from exportd.database.connector import Pool
    from exportd.database.queries import Row

_UPLOADS_SQL = queries.load("uploads")
_PUBLICATIONS_SQL = queries.load("publications")


@dataclass(frozen=True, slots=True)
class LeftUpload:
    """An upload that a finished job has left behind, and its destination."""

    organization: OrganizationId
    destination: DestinationCode
    job: JobId
    upload: Upload


class UploadTable:
    """``exportd.upload``. Only this class writes it."""

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool

    async def record(self, job: JobId, destination: DestinationCode, upload: Upload) -> None:
        """Remember an upload that was begun."""
        async with statements(self._pool, "recording an upload") as connection:
            await connection.execute(_UPLOADS_SQL["record"], job, destination, upload.key, upload.id)

    async def of_job(self, job: JobId, destination: DestinationCode) -> Sequence[Upload]:
        """The uploads to a destination that a job has begun, the oldest first."""
        async with statements(self._pool, "reading a job's uploads") as connection:
            rows = await connection.fetch(_UPLOADS_SQL["of_job"], job, destination)
        return [_upload(row) for row in rows]

    async def of_finished_jobs(self) -> Sequence[LeftUpload]:
        """The uploads that finished jobs have left behind, at all destinations."""
        async with statements(self._pool, "reading the uploads of finished jobs") as connection:
            rows = await connection.fetch(_UPLOADS_SQL["of_finished_jobs"])
        return [
            LeftUpload(
                OrganizationId(row["organization"]),
                DestinationCode(row["destination"]),
                JobId(row["job_id"]),
                _upload(row),
            )
            for row in rows
        ]

    async def forget(self, job: JobId, destination: DestinationCode, uploads: Collection[Upload]) -> None:
        """Remove uploads that are completed or aborted."""
        if uploads:
            async with statements(self._pool, "removing uploads") as connection:
                await connection.execute(_UPLOADS_SQL["forget"], job, destination, [upload.id for upload in uploads])


class PublicationTable:
    """``exportd.publication``, and the mark of schedules whose positions are not valid any more."""

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool
        self._records = CallBatcher(self._record_all)

    async def unknown(self, schedule: ScheduleId, held: Mapping[str, Publication]) -> frozenset[str]:
        """The places that remember a publication that is not part of the database's history."""
        if not held:
            return frozenset()
        async with statements(self._pool, "comparing with what was published") as connection:
            rows = await connection.fetch(
                _PUBLICATIONS_SQL["unknown"],
                schedule,
                list(held),
                [publication.job_id for publication in held.values()],
                [publication.token for publication in held.values()],
                [publication.taken_at.isoformat() for publication in held.values()],
            )
        return frozenset(row["place"] for row in rows)

    async def record(self, lease: Lease, token: str, places: Mapping[str, str | None]) -> None:
        """Record what the places (one or more) will hold next. ``places`` has what each held before.

        Raises TransientError LEASE_LOST when the lease is over.
        """
        if not await self._records.ask((lease, token, places)):
            raise lease_lost(lease)

    async def _record_all(self, publications: Sequence[tuple[Lease, str, Mapping[str, str | None]]]) -> list[bool]:
        """Record several at once. Returns for each whether its lease is held."""
        told = [
            (lease.job.id, lease.fence, token, place, found)
            for lease, token, places in publications
            for place, found in places.items()
        ]
        async with statements(self._pool, "recording what is published") as connection:
            rows = await connection.fetch(_PUBLICATIONS_SQL["record"], *map(list, zip(*told, strict=True)))
        held = {row["id"] for row in rows}
        return [lease.job.id in held for lease, _, _ in publications]

    async def note_put_back(self, schedule: ScheduleId) -> None:
        """Mark the schedule's positions: each entity is full until a run has succeeded."""
        async with statements(self._pool, "recording that the database was put back") as connection:
            await connection.execute(_PUBLICATIONS_SQL["note_put_back"], schedule)

    async def is_older(self, job: JobId, time: datetime) -> bool:
        """Whether a job was created before a time (aware)."""
        async with statements(self._pool, "reading when a job was created") as connection:
            return bool(await connection.fetchval(_PUBLICATIONS_SQL["is_older"], job, time))


def _upload(row: "Row") -> Upload:
    return Upload(ObjectKey(row["key"]), row["upload_id"], row["started_at"])
