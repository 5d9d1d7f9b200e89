"""Opens a job's snapshot: takes the locks, then the snapshot, compares the guards, and chooses each entity's window.

The order matters. The locks come before the snapshot, because TRUNCATE and ALTERs that rewrite a table are not
MVCC-safe: a snapshot older than a committed TRUNCATE would see an empty table. Everything is read inside the snapshot's
transaction, so the catalog that is compared is the catalog of the exported rows.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

from asyncpg import PostgresError

from exportd.catalog.shape import Shape
from exportd.catalog.table_reader import read_fingerprint, read_shapes
from exportd.database import queries
from exportd.database.connector import Connection, Connector
from exportd.database.locks import LockWait, take_locks
from exportd.database.translator import FOREIGN_ERRORS, translated
from exportd.extraction.guards import CatalogMemory, ClusterFacts, Guards, KnownCatalog, growth, guards_of
from exportd.extraction.snapshot_reader import (
    CatalogChangedError,
    OpenSnapshot,
    Reader,
    contents_of,
    known_shapes,
    position_in_time,
    projections_of,
    read_for,
    require_unique_keys,
    statements_of,
)
from exportd.extraction.statement import Statements, lock_statement
from exportd.extraction.window import full_reason, parse_snapshot, windows_of, xmax
from exportd.model.entity import Entity, EntityCode
from exportd.model.errors import FullReason, PermanentError, Reason, TransientError
from exportd.model.job import JobProgress
from exportd.model.start import Position

_SQL = queries.load("snapshots")

_LOCK_ATTEMPTS = 5

IsIntact = Callable[[Entity, Shape], bool]
"""Whether an entity's capture triggers are all there and enabled."""


class SnapshotOpener:
    """Opens snapshots on export connections of ``connector``.

    ``statement_timeout_s`` limits each statement until the snapshot is open and each one run in it; 0: no limit.
    """

    def __init__(
        self,
        connector: Connector,
        *,
        is_intact: IsIntact,
        pause: Callable[[float], Awaitable[None]],
        statement_timeout_s: float = 0,
    ) -> None:
        self._connector = connector
        self._is_intact = is_intact
        self._pause = pause
        self._statement_timeout_s = statement_timeout_s
        self._memory = CatalogMemory()

    @asynccontextmanager
    async def open(
        self, reader: Reader, *, uncaptured: Collection[EntityCode] = (), known: KnownCatalog | None = None
    ) -> AsyncIterator[OpenSnapshot]:
        """Open a snapshot for a job.

        ``uncaptured`` are entities without complete capture: they are exported in full, and their logs are not read.
        Only a preview has such entities. Raises PermanentError for a standby or a missing table, TransientError when a
        lock cannot be had or the triggers have just been changed, and CatalogChangedError when a ``known`` catalog has
        changed.
        """
        async with self._connector.export_session() as connection:
            with translated("reading what has changed"):
                with LockWait("locking the exported tables for reading", reader.watcher.progress) as wait:
                    await self._begin(connection, reader.entities, uncaptured, wait)
                snapshot = await self._read(connection, reader, uncaptured, known)
                if known is not None and any(window.scans_table for window in snapshot.windows.values()):
                    # The known sizes of the tables may be out of date.
                    snapshot = replace(snapshot, shapes=await read_shapes(connection, reader.entities))
            yield snapshot

    @asynccontextmanager
    async def open_captured(
        self, complete_capture: Callable[[Sequence[Entity], JobProgress], Awaitable[str]], reader: Reader
    ) -> AsyncIterator[OpenSnapshot]:
        """As ``open``, but first calls ``complete_capture``, which repairs capture and returns the catalog's
        fingerprint from before it began.

        The call and the reading of the tables' shapes are left out when the catalog has the same fingerprint in the new
        snapshot as it had when everything was compared before.
        """
        async with AsyncExitStack() as stack:
            if (known := self.known(reader.entities)) is not None:
                try:
                    snapshot = await stack.enter_async_context(self.open(reader, known=known))
                except (CatalogChangedError, PermanentError):
                    # The ordinary way below reports the error, or repairs what causes it.
                    self._memory.forget(known)
                else:
                    yield snapshot
                    return
            before = await complete_capture(reader.entities, reader.watcher.progress)
            snapshot = await stack.enter_async_context(self.open(reader))
            await self._remember(snapshot, before)
            yield snapshot

    def known(self, entities: Sequence[Entity]) -> KnownCatalog | None:
        """The catalog of the entities as it was found last, which ``open_for`` needs; None when it has to be read
        first.
        """
        return self._memory.of(entities)

    @asynccontextmanager
    async def open_for(
        self, known: KnownCatalog, readers: Sequence[Reader]
    ) -> AsyncIterator[list[OpenSnapshot | None]]:
        """Open one snapshot on one connection for several jobs over the entities of ``known``. Returns it as each job
        sees it.

        The result is None for a job that has to be read alone: it has too many changes, has to read a table completely
        although it has read it before, or needs keys compared. Raises TransientError. Raises CatalogChangedError, and
        forgets the catalog, when the snapshot cannot be opened by it; the ordinary way then reports why.
        """
        async with self._connector.export_session() as connection:
            try:
                with translated("reading what has changed"):
                    with LockWait("locking the exported tables for reading", readers[0].watcher.progress) as wait:
                        await self._begin(connection, known.entities, (), wait)
                    snapshots = await read_for(connection, known, readers)
            except (CatalogChangedError, PermanentError) as error:
                self._memory.forget(known)
                raise CatalogChangedError from error
            yield snapshots

    async def _remember(self, snapshot: OpenSnapshot, before: str) -> None:
        """Remember the catalog, if it has not changed since before capture was checked."""
        entities = tuple(snapshot.entities.values())
        with translated("reading the catalog"):
            fingerprint = await read_fingerprint(snapshot.connection, entities)
        if fingerprint == before:
            newest = xmax(parse_snapshot(snapshot.snapshot))
            self._memory.remember(KnownCatalog(entities, fingerprint, newest, snapshot.shapes, snapshot.guards))

    async def _begin(
        self,
        connection: "Connection",
        entities: Sequence[Entity],
        uncaptured: Collection[EntityCode],
        wait: LockWait,
    ) -> None:
        lock = lock_statement(entities, uncaptured=uncaptured)
        for attempt in range(1, _LOCK_ATTEMPTS + 1):
            await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            try:
                await take_locks(connection, lock, wait_s=self._connector.lock_timeout_s)
            except FOREIGN_ERRORS as error:
                if isinstance(error, PostgresError):
                    await connection.execute("ROLLBACK")
                tables = {entity.code: entity.table for entity in entities}
                failure = await wait.failure(connection, error, tables.values(), mode="ACCESS SHARE", entities=tables)
                if failure.reason is Reason.TABLE_MISSING:
                    # Raises the error that names the missing table.
                    await self._captured_shapes(connection, entities, uncaptured)
                if failure.reason is not Reason.LOCK_NOT_AVAILABLE or attempt == _LOCK_ATTEMPTS:
                    raise failure from error
                await self._pause(0.2 * attempt)
            else:
                if self._statement_timeout_s:
                    await connection.execute(f"SET LOCAL statement_timeout = {round(self._statement_timeout_s * 1000)}")
                return

    async def _read(
        self,
        connection: "Connection",
        reader: Reader,
        uncaptured: Collection[EntityCode],
        known: KnownCatalog | None,
    ) -> OpenSnapshot:
        job, entities, positions = reader.job, reader.entities, reader.positions
        now = await position_in_time(connection)
        snapshot = parse_snapshot(now["snapshot"])
        cluster = ClusterFacts(now["system_identifier"], now["timeline"], now["database_oid"])
        if known is None:
            shapes = await self._captured_shapes(connection, entities, uncaptured)
            guards = {entity.code: guards_of(entity, shapes[entity.code], cluster) for entity in entities}
        else:
            shapes, guards = await known_shapes(connection, known, cluster, xmax(snapshot))
        statements = statements_of(job, entities, shapes, await projections_of(connection, entities, shapes))
        reasons: dict[EntityCode, FullReason | None] = {}
        compared = dict(guards)
        for code, statement in statements.items():
            found = reader.reason_before_reading(code, guards[code], snapshot)
            if found is FullReason.PARTITIONS_CHANGED and code not in reader.forced:
                with reader.watcher.reading(code):
                    grown = await self._guards_without_logged(connection, statement, positions[code], cluster)
                if grown is not None:
                    compared[code] = grown
                    uncaptured = set(uncaptured) - {code}
                    found = reader.reason_before_reading(code, grown, snapshot)
            reasons[code] = full_reason(reader.forced.get(code), found)
            if code in uncaptured:
                reasons[code] = reasons[code] or FullReason.CAPTURE_CHANGED
        captured = {code: statement for code, statement in statements.items() if code not in uncaptured}
        contents = await contents_of(connection, captured, positions, reasons)
        windows = windows_of(job, positions, compared, contents, reasons)
        if not self._statement_timeout_s:
            await require_unique_keys(connection, windows, statements, reader.watcher)
        return OpenSnapshot(
            connection=connection,
            snapshot=snapshot,
            wal_position=now["wal_position"],
            taken_at=now["taken_at"],
            entities={entity.code: entity for entity in entities},
            shapes=shapes,
            guards=guards,
            windows=windows,
            statements=statements,
            keys={code: content.keys for code, content in contents.items()},
        )

    async def _guards_without_logged(
        self, connection: "Connection", statements: Statements, position: Position, cluster: ClusterFacts
    ) -> Guards | None:
        """The guards without the members that were added since ``position``; None if the added members make the run
        full.

        They do not make it full when nothing else has changed and the log has recorded everything in them. The triggers
        of the root record what is written through the root, into any member. A run has given the added members triggers
        of their own, but in a preview they may have none yet. A member that this login may not read directly, or only
        in part, counts as not recorded.
        """
        grown = growth(Guards.from_json(position.guards), statements.entity, statements.shape, cluster)
        if grown is None or not self._is_intact(statements.entity, grown.known_shape):
            return None
        if not await connection.fetchval(_SQL["readable_whole"], [member.oid for member in grown.added]):
            return None
        unlogged = await connection.fetch(statements.unlogged(parse_snapshot(position.snapshot), grown.added))
        return None if unlogged else grown.known

    async def _captured_shapes(
        self, connection: "Connection", entities: Sequence[Entity], uncaptured: Collection[EntityCode]
    ) -> dict[EntityCode, Shape]:
        shapes = await read_shapes(connection, entities)
        for entity in entities:
            shape = shapes.get(entity.code)
            if shape is None:
                raise PermanentError(
                    f"Entity {entity.code}: the table {entity.table} does not exist. Correct the catalog, or take the "
                    "entity out of the schedule.",
                    reason=Reason.TABLE_MISSING,
                )
            if entity.code in uncaptured:
                continue
            if shape.log_oid is None:
                raise PermanentError(
                    f"Entity {entity.code}: changes of {entity.table} are not captured. Run `exportd capture install`.",
                    reason=Reason.CAPTURE_MISSING,
                )
            if not self._is_intact(entity, shape):
                raise TransientError(
                    f"Entity {entity.code}: the capture triggers of {entity.table} were changed while the job started.",
                    reason=Reason.CAPTURE_DAMAGED,
                )
        return shapes
