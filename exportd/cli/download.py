"""``exportd download``: a finished job's files, copied into a directory and compared with their checksums.

The files come from the daemon that ran the job, or from the spool on this host if no daemon runs.
"""

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from json import dumps
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING
from uuid import UUID

from exportd.cli.daemon_client import DaemonAddress
from exportd.cli.job import job_document
from exportd.cli.output import print_line, size
from exportd.cli.progress import progress_bar
from exportd.cli.socket_client import SocketClient
from exportd.manifest.document import parse
from exportd.model.errors import PermanentError, Reason
from exportd.model.foreign_text import url_segment
from exportd.stores.layout import Layout, ManifestName, build, is_part_name, key_of_file

if TYPE_CHECKING:
    from exportd.jobs.job_record import JobRecord
    from exportd.spool.part_files import PartLocation

_MANIFEST_NAME = "manifest.json"
_LAYOUT = Layout()

Read = Callable[[str], Iterator[bytes]]
"""Reads a file of the job, piece by piece."""


@dataclass(frozen=True, slots=True)
class _File:
    name: str
    size_bytes: int
    sha256: str


def download_job(job_id: str, to: Path, at: DaemonAddress, *, as_json: bool = False) -> None:
    """Copy the parts and the manifest below ``to``, and compare each part with its SHA-256. ``as_json`` prints one
    line.

    Raises PermanentError when the files are not available, differ, or cannot be written.
    """
    try_target(to)

    def ask(client: SocketClient) -> list[_File]:
        job = job_document(client, job_id)
        files = [_File(part["file"], part["sizeBytes"], part["sha256"]) for part in job["parts"]]
        _copy(files, to, lambda name: client.download(f"/v1/jobs/{job['id']}/files/{url_segment(name)}"))
        return files

    async def read(config: Path) -> list[_File]:
        import anyio.to_thread

        from exportd.cli.without_daemon import find_job
        from exportd.jobs.job_record import file_names

        record = await find_job(config, job_id)
        folder = await anyio.to_thread.run_sync(_spool_folder, config, record)
        file_names(record.job.id, record.parts)  # a row of the database does not name other files
        files = [_File(part.file_name, part.size_bytes, part.sha256) for part in record.parts]
        await anyio.to_thread.run_sync(_copy, files, to, lambda name: _located(folder, name).blocks())
        return files

    files = at.ask_or_read(ask, read)
    size_bytes = sum(file.size_bytes for file in files)
    if as_json:
        print_line(dumps({"directory": str(to), "files": len(files), "sizeBytes": size_bytes}))
    else:
        print_line(f"{len(files)} files, {size(size_bytes)}, in {to}")


def try_target(to: Path) -> None:
    """Try to write in the directory ``to``, or where it would be made. Raises PermanentError when it fails."""
    try:
        there = next(path for path in (to, *to.absolute().parents) if path.exists())
        with TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise _unwritable(to, error) from error


def _unwritable(to: Path, error: OSError) -> PermanentError:
    return PermanentError(
        f"Copying to {to} failed: {error.strerror or error} ({error.filename or to}).", reason=Reason.SPOOL_UNWRITABLE
    )


def _copy(files: list[_File], to: Path, read: Read) -> None:
    for file in files:
        if not is_part_name(file.name):  # what the database says must not lead out of the directory
            raise PermanentError(
                f"The daemon names a file {file.name!r}, which is none that exportd writes. Nothing was copied.",
                reason=Reason.SPOOL_DAMAGED,
            )
    with progress_bar("copying") as progress:
        progress.begin(sum(file.size_bytes for file in files))
        try:
            # The manifest is read first, so that nothing is written when the files are not available. It is written
            # last, when the others exist.
            document = b"".join(read(_MANIFEST_NAME))
            manifest = parse(document)
            for file in files:
                key = key_of_file(file.name, manifest.organization, manifest.due_at, _LAYOUT)
                _copy_file(file, to / key, read(file.name), progress.advance)
            target = to / build(ManifestName(manifest.organization, manifest.job_id), _LAYOUT)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(document)
        except OSError as error:
            raise _unwritable(to, error) from error


def _copy_file(file: _File, target: Path, pieces: Iterator[bytes], advance: Callable[[int], None]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as writing:
        for piece in pieces:
            writing.write(piece)
            advance(len(piece))
    with target.open("rb") as written:
        if hashlib.file_digest(written, "sha256").hexdigest() != file.sha256:
            raise PermanentError(
                f"{target} is not what the job wrote: its SHA-256 differs. The spool's file is damaged.",
                reason=Reason.SPOOL_DAMAGED,
            )


def _spool_folder(config: Path, record: "JobRecord") -> Path:
    """Where the spool on this host has the files of a job. Raises PermanentError when it does not have them."""
    from exportd.api.downloads import refusal
    from exportd.cli.configuration import load

    spool = load(config)[0].spool.directory
    try:
        spool_id = UUID((spool / "spool.id").read_text().strip())
    except (OSError, ValueError) as error:
        raise PermanentError(
            f"{spool} is not a spool that this user can read: run the command on the daemon's host, as its user.",
            reason=Reason.SPOOL_UNWRITABLE,
        ) from error
    refused = refusal(record, spool_id)
    if refused is not None:
        raise PermanentError(refused[1], reason=Reason.NOT_FOUND)
    return spool / "jobs" / str(record.job.id)


def _located(folder: Path, name: str) -> "PartLocation":
    from exportd.spool.part_files import find_parts

    found = find_parts(folder, [name]).get(name)
    if found is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder / name))
    return found
