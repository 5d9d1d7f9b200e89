"""A schedule that has run a few times, and the means to ask for back-fills."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

from exportd.capture.pruner import Pruner
from exportd.database import queries
from exportd.database.connector import Connection
from exportd.jobs.job_table import JobTable
from exportd.manifest.document import Manifest
from exportd.model.clock import SystemClock
from exportd.model.entity import EntityCode
from exportd.model.errors import FullReason
from exportd.model.extraction import Extraction
from exportd.model.job import JobId
from exportd.model.schedule import ScheduleId
from exportd.model.start import Beginning
from exportd.schedules.firing_table import ScheduleTable
from exportd.schedules.operations import Backfill, ScheduleOperator, backfill_held
from tests.acceptance.call_interrupter import CallInterrupter
from tests.acceptance.delivered_files import DeliveredFiles
from tests.acceptance.in_process_pipeline import InProcessPipeline, directories, in_process_pipeline
from tests.acceptance.sample_application import ENTITIES, Application, Contents
from tests.fixtures.daemon import Site, until
from tests.fixtures.requests_of_people import backfill_requests
from tests.fixtures.settings import live_settings

_HOLD_SCHEDULE = queries.load("schedule_operations")["hold"]
_WEEK_S = 7 * 86_400.0


@dataclass(frozen=True)
class ScheduleHistory:
    """A pipeline whose only schedule has run: completely at first, then ``past``, ``later`` and ``last``."""

    pipeline: InProcessPipeline
    application: Application
    schedule: ScheduleId
    first: JobId
    past: JobId
    later: JobId
    last: JobId

    async def ask(self, job: JobId) -> Backfill:
        return await ScheduleOperator(self.pipeline.pool).backfill(self.schedule, job, actor="test")

    async def run(self) -> JobId:
        return await run(self.pipeline, self.application)

    async def extraction(self, job: JobId) -> Extraction:
        document = await JobTable(self.pipeline.pool).extraction(job)
        assert document is not None
        return Extraction.from_json(document)

    async def windows(self, job: JobId) -> dict[str, str | FullReason | None]:
        """Where the entities' windows begin; or why they are full."""
        return {
            entity.entity: entity.full_reason or entity.previous for entity in (await self.extraction(job)).entities
        }

    async def since(self, job: JobId) -> dict[str, str]:
        """Windows of all entities that begin where the job ended."""
        return dict.fromkeys(ENTITIES, (await self.extraction(job)).snapshot)

    async def waiting(self) -> dict[str, str | FullReason]:
        """What is asked for and not done yet: where windows are to begin, or why they are full."""
        requests = await backfill_requests(self.pipeline.pool, self.schedule)
        return {
            request.entity: request.begins if isinstance(request.begins, FullReason) else request.begins.snapshot
            for request in requests
        }

    def pruner(self, *, keep_s: float, horizon_s: float = _WEEK_S) -> Pruner:
        return Pruner(
            self.pipeline.connector,
            settings=live_settings(
                capture={"horizon_hours": horizon_s / 3600, "keep_hours": keep_s / 3600, "prune_interval_s": 1}
            ),
            catalog=lambda: self.pipeline.catalog,
            clock=SystemClock(),
        )

    async def pruned(self, *, keep_s: float) -> int:
        """How many rows a round of the pruner takes from the log of accounts."""
        return (await self.pruner(keep_s=keep_s).run_once()).rows[EntityCode("ACCOUNTS")]

    async def log_rows(self) -> int:
        count: int = await self.application.connection.fetchval("SELECT count(*) FROM exportd.log_accounts")
        return count


@asynccontextmanager
async def schedule_with_history(site: Site, application: Application, *codes: str) -> AsyncIterator[ScheduleHistory]:
    lakes = directories(site.folder, *(codes or ("lake",)))
    async with in_process_pipeline(site.dsn, site.folder, application.connection, lakes) as pipeline:
        jobs = [await run(pipeline, application) for _ in range(4)]
        (often,) = await ScheduleTable(pipeline.pool).all()
        yield ScheduleHistory(pipeline, application, often.id, *jobs)


async def run(pipeline: InProcessPipeline, application: Application) -> JobId:
    """Change something, and export it."""
    await application.change()
    job = await pipeline.fire()
    assert await pipeline.finish(job, CallInterrupter.none()) == "SUCCEEDED"
    return job


def applied(bucket: DeliveredFiles, *manifests: Manifest) -> Contents:
    """What a consumer has who loaded these runs only, of which the first is complete."""
    tables: Contents = {}
    for manifest in manifests:
        for entity in manifest.entities:
            table = tables.setdefault(entity.code, {})
            for record in bucket.records(manifest, entity):
                key = tuple(str(record[name]) for name in entity.key)
                gone = record.pop("deleted") == "true"
                table.pop(key, None)
                if not gone:
                    table[key] = record
    return tables


def begins(backfill: Backfill) -> Mapping[str, str | FullReason]:
    return {
        request.entity: request.begins.snapshot if isinstance(request.begins, Beginning) else request.begins
        for request in backfill.requests
    }


@asynccontextmanager
async def asking(history: ScheduleHistory, job: JobId) -> AsyncIterator[Backfill]:
    """Asked for, and not committed before the block ends."""
    async with history.pipeline.pool.acquire() as connection, connection.transaction(isolation="read_committed"):
        yield await _asked(connection, history.schedule, job)


async def _asked(connection: Connection, schedule: UUID, job: JobId) -> Backfill:
    row = await connection.fetchrow(_HOLD_SCHEDULE, schedule, None)
    assert row is not None
    return await backfill_held(connection, row, job, actor="test")


async def blocked(application: Application, application_name: str) -> None:
    """Wait until a session of that name waits for a lock."""

    async def look() -> bool:
        return bool(
            await application.connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name = $1 AND wait_event_type = 'Lock'",
                application_name,
            )
        )

    await until(look, what=f"{application_name} to wait")
