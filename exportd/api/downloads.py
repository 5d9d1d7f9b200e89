"""Links to the files of finished jobs, and what they lead to: one archive of everything that a job exported.

A link needs no further credentials, is good for a quarter of an hour, and only while the spool keeps the files. They
are in the spool of the daemon that ran the job; another daemon of the same database cannot hand them out.
"""

from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from uuid import UUID

from starlette.responses import Response, StreamingResponse

from exportd.api.identity.signing import Signer
from exportd.api.problems import Refusal
from exportd.jobs.job_record import Download, JobRecord, download
from exportd.jobs.job_table import JobTable
from exportd.model.clock import Clock
from exportd.model.job import JobId

LIFETIME = timedelta(minutes=15)

_PURPOSE = "download"
_REFUSALS = {
    Download.NOT_FINISHED: (400, "is not finished yet: ask again when its status is SUCCEEDED."),
    Download.FAILED: (400, "failed and has no files to download. The next run of its schedule holds the same changes."),
    Download.GONE: (404, "is older than the time for which files are kept: they have been removed."),
    Download.ELSEWHERE: (
        404,
        "was run by another daemon, which alone has its files: ask {spool} (`exportd status` shows its host).",
    ),
}


class SpoolDownloads:
    """Hands out what this daemon's spool holds. ``archive`` makes the bytes of a job's archive."""

    def __init__(
        self,
        jobs: JobTable,
        signer: Signer,
        archive: Callable[[JobRecord], AsyncIterator[bytes]],
        *,
        spool_id: UUID,
        clock: Clock,
    ) -> None:
        self._jobs = jobs
        self._signer = signer
        self._archive = archive
        self._spool_id = spool_id
        self._clock = clock

    async def link(self, job_id: UUID, *, base_url: str) -> tuple[str, datetime]:
        """A URL, and until when it is good. Raises Refusal when the job's files cannot be had."""
        await self._ready(JobId(job_id))
        expires_at = self._clock.now() + LIFETIME
        token = self._signer.sign(_PURPOSE, {"job": str(job_id), "until": expires_at.timestamp()})
        return f"{base_url}/downloads/{token}", expires_at

    async def serve(self, token: str) -> Response:
        """The archive. Raises Refusal for a link that is not ours, or has expired, and when the files are gone."""
        payload = self._signer.verify(_PURPOSE, token)
        if payload is None:
            raise Refusal(403, "This is not a download link of ours. Ask for one at the job's getdownloadurl.")
        if payload["until"] <= self._clock.now().timestamp():
            raise Refusal(403, "The download link has expired. Ask for another one at the job's getdownloadurl.")
        record = await self._ready(JobId(UUID(payload["job"])))
        headers = {"content-disposition": f'attachment; filename="{record.job.id}.zip"', "cache-control": "no-store"}
        return StreamingResponse(self._archive(record), media_type="application/zip", headers=headers)

    async def _ready(self, job_id: JobId) -> JobRecord:
        record = await self._jobs.get(job_id)
        if record is None:
            raise Refusal(404, f"There is no job {job_id}.")
        available = download(record, spool_id=self._spool_id)
        if available is not Download.READY:
            status, words = _REFUSALS[available]
            raise Refusal(status, f"The job {job_id} {words.format(spool=record.spool_id)}")
        return record
