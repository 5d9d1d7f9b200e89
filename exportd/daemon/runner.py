"""The daemon: reads its configuration, migrates the database, runs its services in one task group, drains, ends.

SIGTERM or SIGINT: no new jobs are claimed. Running ones may finish until the grace period ends; then they are put back
without counting an attempt. A second signal ends the grace period at once. The daemon never ends because the database
refuses it: services try again, and a start waits. A service that fails because of a bug ends the daemon with an error,
and systemd starts it again.
"""

import signal
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import structlog
from anyio.abc import TaskGroup, TaskStatus

from exportd.catalog import document
from exportd.catalog.document import Catalog
from exportd.daemon.assembly import Components, assembled
from exportd.daemon.control_assembly import metrics_server
from exportd.daemon.current import Configuration, configure_log
from exportd.daemon.database_outage import LoginRenewer, OutageReporter, StartRetry
from exportd.daemon.entity_keeper import report
from exportd.daemon.garbage import freeze, return_large_blocks
from exportd.daemon.reloader import Reloader, examined
from exportd.daemon.systemd_notifier import READY, STOPPING, notify, status, systemd
from exportd.database.connector import Connector
from exportd.database.migrator import migrate
from exportd.database.setup_checker import warn_of_rights
from exportd.model.errors import ExportdError
from exportd.schedules.calendar import check_rule
from exportd.settings.directory_checker import dsn_risks
from exportd.settings.loader import load_all
from exportd.settings.schema import Settings
from exportd.telemetry.metrics import LoopDelaySampler

_logger = structlog.get_logger()


def run_daemon(config: Path) -> None:
    """Run until a signal stops it. Raises SettingsError, or PermanentError for a spool that cannot be used."""
    settings, catalog = _loaded(config)
    return_large_blocks()
    # Ignored until the reloader exists, because the configuration is being read anyway.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    anyio.run(serve, config, settings, catalog, backend_options={"use_uvloop": True})


def _loaded(config: Path) -> tuple[Settings, Catalog]:
    settings, catalog = load_all(config, check_rule=check_rule, load_catalog=document.load)
    configure_log(settings)
    for risk in dsn_risks(settings.database):
        _logger.warning("risk in the configuration", error=risk)
    return settings.without_document(), catalog


async def serve(config: Path, settings: Settings, catalog: Catalog) -> None:
    """Run the daemon's services until SIGTERM or SIGINT; SIGHUP reloads the file ``config``.

    The start waits for a database that is out of reach or refuses. Before each attempt the file is read again, as by
    another start.
    """
    start_retry = StartRetry()
    while True:
        connector = Connector.of(settings.database)
        if (fitting := await start_retry.attempt(partial(_ready, connector, catalog))) is not None:
            break
        settings, catalog = await anyio.to_thread.run_sync(_loaded, config)
    report(None, fitting)
    await warn_of_rights(connector)
    async with assembled(Configuration(settings, fitting, catalog), connector) as components:
        try:
            await _run_services(config, components)
        finally:
            await components.presence.deregister()
    _logger.info("daemon stopped")


async def _run_services(config: Path, components: Components) -> None:
    """Run everything, from declaring this daemon in the database to the end of the last service."""
    configuration = components.current.configuration
    renewer = LoginRenewer(config, components.current, components.connector)
    start_retry = StartRetry(before_retry=renewer.renew)
    await start_retry.until_done(lambda: components.presence.declare(configuration.settings, configuration.catalog))
    await start_retry.until_done(components.refresher.refresh)
    await start_retry.until_done(lambda: _take_over_jobs(components))
    if removed := await components.spool.recover():
        _logger.info("temporary files of dead jobs removed", files=removed)
    reloader = await start_retry.until_done(lambda: Reloader.open(config, components))
    components.listener.on_trouble = OutageReporter(renewer, components.connector).report
    freeze()
    async with anyio.create_task_group() as services:
        # Before READY is sent, because a program that waits for it may stop the daemon at once.
        await services.start(_stop_on_signals, components, services, name="signals")
        services.start_soon(_reload_on_signals, reloader, name="reload")
        await services.start(reloader.control.server.run, name="control")
        await services.start(metrics_server(components, reloader.control).run, name="metrics")
        declared = len(configuration.settings.schedule)
        _logger.info(
            "daemon ready",
            database=str(components.connector.address),
            schedules=declared,
            spool=str(components.spool.id),
        )
        notify(f"{READY}\n{status(f'{declared} schedules declared')}")
        services.start_soon(systemd().run, name="watchdog")  # ends at once without a watchdog
        for name, service in _services(components).items():
            services.start_soon(components.services.run, name, service, name=name)


def _services(components: Components) -> Mapping[str, Callable[[], Awaitable[None]]]:
    """The services of the daemon, by name."""
    return {
        "watcher": components.watcher.run,
        "destinations": components.refresher.run,
        "presence": components.presence.run,
        "entities": components.entities.run,
        "verifier": components.verifier.run,
        "listener": components.listener.run,
        "ticker": components.ticker.run,
        "pruner": components.pruner.run,
        "cleaner": components.cleaner.run,
        "retention": components.retention.run,
        "history": components.history.run,
        "dispatcher": components.dispatcher.run,
        "loop delay": LoopDelaySampler(components.metrics.loop_delay).run,
    }


async def _ready(connector: Connector, catalog: Catalog) -> Catalog:
    """Migrate, and compare the catalog with the database; returns it with what only the database knows."""
    async with connector.connection("start") as connection:
        for name in await migrate(connection):
            _logger.info("migration applied", migration=name)
    return await examined(catalog, connector)


async def _take_over_jobs(components: Components) -> None:
    """Make the jobs of an earlier process of this daemon due at once, and tell the spool whose files it holds."""
    for job in await components.jobs.end_leases_of_spool(components.spool.id):
        _logger.info("job of a dead daemon taken over", job_id=str(job))
    components.spool.own(await components.jobs.owners(await components.spool.jobs()))


async def _reload_on_signals(reloader: Reloader) -> None:
    """Reload at each SIGHUP. A failure never ends the daemon."""
    with anyio.open_signal_receiver(signal.SIGHUP) as signals:
        async for _ in signals:
            try:
                await reloader.reload()
            except ExportdError:
                pass  # reported already
            except Exception:  # a bug in the reload must not end the exports
                _logger.exception("unexpected error in reload")


async def _stop_on_signals(
    components: Components, services: TaskGroup, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    """Wait for a signal, drain until the grace period or a second signal ends it, then end the other services."""
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        received = await anext(signals)
        grace_s = components.current.settings().limits.shutdown_grace_s
        _logger.info("stopping", signal=signal.Signals(received).name, grace_s=grace_s)
        notify(f"{STOPPING}\n{status(f'waiting up to {grace_s:g} s for running jobs')}")
        async with anyio.create_task_group() as draining:

            async def stop_at_once() -> None:
                async for received in signals:
                    _logger.warning("stopping at once", signal=signal.Signals(received).name)
                    await components.dispatcher.drain(components.clock.monotonic())

            draining.start_soon(stop_at_once, name="second signal")
            await components.dispatcher.drain(components.clock.monotonic() + grace_s)
            await components.watcher.drain()
            draining.cancel_scope.cancel()
    services.cancel_scope.cancel()
