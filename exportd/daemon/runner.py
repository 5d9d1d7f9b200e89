"""The daemon: reads its configuration, makes the database ready, runs its services in one task group, leaves politely.

SIGTERM or SIGINT: no new jobs; running ones may finish until the grace period ends, then they are put back without
counting an attempt. A second signal ends the grace period at once. A service that ends uninvited ends the daemon,
loudly; systemd starts it again.
"""

import signal
from pathlib import Path

import anyio
import structlog
from anyio.abc import TaskGroup

from exportd.catalog import document
from exportd.catalog.checker import check
from exportd.catalog.document import Catalog
from exportd.catalog.resolver import resolve
from exportd.control.destination_table import DestinationTable
from exportd.daemon.allocator import return_large_blocks
from exportd.daemon.assembly import Components, assembled
from exportd.daemon.control_assembly import control_server
from exportd.daemon.declared_destinations import declared
from exportd.database.connector import Connector
from exportd.database.migrator import migrate
from exportd.model.errors import SettingsError
from exportd.schedules.limits import check_rule
from exportd.settings.loader import declarations, load_all
from exportd.settings.schema import Settings
from exportd.settings.secrets import passwords_in
from exportd.telemetry import logging

_logger = structlog.get_logger()


def run_daemon(config: Path) -> None:
    """Run until told to stop. Raises SettingsError, PermanentError or TransientError when it cannot start."""
    settings, catalog = load_all(config, check_rule=check_rule, load_catalog=document.load)
    return_large_blocks()
    logging.configure(
        level=settings.log.level, line_format=settings.log.format, secrets=passwords_in(settings.database.dsn)
    )
    anyio.run(serve, settings, catalog, backend_options={"use_uvloop": True})


async def serve(settings: Settings, catalog: Catalog) -> None:
    """Run the daemon's services until SIGTERM or SIGINT."""
    connector = Connector(settings.database.dsn, lock_timeout_s=settings.database.lock_timeout_s)
    catalog = await _ready(connector, settings, catalog)
    async with assembled(settings, catalog, connector) as components:
        now = components.clock.now()
        await DestinationTable(components.control_pool).reconcile(declared(settings.destination), now=now)
        await components.schedules.reconcile(declarations(settings, catalog), now=now)
        await components.refresher.refresh()
        await _recover(components)
        control = await control_server(settings, catalog, components)
        async with anyio.create_task_group() as services:
            await services.start(control.run, name="control")
            _logger.info(
                "daemon ready",
                database=str(connector.address),
                schedules=len(settings.schedule),
                spool=str(components.spool.id),
            )
            services.start_soon(components.refresher.run, name="destinations")
            services.start_soon(components.listener.run, name="listener")
            services.start_soon(components.ticker.run, name="ticker")
            services.start_soon(components.pruner.run, name="pruner")
            services.start_soon(components.cleaner.run, name="cleaner")
            services.start_soon(components.retention.run, name="retention")
            services.start_soon(components.dispatcher.run, name="dispatcher")
            services.start_soon(
                _stop_on_signals, components, services, settings.limits.shutdown_grace_s, name="signals"
            )
    _logger.info("daemon stopped")


async def _ready(connector: Connector, settings: Settings, catalog: Catalog) -> Catalog:
    """Migrate, and compare the catalog with the database; returns it with what only the database knows."""
    async with connector.connection("start") as connection:
        for name in await migrate(connection):
            _logger.info("migration applied", migration=name)
        problems = await check(catalog, connection)
        if problems:
            raise SettingsError(problems)
        return await resolve(catalog, connection)


async def _recover(components: Components) -> None:
    """Take over from an earlier life: its jobs go on at once, and what they left half-done is removed."""
    for job in await components.jobs.end_leases_of_spool(components.spool.id):
        _logger.info("job of a dead daemon taken over", job_id=str(job))
    removed = await components.spool.recover()
    if removed:
        _logger.info("temporary files of dead jobs removed", files=removed)


async def _stop_on_signals(components: Components, services: TaskGroup, grace_s: float) -> None:
    """Wait for a signal, leave in two steps, then end the other services."""
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for received in signals:
            _logger.info("stopping", signal=signal.Signals(received).name, grace_s=grace_s)
            break
        async with anyio.create_task_group() as leaving:

            async def hurry() -> None:
                async for received in signals:
                    _logger.warning("stopping at once", signal=signal.Signals(received).name)
                    await components.dispatcher.drain(components.clock.monotonic())

            leaving.start_soon(hurry, name="second signal")
            await components.dispatcher.drain(components.clock.monotonic() + grace_s)
            leaving.cancel_scope.cancel()
    services.cancel_scope.cancel()
