"""Builds the control API of a daemon and its metrics. Nothing listens yet."""

import os
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from math import nan
from pathlib import Path

import anyio
import anyio.to_thread

from exportd import __version__
from exportd.api.application import application, guarded
from exportd.api.collaborators import (
    AccessCollaborators,
    Collaborators,
    DestinationCollaborators,
    HostCollaborators,
    JobCollaborators,
    LogLevelSwitch,
    Reload,
    RequestLimits,
    ScheduleCollaborators,
    StatusCollaborators,
)
from exportd.api.dependencies import administrators
from exportd.api.downloads import SpoolDownloads
from exportd.api.exposition import Exposition, MetricsReader, Monitoring, Readiness
from exportd.api.identity.access import Access, Authenticator, Identity, Proxy
from exportd.api.identity.client_table import ClientTable, Role
from exportd.api.identity.signing import Signer, own_signing_key, read_signing_key
from exportd.api.schemas.status import LocalStatus
from exportd.api.status_reader import StatusReader
from exportd.api.transport.certificate import Certificate
from exportd.api.transport.client_limits import RateLimit
from exportd.api.transport.server import ControlServer, MetricsServer
from exportd.api.transport.unix_socket import group_id, group_ids, proxy_user_id
from exportd.catalog.document import Catalog
from exportd.console.pages import add_console
from exportd.console.rendering import Renderer
from exportd.daemon.assembly import Components, capture_installer
from exportd.daemon.current import Configuration
from exportd.database.quota_table import QuotaTable
from exportd.database.translator import translated
from exportd.database.unit_of_work import Auditor
from exportd.destinations.checker import StoredDestinationChecker
from exportd.destinations.circuit import CircuitState
from exportd.destinations.operations import DestinationOperator
from exportd.destinations.table import DestinationTable
from exportd.extraction.previewer import Previewer
from exportd.fleet.table import DaemonTable
from exportd.jobs.job_table import JobTable
from exportd.jobs.operations import JobOperator
from exportd.jobs.requests import OwnedJobTable
from exportd.model.change_log import log_name
from exportd.model.entity import OrganizationId
from exportd.model.errors import ExportdError, PermanentError
from exportd.model.schedule import DestinationCode
from exportd.schedules.calendar import check_rule
from exportd.schedules.editing import OwnedScheduleTable
from exportd.schedules.operations import ScheduleOperator
from exportd.settings.control_schema import EVERY_ORGANIZATION, ControlSettings
from exportd.settings.schema import QuotaSettings
from exportd.settings.section import split_listen
from exportd.telemetry import logging
from exportd.telemetry.metrics import Metrics, resident_bytes

_ORGANIZATION_REQUESTS_A_SECOND = 50
_TOKENS_A_SECOND = 100
_PROBE_TIMEOUT_S = 2.0


class ControlApi:
    """The API's application. A request is answered with the collaborators that are current when it arrives."""

    def __init__(
        self, using: Collaborators, control: ControlSettings, certificate: Certificate | None, pages: Renderer
    ) -> None:
        self._api = application(using)
        add_console(self._api, pages, using.clock, over_tcp=control.console)
        self.certificate = certificate
        self.server = ControlServer(
            guarded(self._api, using, hosts=_hosts(control)),
            socket_path=control.socket,
            group_id=group_id(control.group) if control.group else None,
            listen=control.listen,
            certificate=certificate,
            is_administrator=administrators(self._api),
        )

    @property
    def collaborators(self) -> Collaborators:
        found: Collaborators = self._api.state.collaborators
        return found

    def adopt(self, using: Collaborators) -> None:
        """Answer later requests with other collaborators. The used part of each caller's rate limit is kept."""
        self._api.state.collaborators = replace(using, limits=self.collaborators.limits)


async def collaborators_of(configuration: Configuration, components: Components, *, reload: Reload) -> Collaborators:
    """The collaborators of the API.

    Raises SettingsError for a group that this machine does not have, and for a key file that cannot be used.
    """
    control, catalog, clock = configuration.settings.control, configuration.catalog, components.clock
    quotas = configuration.settings.quotas
    clients = ClientTable(components.control_pool, quotas)
    signer = Signer(await _signing_key(control, components.spool.directory))
    access = Access(os.getuid(), group_ids(control.operators), group_ids(control.admins), _proxy(control))
    pool = components.control_pool
    near = QuotaTable(pool, quotas, connections=lambda: components.connections.busy)
    jobs, schedules = JobOperator(pool, quotas), ScheduleOperator(pool, quotas)
    destinations = DestinationOperator(pool, quotas)
    shared = StatusReader(
        jobs=jobs,
        schedules=schedules,
        destinations=destinations,
        spool_id=components.spool.id,
        clock=clock,
        quotas=near,
    )
    return Collaborators(
        schedules=ScheduleCollaborators(
            table=OwnedScheduleTable(pool, quotas),
            operator=schedules,
            previewer=Previewer(catalog, components.connector, JobTable(pool), clock),
            entities=catalog.entities,
            check_rule=check_rule,
        ),
        destinations=_destinations(components, destinations, quotas),
        jobs=_jobs(configuration, components, jobs, signer),
        access=AccessCollaborators(Authenticator(clients, access, signer, clock), clients),
        status=_status(components, catalog, shared, near),
        host=HostCollaborators(
            capture=capture_installer(configuration, components.connector),
            entities=catalog.entities,
            daemons=DaemonTable(pool),
            log_level=LogLevelSwitch(logging.level, logging.set_level),
            auditor=Auditor(pool),
            reload=reload,
        ),
        limits=RequestLimits(
            organization=RateLimit(_ORGANIZATION_REQUESTS_A_SECOND, 1.0),
            token=RateLimit(_TOKENS_A_SECOND, 1.0),
            connections=components.connections,
        ),
        signer=signer,
        clock=clock,
    )


def _proxy(control: ControlSettings) -> Proxy | None:
    if not control.proxy_header:
        return None
    people = {
        person.name: Identity(
            None if person.organization == EVERY_ORGANIZATION else OrganizationId(person.organization),
            f"proxy:{person.name}",
            Role[person.role.upper()],
        )
        for person in control.user
    }
    return Proxy(control.proxy_header.lower(), proxy_user_id(control.proxy_user), people)


def _jobs(
    configuration: Configuration, components: Components, operator: JobOperator, signer: Signer
) -> JobCollaborators:
    settings, pool, spool = configuration.settings, components.control_pool, components.spool
    return JobCollaborators(
        owned=OwnedJobTable(pool, settings.quotas),
        table=JobTable(pool),
        operator=operator,
        watcher=components.watcher,
        downloads=SpoolDownloads(components.jobs, signer, spool.job_folder, spool_id=spool.id, clock=components.clock),
        public_url=settings.control.public_url,
        streams=settings.quotas.streams,
        retention=timedelta(hours=settings.spool.retention_hours),
    )


def _destinations(
    components: Components, operator: DestinationOperator, quotas: QuotaSettings
) -> DestinationCollaborators:
    return DestinationCollaborators(
        table=DestinationTable(components.control_pool, quotas),
        operator=operator,
        live=components.refresher,
        checker=StoredDestinationChecker(components.opener, components.clock),
        verifier=components.verifier,
    )


def _status(components: Components, catalog: Catalog, shared: StatusReader, near: QuotaTable) -> StatusCollaborators:
    return StatusCollaborators(
        local=lambda: _local_status(components),
        shared=shared,
        condition=lambda organization, code: _condition(components, organization, code),
        exposition=_exposition(components, catalog, near),
    )


def _exposition(components: Components, catalog: Catalog, quotas: QuotaTable) -> Exposition:
    """The metrics of these components and of the catalog's entities, joined with what they measure."""

    async def look(metrics: Metrics) -> None:
        listener, spool, presence = components.listener, components.spool, components.presence
        metrics.listening.set(listener.listening)
        metrics.count_dropped_lines(logging.dropped_lines())
        metrics.trouble.clear()
        if listener.trouble is not None:
            metrics.trouble.labels(listener.trouble.reason).set(1)
        metrics.out_of_order.clear()
        for entity in components.current.catalog().out_of_order:
            metrics.out_of_order.labels(entity).set(1)
        metrics.stalled.clear()
        for entity, left_alone_s in components.dispatcher.stalled_entities.items():
            metrics.stalled.labels(entity).set(2 if left_alone_s else 1)
        metrics.daemons.set(sum(daemon.running for daemon in presence.daemons))
        metrics.disagreeing.set(len({disagreement.spool_id for disagreement in presence.disagreements}))
        metrics.changes_waiting.clear()
        now = components.clock.now()
        for entity, since in listener.changes_waiting.items():
            metrics.changes_waiting.labels(entity).set((now - since).total_seconds())
        metrics.spool_used.set(spool.usage.used_bytes)
        metrics.spool_budget.set(spool.usage.budget_bytes)
        try:
            metrics.spool_free.set(await spool.free_bytes())
        except ExportdError:  # its directory is gone; jobs report it
            metrics.spool_free.set(nan)
        with suppress(ExportdError):  # the database is away: other metrics say so
            near = await quotas.near()
            metrics.quota_used.clear()
            for use in near:
                metrics.quota_used.labels(use.organization, use.quota.value).set(use.used / use.limit)
        metrics.resident_memory.set(await anyio.to_thread.run_sync(resident_bytes))

    return Exposition(
        components.metrics,
        refresh=MetricsReader(components.control_pool, {entity: log_name(entity) for entity in catalog.entities}).read,
        look=look,
        clock=components.clock,
    )


def metrics_server(components: Components, control: ControlApi) -> MetricsServer:
    """The server of ``metrics.listen``; it answers with the same metrics as the control API."""

    async def database() -> bool:
        with translated("looking whether the database answers"):
            async with components.control_pool.acquire(timeout=_PROBE_TIMEOUT_S) as connection:
                await connection.execute("SELECT", timeout=_PROBE_TIMEOUT_S)
        return True

    async def listener() -> bool:
        return components.listener.listening

    async def spool() -> bool:
        await components.spool.free_bytes()  # fails when the directory is gone
        return await anyio.to_thread.run_sync(os.access, components.spool.directory, os.W_OK | os.X_OK)

    settings = components.current.settings().metrics
    readiness = Readiness({"database": database, "listener": listener, "spool": spool}, components.clock)
    monitoring = Monitoring(lambda: control.collaborators.status.exposition, readiness, hosts=settings.hosts)
    return MetricsServer(monitoring, listen=settings.listen)


async def _signing_key(control: ControlSettings, spool: Path) -> bytes:
    if control.signing_key_file is None:
        return await anyio.to_thread.run_sync(own_signing_key, spool)
    return await anyio.to_thread.run_sync(read_signing_key, control.signing_key_file)


def _hosts(control: ControlSettings) -> frozenset[str]:
    own = {split_listen(control.listen)[0]} if control.listen else set()
    return frozenset(name.lower() for name in {"localhost", "127.0.0.1", "::1", *own, *control.hosts})


def _condition(components: Components, organization: OrganizationId, code: DestinationCode) -> str | None:
    """The state of a destination's circuit; None while it is closed, and for an unknown destination."""
    try:
        circuit = components.destinations.get(organization, code).circuit
    except PermanentError:
        return None
    state = circuit.state(anyio.current_time())
    return None if state is CircuitState.CLOSED else state.value


def _local_status(components: Components) -> LocalStatus:
    listener, spool, services = components.listener, components.spool, components.services
    catalog = components.current.catalog()
    return LocalStatus(
        version=__version__,
        database=str(components.connector.address),
        started_at=services.started_at,
        services=services.states,
        listening=listener.listening,
        trouble=None if listener.trouble is None else listener.trouble.sentence,
        out_of_order={code: catalog.trouble(code) or "" for code in catalog.out_of_order},
        stalled=components.dispatcher.stalled_entities,
        standings=components.entities.standings,
        changes_waiting=listener.changes_waiting,
        spool_id=str(spool.id),
        spool_directory=str(spool.directory),
        spool_used_bytes=spool.usage.used_bytes,
        spool_budget_bytes=spool.usage.budget_bytes,
        daemons=components.presence.daemons,
        disagreements=components.presence.disagreements,
        pause=components.presence.pause,
    )
