"""The uploads that jobs have under way, in Postgres: what a transfer goes on with after a crash.

All methods raise TransientError when the database is out of reach.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from exportd.database import queries
from exportd.database.unit_of_work import statements
from exportd.model.entity import OrganizationId
from exportd.model.job import JobId
from exportd.model.schedule import DestinationCode
from exportd.stores.layout import ObjectKey
from exportd.stores.store import Upload

if TYPE_CHECKING:
    from exportd.database.connector import Pool

_SQL = queries.load("uploads")


@dataclass(frozen=True, slots=True)
class LeftUpload:
    """An upload of a job that is finished, and where it was going."""

    organization: OrganizationId
    destination: DestinationCode
    job: JobId
    upload: Upload


class UploadTable:
    """``exportd.upload``: this alone writes it."""

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool

    async def record(self, job: JobId, destination: DestinationCode, upload: Upload) -> None:
        """Remember an upload that was begun."""
        async with statements(self._pool, "recording an upload") as connection:
            await connection.execute(_SQL["record"], job, destination, upload.key, upload.id)

    async def of_job(self, job: JobId, destination: DestinationCode) -> Sequence[Upload]:
        """What a job has begun to upload to a destination, the oldest first."""
        async with statements(self._pool, "reading a job's uploads") as connection:
            rows = await connection.fetch(_SQL["of_job"], job, destination)
        return [Upload(ObjectKey(row["key"]), row["upload_id"], row["started_at"]) for row in rows]

    async def of_finished_jobs(self) -> Sequence[LeftUpload]:
        """What finished jobs have left behind, at all destinations."""
        async with statements(self._pool, "reading the uploads of finished jobs") as connection:
            rows = await connection.fetch(_SQL["of_finished_jobs"])
        return [
            LeftUpload(
                OrganizationId(row["organization"]),
                DestinationCode(row["destination"]),
                JobId(row["job_id"]),
                Upload(ObjectKey(row["key"]), row["upload_id"], row["started_at"]),
            )
            for row in rows
        ]

    async def forget(self, job: JobId, destination: DestinationCode, uploads: Collection[Upload]) -> None:
        """Remove uploads that are completed or aborted."""
        if uploads:
            async with statements(self._pool, "removing uploads") as connection:
                await connection.execute(_SQL["forget"], job, destination, [upload.id for upload in uploads])
