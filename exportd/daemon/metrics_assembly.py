"""Joins the metrics with what they look at."""

from math import nan

import anyio.to_thread

from exportd.api.exposition import Exposition
from exportd.catalog.document import Catalog
from exportd.daemon.assembly import Components
from exportd.database.metrics_reader import MetricsReader
from exportd.model.change_log import log_name
from exportd.model.errors import ExportdError
from exportd.telemetry.metrics import Metrics
from exportd.telemetry.process_memory import resident_bytes


def exposition(components: Components, catalog: Catalog) -> Exposition:
    """The text of the metrics of these components, and of the entities of the catalog."""

    async def look(metrics: Metrics) -> None:
        listener, spool, presence = components.listener, components.spool, components.presence
        metrics.listening.set(listener.listening)
        metrics.daemons.set(sum(each.running for each in presence.daemons))
        metrics.disagreeing.set(len({each.spool_id for each in presence.disagreements}))
        metrics.changes_waiting.clear()
        now = components.clock.now()
        for entity, since in listener.changes_waiting.items():
            metrics.changes_waiting.labels(entity).set((now - since).total_seconds())
        metrics.spool_used.set(spool.usage.used_bytes)
        metrics.spool_budget.set(spool.usage.budget_bytes)
        try:
            metrics.spool_free.set(await spool.free_bytes())
        except ExportdError:  # its directory is gone; jobs say so
            metrics.spool_free.set(nan)
        metrics.resident_memory.set(await anyio.to_thread.run_sync(resident_bytes))

    return Exposition(
        components.metrics,
        refresh=MetricsReader(components.control_pool, {each: log_name(each) for each in catalog.entities}).read,
        look=look,
        clock=components.clock,
    )
