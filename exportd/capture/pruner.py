"""Deletes rows of the change logs that no window will read again.

It uses batches of plain DELETEs, because dropping or detaching partitions under an open export would block the
application's writes. A schedule that has not succeeded for longer than the horizon no longer holds the logs back; its
next run is full. A job that has succeeded holds them for a while, so that it can be back-filled.
"""

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from exportd.capture.installer import read_installed
from exportd.catalog.document import Catalog
from exportd.database import queries
from exportd.database.connector import Connection, Connector
from exportd.database.quoting import table
from exportd.database.translator import translated
from exportd.model.change_log import log_name, log_table
from exportd.model.clock import Clock
from exportd.model.entity import EntityCode
from exportd.model.errors import ExportdError
from exportd.settings.schema import LiveSettings

_SQL = queries.load("changes")

_BATCH_ROWS = 50_000

_logger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Pruned:
    """What one round did: log rows deleted per entity, and how many positions expired, those of back-fills included."""

    rows: dict[EntityCode, int]
    expired_positions: int


class Pruner:
    """Prunes the logs of the catalog's entities; interval, horizon and keeping are those of the settings in effect."""

    def __init__(
        self,
        connector: Connector,
        *,
        settings: LiveSettings,
        catalog: Callable[[], Catalog],
        clock: Clock,
    ) -> None:
        self._connector = connector
        self._settings = settings
        self._catalog = catalog
        self._clock = clock

    async def run(self) -> None:
        """Prune until cancelled. An error is logged and does not end the exports; the next round tries again."""
        while True:
            try:
                await self.run_once()
            except ExportdError as error:
                _logger.warning("pruning postponed", reason=error.reason, error=error.sentence)
            interval_s = self._settings().capture.prune_interval_s
            await self._clock.sleep_until(self._clock.monotonic() + interval_s)

    async def run_once(self) -> Pruned:
        """One round over all logs that exist."""
        capture, entities = self._settings().capture, tuple(self._catalog().entities)
        horizon_s, keep_s = capture.horizon_hours * 3600, capture.keep_hours * 3600
        async with self._connector.connection("pruner") as connection:
            with translated("pruning the change logs"):
                # Each statement is committed before the bounds are read. A back-fill that locked one of these rows
                # earlier has stored the beginning of its window by then, so the bounds include it. A later one finds
                # that the row holds the log no longer.
                expired = await connection.fetch(_SQL["expire_positions"], horizon_s)
                expired += await connection.fetch(_SQL["expire_backfill_requests"], horizon_s)
                await connection.execute(_SQL["let_go"], keep_s)
                for row in expired:
                    _logger.warning(
                        "position expired, the next run is full",
                        organization=row["organization"],
                        schedule=row["code"],
                        entity=row["entity"],
                    )
                logs = (await read_installed(connection)).logs
                bounds = await connection.fetch(
                    _SQL["prune_bounds"], [entity for entity in entities if log_name(entity) in logs]
                )
                rows = {
                    EntityCode(row["entity"]): await _prune(connection, EntityCode(row["entity"]), row["bound"])
                    for row in bounds
                }
        return Pruned(rows, len(expired))


async def _prune(connection: Connection, entity: EntityCode, bound: str) -> int:
    log = table(log_table(entity))
    statement = (
        f"DELETE FROM {log} WHERE ctid = ANY (ARRAY(SELECT ctid FROM {log} WHERE xid < $1::text::xid8 LIMIT $2))"
    )
    deleted = 0
    while True:
        tag = await connection.execute(statement, bound, _BATCH_ROWS)
        batch = int(tag.split()[-1])
        deleted += batch
        if batch < _BATCH_ROWS:
            return deleted
