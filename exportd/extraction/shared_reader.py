"""Reads the rows of several jobs by one COPY an entity, and gives each job its own: the changed rows, or all rows in a
first run. In the output of COPY, each row follows the number of the job to which it belongs. Rows that are too many to
keep in memory are left for each job to read itself.

Before each row stands the place of the job whose row it is. What is too much to be kept in memory is left to each job.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import anyio
import anyio.to_thread

from exportd.extraction.copier import Copier, CopyTask, ImagesUnreadableError
from exportd.extraction.silence_watcher import SilenceWatcher
from exportd.extraction.snapshot_reader import MAX_FIRST_RUNS_BYTES, FetchedRows, OpenSnapshot
from exportd.extraction.statement import copy_options
from exportd.extraction.window import SnapshotText
from exportd.model.entity import EntityCode, OrganizationId
from exportd.model.errors import AloneError, ExportdError, InvariantError
from exportd.model.schedule import ExportFormat
from exportd.spool.part_content import rows_of

MAX_FETCHED_BYTES = 16 << 20
"""The limit of the rows that are kept in memory, for all jobs of a snapshot together."""

MAX_FIRST_RUN_BYTES = 2 * MAX_FIRST_RUNS_BYTES
"""The same limit for first runs: twice the planner's estimate, which may be wrong."""

_MAX_CUT_AT_ONCE_BYTES = 256 << 10
"""A larger chunk is divided in a worker thread, because it would block the event loop for too long."""

MAX_FETCHED_KEYS = 10_000
"""An entity with more changed keys, in all windows together, is read by each job itself."""

MAX_FETCHING_S = 5.0
"""After this time no further COPY for several jobs is started."""


class SharedReader:
    """Reads the small windows of all jobs of a snapshot, before the first job has its turn on the connection."""

    def __init__(self, copier: Copier) -> None:
        self._copier = copier

    async def fetch(
        self, snapshots: Sequence[OpenSnapshot | None], watcher: SilenceWatcher
    ) -> list[OpenSnapshot | None]:
        """The jobs' snapshots, with the rows that could be read for them. ``watcher`` is the watcher of the job that
        opened the connection.

        Raises AloneError when reading fails. Each job is then read alone, so that only the job that causes the error
        fails.
        """
        fetched: list[dict[EntityCode, FetchedRows]] = [{} for _ in snapshots]
        are_first_runs = _are_first_runs(snapshots)
        left_bytes = MAX_FIRST_RUN_BYTES if are_first_runs else MAX_FETCHED_BYTES
        end = anyio.current_time() + MAX_FETCHING_S
        fetch = self._fetch_all if are_first_runs else self._fetch_changed
        for (code, file_format), readers in _readers_of(snapshots).items():
            if not are_first_runs and (left_bytes <= 0 or anyio.current_time() > end):
                break
            try:
                found = await fetch(code, file_format, readers, watcher, left_bytes)
            except (ExportdError, ImagesUnreadableError) as error:
                raise AloneError("It is read by itself, for reading it together with others has failed.") from error
            for place, rows in found.items():
                fetched[place][code] = rows
                left_bytes -= len(rows.live) + len(rows.deleted)
        return [
            None if snapshot is None else replace(snapshot, fetched=rows)
            for snapshot, rows in zip(snapshots, fetched, strict=True)
        ]

    async def _fetch_all(
        self,
        code: EntityCode,
        file_format: ExportFormat,
        readers: Mapping[int, OpenSnapshot],
        watcher: SilenceWatcher,
        max_bytes: int,
    ) -> Mapping[int, FetchedRows]:
        """Read all rows of the readers' organizations in one scan of the table. Raises AloneError when there are too
        many.
        """
        first = next(iter(readers.values()))
        organizations = [reader.statements[code].organization for reader in readers.values()]
        statement = first.statements[code].full_of(organizations)
        rows = _RowsByPlace(file_format, max_bytes, stops=True)
        task = CopyTask(code, statement, deletions=False, size_bytes=0)
        await self._copy(first, task, file_format, rows, watcher)
        return {place: FetchedRows().having(*rows.pop(number), deletions=False) for number, place in enumerate(readers)}

    async def _fetch_changed(
        self,
        code: EntityCode,
        file_format: ExportFormat,
        readers: Mapping[int, OpenSnapshot],
        watcher: SilenceWatcher,
        max_bytes: int,
    ) -> Mapping[int, FetchedRows]:
        """Read the changed rows of an entity for all readers, by their places. The result is empty when there are too
        many.
        """
        keys = sum(reader.keys[code] for reader in readers.values())
        if keys > MAX_FETCHED_KEYS:
            return {}
        first = next(iter(readers.values()))
        statements, asked = first.statements[code], [_asked(reader, code) for reader in readers.values()]
        fetched = dict.fromkeys(readers, FetchedRows())
        for deletions in (False, True):
            if deletions and not any(reader.windows[code].deletions for reader in readers.values()):
                continue
            rows = _RowsByPlace(file_format, max_bytes)
            query = statements.deleted_of(asked, keys) if deletions else statements.changed_of(asked, keys)
            task = CopyTask(code, query, deletions, size_bytes=0)
            await self._copy(first, task, file_format, rows, watcher)
            if rows.is_over:
                return {}
            max_bytes -= rows.size_bytes
            for number, place in enumerate(readers):
                fetched[place] = fetched[place].having(*rows.pop(number), deletions=deletions)
        return fetched

    async def _copy(
        self,
        snapshot: OpenSnapshot,
        task: CopyTask,
        file_format: ExportFormat,
        rows: "_RowsByPlace",
        watcher: SilenceWatcher,
    ) -> None:
        rows.check(await self._copier.copy_one(snapshot.connection, task, file_format, rows.take, watcher))


class _RowsByPlace:
    """Receives the output of COPY and assigns each row to the place whose number precedes it.

    Once there are more than ``max_bytes``, everything is dropped. With ``stops`` an AloneError then ends the COPY.
    """

    def __init__(self, file_format: ExportFormat, max_bytes: int, *, stops: bool = False) -> None:
        self._format = file_format
        self._delimiter = copy_options(file_format).delimiter.encode()
        self._max_bytes = max_bytes
        self._stops = stops
        # One bytearray a place, because an object a row would take some ninety bytes more.
        self._content: dict[int, bytearray] = defaultdict(bytearray)
        self._rows: Counter[int] = Counter()
        self.size_bytes = 0

    async def take(self, chunk: bytes) -> None:
        """Take a chunk, which holds whole rows."""
        self.size_bytes += len(chunk)
        if self.is_over:
            self._content.clear()
            if self._stops:
                raise AloneError("It is read by itself, for there is more to read than was expected.")
        elif len(chunk) <= _MAX_CUT_AT_ONCE_BYTES:
            self._cut(chunk)
        else:
            await anyio.to_thread.run_sync(self._cut, chunk)

    def _cut(self, chunk: bytes) -> None:
        for row in rows_of(chunk, self._format):
            before, _, values = row.partition(self._delimiter)
            place = int(before)
            self._content[place] += values
            self._rows[place] += 1

    @property
    def is_over(self) -> bool:
        return self.size_bytes > self._max_bytes

    def check(self, sent_rows: int) -> None:
        """Raises AloneError unless all rows have arrived."""
        if not self.is_over and self._rows.total() != sent_rows:
            raise AloneError("It is read by itself, for not all rows arrived that were read together with others'.")

    def pop(self, place: int) -> tuple[bytes, int]:
        """The rows of a place, and their number. They are handed over, not copied, to save memory."""
        return bytes(self._content.pop(place, b"")), self._rows[place]


def _readers_of(
    snapshots: Sequence[OpenSnapshot | None],
) -> Mapping[tuple[EntityCode, ExportFormat], Mapping[int, OpenSnapshot]]:
    """For each entity and format, the snapshots of the jobs that can read it together, by place. Entities that only one
    job reads are left out.
    """
    readers: dict[tuple[EntityCode, ExportFormat], dict[int, OpenSnapshot]] = defaultdict(dict)
    for place, snapshot in enumerate(snapshots):
        if snapshot is not None:
            for code, window in snapshot.windows.items():
                if window.reads_table and (window.scans_table or snapshot.is_small(code)):
                    readers[code, snapshot.statements[code].file_format][place] = snapshot
    return {what: found for what, found in readers.items() if len(found) > 1}


def _are_first_runs(snapshots: Sequence[OpenSnapshot | None]) -> bool:
    """Whether the jobs are first runs. First runs share a snapshot with first runs only."""
    return any(window.scans_table for snapshot in snapshots if snapshot for window in snapshot.windows.values())


def _asked(reader: OpenSnapshot, code: EntityCode) -> tuple[OrganizationId, SnapshotText]:
    previous = reader.windows[code].previous
    if previous is None:
        raise InvariantError("a small window begins at a snapshot")
    return reader.statements[code].organization, previous
