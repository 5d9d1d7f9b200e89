"""Builds everything a daemon consists of from its settings. Nothing runs yet."""

import os
import socket
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import anyio

from exportd import __version__
from exportd.api.job_watcher import JobWatcher
from exportd.capture.installer import CaptureInstaller, capture_is_intact
from exportd.capture.listener import Listener
from exportd.capture.pruner import Pruner
from exportd.catalog.document import Catalog
from exportd.daemon.current import Current, ServiceRegister, State
from exportd.database.connector import Connector, Pool
from exportd.delivery.byte_limiter import ByteLimiter
from exportd.delivery.cleaner import Cleaner
from exportd.delivery.deliverer import Deliverer
from exportd.delivery.upload_table import UploadTable
from exportd.destinations.declaration import open_declared
from exportd.destinations.open_destinations import Destinations
from exportd.destinations.opener import DestinationOpener
from exportd.destinations.refresher import DestinationRefresher
from exportd.destinations.table import DestinationTable
from exportd.extraction.copier import Copier
from exportd.extraction.extractor import Extractor
from exportd.extraction.snapshot_opener import SnapshotOpener
from exportd.fleet.presence import PresenceKeeper
from exportd.fleet.record import DaemonIdentity
from exportd.fleet.table import DaemonTable
from exportd.jobs.dispatcher import Dispatcher
from exportd.jobs.job_table import JobTable
from exportd.jobs.operations import JobOperator
from exportd.model.clock import Clock, SystemClock
from exportd.model.entity import EntityCode
from exportd.model.job import JobId
from exportd.model.schedule import ScheduleId
from exportd.pipeline import Pipeline
from exportd.schedules.firing_table import ScheduleTable
from exportd.schedules.ticker import Ticker
from exportd.settings.schema import Settings
from exportd.spool.retention import RetentionSweeper, SpooledJob
from exportd.spool.spool import Spool
from exportd.stores.retrying import RetryBudget
from exportd.telemetry.attempt_meter import AttemptMeter
from exportd.telemetry.metrics import Metrics

_LEASE_S = 30.0
"""How long a dead daemon's job stays untouched. Long enough for a pause of the machine, short enough for people."""

_CONTROL_CONNECTIONS = 4
"""The control API's own: however much is asked of it, the leases of jobs are extended in time."""


@dataclass(frozen=True, slots=True)
class Components:
    """The parts of a daemon, joined."""

    connector: Connector
    control_pool: Pool
    schedules: ScheduleTable
    jobs: JobTable
    spool: Spool
    destinations: Destinations
    opener: DestinationOpener
    refresher: DestinationRefresher
    current: Current
    build_pipeline: Callable[[Settings, Catalog], Pipeline]
    dispatcher: Dispatcher
    ticker: Ticker
    listener: Listener
    pruner: Pruner
    cleaner: Cleaner
    retention: RetentionSweeper
    watcher: JobWatcher
    presence: PresenceKeeper
    services: ServiceRegister
    capture: CaptureInstaller
    metrics: Metrics
    clock: Clock

    def adjust_services(self, settings: Settings, catalog: Catalog) -> None:
        """Have the services that run go by other settings."""
        self.listener.adjust(tuple(catalog.entities), doorbell=settings.capture.doorbell)
        self.cleaner.adjust(type_tokens=_type_tokens(catalog))
        self.retention.adjust(retention=timedelta(hours=settings.spool.retention_hours))
        self.pruner.adjust(
            tuple(catalog.entities),
            horizon_s=settings.capture.horizon_hours * 3600,
            keep_s=settings.capture.keep_hours * 3600,
            interval_s=settings.capture.prune_interval_s,
        )


@asynccontextmanager
async def assembled(settings: Settings, catalog: Catalog, connector: Connector) -> AsyncIterator[Components]:
    """Everything, with the spool and the connections open until the block ends."""
    clock = SystemClock()
    opener = DestinationOpener(settings)
    destinations = opener.open_all()
    spool = Spool(
        settings.spool.directory,
        budget_bytes=settings.spool.budget,
        free_space_floor_bytes=settings.spool.free_space_floor,
    )
    async with (
        spool,
        connector.pool(max(settings.database.pool_size, settings.limits.jobs + 2)) as pool,
        connector.pool(_CONTROL_CONNECTIONS) as control_pool,
    ):
        try:
            yield _components(
                settings,
                catalog,
                connector,
                pool=pool,
                control_pool=control_pool,
                spool=spool,
                destinations=destinations,
                opener=opener,
                clock=clock,
            )
        finally:
            await destinations.aclose()


def _components(
    settings: Settings,
    catalog: Catalog,
    connector: Connector,
    *,
    pool: Pool,
    control_pool: Pool,
    spool: Spool,
    destinations: Destinations,
    opener: DestinationOpener,
    clock: Clock,
) -> Components:
    jobs, schedules, uploads = JobTable(pool), ScheduleTable(pool), UploadTable(pool)
    cleaner = Cleaner(destinations, jobs, uploads, type_tokens=_type_tokens(catalog), clock=clock)
    limiter = ByteLimiter(settings.limits.bytes_in_flight)

    def build_pipeline(settings: Settings, catalog: Catalog) -> Pipeline:
        return Pipeline(
            extractor=Extractor(
                catalog=catalog,
                installer=CaptureInstaller(
                    connector, pause=anyio.sleep, lock_timeout_s=settings.database.lock_timeout_s
                ),
                opener=SnapshotOpener(connector, is_intact=capture_is_intact, pause=anyio.sleep),
                copier=Copier(
                    connector,
                    streams=settings.limits.streams,
                    stream_threshold_bytes=settings.limits.stream_threshold,
                ),
                spool=spool,
                part_size_bytes=settings.limits.part_size,
            ),
            deliverer=Deliverer(
                destinations,
                uploads=uploads,
                limiter=limiter,
                type_token=lambda entity: catalog.get(entity).type_token,
                retry=RetryBudget(timeout_s=settings.limits.delivery_timeout_s),
            ),
            cleaner=cleaner,
            jobs=jobs,
            uploads=uploads,
            spool=spool,
        )

    current = Current(State(settings, catalog, build_pipeline(settings, catalog)))
    metrics = Metrics()
    identity = DaemonIdentity(
        spool.id, socket.gethostname(), os.getpid(), str(Path(settings.document.name).absolute()), __version__
    )
    dispatcher = Dispatcher(
        jobs,
        AttemptMeter(current.run_job, metrics, clock).run,
        holder=f"{identity.host}:{identity.pid}",
        spool_id=spool.id,
        concurrency=settings.limits.jobs,
        lease_s=_LEASE_S,
        attempts=settings.limits.job_attempts,
        poll_interval_s=settings.capture.poll_interval_s,
        clock=clock,
    )
    ticker = Ticker(schedules, clock)
    destination_table = DestinationTable(control_pool)
    refresher = DestinationRefresher(
        destination_table, destinations, lambda declaration: open_declared(declaration, opener), clock
    )
    presence = PresenceKeeper(DaemonTable(control_pool), identity, destination_table, schedules, clock)

    def on_event(kind: str, schedule: ScheduleId | None) -> None:
        """An event says who has to look again; ``reconnected`` means that anything may have happened."""
        if kind in {"job_queued", "reconnected"}:
            dispatcher.wake()
        if kind in {"cancel_requested", "reconnected"}:
            dispatcher.look_for_cancellations()
        if kind in {"job_finished", "schedule_changed"} and schedule is not None:
            ticker.look_at(schedule)
        elif kind in {"schedule_changed", "reconnected"}:
            ticker.wake()
        if kind in {"job_finished", "reconnected"}:
            cleaner.wake()
        if kind in {"destination_changed", "reconnected"}:
            refresher.wake()
        if kind in {"daemons_changed", "reconnected"}:
            presence.wake()

    return Components(
        connector=connector,
        control_pool=control_pool,
        schedules=schedules,
        jobs=jobs,
        spool=spool,
        destinations=destinations,
        opener=opener,
        refresher=refresher,
        current=current,
        build_pipeline=build_pipeline,
        dispatcher=dispatcher,
        ticker=ticker,
        listener=Listener(
            connector,
            tuple(catalog.entities),
            on_event=on_event,
            doorbell=settings.capture.doorbell,
            clock=clock,
        ),
        pruner=Pruner(
            connector,
            tuple(catalog.entities),
            horizon_s=settings.capture.horizon_hours * 3600,
            keep_s=settings.capture.keep_hours * 3600,
            interval_s=settings.capture.prune_interval_s,
            clock=clock,
        ),
        cleaner=cleaner,
        retention=_retention(jobs, spool, retention_hours=settings.spool.retention_hours, clock=clock),
        watcher=JobWatcher(JobOperator(control_pool).watched, clock),
        presence=presence,
        services=ServiceRegister(clock),
        capture=CaptureInstaller(connector, pause=anyio.sleep, lock_timeout_s=settings.database.lock_timeout_s),
        metrics=metrics,
        clock=clock,
    )


def _type_tokens(catalog: Catalog) -> dict[EntityCode, str]:
    return {code: entity.type_token for code, entity in catalog.entities.items()}


def _retention(jobs: JobTable, spool: Spool, *, retention_hours: float, clock: Clock) -> RetentionSweeper:
    async def known(stored: Collection[JobId]) -> list[SpooledJob]:
        return [
            SpooledJob(each.job.id, each.state, each.spool_id == spool.id, each.finished_at)
            for each in await jobs.known(stored)
        ]

    return RetentionSweeper(
        stored=spool.jobs,
        known=known,
        remove=spool.remove_job,
        mark_expired=jobs.mark_expired,
        retention=timedelta(hours=retention_hours),
        clock=clock,
    )
