"""Lets jobs that were claimed together share one snapshot. It is opened once, and read by one job after the other.

Each job has its own windows in the snapshot, from its own positions. The first job that asks waits a moment for others,
opens the snapshot for all of them, and reads the small windows of all jobs at once. It keeps the snapshot open until
every job has read, for ``MAX_OPEN_S`` at most. Then all jobs go on together, and share the disk flushes and the
statements that follow. A job that has many changes, or that comes after an error in the shared transaction, is read
alone: it is put back into the queue, and its next attempt shares no snapshot.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import anyio
import structlog

from exportd.extraction.guards import KnownCatalog
from exportd.extraction.shared_reader import SharedReader
from exportd.extraction.snapshot_opener import SnapshotOpener
from exportd.extraction.snapshot_reader import CatalogChangedError, OpenSnapshot, Reader
from exportd.model.entity import Entity, EntityCode
from exportd.model.errors import AloneError, ExportdError
from exportd.model.job import JobProgress

_logger = structlog.stdlib.get_logger()

LINGER_S = 0.05
"""The first job waits for others until none has come for this long."""

_MAX_LINGERS = 10

MAX_OPEN_S = 10.0
"""No job begins to read later than this, because VACUUM cannot remove old rows while the snapshot is open."""

_MAX_TRIES = 5
"""How often a job tries to share a snapshot while the tables are being changed. Each try may take a session, so the job
is read alone after that.
"""

_CLOSING_S = 5.0


class _GatheringLostError(Exception):
    """The job that others waited for has finished, or was stopped. They ask again."""


class _NoRoomError(Exception):
    """Other first runs have filled the snapshot. The job shares the next one."""


class SnapshotSharer:
    """Opens snapshots for jobs over the same entities that ask at the same time.

    ``complete_capture`` is what ``SnapshotOpener.open_captured`` takes.
    """

    def __init__(
        self,
        opener: SnapshotOpener,
        complete_capture: Callable[[Sequence[Entity], JobProgress], Awaitable[str]],
        shared_reader: SharedReader,
        *,
        linger_s: float = LINGER_S,
    ) -> None:
        self._opener = opener
        self._complete_capture = complete_capture
        self._shared_reader = shared_reader
        self._linger_s = linger_s
        self._gatherings: dict[tuple[tuple[EntityCode, ...], bool], _Gathering] = {}
        self._learning: dict[tuple[EntityCode, ...], anyio.Event] = {}

    @asynccontextmanager
    async def open(self, reader: Reader) -> AsyncIterator[OpenSnapshot]:
        """Open a snapshot, or share one, and return it as the reader sees it. No other job uses its connection until
        the block ends.

        Raises AloneError when the job has to be read alone, and everything that ``SnapshotOpener.open_captured``
        raises.
        """
        codes = tuple(entity.code for entity in reader.entities)
        async with AsyncExitStack() as stack:
            for _ in range(_MAX_TRIES):
                known = self._opener.known(reader.entities)
                try:
                    snapshot = await stack.enter_async_context(
                        self._learned(codes, reader) if known is None else self._shared(codes, known, reader)
                    )
                except (_GatheringLostError, CatalogChangedError):
                    continue
                yield snapshot
                return
            raise AloneError(
                "It is read by itself, for the tables or their capture are being changed, or first runs left no room."
            )

    @asynccontextmanager
    async def _learned(self, codes: tuple[EntityCode, ...], reader: Reader) -> AsyncIterator[OpenSnapshot]:
        """Open a snapshot for this job alone, because the catalog is not known yet. Other jobs over these entities wait
        until it is.
        """
        if (learning := self._learning.get(codes)) is not None:
            await learning.wait()
            raise _GatheringLostError
        learning = self._learning[codes] = anyio.Event()
        async with AsyncExitStack() as stack:
            try:
                snapshot = await stack.enter_async_context(self._opener.open_captured(self._complete_capture, reader))
            finally:
                del self._learning[codes]
                learning.set()
            yield snapshot

    @asynccontextmanager
    async def _shared(
        self, codes: tuple[EntityCode, ...], known: KnownCatalog, reader: Reader
    ) -> AsyncIterator[OpenSnapshot]:
        # First runs read whole tables, so other jobs do not share a snapshot with them.
        of_its_kind = (codes, not reader.positions)
        gathering = self._gatherings.get(of_its_kind)
        if gathering is not None:
            gathering.readers.append(reader)
            try:
                async with gathering.turn(reader) as snapshot:
                    yield snapshot
            except _NoRoomError as error:
                await gathering.all_have_read()
                raise _GatheringLostError from error
            await gathering.all_have_read()
            return
        gathering = self._gatherings[of_its_kind] = _Gathering([reader])
        try:
            try:
                await self._linger(gathering)
            finally:
                del self._gatherings[of_its_kind]
            async with self._opener.open_for(known, gathering.readers) as snapshots:
                _logger.info("snapshot shared", jobs=len(gathering.readers))
                gathering.begin(await self._shared_reader.fetch(snapshots, reader.watcher))
                try:
                    async with gathering.turn(reader) as snapshot:
                        yield snapshot
                finally:
                    await gathering.end()
        except ExportdError as error:
            gathering.failure = error
            raise
        finally:
            gathering.opened.set()

    async def _linger(self, gathering: "_Gathering") -> None:
        """Wait as long as other jobs keep coming."""
        for _ in range(_MAX_LINGERS):
            before = len(gathering.readers)
            await anyio.sleep(self._linger_s)
            if len(gathering.readers) == before:
                return


@dataclass(slots=True, eq=False)
class _Gathering:
    """The jobs that share one snapshot. ``failure`` is the error with which it could not be opened."""

    readers: list[Reader]
    failure: ExportdError | None = None
    opened: anyio.Event = field(default_factory=anyio.Event)
    _snapshots: dict[int, OpenSnapshot | None] = field(default_factory=dict)
    _left: set[int] = field(default_factory=set)
    _reading: anyio.Lock = field(default_factory=anyio.Lock)
    _all_left: anyio.Event = field(default_factory=anyio.Event)
    _begun_at: float = 0.0
    _is_over: bool = False
    _is_closed: bool = False

    def begin(self, snapshots: Sequence[OpenSnapshot | None]) -> None:
        """Let the jobs read. Some may have left while the snapshot was being opened."""
        found = {id(reader): snapshot for reader, snapshot in zip(self.readers, snapshots, strict=True)}
        self._snapshots = {reader: snapshot for reader, snapshot in found.items() if reader not in self._left}
        self._begun_at = anyio.current_time()
        self.opened.set()

    @asynccontextmanager
    async def turn(self, reader: Reader) -> AsyncIterator[OpenSnapshot]:
        """Wait for the snapshot to be open and for the reader's turn; the turn ends with the block."""
        try:
            await self.opened.wait()
            snapshot = self._snapshot_of(reader)
            async with self._reading:
                if self._is_over or anyio.current_time() > self._begun_at + MAX_OPEN_S:
                    raise AloneError("It is read by itself, for reading it together with others ended before its turn.")
                try:
                    yield snapshot
                except BaseException as error:
                    if self._is_closed and isinstance(error, Exception):
                        # The job that opened the snapshot was stopped, and its connection closed. This job is not at
                        # fault.
                        raise AloneError(
                            "It is read by itself, for the job that it was read with was stopped meanwhile."
                        ) from error
                    # After an error, Postgres answers nothing more in this transaction.
                    self._is_over = True
                    raise
        finally:
            self._left.add(id(reader))
            self._snapshots.pop(id(reader), None)
            if self._begun_at and not self._snapshots:
                self._all_left.set()

    def _snapshot_of(self, reader: Reader) -> OpenSnapshot:
        if not self._begun_at:
            if isinstance(self.failure, AloneError):
                raise AloneError(self.failure.sentence) from self.failure
            if self.failure is not None:
                raise type(self.failure)(self.failure.sentence, reason=self.failure.reason) from self.failure
            raise _GatheringLostError
        snapshot = self._snapshots[id(reader)]
        if snapshot is None and not reader.positions and any(self._snapshots.values()):
            raise _NoRoomError
        if snapshot is None:
            raise AloneError("It is read by itself, for it has more to read than the jobs it was claimed with.")
        return snapshot

    async def all_have_read(self) -> None:
        """Wait until all jobs have read, or until the time to begin is over."""
        with anyio.move_on_at(self._begun_at + MAX_OPEN_S):
            await self._all_left.wait()

    async def end(self) -> None:
        """Wait as ``all_have_read`` does, then close the snapshot to further jobs."""
        try:
            await self.all_have_read()
        finally:
            self._is_over = True
            with anyio.move_on_after(_CLOSING_S, shield=True):
                async with self._reading:  # when the one that is still reading has ended
                    pass
            self._is_closed = True
