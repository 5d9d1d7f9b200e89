"""Reads what the metrics say of the database, in one short transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio.to_thread

from exportd.database import queries
from exportd.database.connector import Pool
from exportd.database.translator import translated
from exportd.database.unit_of_work import slices
from exportd.model.entity import EntityCode
from exportd.telemetry.metrics import Metrics

if TYPE_CHECKING:
    import asyncpg

_SQL = queries.load("metrics")

_TIMEOUT_MS = 2000
"""How long a query may take: metrics are read every few seconds and must never burden the database."""


class MetricsReader:
    """Fills the gauges about the database. ``logs`` are the change logs' names, by entity."""

    def __init__(self, pool: Pool, logs: Mapping[EntityCode, str]) -> None:
        self._pool = pool
        self._logs = logs

    async def read(self, metrics: Metrics) -> None:
        """Raises TransientError when the database is out of reach or too slow; the gauges are then as they were."""
        with translated("reading the metrics"):
            async with (
                self._pool.acquire(timeout=_TIMEOUT_MS / 1000) as connection,
                connection.transaction(readonly=True),
            ):
                await connection.execute(f"SET LOCAL statement_timeout = {_TIMEOUT_MS}")
                freshness = [row async for rows in slices(connection, _SQL["freshness"]) for row in rows]
                found = _Found(
                    freshness,
                    failed=await connection.fetch(_SQL["failed_schedules"]),
                    jobs=await connection.fetch(_SQL["jobs"]),
                    logs=await connection.fetch(_SQL["change_logs"], [*self._logs], [*self._logs.values()]),
                    oldest_rows=await connection.fetch(_SQL["oldest_rows"]),
                    oldest_transaction_s=await connection.fetchval(_SQL["oldest_transaction"]),
                )
        # With thousands of schedules, this takes a while.
        await anyio.to_thread.run_sync(_fill, metrics, found)


@dataclass(frozen=True, slots=True)
class _Found:
    """The rows of each query."""

    freshness: "Sequence[asyncpg.Record]"
    failed: "Sequence[asyncpg.Record]"
    jobs: "Sequence[asyncpg.Record]"
    logs: "Sequence[asyncpg.Record]"
    oldest_rows: "Sequence[asyncpg.Record]"
    oldest_transaction_s: float


def _fill(metrics: Metrics, found: _Found) -> None:
    metrics.forget_database()
    metrics.database_up.set(1)
    for row in found.freshness:
        metrics.freshness.labels(row["organization"], row["code"], row["destination"]).set(row["lag_s"])
    for row in found.failed:
        metrics.schedule_failed.labels(row["organization"], row["code"], row["reason"]).set(1)
    for row in found.jobs:
        metrics.jobs.labels("PENDING").set(row["pending"])
        metrics.jobs.labels("RUNNING").set(row["running"])
        metrics.oldest_due.set(row["oldest_due_s"])
    for row in found.logs:
        metrics.log_rows.labels(row["entity"]).set(row["rows"])
        if row["oldest_window_s"] is not None:
            metrics.oldest_window.labels(row["entity"]).set(row["oldest_window_s"])
    for row in found.oldest_rows:
        metrics.oldest_row.labels(row["kind"]).set(row["age_s"])
    metrics.oldest_transaction.set(found.oldest_transaction_s)
