"""``exportd download``: a finished job's files, from this host's spool to a directory."""

import hashlib
import shutil
from json import dumps
from pathlib import Path
from uuid import UUID

import anyio.to_thread

from exportd.cli.configuration import ConfigPath, load, tables
from exportd.cli.job import find
from exportd.cli.output import print_line, progress_bar, size
from exportd.consumer.inventory_reader import ReadProgress
from exportd.jobs.job_record import Download, download, file_names
from exportd.jobs.job_table import JobTable
from exportd.model.errors import PermanentError
from exportd.model.part import Part
from exportd.model.reason import Reason
from exportd.spool.spool import MANIFEST_NAME

_PIECE_BYTES = 1024 * 1024

_SENTENCES = {
    Download.NOT_FINISHED: "is not finished yet",
    Download.FAILED: "failed; `exportd job show` says why",
    Download.GONE: "is older than spool.retention_hours; its files have been removed",
    Download.ELSEWHERE: (
        "was run by another daemon, and its files are with {spool}: run this command on that daemon's host, as its"
        " user (`exportd status` shows the host)"
    ),
}


async def download_job(job_id: str, to: Path, config: ConfigPath, *, as_json: bool = False) -> None:
    """Copy the parts and the manifest into ``to``, each part compared with its SHA-256. ``as_json`` prints one line."""
    settings, _ = load(config)
    spool = settings.spool.directory
    async with tables(config) as pool:
        record = await find(JobTable(pool), job_id)
    available = download(record, spool_id=await anyio.to_thread.run_sync(_spool_id, spool))
    if available is not Download.READY:
        words = _SENTENCES[available].format(spool=record.spool_id)
        raise PermanentError(f"The job {job_id} {words}.", reason=Reason.NOT_FOUND)
    folder = spool / "jobs" / str(record.job.id)
    with progress_bar("copying") as progress:
        file_names(record.job.id, record.parts)
        await anyio.to_thread.run_sync(_copy, folder, to, record.parts, progress)
    files, size_bytes = len(record.parts), sum(part.size_bytes for part in record.parts)
    if as_json:
        print_line(dumps({"directory": str(to), "files": files, "sizeBytes": size_bytes}))
    else:
        print_line(f"{files} files, {size(size_bytes)}, in {to}")


def _spool_id(spool: Path) -> UUID:
    try:
        return UUID((spool / "spool.id").read_text().strip())
    except (OSError, ValueError) as error:
        raise PermanentError(
            f"{spool} is not a spool that this user can read: run the command on the daemon's host, as its user.",
            reason=Reason.SPOOL_UNWRITABLE,
        ) from error


def _copy(folder: Path, to: Path, parts: tuple[Part, ...], progress: ReadProgress) -> None:
    progress.begin(sum(part.size_bytes for part in parts))
    try:
        to.mkdir(parents=True, exist_ok=True)
        for part in parts:
            target = to / part.file_name
            if _copy_file(folder / part.file_name, target, progress) != part.sha256:
                raise PermanentError(
                    f"{target} is not what the job wrote: its SHA-256 differs. The spool's file is damaged.",
                    reason=Reason.SPOOL_DAMAGED,
                )
        shutil.copyfile(folder / MANIFEST_NAME, to / MANIFEST_NAME)
    except OSError as error:
        raise PermanentError(
            f"Copying to {to} failed: {error.strerror or error} ({error.filename}).", reason=Reason.SPOOL_UNWRITABLE
        ) from error


def _copy_file(source: Path, target: Path, progress: ReadProgress) -> str:
    """Copy piece by piece; the SHA-256 of what the target holds then."""
    with source.open("rb") as reading, target.open("wb") as writing:
        while piece := reading.read(_PIECE_BYTES):
            writing.write(piece)
            progress.advance(len(piece))
    with target.open("rb") as written:
        return hashlib.file_digest(written, "sha256").hexdigest()
