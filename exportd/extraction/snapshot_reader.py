"""An open snapshot, as one of the jobs sees it that are read in it; and what is read before the rows: the snapshot's
place in history, and the content of the logs for each window.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import anyio.lowlevel
from asyncpg import Record

from exportd.catalog.shape import INSTANTS, Shape
from exportd.catalog.table_reader import read_fingerprint
from exportd.catalog.table_rules import duplicates_sentence, no_modified
from exportd.database import queries
from exportd.database.connector import Connection
from exportd.database.queries import only_row
from exportd.database.quoting import table
from exportd.database.session_settings import EXACT_SETTINGS, unsettled
from exportd.database.translator import FOREIGN_ERRORS, translate
from exportd.extraction.guards import ClusterFacts, Guards, KnownCatalog
from exportd.extraction.projection import ProjectedType, Projection, column_types, expressions, record_bytes
from exportd.extraction.silence_watcher import SilenceWatcher
from exportd.extraction.statement import Statements, lock_statement, parse_plan
from exportd.extraction.window import (
    EntityWindow,
    LogContents,
    SnapshotText,
    log_is_comparable,
    parse_snapshot,
    reason_before_reading,
    windows_of,
    xmax,
)
from exportd.model.entity import Entity, EntityCode
from exportd.model.errors import FullReason, PermanentError, Reason, TransientError
from exportd.model.job import Job
from exportd.model.start import Position

_SQL = queries.load("snapshots")

MAX_SHARED_KEYS = 10_000
"""A job with more changed keys is not read together with others, which would have to wait for it. The rows of smaller
windows are ordered.
"""

MAX_FIRST_RUNS_BYTES = 16 << 20
"""The limit of all rows of first runs that share a snapshot, in bytes, as the planner estimates them."""


@dataclass(frozen=True, slots=True)
class FetchedRows:
    """The rows of one job's window of an entity, as COPY writes them, and their number."""

    live: bytes = b""
    live_rows: int = 0
    deleted: bytes = b""
    deleted_rows: int = 0

    def having(self, data: bytes, rows: int, *, deletions: bool) -> "FetchedRows":
        """A copy with the deleted rows added, or the live ones."""
        if deletions:
            return replace(self, deleted=data, deleted_rows=rows)
        return replace(self, live=data, live_rows=rows)


@dataclass(frozen=True, slots=True)
class OpenSnapshot:
    """One consistent read, open on ``connection``.

    ``snapshot`` and ``wal_position`` say where in the database's history it is, ``taken_at`` (aware UTC) when.
    """

    connection: Connection
    snapshot: SnapshotText
    wal_position: str
    taken_at: datetime
    entities: Mapping[EntityCode, Entity]
    shapes: Mapping[EntityCode, Shape]
    guards: Mapping[EntityCode, Guards]
    windows: Mapping[EntityCode, EntityWindow] = field(default_factory=dict)
    statements: Mapping[EntityCode, Statements] = field(default_factory=dict)
    keys: Mapping[EntityCode, int] = field(default_factory=dict)
    """How many keys the log holds for each incremental window, at most."""
    fetched: Mapping[EntityCode, FetchedRows] = field(default_factory=dict)
    """The rows that were read already, together with those of other jobs."""

    def is_small(self, code: EntityCode) -> bool:
        """Whether the window is small enough for its rows to be ordered. Then the file is the same whether the job is
        read alone or together with others.
        """
        window = self.windows[code]
        small = not window.scans_table and self.keys[code] <= MAX_SHARED_KEYS
        return small and self.statements[code].can_be_shared

    def locks(self) -> str:
        """The statement by which another connection locks the same tables."""
        return lock_statement(list(self.entities.values()))


class CatalogChangedError(Exception):
    """The catalog has changed since it was remembered."""


@dataclass(frozen=True, slots=True)
class Reader:
    """A job that is to be read. ``positions`` are those of its schedule's last run. ``forced`` names entities that must
    be full.
    """

    job: Job
    entities: Sequence[Entity]
    positions: Mapping[EntityCode, Position] = field(default_factory=dict)
    forced: Mapping[EntityCode, FullReason] = field(default_factory=dict)
    watcher: SilenceWatcher = field(default_factory=lambda: SilenceWatcher(timeout_s=math.inf))

    def reason_before_reading(self, code: EntityCode, guards: Guards, snapshot: SnapshotText) -> FullReason | None:
        """Why the entity must be full by its ``guards`` at ``snapshot``; None when it may be incremental."""
        return reason_before_reading(
            *(self.positions.get(code), guards, snapshot),
            first_run=not self.positions,
            destinations=self.job.destinations,
        )


async def position_in_time(connection: "Connection") -> Record:
    """The place of the transaction's snapshot in the database's history."""
    settings = (list(EXACT_SETTINGS), list(EXACT_SETTINGS.values()))
    now = only_row(await connection.fetchrow(_SQL["position_in_time"], *settings))
    if now["unsettled"]:
        raise unsettled(now["unsettled"])
    if now["standby"]:
        raise PermanentError(
            "The database is a standby. Its snapshots do not list open transactions, so changes would be missed; "
            "point the configuration at the primary.",
            reason=Reason.DATABASE_IS_STANDBY,
        )
    return now


async def projections_of(
    connection: "Connection", entities: Sequence[Entity], shapes: Mapping[EntityCode, Shape]
) -> dict[EntityCode, Projection]:
    """The select lists of the entities. Raises PermanentError CATALOG_MISMATCH."""
    return {
        entity.code: Projection(entity, await _types(connection, entity, shapes[entity.code])) for entity in entities
    }


def statements_of(
    job: Job,
    entities: Sequence[Entity],
    shapes: Mapping[EntityCode, Shape],
    projections: Mapping[EntityCode, Projection],
) -> dict[EntityCode, Statements]:
    """The queries of a job. Raises PermanentError CATALOG_MISMATCH."""
    if job.start_date is not None:
        _require_modified(entities, shapes)
    return {
        entity.code: Statements(
            entity, shapes[entity.code], job.file_format, projections[entity.code], job.organization
        )
        for entity in entities
    }


async def _types(connection: "Connection", entity: Entity, shape: Shape) -> dict[str, ProjectedType]:
    types = column_types(shape.root)
    missing = [field.column for field in entity.fields if field.column is not None and field.column not in types]
    if missing:
        raise PermanentError(
            f"Entity {entity.code}: {entity.table} has no column {', '.join(missing)}. Correct the catalog's fields.",
            reason=Reason.CATALOG_MISMATCH,
        )
    computed = expressions(entity)
    if not computed:
        return types
    listed = ", ".join(f"({expression})" for expression in computed)
    try:
        prepared = await connection.prepare(f"SELECT {listed} FROM {table(entity.table)} AS t")
    except FOREIGN_ERRORS as error:
        failure = translate(error, doing=f"preparing the expressions of entity {entity.code}")
        if isinstance(failure, TransientError):
            raise failure from error
        raise PermanentError(
            f"Entity {entity.code}: an expression of the catalog does not work on {entity.table}: {error}",
            reason=Reason.CATALOG_MISMATCH,
        ) from error
    for expression, attribute in zip(computed, prepared.get_attributes(), strict=True):
        kind = attribute.type
        simple = kind.schema == "pg_catalog" and kind.kind in {"scalar", "range"}
        types[expression] = ProjectedType(kind.name, may_hold_json=not simple)
    return types


async def require_unique_keys(
    connection: "Connection",
    windows: Mapping[EntityCode, EntityWindow],
    statements: Mapping[EntityCode, Statements],
    watcher: SilenceWatcher,
) -> None:
    """Raise PermanentError when a key is exported twice. Only entities without a unique index on the key are
    checked.
    """
    for code, window in windows.items():
        statement = statements[code]
        if not window.reads_table or statement.shape.ensures_unique(statement.entity.key):
            continue
        previous = None if window.full_reason is not None else window.previous
        with watcher.reading(code):
            duplicates = await connection.fetch(statement.duplicates(previous))
        if duplicates:
            raise PermanentError(
                f"Entity {code}: {duplicates_sentence(statement.entity)}", reason=Reason.KEY_NOT_UNIQUE
            )


async def contents_of(
    connection: "Connection",
    statements: Mapping[EntityCode, Statements],
    positions: Mapping[EntityCode, Position],
    reasons: Mapping[EntityCode, FullReason | None],
) -> dict[EntityCode, LogContents]:
    """The content of the logs in a job's windows, for the entities whose log can be compared with the position."""
    queries = [
        statement.contents(parse_snapshot(positions[code].snapshot))
        for code, statement in statements.items()
        if code in positions and log_is_comparable(reasons[code])
    ]
    if not queries:
        return {}
    rows = await connection.fetch(" UNION ALL ".join(queries))
    return {EntityCode(row["entity"]): LogContents(row["keys"], row["unknown"], row["deletions"]) for row in rows}


async def contents_of_all(
    connection: "Connection",
    statements: Sequence[Mapping[EntityCode, Statements]],
    positions: Sequence[Mapping[EntityCode, Position]],
) -> list[dict[EntityCode, LogContents]]:
    """The same for several jobs over the same entities. The logs must be comparable with all positions."""
    if not statements:
        return []
    contents = [dict.fromkeys(job, LogContents(0, unknown=False, deletions=False)) for job in statements]
    queries = [
        statement.contents_of(
            [
                (job[code].organization, parse_snapshot(begins[code].snapshot))
                for job, begins in zip(statements, positions, strict=True)
            ]
        )
        for code, statement in statements[0].items()
    ]
    for row in await connection.fetch(" UNION ALL ".join(queries)):
        found = LogContents(row["keys"], row["unknown"], row["deletions"])
        contents[row["place"]][EntityCode(row["entity"])] = found
    return contents


async def known_shapes(
    connection: "Connection", known: KnownCatalog, cluster: ClusterFacts, newest: int
) -> tuple[dict[EntityCode, Shape], dict[EntityCode, Guards]]:
    """The shapes and guards of the ``known`` catalog. Raises CatalogChangedError when the catalog has changed."""
    if not known.holds(await read_fingerprint(connection, known.entities), cluster, newest):
        raise CatalogChangedError
    return dict(known.shapes), dict(known.guards)


async def read_for(
    connection: "Connection", known: KnownCatalog, readers: Sequence[Reader]
) -> list[OpenSnapshot | None]:
    """The snapshot as each of several jobs sees it; None for a job that has to be read alone.

    Raises CatalogChangedError when the catalog is not the ``known`` one any more.
    """
    now = await position_in_time(connection)
    snapshot = parse_snapshot(now["snapshot"])
    cluster = ClusterFacts(now["system_identifier"], now["timeline"], now["database_oid"])
    shapes, guards = await known_shapes(connection, known, cluster, xmax(snapshot))
    projections = await projections_of(connection, known.entities, shapes)
    whole = OpenSnapshot(
        connection=connection,
        snapshot=snapshot,
        wal_position=now["wal_position"],
        taken_at=now["taken_at"],
        entities={entity.code: entity for entity in known.entities},
        shapes=shapes,
        guards=guards,
    )
    seen: dict[int, OpenSnapshot] = {}
    for place, reader in enumerate(readers):
        statements = statements_of(reader.job, known.entities, shapes, projections)
        seen[place] = replace(whole, statements=statements)
        await anyio.lowlevel.checkpoint()  # others have their turn: it takes a millisecond
    opened = await _with_increments(
        connection, {place: seen[place] for place, reader in enumerate(readers) if _goes_on(reader, whole)}, readers
    )
    first = {place: seen[place] for place, reader in enumerate(readers) if _is_first_run(reader)}
    opened |= await _with_first_runs(connection, first, readers)
    return [opened.get(place) for place in range(len(readers))]


async def _with_increments(
    connection: "Connection", seen: Mapping[int, OpenSnapshot], readers: Sequence[Reader]
) -> dict[int, OpenSnapshot]:
    """Add the windows since the jobs' positions. Jobs with many changes are left out."""
    contents = await contents_of_all(
        connection,
        [snapshot.statements for snapshot in seen.values()],
        [readers[place].positions for place in seen],
    )
    opened = {}
    for (place, snapshot), found in zip(seen.items(), contents, strict=True):
        reader = readers[place]
        windows = windows_of(reader.job, reader.positions, snapshot.guards, found, dict.fromkeys(snapshot.guards))
        if _is_quickly_read(windows, found, snapshot):
            keys = {code: content.keys for code, content in found.items()}
            opened[place] = replace(snapshot, windows=windows, keys=keys)
    return opened


async def _with_first_runs(
    connection: "Connection", seen: Mapping[int, OpenSnapshot], readers: Sequence[Reader]
) -> dict[int, OpenSnapshot]:
    """Add windows that hold all rows, for as many jobs as fit into memory together by the planner's estimate. It is at
    least one job, because a single one is not kept in memory.
    """
    together = list(seen.items())
    if not together or not all(statement.can_be_shared for statement in together[0][1].statements.values()):
        return {}
    expected_bytes = 0
    for code, statements in together[0][1].statements.items():
        theirs = [snapshot.statements[code] for _, snapshot in together]
        plan = parse_plan(
            await connection.fetchval(statements.plan_of([statement.organization for statement in theirs]))
        )
        row_bytes = [record_bytes(statement.entity, statement.file_format, plan.row_bytes) for statement in theirs]
        expected_bytes += plan.rows * sum(row_bytes) // len(theirs)
    count = len(together) * MAX_FIRST_RUNS_BYTES // max(expected_bytes, MAX_FIRST_RUNS_BYTES)
    return {
        place: replace(
            snapshot,
            windows=windows_of(
                readers[place].job, {}, snapshot.guards, {}, dict.fromkeys(snapshot.guards, FullReason.FIRST_RUN)
            ),
        )
        for place, snapshot in together[: max(count, 1)]
    }


def _goes_on(reader: Reader, whole: OpenSnapshot) -> bool:
    """Whether all entities of the job can be incremental, as far as that can be said without reading the log."""
    return not reader.forced and not any(
        reader.reason_before_reading(code, found, whole.snapshot) for code, found in whole.guards.items()
    )


def _is_first_run(reader: Reader) -> bool:
    return not reader.positions and not reader.forced and reader.job.start_date is None


def _is_quickly_read(
    windows: Mapping[EntityCode, EntityWindow], contents: Mapping[EntityCode, LogContents], snapshot: OpenSnapshot
) -> bool:
    """Whether the job is quick enough for others to wait for it: it reads no table completely, needs no keys compared,
    and has few changes.
    """
    read = [entity for code, entity in snapshot.entities.items() if windows[code].reads_table]
    return (
        not any(window.scans_table for window in windows.values())
        and all(snapshot.shapes[entity.code].ensures_unique(entity.key) for entity in read)
        and sum(content.keys for content in contents.values()) <= MAX_SHARED_KEYS
    )


def _require_modified(entities: Sequence[Entity], shapes: Mapping[EntityCode, Shape]) -> None:
    for entity in entities:
        if entity.modified is None:
            raise PermanentError(f"Entity {no_modified(entity.code)}", reason=Reason.CATALOG_MISMATCH)
        column = shapes[entity.code].root.column(entity.modified)
        if column is None or column.base_type not in INSTANTS:
            raise PermanentError(
                f"Entity {entity.code}: {entity.table} has no column {entity.modified} that holds times, which the "
                "catalog names as `modified`. Correct the catalog, or export without a start date.",
                reason=Reason.CATALOG_MISMATCH,
            )
