"""Builds everything a daemon consists of from its settings. Nothing runs yet."""

import os
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import anyio

from exportd import __version__
from exportd.api.job_watcher import JobWatcher
from exportd.api.transport.client_limits import ConnectionCount
from exportd.capture.installer import CaptureInstaller, capture_is_intact
from exportd.capture.listener import Listener
from exportd.capture.pruner import Pruner
from exportd.catalog.document import Catalog
from exportd.consumer.verifier import DeliveryVerifier
from exportd.daemon.current import Configuration, Current, ServiceRegister
from exportd.daemon.entity_keeper import EntityKeeper
from exportd.database.connector import Connector, Pool
from exportd.delivery.byte_limiter import ByteLimiter
from exportd.delivery.cleaner import Cleaner
from exportd.delivery.deliverer import Deliverer
from exportd.delivery.job_delivery import JobDeliverer
from exportd.delivery.publication_keeper import PublicationKeeper
from exportd.delivery.tables import PublicationTable, UploadTable
from exportd.destinations.open_destinations import DestinationRefresher, Destinations
from exportd.destinations.opener import DestinationOpener
from exportd.destinations.table import DestinationTable
from exportd.extraction.copier import Copier
from exportd.extraction.extractor import Extractor
from exportd.extraction.snapshot_opener import SnapshotOpener
from exportd.fleet.presence import PresenceKeeper
from exportd.fleet.table import DaemonIdentity, DaemonTable
from exportd.jobs.dispatcher import Dispatcher
from exportd.jobs.history_pruner import HistoryPruner
from exportd.jobs.job_table import JobTable
from exportd.jobs.operations import JobOperator
from exportd.model.clock import Clock, SystemClock
from exportd.model.entity import EntityCode
from exportd.model.job import JobPhase, JobProgress, JobState, Lease, RunJob
from exportd.model.schedule import ScheduleId
from exportd.pipeline import Pipeline
from exportd.schedules.firing_table import ScheduleTable
from exportd.schedules.ticker import Ticker
from exportd.settings.schema import LiveSettings
from exportd.spool.retention import RetentionSweeper
from exportd.spool.spool import Spool
from exportd.stores.retrying import RetryBudget
from exportd.telemetry.metrics import AttemptMeter, Metrics

_LEASE_S = 30.0
"""How long the job of a dead daemon waits before another one takes it: long enough for a pause of the machine, short
enough for people.
"""

CONTROL_CONNECTIONS = 4
"""The control API has its own connections, so that leases are extended in time however many requests there are."""


@dataclass(frozen=True, slots=True)
class Components:
    """The parts of a daemon, joined."""

    connector: Connector
    control_pool: Pool
    connections: ConnectionCount
    schedules: ScheduleTable
    jobs: JobTable
    spool: Spool
    destinations: Destinations
    opener: DestinationOpener
    refresher: DestinationRefresher
    current: Current
    run_job: RunJob
    dispatcher: Dispatcher
    ticker: Ticker
    listener: Listener
    pruner: Pruner
    cleaner: Cleaner
    retention: RetentionSweeper
    history: HistoryPruner
    watcher: JobWatcher
    presence: PresenceKeeper
    entities: EntityKeeper
    verifier: DeliveryVerifier
    services: ServiceRegister
    metrics: Metrics
    clock: Clock


@asynccontextmanager
async def assembled(configuration: Configuration, connector: Connector) -> AsyncIterator[Components]:
    """Build all components. The spool and the connections stay open until the block ends."""
    current, settings = Current(configuration), configuration.settings
    opener = DestinationOpener(settings)
    destinations = opener.open_all()
    async with (
        Spool(current.settings) as spool,
        connector.keeping_sessions(settings.limits.jobs),
        connector.pool(max(settings.database.pool_size, settings.limits.jobs + 2), lazily=True) as pool,
        connector.pool(CONTROL_CONNECTIONS, lazily=True) as control_pool,
    ):
        try:
            yield _components(
                current,
                connector,
                pool=pool,
                control_pool=control_pool,
                spool=spool,
                destinations=destinations,
                opener=opener,
            )
        finally:
            await destinations.aclose()


def _components(
    current: Current,
    connector: Connector,
    *,
    pool: Pool,
    control_pool: Pool,
    spool: Spool,
    destinations: Destinations,
    opener: DestinationOpener,
) -> Components:
    """Components that read settings get ``current.settings``. What a new value replaces as a whole is built by the
    reloader.
    """
    settings, catalog, clock = current.settings(), current.catalog(), SystemClock()
    jobs = JobTable(pool, declared=lambda: _declared_destinations(current.configuration))
    schedules, uploads = ScheduleTable(pool), UploadTable(pool)
    metrics, services = Metrics(), ServiceRegister(clock)
    cleaner = Cleaner(destinations, jobs, uploads, type_tokens=type_tokens(catalog), clock=clock)
    entities = EntityKeeper(connector, current, clock)
    run_job = _job_function(
        current,
        connector,
        entities=entities,
        cleaner=cleaner,
        destinations=destinations,
        jobs=jobs,
        uploads=uploads,
        publications=PublicationKeeper(PublicationTable(pool), spool, on_put_back=metrics.put_back.inc),
        spool=spool,
    )
    identity = DaemonIdentity(
        spool.id,
        settings.daemon.name or socket.gethostname(),
        os.getpid(),
        str(Path(settings.document.name).absolute()),
        __version__,
    )
    dispatcher = Dispatcher(
        jobs,
        AttemptMeter(run_job, metrics, clock).run,
        holder=f"{identity.host}:{identity.pid}",
        spool_id=spool.id,
        settings=current.settings,
        lease_s=_LEASE_S,
        clock=clock,
    )
    ticker = Ticker(schedules, clock)
    destination_table = DestinationTable(control_pool)
    refresher = DestinationRefresher(destination_table, destinations, opener.open_made, clock)
    presence = PresenceKeeper(DaemonTable(control_pool), identity, destination_table, schedules, clock)

    def on_event(kind: str, schedule: ScheduleId | None) -> None:
        """Wake the service that an event concerns. After ``reconnected`` wake all, because events may have
        been lost.
        """
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
        connections=ConnectionCount(lambda: current.settings().quotas.connections),
        schedules=schedules,
        jobs=jobs,
        spool=spool,
        destinations=destinations,
        opener=opener,
        refresher=refresher,
        current=current,
        run_job=run_job,
        dispatcher=dispatcher,
        ticker=ticker,
        listener=Listener(
            connector,
            on_event=on_event,
            settings=current.settings,
            entities=lambda: current.catalog().entities,
            clock=clock,
        ),
        pruner=Pruner(connector, settings=current.settings, catalog=current.catalog, clock=clock),
        cleaner=cleaner,
        retention=_retention(jobs, spool, settings=current.settings, clock=clock),
        history=HistoryPruner(
            pool,
            spool,
            settings=current.settings,
            clock=clock,
            on_deleted=lambda kind, rows: metrics.deleted_rows.labels(kind.value).inc(rows),
        ),
        watcher=JobWatcher(JobOperator(control_pool).watched, clock),
        presence=presence,
        entities=entities,
        verifier=DeliveryVerifier(clock),
        services=services,
        metrics=metrics,
        clock=clock,
    )


def _job_function(
    current: Current,
    connector: Connector,
    *,
    entities: EntityKeeper,
    cleaner: Cleaner,
    destinations: Destinations,
    jobs: JobTable,
    uploads: UploadTable,
    publications: PublicationKeeper,
    spool: Spool,
) -> RunJob:
    """The function that runs each job to its end with the configuration that is in effect when it begins."""
    limiter = ByteLimiter(current.settings().limits.bytes_in_flight)

    # One for all jobs of a configuration, because its streams share a pacer.
    @lru_cache(maxsize=1)
    def pipeline(configuration: Configuration) -> Pipeline:
        settings, catalog = configuration.settings, configuration.catalog
        return Pipeline(
            extractor=Extractor(
                catalog=catalog,
                installer=capture_installer(configuration, connector),
                opener=SnapshotOpener(connector, is_intact=capture_is_intact, pause=anyio.sleep),
                copier=Copier(connector, settings.limits),
                spool=spool,
                limits=settings.limits,
            ),
            deliverer=JobDeliverer(
                Deliverer(
                    destinations,
                    uploads=uploads,
                    limiter=limiter,
                    type_token=lambda entity: catalog.get(entity).type_token,
                    retry=RetryBudget(timeout_s=settings.limits.delivery_timeout_s),
                ),
                cleaner,
                jobs=jobs,
                uploads=uploads,
                publications=publications,
                spool=spool,
            ),
            jobs=jobs,
            spool=spool,
        )

    async def run_job(lease: Lease, progress: JobProgress) -> JobState:
        if lease.phase is JobPhase.EXTRACTING:
            await entities.look_for(lease.job)
        try:
            return await pipeline(current.configuration).run(lease, progress)
        except Exception:
            entities.wake()  # its table may have changed, and status says so before the next job
            raise

    return run_job


def capture_installer(configuration: Configuration, connector: Connector) -> CaptureInstaller:
    """Installs capture, waiting for locks as long as this configuration allows."""
    lock_timeout_s = configuration.settings.database.lock_timeout_s
    return CaptureInstaller(connector, pause=anyio.sleep, lock_timeout_s=lock_timeout_s)


@lru_cache(maxsize=1)
def _declared_destinations(configuration: Configuration) -> Sequence[tuple[str, str]]:
    return [(declared.organization, declared.code) for declared in configuration.settings.destination]


def type_tokens(catalog: Catalog) -> dict[EntityCode, str]:
    """The type token of each entity, by which its files are named."""
    return {code: entity.type_token for code, entity in catalog.entities.items()}


def _retention(jobs: JobTable, spool: Spool, *, settings: LiveSettings, clock: Clock) -> RetentionSweeper:
    return RetentionSweeper(
        stored=spool.jobs,
        over=lambda stored, finished_by: jobs.over_in_spool(stored, spool.id, finished_by),
        remove=spool.remove_job,
        mark_expired=jobs.mark_expired,
        settings=settings,
        clock=clock,
    )
