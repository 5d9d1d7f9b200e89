"""The sink of one entity: COPY's bytes in, parts in the spool out.

``write`` gathers chunks into blocks of about 2 MiB and hands each to a worker thread. At most two blocks exist: one
being filled, one in the thread. So while the thread compresses, COPY goes on; when the thread is slower than COPY, or
the spool is full, ``write`` waits, and with it the connection. Several COPY streams of one table may write at the same
time; their rows come in one sequence of parts, in no particular order.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import structlog

from exportd.model.entity import EntityCode
from exportd.model.errors import ExportdError, Reason, TransientError
from exportd.model.job import EntityProgress, JobId, Part
from exportd.model.schedule import ExportFormat
from exportd.spool import folders
from exportd.spool.folders import translate
from exportd.spool.journal_keeper import JournalKeeper
from exportd.spool.part_files import PartFile, SmallPartsWriter
from exportd.spool.part_sequence import Fed, PartSequence
from exportd.spool.spool import Spool
from exportd.stores.layout import file_name

BLOCK_BYTES = 2 << 20
"""With a quarter of this size, two streams of a table take a tenth longer, because they wait for the thread more often.
"""

# What a file's header and trailer, deflate on data that it cannot compress, and whole blocks of the disk add to what is
# written. The exact size replaces the estimate as soon as the block is written.
_OVERHEAD_BYTES = folders.BLOCK_BYTES

_SMALL_BYTES = 64 << 10
"""If no more than this is left of an entity, it is written together with the rest of other entities."""

_ABORT_TIMEOUT_S = 5.0

# A separate executor, because threads of asyncio's default executor may hang, for instance in name resolution.
_COMPRESSION = ThreadPoolExecutor(thread_name_prefix="compression")

_logger = structlog.get_logger()


class EntityWriter:
    """Writes one entity of a job to its folder. Call ``write`` until the rows are over; then ``finish_together`` or
    ``abort``.

    ``header`` opens every part (a CSV header line with its newline; empty for JSONL). ``progress`` is kept up to date.
    ``on_part_started`` is called when a file is created; by then it may have grown, and a small one is finished. A part
    that exceeds ``cap_bytes``, because a row does by itself, is counted in ``progress`` and logged.
    """

    def __init__(
        self,
        *,
        spool: Spool,
        folder: Path,
        job: JobId,
        entity: EntityCode,
        type_token: str,
        file_format: ExportFormat,
        header: bytes,
        cap_bytes: int,
        progress: EntityProgress,
        on_part_started: Callable[[PartFile], None] = lambda _: None,
    ) -> None:
        self.spool = spool
        self.folder = folder
        self._job = job
        self._entity = entity
        self._cap_bytes = cap_bytes
        self._progress = progress
        self._on_part_started = on_part_started

        def path_of(number: int) -> Path:
            return folder / file_name(job, type_token, number, file_format)

        self._sequence = PartSequence(
            entity=entity, file_format=file_format, header=header, cap_bytes=cap_bytes, path_of=path_of
        )
        self._files: dict[int, PartFile] = {}
        self._filling: list[bytes] = []
        self._filling_bytes = 0
        # Not anyio's lock, which takes long to make: most entities of a small job never have to wait.
        self._turn = asyncio.Lock()
        self._in_thread: asyncio.Future[Any] | None = None
        self._reserved_bytes = 0
        self._settled_bytes = 0
        self._failure: ExportdError | None = None

    async def write(self, rows: bytes) -> None:
        """Take whole rows. Returns at once, unless a block is full while the previous one is still in the thread.

        Raises TransientError or PermanentError when the spool is full or fails; nothing may be written after that.
        """
        self._check()
        self._filling.append(rows)
        self._filling_bytes += len(rows)
        if self._filling_bytes >= BLOCK_BYTES:
            async with self._turn:
                # Another stream may have handed over these rows while we waited for our turn.
                if self._filling_bytes >= BLOCK_BYTES:
                    await self._hand_over()

    @property
    def parts(self) -> tuple[Part, ...]:
        """The finished parts."""
        return self._sequence.parts

    @property
    def left_bytes(self) -> int:
        """The bytes that have not been handed to the thread yet."""
        return self._filling_bytes

    async def prepare_end(self, small_parts: SmallPartsWriter | None) -> tuple[Callable[[], Fed], int]:
        """Return the function that writes what is left, and the bytes that it needs. The file's name is not durable
        after it.

        The caller has to reserve these bytes. With ``small_parts``, an entity of which nothing was written yet is added
        to them.
        """
        async with self._turn:
            self._check()
            await self._thread_done()
            block, size_bytes = self._filling, self._filling_bytes
            self._filling, self._filling_bytes = [], 0
        needed_bytes = size_bytes + size_bytes // 100 + 2 * _OVERHEAD_BYTES
        if small_parts is None:
            return partial(self._sequence.close, block), needed_bytes
        return partial(self._sequence.close_into, small_parts, block), needed_bytes

    async def reserve(self, size_bytes: int) -> None:
        """Wait for room in the spool. Raises as ``write`` does."""
        try:
            await self.spool.reserve(self._job, size_bytes)
        except BaseException as error:
            # The block is lost with this, so another stream must not write what comes after it.
            self._failure = error if isinstance(error, ExportdError) else self._stopped()
            raise
        self._reserved_bytes = size_bytes

    def wait_for(self, work: "asyncio.Future[list[Fed | OSError]]") -> None:
        """Let ``abort`` wait for this work, so that it does not remove files while the thread creates them."""
        self._in_thread = work

    def end(self, work: "asyncio.Future[list[Fed | OSError]]", place: int) -> None:
        """Record what the work has done, in which this writer's end has the index ``place``."""
        self._take(lambda: work.result()[place])  # work itself raises what is the folder's, which is that of all
        self._progress.done = True

    async def abort(self) -> None:
        """Remove everything that was written. Does not raise, and may be called after a failure or a cancellation."""
        self._failure = self._failure or self._stopped()
        with anyio.move_on_after(_ABORT_TIMEOUT_S, shield=True):
            if self._in_thread is not None:
                await asyncio.wait({self._in_thread})
                # Retrieve the exception, because asyncio logs those that are never retrieved. It is known already, or
                # does not matter any more.
                self._in_thread.exception()
            self._in_thread = None
            await anyio.to_thread.run_sync(self._sequence.discard)
            self._give_back()
        for file in self._files.values():
            file.abandon()

    async def _hand_over(self) -> None:
        """Pass the filled block to the thread, once the thread and the spool have room for it."""
        self._check()
        await self._thread_done()
        block, size_bytes = self._filling, self._filling_bytes
        self._filling, self._filling_bytes = [], 0
        await self.reserve(size_bytes + size_bytes // 100 + _OVERHEAD_BYTES)
        # A future rather than a task: the next ``write`` waits for it, and so does ``abort``, so it does not outlive
        # the writer.
        self._in_thread = asyncio.get_running_loop().run_in_executor(_COMPRESSION, self._sequence.feed, block)

    async def _thread_done(self) -> None:
        """Wait for the block in the thread and record what it did."""
        done = self._in_thread
        if done is None:
            return
        # ``wait`` leaves the future alone when this task is cancelled: a thread cannot be stopped half-way.
        await asyncio.wait({done})
        if self._in_thread is not done:
            # The writer was aborted while this stream was waiting.
            raise self._stopped()
        self._take(done.result)

    def _take(self, result: Callable[[], Fed | OSError]) -> None:
        """Record what the thread did, or why it could not."""
        self._in_thread = None
        self._failure = self._stopped()
        try:
            fed = result()
            if isinstance(fed, OSError):
                raise fed
        except OSError as error:
            doing = f"writing {self._entity} of job {self._job}"
            self._failure = translate(error, directory=self.spool.directory, doing=doing)
            raise self._failure from error
        self._failure = None
        self._note(fed)

    def _note(self, fed: Fed) -> None:
        if self._reserved_bytes or fed.taken_bytes or fed.free_bytes is not None:
            self.spool.settle(
                self._job,
                reserved_bytes=self._reserved_bytes,
                used_bytes=fed.taken_bytes,
                free_bytes=fed.free_bytes,
            )
        self._reserved_bytes = 0
        self._settled_bytes += fed.taken_bytes
        self._progress.rows += fed.rows
        self._progress.content_bytes += fed.content_bytes
        self._progress.size_bytes += fed.written_bytes
        for change in fed.changes:
            file = self._files.get(change.number)
            is_new = file is None
            if file is None:
                file = PartFile(entity=self._entity, number=change.number, path=change.location.path)
                self._files[change.number] = file
                self._progress.files += 1
            if change.part is None:
                file.advance(change.location.size_bytes)
            else:
                file.finish(change.part, change.location)
                if change.part.size_bytes > self._cap_bytes:
                    self._report_oversized(change.part)
            if is_new:
                self._on_part_started(file)

    def _report_oversized(self, part: Part) -> None:
        self._progress.oversized_parts += 1
        _logger.warning(
            "part larger than the size cap",
            entity=self._entity,
            file=part.file_name,
            size_bytes=part.size_bytes,
            cap_bytes=self._cap_bytes,
        )

    def _give_back(self) -> None:
        self.spool.settle(self._job, reserved_bytes=self._reserved_bytes, used_bytes=0)
        self.spool.release(self._job, self._settled_bytes)
        self._reserved_bytes = self._settled_bytes = 0

    def _stopped(self) -> ExportdError:
        return TransientError(f"Writing {self._entity} of job {self._job} was interrupted.", reason=Reason.INTERRUPTED)

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure


async def finish_together(writers: Sequence[EntityWriter]) -> tuple[Part, ...]:
    """Finish the writers of a job. Returns the parts of each writer, in the order of the writers. Raises as ``write``
    does.

    Writers that have little left are finished in one call of a worker thread, and their rest is kept in one file. If
    this raises, all writers have to be aborted.
    """
    small = [writer for writer in writers if writer.left_bytes <= _SMALL_BYTES]
    for writer in writers:
        if writer not in small:
            await _finish([writer])
    if small:
        await _finish(small, SmallPartsWriter(small[0].folder, small[0].spool.journal) if len(small) > 1 else None)
    return tuple(part for writer in writers for part in writer.parts)


async def _finish(writers: Sequence[EntityWriter], small_parts: SmallPartsWriter | None = None) -> None:
    prepared = [await writer.prepare_end(small_parts) for writer in writers]
    # One for all writers, because they are finished or aborted together.
    await writers[0].reserve(sum(needed_bytes for _, needed_bytes in prepared))
    ends = [end for end, _ in prepared]
    journal = writers[0].spool.journal
    work = asyncio.get_running_loop().run_in_executor(_COMPRESSION, _end_all, ends, small_parts, journal)
    for writer in writers:
        writer.wait_for(work)
    await asyncio.wait({work})
    for place, writer in enumerate(writers):
        writer.end(work, place)


def _end_all(
    ends: Sequence[Callable[[], Fed]], small_parts: SmallPartsWriter | None, journal: JournalKeeper
) -> list[Fed | OSError]:
    """End all writers. Returns what each has done, or raises an error whose sentence names the entity."""
    outcomes = [_outcome(end) for end in ends]
    if small_parts is not None:
        taken_bytes = small_parts.finish()
        # One writer accounts for the space of the file that they share.
        place, fed = next((place, fed) for place, fed in enumerate(outcomes) if isinstance(fed, Fed))
        outcomes[place] = replace(fed, taken_bytes=fed.taken_bytes + taken_bytes)
    reports = [outcome for outcome in outcomes if isinstance(outcome, Fed)]
    written = {change.location.path for report in reports for change in report.changes}
    for folder in {path.parent for path in written if small_parts is None or path != small_parts.path}:
        folders.sync(folder)
        folders.sync(folder.parent)
        # Also keeps removed files of an earlier attempt from coming back.
        journal.sync()
    return outcomes


def _outcome(end: Callable[[], Fed]) -> Fed | OSError:
    try:
        return end()
    except OSError as error:
        return error
