"""The dispatcher and the pipeline in this process, for many organizations, with runs that can be taken back.

Between two runs of the same jobs everything is put back to where it was: the jobs' rows, the positions, what spool and
destinations remember, and their files. So both begin at the same positions over the same tables.
"""

import shutil
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

from exportd.capture.installer import CaptureInstaller, capture_is_intact
from exportd.catalog.checker import resolve
from exportd.catalog.document import loads
from exportd.database.connector import Connection, Connector, Pool
from exportd.database.migrator import migrate
from exportd.delivery.byte_limiter import ByteLimiter
from exportd.delivery.cleaner import Cleaner
from exportd.delivery.deliverer import Deliverer
from exportd.delivery.job_delivery import JobDeliverer
from exportd.delivery.publication_keeper import PublicationKeeper
from exportd.delivery.tables import PublicationTable, UploadTable
from exportd.destinations.open_destinations import Destination, Destinations
from exportd.extraction.copier import Copier
from exportd.extraction.extractor import Extractor
from exportd.extraction.snapshot_opener import SnapshotOpener
from exportd.jobs.dispatcher import Dispatcher
from exportd.jobs.job_table import JobTable
from exportd.model.clock import SystemClock
from exportd.model.entity import EntityCode, OrganizationId
from exportd.model.job import JobId
from exportd.model.schedule import DestinationCode, ExportFormat, Interval, ScheduleDeclaration, Unit
from exportd.pipeline import Pipeline
from exportd.schedules.firing_table import ScheduleTable
from exportd.settings.schema import LimitSettings
from exportd.spool.spool import Spool
from exportd.stores.layout import Layout
from exportd.stores.retrying import RetryBudget
from tests.acceptance.destinations import LocalDirectory
from tests.acceptance.sample_application import CATALOG
from tests.fixtures.runs import fire_now
from tests.fixtures.settings import live_settings

LAKE = DestinationCode("lake")
_ONCE = RetryBudget(timeout_s=0.001, first_wait_s=0.0001, max_wait_s=0.0001, jitter_s=0)
_JOBS = ("job", "part", "delivery", "upload", "attempt")
"""Tables of which the rows of jobs are put back; those of the others are put back whole."""
_WHOLE = ("position", "publication", "refresh_request")


@dataclass(frozen=True)
class TenantSchedule:
    """A schedule to its organization's destination ``lake``."""

    organization: str
    code: str
    entities: Sequence[str]
    file_format: ExportFormat

    def declaration(self) -> ScheduleDeclaration:
        return ScheduleDeclaration(
            organization=OrganizationId(self.organization),
            code=self.code,
            name=self.code,
            entities=tuple(map(EntityCode, self.entities)),
            file_format=self.file_format,
            destinations=(LAKE,),
            rule=Interval(Unit.DAY, 1),
        )


class RewindablePipeline:
    """Schedules of several organizations. ``fire`` some, ``save``, ``run``, ``rewind``, and ``run`` them again."""

    def __init__(
        self, pipeline: Pipeline, pool: Pool, spool: Spool, folder: Path, schedules: Sequence[TenantSchedule]
    ) -> None:
        self.schedules = schedules
        self.folder = folder
        self._pipeline = pipeline
        self._pool = pool
        self._spool = spool

    def lake(self, organization: str) -> Path:
        return self.folder / "now" / organization

    async def fire(self, schedules: Collection[TenantSchedule]) -> dict[TenantSchedule, JobId]:
        return {one: await fire_now(self._pool, one.code, one.organization) for one in schedules}

    async def ask_for_a_refresh(self, schedule: TenantSchedule, entity: str) -> None:
        await self._pool.execute(
            "INSERT INTO exportd.refresh_request (schedule_id, entity, requested_by)"
            " SELECT id, $3, 'test' FROM exportd.schedule WHERE organization = $1 AND code = $2",
            *(schedule.organization, schedule.code, entity),
        )

    async def run(self, *, together: int) -> None:
        """Run what is queued, one slot at a time, ``together`` jobs at most in it."""
        dispatcher = Dispatcher(
            JobTable(self._pool),
            self._pipeline.run,
            holder="test",
            spool_id=self._spool.id,
            settings=live_settings(
                limits={"jobs": 1, "short_jobs": 0, "delivering_jobs": 0, "jobs_together": together}
            ),
            lease_s=60,
            clock=SystemClock(),
        )
        while await self._pool.fetchval("SELECT count(*) FROM exportd.job WHERE state IN ('PENDING', 'RUNNING')"):
            async with anyio.create_task_group() as group:
                assert await dispatcher.run_once(group) > 0

    async def save(self) -> None:
        """Remember how everything is."""
        shutil.rmtree(self.folder / "saved", ignore_errors=True)
        shutil.copytree(self.folder / "now", self.folder / "saved")
        await self._pool.execute("DROP SCHEMA IF EXISTS saved CASCADE; CREATE SCHEMA saved")
        for name in (*_JOBS, *_WHOLE):
            await self._pool.execute(f"CREATE TABLE saved.{name} AS TABLE exportd.{name}")

    async def rewind(self) -> None:
        """Put everything back to how it was when it was saved. The tables that are exported are not touched."""
        self._spool.close()
        shutil.rmtree(self.folder / "now")
        shutil.copytree(self.folder / "saved", self.folder / "now")
        await self._spool.open()
        async with self._pool.acquire() as connection, connection.transaction():
            again = [row["id"] for row in await connection.fetch("SELECT id FROM saved.job WHERE state = 'PENDING'")]
            await connection.execute("DELETE FROM exportd.job WHERE id = ANY ($1)", again)
            await connection.execute("INSERT INTO exportd.job SELECT * FROM saved.job WHERE id = ANY ($1)", again)
            for name in _WHOLE:
                await connection.execute(f"DELETE FROM exportd.{name}")
                await connection.execute(f"INSERT INTO exportd.{name} SELECT * FROM saved.{name}")

    async def rows(self, query: str, *arguments: object) -> list[dict[str, Any]]:
        return [dict(row) for row in await self._pool.fetch(query, *arguments)]


@asynccontextmanager
async def rewindable_pipeline(
    dsn: str, folder: Path, connection: Connection, schedules: Sequence[TenantSchedule], *, part_bytes: int
) -> AsyncIterator[RewindablePipeline]:
    """For the sample application's tables. Each organization has an empty directory."""
    await migrate(connection)
    catalog = await resolve(loads(CATALOG, name="entities.toml"), connection)
    connector = Connector(dsn)
    lakes = {one.organization: folder / "now" / one.organization for one in schedules}
    for lake in lakes.values():
        lake.mkdir(parents=True, exist_ok=True)
    spool_settings = live_settings(
        spool={"directory": folder / "now" / "spool", "budget": 1 << 30, "free_space_floor": 1}
    )
    async with AsyncExitStack() as stack:
        spool = await stack.enter_async_context(Spool(spool_settings))
        pool = await stack.enter_async_context(connector.pool(8))
        stores = {organization: LocalDirectory(lake).open() for organization, lake in lakes.items()}
        for store in stores.values():
            stack.push_async_callback(store.aclose)
        destinations = Destinations(
            Destination(OrganizationId(organization), LAKE, store, Layout()) for organization, store in stores.items()
        )
        jobs, uploads = JobTable(pool), UploadTable(pool)
        tokens: Mapping[EntityCode, str] = {code: entity.type_token for code, entity in catalog.entities.items()}
        extractor = Extractor(
            catalog=catalog,
            installer=CaptureInstaller(connector, pause=anyio.sleep),
            opener=SnapshotOpener(connector, is_intact=capture_is_intact, pause=anyio.sleep),
            copier=Copier(connector, LimitSettings(streams=1, stream_threshold=1 << 30)),
            spool=spool,
            limits=LimitSettings(part_size=part_bytes),
        )
        deliverer = Deliverer(
            destinations,
            uploads=uploads,
            limiter=ByteLimiter(1 << 20),
            type_token=tokens.__getitem__,
            retry=_ONCE,
        )
        pipeline = Pipeline(
            extractor=extractor,
            deliverer=JobDeliverer(
                deliverer,
                Cleaner(destinations, jobs, uploads, type_tokens=tokens, clock=SystemClock()),
                jobs=jobs,
                uploads=uploads,
                publications=PublicationKeeper(PublicationTable(pool), spool),
                spool=spool,
            ),
            jobs=jobs,
            spool=spool,
        )
        await ScheduleTable(pool).reconcile([one.declaration() for one in schedules], now=SystemClock().now())
        yield RewindablePipeline(pipeline, pool, spool, folder, schedules)
