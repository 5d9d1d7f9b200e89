"""What 10,000 organizations keep in 90 days, each with a daily schedule of 20 entities: 900,000 jobs and deliveries, 18
million parts, an audit log of 900,000 entries. How long the daemon takes to show it, and to delete its oldest day.
"""

import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Final

from benchmarks.bills import CATALOG
from benchmarks.console_pages import PAGES, REPEATS, Loader, slowest
from benchmarks.daemon_process import daemon_process
from benchmarks.many_schedules import SCHEDULES, SOME_HAVE_FAILED, configured, create_many, declared
from benchmarks.measurement import Measurement, Options, Say
from benchmarks.server import benchmark_server, connection_to
from exportd.catalog import document
from exportd.database.connector import Connector
from exportd.jobs.history_pruner import HistoryKind, HistoryPruner
from exportd.model.clock import SystemClock
from exportd.model.entity import EntityCode, OrganizationId
from exportd.spool.spool import Spool
from tests.fixtures.settings import live_settings

DAYS: Final = 90
_LIMIT_MS = 250.0
_LIMIT_OF_SUMS_MS = 1_000.0
_DELETING_S = 60.0
"""For the jobs of a day: the sweep is hourly, and others use the database meanwhile."""

# In the order of the keys: in the order of the rows, as the keys are random, it would take much longer.
_HISTORY = """
INSERT INTO exportd.part (job_id, entity, number, file_name, rows, content_bytes, size_bytes, sha256)
SELECT id, entity, 1, id || '_' || entity || '.1.csv.gz', 8, 1000, 300, repeat('0', 64)
FROM (SELECT id, entities FROM exportd.job ORDER BY id) AS job, unnest(entities) AS entity;

INSERT INTO exportd.audit (at, actor, action, object_id, organization, details)
SELECT created_at, 'uid:0', 'run schedule', schedule_id, organization, '{}' FROM exportd.job ORDER BY created_at;
"""

LISTS: Mapping[str, str] = {
    "jobs": "/v1/jobs?pageSize=100",
    "jobs that failed": "/v1/jobs?pageSize=100&status=FAILED",
    "jobs of an organization": "/organizations/{organization}/dataexports/jobs?pageSize=100",
    "schedules of an organization": "/organizations/{organization}/dataexports/schedules",
    "positions": "/v1/schedules/{schedule}/positions",
    "audit": "/v1/audit?pageSize=100",
    "audit of an organization": "/v1/audit?pageSize=100&organization={organization}",
    "organizations": "/v1/organizations",
}
SUMS: Mapping[str, str] = {"status": "/v1/status", "metrics": "/metrics"}


async def measure(options: Options, say: Say) -> list[Measurement]:
    """Figures as parts of what they may be."""
    count = options.size(SCHEDULES)
    every_entity = tuple(map(EntityCode, document.load(CATALOG).entities))
    schedules = [
        replace(schedule, organization=OrganizationId(f"org-{number}"), entities=every_entity)
        for number, schedule in enumerate(declared(count))
    ]
    async with benchmark_server(options) as server:
        with tempfile.TemporaryDirectory(prefix="exportd-bench-") as name:
            folder = Path(name)
            say(f"making {count * DAYS:,} jobs")
            dsn = await create_many(server, schedules, jobs=DAYS, every=timedelta(days=1))
            async with connection_to(dsn) as connection:
                await connection.execute(SOME_HAVE_FAILED + _HISTORY)
                await connection.execute("VACUUM (ANALYZE)")
            # The oldest stay until they are to go.
            kept = {"retention": {"jobs": DAYS + 10}}
            of = f"with {count * DAYS:,} kept jobs of {count:,} organizations"
            async with daemon_process(dsn, folder, configured(schedules, dsn, folder) | kept, environment={}) as daemon:
                loader = await Loader.of(daemon, folder, dsn, repeats=options.repeats(REPEATS))
                pages, lists, sums = [await loader.load_all(paths, say) for paths in (PAGES, LISTS, SUMS)]
            return [
                slowest(f"history: the slowest page of the console {of}", pages, limit_ms=_LIMIT_MS),
                slowest(f"history: the slowest list of the API {of}", lists, limit_ms=_LIMIT_MS),
                slowest(f"history: status and metrics {of}", sums, limit_ms=_LIMIT_OF_SUMS_MS),
                await _delete_oldest(dsn, folder, count, say),
            ]


async def _delete_oldest(dsn: str, folder: Path, count: int, say: Say) -> Measurement:
    """The jobs of one day, one of each schedule."""
    say(f"deleting {count:,} jobs")
    settings = live_settings(retention={"jobs": DAYS - 0.5}, spool={"directory": folder / "spool"})
    async with Spool(settings) as spool, Connector(dsn).pool(2) as pool:
        started = time.perf_counter()
        deleted = await HistoryPruner(pool, spool, settings=settings, clock=SystemClock()).run_once()
        seconds = time.perf_counter() - started
    if deleted[HistoryKind.JOBS] != count:
        raise AssertionError(f"{deleted[HistoryKind.JOBS]} of {count} old jobs were deleted")
    return Measurement(
        f"history: deleting a day's {count:,} jobs of {count * DAYS:,}, of {_DELETING_S:.0f} s",
        seconds / _DELETING_S,
        1.0,
        "lower",
        f"{seconds:.1f} s, {1000 * seconds / count:.2f} ms a job with its 20 parts, delivery and document",
    )
