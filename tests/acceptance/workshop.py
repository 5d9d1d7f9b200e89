"""The pipeline with everything real around it, but in this process, and with a tripwire."""

import random
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import anyio

from exportd.capture.installer import CaptureInstaller, capture_is_intact
from exportd.catalog.document import Catalog, loads
from exportd.catalog.resolver import resolve
from exportd.database.connector import Connection, Connector, Pool
from exportd.database.migrator import migrate
from exportd.delivery.byte_limiter import ByteLimiter
from exportd.delivery.cleaner import Cleaner
from exportd.delivery.deliverer import Deliverer
from exportd.delivery.upload_table import UploadTable
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
from tests.acceptance.lakes import DirectoryLake, Lake
from tests.acceptance.shop import CATALOG, ORGANIZATION
from tests.acceptance.tripwire import Trip, Tripwire
from tests.fixtures.settings import live_settings

_ONCE = RetryBudget(timeout_s=0.001, first_wait_s=0.0001, longest_wait_s=0.0001, jitter_s=0)
_SCHEDULE = "often"


class Stop:
    """Raises what it is given, or makes the daemon leave."""

    def __init__(self, trip: Trip | None) -> None:
        self._trip = trip
        self.runner: AttemptRunner | None = None

    async def __call__(self) -> None:
        if self._trip is not None:
            await self._trip()
        elif self.runner is not None:
            self.runner.hand_back()
            await anyio.lowlevel.checkpoint()


def _spool_settings(directory: Path) -> LiveSettings:
    return live_settings(spool={"directory": directory, "budget": 1 << 30, "free_space_floor": 1})


@dataclass(frozen=True)
class Workshop:
    """A schedule of everything to the destinations ``lakes``. Jobs are fired and attempted by hand."""

    lakes: Mapping[str, Lake]
    stores: Mapping[str, Store]
    spool: Spool
    pool: Pool
    connector: Connector
    catalog: Catalog
    part_bytes: int = 1 << 20

    @asynccontextmanager
    async def elsewhere(self, directory: Path) -> AsyncIterator["Workshop"]:
        """The same on a host with another spool."""
        async with Spool(_spool_settings(directory)) as spool:
            yield replace(self, spool=spool)

    async def fire(self) -> JobId:
        return await ScheduleTable(self.pool).fire_now(OrganizationId(ORGANIZATION), _SCHEDULE)

    async def attempt(self, wire: Tripwire, attempts: int = 10) -> AttemptRunner | None:
        """Claim the job, make its next attempt ready; None when there is none to claim."""
        async with self.pool.acquire() as connection:
            await connection.execute("UPDATE exportd.job SET not_before = clock_timestamp() WHERE state = 'PENDING'")
        lease = await JobTable(self.pool, spool_grace_s=-1).claim(
            holder="workshop", lease_s=60, spool_id=self.spool.id, attempt_limit=attempts
        )
        return None if lease is None else self._runner(lease, wire, attempts)

    async def finish(self, job: JobId, wire: Tripwire, stop: Stop | None = None, *, attempts: int = 10) -> str:
        """Attempt a job until it has ended; its state."""
        while not (record := await self.record(job)).finished:
            runner = await self.attempt(wire, attempts)
            assert runner is not None
            if stop is not None:
                stop.runner = runner
            await runner.run()
        return record.state.value

    async def record(self, job: JobId) -> JobRecord:
        record = await JobTable(self.pool).get(job)
        assert record is not None
        return record

    def cleaner(self, wire: Tripwire) -> Cleaner:
        return Cleaner(
            self._destinations(wire),
            wire.guard(JobTable(self.pool)),
            wire.guard(UploadTable(self.pool)),
            type_tokens={code: entity.type_token for code, entity in self.catalog.entities.items()},
            clock=SystemClock(),
        )

    def _destinations(self, wire: Tripwire) -> Destinations:
        return Destinations(
            Destination(
                OrganizationId(ORGANIZATION),
                DestinationCode(code),
                wire.guard(store),
                Layout(),
            )
            for code, store in self.stores.items()
        )

    def _runner(self, lease: Lease, wire: Tripwire, attempts: int) -> AttemptRunner:
        extractor = Extractor(
            catalog=self.catalog,
            installer=CaptureInstaller(self.connector, pause=anyio.sleep),
            opener=SnapshotOpener(self.connector, is_intact=capture_is_intact, pause=anyio.sleep),
            copier=Copier(self.connector, LimitSettings(streams=1, stream_threshold=1 << 30)),
            spool=self.spool,
            limits=LimitSettings(part_size=self.part_bytes),
        )
        pipeline = Pipeline(
            extractor=wire.guard(extractor),
            deliverer=Deliverer(
                self._destinations(wire),
                uploads=wire.guard(UploadTable(self.pool)),
                limiter=ByteLimiter(1 << 20),
                type_token=lambda entity: self.catalog.get(entity).type_token,
                retry=_ONCE,
            ),
            cleaner=self.cleaner(wire),
            jobs=wire.guard(JobTable(self.pool)),
            uploads=wire.guard(UploadTable(self.pool)),
            spool=wire.guard(self.spool),
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
async def workshop(
    dsn: str,
    folder: Path,
    connection: Connection,
    lakes: Mapping[str, Lake],
    *,
    part_bytes: int = 1 << 20,
    spool: Spool | None = None,
) -> AsyncIterator[Workshop]:
    """A workshop over the shop's tables, with an empty destination for each code; ``spool`` is open, if given."""
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
        yield Workshop(lakes, stores, spool, pool, connector, catalog, part_bytes)


def directories(folder: Path, *codes: str) -> dict[str, Lake]:
    """An empty directory for each code."""
    for code in codes:
        (folder / code).mkdir()
    return {code: DirectoryLake(folder / code) for code in codes}
