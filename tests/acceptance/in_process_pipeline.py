"""The pipeline with real collaborators, but in this process, with calls that can be interrupted."""

import random
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import anyio

from exportd.capture.installer import CaptureInstaller, capture_is_intact
from exportd.catalog.checker import resolve
from exportd.catalog.document import Catalog, loads
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
from exportd.jobs.attempt_runner import AttemptRunner
from exportd.jobs.job_record import JobRecord
from exportd.jobs.job_table import JobTable
from exportd.model.clock import SystemClock
from exportd.model.entity import OrganizationId
from exportd.model.job import JobId, JobProgress, Lease
from exportd.model.schedule import DestinationCode, ExportFormat, Interval, ScheduleDeclaration, Unit
from exportd.pipeline import Pipeline
from exportd.schedules.firing_table import ScheduleTable
from exportd.settings.schema import LimitSettings, LiveSettings
from exportd.spool.spool import Spool
from exportd.stores.layout import Layout
from exportd.stores.retrying import RetryBudget
from exportd.stores.store import Store
from tests.acceptance.call_interrupter import CallInterrupter, Interruption
from tests.acceptance.destinations import AnyDestination, LocalDirectory
from tests.acceptance.sample_application import CATALOG, ORGANIZATION
from tests.fixtures.runs import fire_now
from tests.fixtures.settings import live_settings

_ONCE = RetryBudget(timeout_s=0.001, first_wait_s=0.0001, max_wait_s=0.0001, jitter_s=0)
_SCHEDULE = "often"


class Stop:
    """Raises what ``interruption`` raises, or makes the daemon hand the job back."""

    def __init__(self, interruption: Interruption | None) -> None:
        self._interruption = interruption
        self.runner: AttemptRunner | None = None

    async def __call__(self) -> None:
        if self._interruption is not None:
            await self._interruption()
        elif self.runner is not None:
            self.runner.hand_back()
            await anyio.lowlevel.checkpoint()


def _spool_settings(directory: Path) -> LiveSettings:
    return live_settings(spool={"directory": directory, "budget": 1 << 30, "free_space_floor": 1})


@dataclass(frozen=True)
class InProcessPipeline:
    """A schedule of everything to the destinations ``lakes``. Jobs are fired and attempted by hand."""

    lakes: Mapping[str, AnyDestination]
    stores: Mapping[str, Store]
    spool: Spool
    pool: Pool
    connector: Connector
    catalog: Catalog
    part_bytes: int = 1 << 20

    @asynccontextmanager
    async def elsewhere(self, directory: Path) -> AsyncIterator["InProcessPipeline"]:
        """The same on a host with another spool."""
        async with Spool(_spool_settings(directory)) as spool:
            yield replace(self, spool=spool)

    async def fire(self) -> JobId:
        return await fire_now(self.pool, _SCHEDULE)

    async def attempt(self, interrupter: CallInterrupter, attempts: int = 10) -> AttemptRunner | None:
        """Claim the job, make its next attempt ready; None when there is none to claim."""
        async with self.pool.acquire() as connection:
            await connection.execute("UPDATE exportd.job SET not_before = clock_timestamp() WHERE state = 'PENDING'")
        lease = await JobTable(self.pool, spool_grace_s=-1).claim(
            holder="test", lease_s=60, spool_id=self.spool.id, attempt_limit=attempts
        )
        return None if lease is None else self._runner(lease, interrupter, attempts)

    async def finish(
        self, job: JobId, interrupter: CallInterrupter, stop: Stop | None = None, *, attempts: int = 10
    ) -> str:
        """Attempt a job until it has ended; its state."""
        while not (record := await self.record(job)).finished:
            runner = await self.attempt(interrupter, attempts)
            assert runner is not None
            if stop is not None:
                stop.runner = runner
            await runner.run()
        return record.state.value

    async def record(self, job: JobId) -> JobRecord:
        record = await JobTable(self.pool).get(job)
        assert record is not None
        return record

    def cleaner(self, interrupter: CallInterrupter) -> Cleaner:
        return Cleaner(
            self._destinations(interrupter),
            interrupter.guard(JobTable(self.pool)),
            interrupter.guard(UploadTable(self.pool)),
            type_tokens={code: entity.type_token for code, entity in self.catalog.entities.items()},
            clock=SystemClock(),
        )

    def _destinations(self, interrupter: CallInterrupter) -> Destinations:
        return Destinations(
            Destination(
                OrganizationId(ORGANIZATION),
                DestinationCode(code),
                interrupter.guard(store),
                Layout(),
            )
            for code, store in self.stores.items()
        )

    def _runner(self, lease: Lease, interrupter: CallInterrupter, attempts: int) -> AttemptRunner:
        extractor = Extractor(
            catalog=self.catalog,
            installer=CaptureInstaller(self.connector, pause=anyio.sleep),
            opener=SnapshotOpener(self.connector, is_intact=capture_is_intact, pause=anyio.sleep),
            copier=Copier(self.connector, LimitSettings(streams=1, stream_threshold=1 << 30)),
            spool=self.spool,
            limits=LimitSettings(part_size=self.part_bytes),
        )
        pipeline = Pipeline(
            extractor=interrupter.guard(extractor),
            deliverer=JobDeliverer(
                Deliverer(
                    self._destinations(interrupter),
                    uploads=interrupter.guard(UploadTable(self.pool)),
                    limiter=ByteLimiter(1 << 20),
                    type_token=lambda entity: self.catalog.get(entity).type_token,
                    retry=_ONCE,
                ),
                self.cleaner(interrupter),
                jobs=interrupter.guard(JobTable(self.pool)),
                uploads=interrupter.guard(UploadTable(self.pool)),
                publications=PublicationKeeper(interrupter.guard(PublicationTable(self.pool)), self.spool),
                spool=interrupter.guard(self.spool),
            ),
            jobs=interrupter.guard(JobTable(self.pool)),
            spool=interrupter.guard(self.spool),
        )

        async def run(lease: Lease, progress: JobProgress) -> None:
            await pipeline.run(lease, progress)

        return AttemptRunner(
            JobTable(self.pool),
            run,
            lease,
            claimed_at=SystemClock().monotonic(),
            lease_s=60,
            attempt_limit=attempts,
            clock=SystemClock(),
            random=random.random(),
        )


@asynccontextmanager
async def in_process_pipeline(
    dsn: str,
    folder: Path,
    connection: Connection,
    lakes: Mapping[str, AnyDestination],
    *,
    part_bytes: int = 1 << 20,
    spool: Spool | None = None,
) -> AsyncIterator[InProcessPipeline]:
    """A pipeline for the application's tables with empty destinations by their codes; ``spool`` is open, if given."""
    await migrate(connection)
    catalog = await resolve(loads(CATALOG, name="entities.toml"), connection)
    connector = Connector(dsn)
    async with AsyncExitStack() as stack:
        if spool is None:
            usual = Spool(_spool_settings(folder / "spool"))
            spool = await stack.enter_async_context(usual)
        pool = await stack.enter_async_context(connector.pool(6))
        declaration = ScheduleDeclaration(
            organization=OrganizationId(ORGANIZATION),
            code=_SCHEDULE,
            name=_SCHEDULE,
            entities=tuple(catalog.entities),
            file_format=ExportFormat.CSV,
            destinations=tuple(DestinationCode(lake) for lake in lakes),
            rule=Interval(Unit.DAY, 1),
        )
        await ScheduleTable(pool).reconcile([declaration], now=SystemClock().now())
        stores = {code: lake.open() for code, lake in lakes.items()}
        for store in stores.values():
            stack.push_async_callback(store.aclose)
        yield InProcessPipeline(lakes, stores, spool, pool, connector, catalog, part_bytes)


def directories(folder: Path, *codes: str) -> dict[str, AnyDestination]:
    """An empty directory for each code."""
    for code in codes:
        (folder / code).mkdir()
    return {code: LocalDirectory(folder / code) for code in codes}
