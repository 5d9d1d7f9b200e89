"""Runs the COPY statements of an open snapshot, on one connection or on several that share the snapshot.

COPY's bytes go to the sink untouched. asyncpg hands them over in chunks that end on row boundaries (the protocol sends
one row per message, and asyncpg joins whole messages), and a test proves it again. asyncpg also drops a chunk when the
server sends a notice during COPY (its issue 1264). There are three guards against that: notices are off on export
connections, any message that still arrives fails the run, and the rows that COPY says it sent are compared with the
rows counted in the stream.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import anyio
from asyncpg import PostgresLogMessage

from exportd.database import queries
from exportd.database.connector import Connection, Connector
from exportd.database.locks import take_locks, translate_lock
from exportd.database.quoting import literal
from exportd.database.session_settings import EXACT_SETTINGS, unsettled
from exportd.database.translator import FOREIGN_ERRORS, translate, translated
from exportd.extraction.silence_watcher import SilenceWatcher
from exportd.extraction.snapshot_reader import OpenSnapshot
from exportd.extraction.statement import PageRange, copy_options, page_ranges
from exportd.model.entity import EntityCode
from exportd.model.errors import FullReason, PermanentError, Reason, TransientError
from exportd.model.schedule import ExportFormat
from exportd.settings.schema import LimitSettings

_SQL = queries.load("snapshots")

_SMALL_CHUNK_BYTES = 64 * 1024
_NAP_S = 0.0008
_PAGE_BYTES = 8192
_WORTH_A_CONNECTION_BYTES = 16_000_000
"""From this many bytes on, another connection saves more time than opening it costs."""

Sink = Callable[[bytes], Awaitable[None]]
"""Takes whole rows. COPY waits until it returns, so a slow consumer slows COPY down."""


class ImagesUnreadableError(Exception):
    """A deleted record's image cannot be read back as a row of the table; the entity's run has to be full."""

    def __init__(self, entity: EntityCode) -> None:
        super().__init__(entity)
        self.entity = entity
        self.reason = FullReason.IMAGES_UNREADABLE


@dataclass(frozen=True, slots=True)
class CopyTask:
    """One COPY: live rows of an entity (or of a range of its pages), or its deletions."""

    entity: EntityCode
    statement: str
    deletions: bool
    size_bytes: int


def plan_copies(snapshot: OpenSnapshot, *, streams: int, stream_threshold_bytes: int) -> list[CopyTask]:
    """The COPY statements that a snapshot needs, the largest first. A large table is read as one range of pages a
    stream.
    """
    tasks: list[CopyTask] = []
    for code, window in snapshot.windows.items():
        statements = snapshot.statements[code]
        size_bytes = snapshot.shapes[code].pages * _PAGE_BYTES
        if not window.reads_table or code in snapshot.fetched:
            continue
        if window.scans_table:
            wide = streams > 1 and size_bytes >= stream_threshold_bytes
            ranges: Sequence[PageRange | None] = page_ranges(snapshot.shapes[code].pages, streams) if wide else (None,)
            tasks.extend(
                CopyTask(
                    code,
                    statements.full(range_, start_date=window.start_date),
                    deletions=False,
                    size_bytes=size_bytes // len(ranges),
                )
                for range_ in ranges
            )
        elif window.previous is not None:
            changed = statements.changed(window.previous, ordered=snapshot.is_small(code))
            tasks.append(CopyTask(code, changed, deletions=False, size_bytes=0))
        if window.previous is not None and window.deletions:
            deleted = statements.deleted(window.previous, ordered=snapshot.is_small(code))
            tasks.append(CopyTask(code, deleted, deletions=True, size_bytes=0))
    return sorted(tasks, key=lambda task: task.size_bytes, reverse=True)


class Pacer:
    """Lets a socket's buffer fill before it is read again. One for all streams that share an event loop.

    The server flushes 8 KB at a time, and a fast client wakes up for each: three times the client's CPU, taken from the
    compression beside it. So after a small chunk the client naps. The length matters: a Unix socket holds about 190 KB,
    which COPY fills in 1.4 ms, and whenever it is full the server stands still. An event loop's own timers count in
    whole milliseconds (uvloop's ``sleep(0.001)`` takes up to two, ``sleep(0.0004)`` none), which cost a tenth of the
    throughput. So a nap blocks the loop, for less time than one compressed block would keep the interpreter busy.

    A nap fills the buffers of all streams, so there is at most one for each time that all of them have been read. A
    stream that has brought less than a large chunk may be at its end, and thousands of small tables are: no nap.
    """

    def __init__(self, nap: Callable[[float], None] = time.sleep) -> None:
        self._nap = nap
        self._naps = 0

    def stream(self) -> Callable[[int], None]:
        """Return the function that one stream calls after each chunk, with the chunk's size in bytes. It naps after a
        small chunk, unless another stream has napped since this stream's previous chunk.
        """
        naps_seen, stream_bytes = self._naps, 0

        def pace(chunk_bytes: int) -> None:
            nonlocal naps_seen, stream_bytes
            stream_bytes += chunk_bytes
            is_small = chunk_bytes < _SMALL_CHUNK_BYTES <= stream_bytes
            if is_small and naps_seen == self._naps:
                self._nap(_NAP_S)
                self._naps += 1
            naps_seen = self._naps

        return pace


class Copier:
    """Copies an open snapshot with up to ``limits.streams`` connections at once.

    A table of ``limits.stream_threshold`` or more is read by several of them, each a range of its pages.
    """

    def __init__(self, connector: Connector, limits: LimitSettings) -> None:
        self._connector = connector
        self._limits = limits
        self._pacer = Pacer()

    async def copy(
        self,
        snapshot: OpenSnapshot,
        file_format: ExportFormat,
        sinks: Callable[[EntityCode], Sink],
        done: Callable[[CopyTask, int], Awaitable[None]],
        *,
        watcher: SilenceWatcher | None = None,
    ) -> None:
        """Copy everything; ``done`` is called after each task with the number of rows that COPY says it sent.

        ``watcher`` is the job's. Raises ImagesUnreadableError, TransientError (connection lost, notice during COPY) or
        PermanentError, all of them in an exception group.
        """
        for code, rows in snapshot.fetched.items():
            for data, count, deletions in (
                (rows.live, rows.live_rows, False),
                (rows.deleted, rows.deleted_rows, True),
            ):
                if count:
                    await sinks(code)(data)
                    await done(CopyTask(code, "", deletions=deletions, size_bytes=0), count)
        tasks = plan_copies(
            snapshot, streams=self._limits.streams, stream_threshold_bytes=self._limits.stream_threshold
        )
        if not tasks:
            return
        worth = 1 + sum(task.size_bytes for task in tasks) // _WORTH_A_CONNECTION_BYTES
        streams = min(self._limits.streams, len(tasks), worth)
        waiting = iter(tasks)
        watcher = watcher or SilenceWatcher(timeout_s=self._limits.silence_timeout_s)

        async def work(connection: "Connection") -> None:
            for task in waiting:
                await done(task, await self.copy_one(connection, task, file_format, sinks(task.entity), watcher))

        async def help_out(snapshot_name: str) -> None:
            async with self._connector.export_session() as connection:
                await self._join(connection, snapshot, snapshot_name)
                await work(connection)

        async with anyio.create_task_group() as running:
            if streams > 1:
                with translated("sharing the snapshot with other connections"):
                    name = await snapshot.connection.fetchval(_SQL["export_snapshot"])
                for _ in range(streams - 1):
                    running.start_soon(help_out, name)
            # The snapshot's own connection starts to read while the others are still being opened.
            await work(snapshot.connection)

    async def _join(self, connection: "Connection", snapshot: OpenSnapshot, name: str) -> None:
        """Let another connection read the same snapshot."""
        # Locks first: were an ALTER already waiting behind the snapshot's lock, the COPY would wait behind the ALTER
        # without end. The connection's lock_timeout turns that into an error, and the job tries again.
        try:
            await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            await take_locks(connection, snapshot.locks(), wait_s=self._connector.lock_timeout_s)
            await connection.execute(f"SET TRANSACTION SNAPSHOT {literal(name)}")
            wrong = await connection.fetch(_SQL["unsettled"], list(EXACT_SETTINGS), list(EXACT_SETTINGS.values()))
        except FOREIGN_ERRORS as error:
            raise translate_lock(error, doing="sharing the snapshot with another connection") from error
        if wrong:
            raise unsettled([row["name"] for row in wrong])

    async def copy_one(
        self,
        connection: "Connection",
        task: CopyTask,
        file_format: ExportFormat,
        sink: Sink,
        watcher: SilenceWatcher,
    ) -> int:
        """Run one COPY and return the number of rows that the server says it sent. Raises as ``copy`` does, but not in
        a group.
        """
        options = copy_options(file_format)
        messages: list[PostgresLogMessage] = []
        pace = self._pacer.stream()

        def listen(_: object, message: PostgresLogMessage) -> None:
            messages.append(message)

        try:
            connection.add_log_listener(listen)
            with watcher.reading(task.entity) as silence:

                async def paced(chunk: bytes) -> None:
                    silence.received(len(chunk))
                    await sink(chunk)
                    pace(len(chunk))
                    silence.resumed()

                tag = await connection.copy_from_query(
                    task.statement, output=paced, format="csv", delimiter=options.delimiter, quote=options.quote
                )
        except FOREIGN_ERRORS as error:
            failure = translate(error, doing=f"reading entity {task.entity}")
            # The values of an image no longer fit the table (a type, a domain's check). If the entity cannot be read at
            # all, the full run reports that.
            if task.deletions and isinstance(failure, PermanentError):
                raise ImagesUnreadableError(task.entity) from error
            raise failure from error
        finally:
            connection.remove_log_listener(listen)
        if messages:
            raise TransientError(
                f"The server sent a message while entity {task.entity} was read: {messages[0].message!r}. Rows may "
                "have been lost to it, so the export was stopped.",
                reason=Reason.NOTICE_DURING_COPY,
            )
        return int(tag.split()[-1])
