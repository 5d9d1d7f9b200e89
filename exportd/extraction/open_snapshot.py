"""A snapshot that is open, as the job sees it that is read in it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

from exportd.catalog.shape import Shape
from exportd.extraction.guards import Guards
from exportd.extraction.statement import Statements, lock_statement
from exportd.extraction.window import EntityWindow, SnapshotText
from exportd.model.entity import Entity, EntityCode

if TYPE_CHECKING:
    from exportd.database.connector import Connection

MAX_SHARED_KEYS = 10_000
"""A job with more keys to read does not share a snapshot: others would wait for it. Windows of no more are ordered."""


MAX_FIRST_RUNS_BYTES = 16 << 20
"""What first runs that share a snapshot may have to read altogether, as the planner expects."""


@dataclass(frozen=True, slots=True)
class FetchedRows:
    """Rows of one job's window of an entity, as COPY writes them, and how many there are."""

    live: bytes = b""
    live_rows: int = 0
    deleted: bytes = b""
    deleted_rows: int = 0

    def having(self, data: bytes, rows: int, *, deletions: bool) -> "FetchedRows":
        """The same with its deleted rows, or its live ones."""
        if deletions:
            return replace(self, deleted=data, deleted_rows=rows)
        return replace(self, live=data, live_rows=rows)


@dataclass(frozen=True, slots=True)
class OpenSnapshot:
    """One consistent read, open on ``connection``.

    ``snapshot`` and ``wal_position`` say where in the database's history it is, ``taken_at`` (aware UTC) when.
    """

    connection: "Connection"
    snapshot: SnapshotText
    wal_position: str
    taken_at: datetime
    entities: Mapping[EntityCode, Entity]
    shapes: Mapping[EntityCode, Shape]
    guards: Mapping[EntityCode, Guards]
    windows: Mapping[EntityCode, EntityWindow]
    statements: Mapping[EntityCode, Statements]
    keys: Mapping[EntityCode, int]
    """How many keys the log holds for each incremental window, at most."""
    fetched: Mapping[EntityCode, FetchedRows] = field(default_factory=dict)
    """What has been read already, with that of other jobs."""

    def is_small(self, code: EntityCode) -> bool:
        """Whether the window's rows are ordered: so they are the same, whether read by themselves or with others'."""
        window = self.windows[code]
        small = not window.scans_table and self.keys[code] <= MAX_SHARED_KEYS
        return small and self.statements[code].can_be_shared

    def locks(self) -> str:
        """The statement by which another connection locks the same tables."""
        return lock_statement(list(self.entities.values()))
