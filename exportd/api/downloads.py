"""Serves the files of finished jobs: single files, and links to everything that a job exported.

A link needs no further credentials. It is valid for a quarter of an hour, and only while the spool keeps the files. The
files are in the spool of the daemon that ran the job; another daemon of the same database cannot serve them.

A link to a job with one file leads to that file, because m3ter's clients expect a single one. Several files are sent as
one archive in the layout of a destination, with the manifest last. The archive is made while it is sent: nothing is
written, and memory is constant. Its files are compressed already, so they are stored as they are.

File names come from rows of the database. They are used only if they name files of the job (``file_names``).
"""

import errno
import os
import re
import stat
import zipfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any, cast
from uuid import UUID

import anyio
import anyio.to_thread
from starlette.responses import FileResponse, Response, StreamingResponse

from exportd.api.identity.signing import Signer
from exportd.api.problems import Refusal
from exportd.jobs.job_record import Download, JobRecord, download, file_names, unknown_job
from exportd.jobs.job_table import JobTable
from exportd.model.clock import Clock
from exportd.model.entity import OrganizationId
from exportd.model.job import JobId
from exportd.spool.part_files import PartLocation, find_parts
from exportd.spool.spool import MANIFEST_NAME
from exportd.stores.file_reader import FILE_BLOCK_BYTES, FileWindow, opened_file
from exportd.stores.layout import Layout, ManifestName, build, key_of_file

LIFETIME = timedelta(minutes=15)

_PURPOSE = "download"
_RANGE = re.compile(r"bytes=(?P<first>[0-9]{0,18})-(?P<last>[0-9]{0,18})")
_REFUSALS = {
    Download.NOT_FINISHED: (400, "is not finished yet: ask again when its status is SUCCEEDED."),
    Download.FAILED: (400, "failed and has no files to download. The next run of its schedule holds the same changes."),
    Download.GONE: (404, "is older than spool.retention_hours: its files have been removed."),
    Download.ELSEWHERE: (
        404,
        "was run by another daemon, and its files are with {spool}: ask that daemon (`exportd status` shows its host).",
    ),
}


def refusal(record: JobRecord, spool_id: UUID) -> tuple[int, str] | None:
    """Why a spool cannot serve the files of a job: a status and a sentence; None when it can."""
    available = download(record, spool_id=spool_id)
    if available is Download.READY:
        return None
    status, words = _REFUSALS[available]
    return status, f"The job {record.job.id} {words.format(spool=record.spool_id)}"


class SpoolDownloads:
    """Serves the files in this daemon's spool. ``folder`` returns the folder of a job's files."""

    def __init__(
        self,
        jobs: JobTable,
        signer: Signer,
        folder: Callable[[JobId], Path],
        *,
        spool_id: UUID,
        clock: Clock,
    ) -> None:
        self._jobs = jobs
        self._signer = signer
        self._folder = folder
        self._spool_id = spool_id
        self._clock = clock

    async def link(self, job_id: UUID, *, base_url: str) -> tuple[str, datetime]:
        """Make a link. Returns the URL and the end of its validity. Raises Refusal when the job's files cannot be
        served.
        """
        await self._ready(JobId(job_id))
        expires_at = self._clock.now() + LIFETIME
        token = self._signer.sign(_PURPOSE, {"job": str(job_id), "until": expires_at.timestamp()})
        return f"{base_url}/downloads/{token}", expires_at

    async def serve(self, token: str, *, admit: Callable[[OrganizationId], None]) -> Response:
        """Serve a link. Raises Refusal for a link that exportd has not made or that has expired, and when the files are
        gone.

        ``admit`` is called with the organization of the files, and may refuse.
        """
        payload = self._signer.verify(_PURPOSE, token)
        if payload is None:
            raise Refusal(403, "This is not a download link of ours. Ask for one at the job's getdownloadurl.")
        if payload["until"] <= self._clock.now().timestamp():
            raise Refusal(403, "The download link has expired. Ask for another one at the job's getdownloadurl.")
        record = await self._ready(JobId(UUID(payload["job"])))
        admit(record.job.organization)
        return await self._all(record)

    async def archive(self, job_id: UUID) -> Response:
        """All files of the job, as one response. Raises Refusal when they cannot be served."""
        return await self._all(await self._ready(JobId(job_id), unfit=409))

    async def _all(self, record: JobRecord) -> Response:
        names = file_names(record.job.id, record.parts)
        if len(names) == 1:
            return await self._one(record, names[0], media_type="application/gzip")
        headers = {"content-disposition": f'attachment; filename="{record.job.id}.zip"', "cache-control": "no-store"}
        archive = zipped(await self._found(record), _members(record))
        return StreamingResponse(archive, media_type="application/zip", headers=headers)

    async def file(self, job_id: UUID, name: str, *, wanted_range: str | None = None) -> Response:
        """One of the job's parts, or its manifest. ``wanted_range`` is the Range header.

        Raises Refusal when the job has no such file, it is gone, or it has no such part.
        """
        record = await self._ready(JobId(job_id), unfit=409)
        if name != MANIFEST_NAME and name not in file_names(record.job.id, record.parts):
            raise Refusal(404, f"The job {job_id} has no file {name[:200]!r}. Its parts name its files.")
        if wanted_range is not None:
            location = (await self._found(record)).get(name)
            _require_range(wanted_range, None if location is None else location.size_bytes)
        return await self._one(record, name, media_type="application/octet-stream")

    async def manifest(self, job_id: UUID) -> bytes:
        """The manifest as in the archive. Raises Refusal when it cannot be served."""
        record = await self._ready(JobId(job_id), unfit=409)
        try:
            return await anyio.Path(self._folder(record.job.id) / MANIFEST_NAME).read_bytes()
        except FileNotFoundError as error:  # the retention was quicker
            raise Refusal(404, f"The manifest of the job {record.job.id} has been removed.") from error

    async def _one(self, record: JobRecord, name: str, *, media_type: str) -> Response:
        try:
            location = (await self._found(record))[name]
            found = await anyio.Path(location.path).stat()
        except (KeyError, FileNotFoundError) as error:  # the retention was quicker
            raise Refusal(404, f"The file {name} of the job {record.job.id} has been removed.") from error
        headers = {"cache-control": "no-store"}
        return _FileInBlocks(location, found, media_type=media_type, filename=name, headers=headers)

    async def _found(self, record: JobRecord) -> Mapping[str, PartLocation]:
        """The locations of the job's files and of its manifest, by name."""
        names = [*file_names(record.job.id, record.parts), MANIFEST_NAME]
        return await anyio.to_thread.run_sync(find_parts, self._folder(record.job.id), names)

    async def _ready(self, job_id: JobId, *, unfit: int = 400) -> JobRecord:
        """The job, if its files can be served. ``unfit`` is the status for a job whose state does not allow it."""
        record = await self._jobs.get(job_id)
        if record is None:
            raise Refusal(404, unknown_job(job_id))
        refused = refusal(record, self._spool_id)
        if refused is not None:
            status, sentence = refused
            raise Refusal(unfit if status == 400 else status, sentence)
        return record


def _require_range(header: str, size_bytes: int | None) -> None:
    """Parse a Range header. Raises Refusal unless it is one range of the file's bytes."""
    match = _RANGE.fullmatch(header)
    if match is None or not (match["first"] or match["last"]):
        raise Refusal(400, "Range: should be one range of bytes, such as bytes=0-1023, bytes=1024- or bytes=-500.")
    first, last = (int(text) if text else None for text in match.groups())
    if first is not None and last is not None and last < first:
        raise Refusal(400, "Range: should end where it begins, or later.")
    if size_bytes is not None and (last == 0 if first is None else first >= size_bytes):
        raise Refusal(
            416, f"Range: the file has {size_bytes} bytes.", headers={"content-range": f"bytes */{size_bytes}"}
        )


class _FileInBlocks(FileResponse):
    """Sends a file, or the requested range of it. ``found`` is the stat result of the file in which it is."""

    chunk_size = FILE_BLOCK_BYTES

    def __init__(self, location: PartLocation, found: os.stat_result, **named: Any) -> None:
        fields = [*found]
        fields[stat.ST_SIZE] = location.size_bytes
        super().__init__(location.path, stat_result=os.stat_result(fields), **named)
        self._location = location

    @asynccontextmanager
    async def _open_file(self) -> AsyncIterator[Any]:
        async with _opened(self._location) as window:
            yield window


@asynccontextmanager
async def _opened(location: PartLocation) -> AsyncIterator[FileWindow]:
    async with opened_file(location.path) as file:
        yield FileWindow(file, location.offset, location.size_bytes)


class _Outlet:
    """The file object to which zipfile writes. It cannot seek. ``taken`` returns what was written since the last
    call.
    """

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Does nothing, because nothing is buffered."""

    def taken(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


def _members(record: JobRecord) -> dict[str, str]:
    """The files of a job by their names in the archive, which are those at a destination."""
    job, layout = record.job, Layout()
    names = file_names(job.id, record.parts)
    members: dict[str, str] = {key_of_file(name, job.organization, job.due_at, layout): name for name in names}
    return {**members, build(ManifestName(job.organization, job.id), layout): MANIFEST_NAME}


async def zipped(locations: Mapping[str, PartLocation], members: Mapping[str, str]) -> AsyncIterator[bytes]:
    """The bytes of an archive. ``members`` has the names of the files by their names in the archive.

    Raises FileNotFoundError for one without a location, and OSError when one cannot be read.
    """
    outlet = _Outlet()
    with zipfile.ZipFile(cast("IO[bytes]", outlet), "w", zipfile.ZIP_STORED) as archive:
        for member, name in members.items():
            if name not in locations:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
            async with _opened(locations[name]) as file:
                with archive.open(zipfile.ZipInfo(member), "w", force_zip64=True) as entry:
                    while block := await file.read(FILE_BLOCK_BYTES):
                        # In a thread, because its checksum takes long.
                        await anyio.to_thread.run_sync(entry.write, block)
                        yield outlet.taken()
            yield outlet.taken()
    yield outlet.taken()
