"""The spool: the local directory of parts, and the limit of the disk space they may take.

    <directory>/spool.id                      the name of this spool; a sealed job remembers which spool holds its parts
    <directory>/spool.lock                    locked while a process uses the spool
    <directory>/jobs/<job id>/<file name>     a finished part; `.partial` is appended while it is written
    <directory>/jobs/<job id>/manifest.json   what the parts are, for a download
    <directory>/published/<schedule id>.json  what was published last: see ``publication_store``
    <directory>/journal/<number>              what is durable of small files that are not yet on the disk

Files and folders are accessible to the daemon's user only. A writer reserves bytes before it writes them. Sizes are
those on the disk, where the smallest file takes a block: see ``folders.disk_bytes``. When the budget or the free-space
floor is reached, a writer waits a short time for other jobs' files to be removed, which slows COPY down. Then its
attempt ends. If other jobs take up the budget, or the organization's quota, the attempt does not count as failed: the
job gives up its slot, and begins again when there is room for as much as it needed.
"""

import fcntl
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import UUID, uuid4

import anyio
import anyio.to_thread
import structlog

from exportd.database.call_batcher import CallBatcher
from exportd.model.entity import OrganizationId
from exportd.model.errors import OccupiedError, PermanentError, Reason, TransientError
from exportd.model.job import JobId
from exportd.settings.schema import LiveSettings
from exportd.spool import folders
from exportd.spool.folders import PARTIAL_SUFFIX, translated
from exportd.spool.journal_keeper import JournalKeeper
from exportd.spool.usage import ReservationVerdict, SpoolUsage

MANIFEST_NAME = "manifest.json"

_logger = structlog.stdlib.get_logger()

# Free space is measured again when the last figure is older than this; writers bring a new one with each block.
_FREE_SPACE_AGE_S = 1.0


class Spool:
    """The spool in ``spool.directory``. Use it as an async context manager, or ``open`` and ``close`` it."""

    def __init__(self, settings: LiveSettings, *, wait_timeout_s: float = 10.0) -> None:
        self.directory = settings().spool.directory
        self.usage = SpoolUsage(settings)
        self.journal = JournalKeeper(self.directory)
        self._small_files = CallBatcher(self._write_small_files)
        self._wait_timeout_s = wait_timeout_s
        self._free_bytes = 0
        self._free_bytes_known_at = float("-inf")
        self._room_made: anyio.Event | None = None
        """Set when room was made; writers that found no room wait for it."""
        self._begun: set[JobId] = set()
        self._needed_bytes: dict[JobId, int] = {}
        self._id: UUID | None = None
        self._lock: int | None = None

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await anyio.to_thread.run_sync(self.journal.drop)
        except OSError as problem:  # it is read when the spool is opened again
            _logger.warning("journal not dropped", error=str(problem))
        self.close()

    @property
    def id(self) -> UUID:
        """The id of this spool, which stays the same wherever it is mounted."""
        if self._id is None:
            raise RuntimeError("the spool is not open")
        return self._id

    @property
    def publication_place(self) -> str:
        """The name of this spool in ``exportd.publication``. ``delete_schedules`` in history.sql uses the same form."""
        return f"spool {self.id}"

    async def open(self) -> None:
        """Create what is missing, take the lock, read the id and measure what is stored.

        Raises PermanentError when another process uses the spool, or when it cannot be written.
        """
        with translated(directory=self.directory, doing="opening it"):
            await anyio.to_thread.run_sync(self._open)
        await self.free_bytes()

    def close(self) -> None:
        """Release the lock. The files stay."""
        self.journal.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def job_folder(self, job: JobId) -> Path:
        return self.directory / "jobs" / str(job)

    async def begin_job(self, job: JobId, organization: OrganizationId | None = None) -> Path:
        """Make an empty folder for a job. Files of an earlier attempt are removed.

        Raises OccupiedError at once when there is no room for what an earlier attempt had needed.
        """
        if await self.remove_job(job):
            # Otherwise a loss of power could bring old files back beside new ones, which are durable one by one.
            with translated(directory=self.directory, doing=f"removing the files of job {job}"):
                await anyio.to_thread.run_sync(folders.sync, self.directory / "jobs")
        if organization is not None:
            self.usage.own(job, organization)
        needed_bytes = self._needed_bytes.get(job, 1)
        verdict = self.usage.judge(job, needed_bytes, free_bytes=await self._recent_free_bytes())
        if verdict in {ReservationVerdict.LATER, ReservationVerdict.QUOTA}:
            raise self._occupied(job, verdict, needed_bytes)
        self._begun.add(job)
        folder = self.job_folder(job)
        with translated(directory=self.directory, doing=f"making a folder for job {job}"):
            await anyio.to_thread.run_sync(folders.make, folder)
        return folder

    async def write_manifest(self, job: JobId, document: bytes) -> None:
        """Keep a job's manifest beside its parts, durably."""
        path = self.job_folder(job) / MANIFEST_NAME
        with translated(directory=self.directory, doing=f"keeping the manifest of job {job}"):
            more_bytes = await self.write_small(path, document)
        self.usage.settle(job, reserved_bytes=0, used_bytes=more_bytes)

    async def write_small(self, path: Path, content: bytes) -> int:
        """Write a small file durably, together with other files that are written at the same time. Returns by how many
        bytes the space on the disk grows.

        Raises OSError.
        """
        # Shielded, because the folder of a cancelled job may be removed next: wait until nothing is written there any
        # more.
        with anyio.CancelScope(shield=True):
            outcome = await self._small_files.ask((path, content))
        if isinstance(outcome, OSError):
            raise outcome
        return outcome

    async def _write_small_files(self, files: Sequence[tuple[Path, bytes]]) -> list[int | OSError]:
        return await anyio.to_thread.run_sync(self.journal.write_all, files)

    async def remove_job(self, job: JobId) -> int:
        """Remove a job's files, the manifest first. Returns the freed bytes; 0 when there are no files."""
        with translated(directory=self.directory, doing=f"removing the files of job {job}"):
            removed_bytes = await anyio.to_thread.run_sync(self._remove, self.job_folder(job))
        self.usage.forget(job)
        self._begun.discard(job)
        self._announce_room()
        return removed_bytes

    def _remove(self, folder: Path) -> int:
        if not folder.is_dir():
            return 0
        removed_bytes = folders.remove(folder, MANIFEST_NAME)
        self.journal.note_removal(folder)
        return removed_bytes

    def own(self, owners: Mapping[JobId, OrganizationId]) -> None:
        """Assign the files that were here when the spool was opened to their organizations."""
        for job, organization in owners.items():
            self.usage.own(job, organization)

    async def jobs(self) -> tuple[JobId, ...]:
        """The jobs that have a folder."""
        with translated(directory=self.directory, doing="listing its jobs"):
            return await anyio.to_thread.run_sync(self._job_ids)

    async def recover(self) -> int:
        """Remove the temporary files of jobs that were not begun since the spool was opened, because their writer is
        dead. Returns how many.
        """
        with translated(directory=self.directory, doing="removing temporary files"):
            removed = await anyio.to_thread.run_sync(self._remove_partial_files)
        for job, size_bytes in removed:
            self.usage.release(job, size_bytes)
        if removed:
            self._announce_room()
        return len(removed)

    async def reserve(self, job: JobId, size_bytes: int) -> None:
        """Wait until ``size_bytes`` more may be written for a job, and reserve them.

        Raises PermanentError when the job alone needs more than the budget. After the timeout, raises OccupiedError
        when other jobs take the room, TransientError when the disk has none.
        """
        deadline = anyio.current_time() + self._wait_timeout_s
        while True:
            verdict = self.usage.judge(job, size_bytes, free_bytes=await self._recent_free_bytes())
            if verdict is ReservationVerdict.NOW:
                self.usage.reserve(job, size_bytes)
                return
            if verdict is ReservationVerdict.NEVER:
                raise PermanentError(
                    f"The job needs more than the whole budget of the spool {self.directory} "
                    f"({self.usage.budget_bytes} bytes). Raise spool.budget, or export fewer entities.",
                    reason=Reason.SPOOL_FULL,
                )
            remaining_s = deadline - anyio.current_time()
            if remaining_s <= 0:
                if verdict is ReservationVerdict.DISK:
                    raise self._full()
                needed_bytes = self.usage.taken_bytes(job) + size_bytes
                self._needed_bytes[job] = min(2 * needed_bytes, self.usage.budget_bytes)
                raise self._occupied(job, verdict, needed_bytes)
            room_made = self._room_made = self._room_made or anyio.Event()
            with anyio.move_on_after(min(remaining_s, _FREE_SPACE_AGE_S)):
                await room_made.wait()

    def settle(self, job: JobId, *, reserved_bytes: int, used_bytes: int, free_bytes: int | None = None) -> None:
        """Record that a reservation was used or given up. ``free_bytes`` is the free space of the disk after that."""
        self.usage.settle(job, reserved_bytes=reserved_bytes, used_bytes=used_bytes)
        if free_bytes is not None:
            self._note_free_bytes(free_bytes)
        if used_bytes < reserved_bytes:
            self._announce_room()

    def release(self, job: JobId, size_bytes: int) -> None:
        """Record that files whose bytes were settled have been removed."""
        self.usage.release(job, size_bytes)
        self._announce_room()

    def _occupied(self, job: JobId, verdict: ReservationVerdict, needed_bytes: int) -> OccupiedError:
        organization = self.usage.owner(job)
        if verdict is ReservationVerdict.QUOTA and organization is not None:
            return OccupiedError(
                f"The job {job} waits for room in the spool {self.directory}: it needs {needed_bytes} bytes, and the "
                f"files of the organization {organization} take {self.usage.taken_bytes_of(organization)} of the "
                f"{self.usage.quota_bytes} bytes that one organization may. Shorten spool.retention_hours, or raise "
                "quotas.spool_share.",
                reason=Reason.SPOOL_QUOTA,
            )
        return OccupiedError(
            f"The job {job} waits for room in the spool {self.directory}: it needs {needed_bytes} bytes, and "
            f"{self.usage.used_bytes + self.usage.reserved_bytes} of {self.usage.budget_bytes} bytes are taken. Raise "
            "spool.budget, or shorten spool.retention_hours.",
            reason=Reason.SPOOL_FULL,
        )

    def _full(self) -> TransientError:
        taken = self.usage.used_bytes + self.usage.reserved_bytes
        return TransientError(
            f"The spool {self.directory} stayed full for {self._wait_timeout_s:.0f} s: {taken} of "
            f"{self.usage.budget_bytes} bytes are taken, the disk has {self._free_bytes} bytes free and "
            f"{self.usage.free_space_floor_bytes} must stay free. Raise spool.budget, shorten "
            "spool.retention_hours, or give the disk more space.",
            reason=Reason.SPOOL_FULL,
        )

    async def free_bytes(self) -> int:
        """The free space of the file system now. Raises PermanentError when it cannot be measured."""
        with translated(directory=self.directory, doing="measuring its free space"):
            disk = await anyio.to_thread.run_sync(os.statvfs, self.directory)
        self._note_free_bytes(disk.f_bavail * disk.f_frsize)
        return self._free_bytes

    async def _recent_free_bytes(self) -> int:
        is_old = anyio.current_time() - self._free_bytes_known_at > _FREE_SPACE_AGE_S
        return await self.free_bytes() if is_old else self._free_bytes

    def _announce_room(self) -> None:
        if self._room_made is not None:
            self._room_made.set()
            self._room_made = None

    def _note_free_bytes(self, free_bytes: int) -> None:
        self._free_bytes = free_bytes
        self._free_bytes_known_at = anyio.current_time()

    def _open(self) -> None:
        folders.make(self.directory)
        folders.sync(self.directory.parent)
        self._take_lock()
        folders.make(self.directory / "jobs")
        self.journal.open()
        folders.sync(self.directory)
        id_path = self.directory / "spool.id"
        if not id_path.exists():
            folders.write_durably(id_path, f"{uuid4()}\n".encode())
        try:
            self._id = UUID(id_path.read_text().strip())
        except ValueError as error:
            raise PermanentError(
                f"{id_path} does not hold a spool's id (a UUID). Restore it, or remove it if no unfinished job has its "
                "files in this spool.",
                reason=Reason.SPOOL_DAMAGED,
            ) from error
        for job in self._job_ids():
            self.usage.forget(job)
            taken_bytes = folders.taken_bytes(self.job_folder(job))
            self.usage.settle(job, reserved_bytes=0, used_bytes=taken_bytes)

    def _take_lock(self) -> None:
        if self._lock is not None:
            return
        path = self.directory / "spool.lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, folders.FILE_MODE)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise PermanentError(
                f"Another process uses the spool {self.directory}. Give each daemon a spool.directory of its own.",
                reason=Reason.SPOOL_UNWRITABLE,
            ) from error
        self._lock = descriptor

    def _job_ids(self) -> tuple[JobId, ...]:
        found = []
        for folder in (self.directory / "jobs").iterdir():
            with suppress(ValueError):  # not a job's folder: it is left alone
                found.append(JobId(UUID(folder.name)))
        return tuple(found)

    def _remove_partial_files(self) -> list[tuple[JobId, int]]:
        removed = []
        for job in self._job_ids():
            if job in self._begun:
                continue
            for path in self.job_folder(job).glob(f"*{PARTIAL_SUFFIX}"):
                size_bytes = folders.disk_bytes(path.stat().st_size)
                path.unlink()
                removed.append((job, size_bytes))
        return removed
