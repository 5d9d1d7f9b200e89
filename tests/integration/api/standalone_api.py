"""The control API on a real socket over a real Postgres, without the rest of a daemon: nothing is ever exported."""

import asyncio
import secrets
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import anyio
import httpx
import m3ter
from fastapi import FastAPI

from exportd.api.application import application, guarded
from exportd.api.collaborators import (
    AccessCollaborators,
    Collaborators,
    DestinationCollaborators,
    HostCollaborators,
    JobCollaborators,
    LogLevelSwitch,
    RequestLimits,
    ScheduleCollaborators,
    StatusCollaborators,
)
from exportd.api.dependencies import administrators
from exportd.api.downloads import SpoolDownloads
from exportd.api.exposition import Exposition, MetricsReader
from exportd.api.identity.access import Access, Authenticator
from exportd.api.identity.client_table import ClientTable, Role
from exportd.api.identity.signing import Signer
from exportd.api.job_watcher import JobWatcher
from exportd.api.schemas.status import LocalStatus, ServiceState
from exportd.api.status_reader import StatusReader
from exportd.api.transport.certificate import Certificate
from exportd.api.transport.client_limits import ConnectionCount, RateLimit
from exportd.api.transport.server import ControlServer
from exportd.capture.installer import CaptureInstaller
from exportd.catalog.document import Catalog, loads
from exportd.console.pages import add_console
from exportd.console.rendering import Renderer
from exportd.consumer.verifier import DeliveryVerifier
from exportd.database.connector import Connector, Pool
from exportd.database.quota_table import QuotaTable
from exportd.database.unit_of_work import Auditor
from exportd.destinations.checker import StoredDestinationChecker
from exportd.destinations.open_destinations import Destination, DestinationRefresher, Destinations
from exportd.destinations.opener import DestinationOpener
from exportd.destinations.operations import DestinationOperator
from exportd.destinations.record import DestinationDeclaration
from exportd.destinations.table import DestinationTable
from exportd.extraction.previewer import Previewer
from exportd.fleet.table import DaemonTable
from exportd.jobs.job_table import JobTable
from exportd.jobs.operations import JobOperator
from exportd.jobs.requests import OwnedJobTable
from exportd.model.change_log import log_name
from exportd.model.clock import SystemClock
from exportd.model.entity import Entity, EntityCode, OrganizationId
from exportd.model.schedule import DestinationCode
from exportd.schedules.calendar import check_rule
from exportd.schedules.editing import OwnedScheduleTable
from exportd.schedules.firing_table import ScheduleTable
from exportd.schedules.operations import ScheduleOperator
from exportd.settings.difference import Difference
from exportd.settings.schema import DEFAULT_QUOTAS
from exportd.stores.layout import Layout
from exportd.telemetry import logging
from exportd.telemetry.metrics import Metrics
from tests.fixtures.control_clients import official
from tests.fixtures.postgres import Database
from tests.fixtures.settings import settings_with
from tests.fixtures.store_doubles import MemoryStore

ACME = "acme"
ENTITIES = ("ACCOUNTS", "BILLS", "METERS", "PLANS")
SPOOL = UUID("00000000-0000-4000-8000-000000000001")

RETENTION = timedelta(hours=24)

BROKEN = "broken"
"""A destination of this code has a condition."""

THINGS = loads(
    """
    [[entity]]
    code = "THINGS"
    label = "Things"
    type_token = "thing"
    table = "public.things"
    key = ["id"]
    tenant = false
    fields = ["id"]
    """,
    name="entities.toml",
).entities[EntityCode("THINGS")]
"""What capture can be asked about; the table is for a test to make."""


def entity_of(code: str) -> Entity:
    """One of ``ENTITIES``. METERS has no time of the last change."""
    return replace(THINGS, code=EntityCode(code), modified=None if code == "METERS" else "changed_at")


T = TypeVar("T")


def local_status() -> LocalStatus:
    now = SystemClock().now()
    services = {"ticker": ServiceState(running=True, since=now)}
    return LocalStatus("1", "here", now, services, True, {}, str(SPOOL), "/spool", 1, 2)


@dataclass(frozen=True)
class ApiServer:
    """``http`` speaks to the Unix socket, ``tcp`` to the address, without credentials of its own."""

    pool: Pool
    folder: Path
    socket: Path
    http: httpx.AsyncClient
    tcp: httpx.AsyncClient
    using: Collaborators
    destinations: Destinations
    schedules: ScheduleTable
    application: FastAPI
    opened: list[DestinationDeclaration] = field(default_factory=list)

    async def official(self, work: Callable[[m3ter.M3ter], T], *, organization: str = ACME, **options: Any) -> T:
        """What ``work`` does with the official client, in a thread of its own: the client blocks."""

        def run() -> T:
            with official(self.socket, organization, **options) as client:
                return work(client)

        return await asyncio.to_thread(run)

    async def bearer(self, organization: str = ACME, role: Role = Role.OPERATOR) -> dict[str, str]:
        """The headers of a new program."""
        client, secret = await self.using.access.clients.create(
            OrganizationId(organization), "test", role, actor="test"
        )
        answer = await self.tcp.post(
            "/oauth/token", auth=(str(client.id), secret), json={"grant_type": "client_credentials"}
        )
        return {"authorization": f"Bearer {answer.json()['access_token']}"}

    async def audit(self) -> list[tuple[str, str]]:
        """Actors and actions so far."""
        rows = await self.pool.fetch("SELECT actor, action FROM exportd.audit ORDER BY id")
        return [(row["actor"], row["action"]) for row in rows]


async def no_reload(*, dry_run: bool) -> Difference:
    """There is no file here that could change anything."""
    del dry_run
    return Difference()


def path(organization: str, *rest: object) -> str:
    return "/".join(("", "organizations", organization, "dataexports", *map(str, rest)))


async def declared_shelf(api: ApiServer, organization: str = ACME) -> str:
    """The id of a destination of the configuration: a directory that is there."""
    place = api.folder / f"shelf of {organization}"
    place.mkdir(exist_ok=True)
    declared = DestinationDeclaration(
        OrganizationId(organization), DestinationCode("shelf"), "Shelf", {"type": "DIRECTORY", "directory": str(place)}
    )
    table = api.using.destinations.table
    await table.reconcile([declared], now=api.using.clock.now())
    return next(str(record.id) for record in await table.all() if record.declaration == declared)


def trusting(chain: Path) -> ssl.SSLContext:
    """What a client needs to believe a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(chain)
    return context


@asynccontextmanager
async def serving(
    database: Database, folder: Path, access: Access, *, certificate: Certificate | None = None
) -> AsyncIterator[ApiServer]:
    """An API that is listening. With a ``certificate``, TCP has TLS, and the console."""
    clock = SystemClock()
    socket = folder / "control.sock"
    opened: list[DestinationDeclaration] = []

    def opener(declaration: DestinationDeclaration) -> Destination:
        opened.append(declaration)
        return Destination(declaration.organization, declaration.code, MemoryStore(), Layout())

    async def nothing(_metrics: Metrics) -> None: ...

    metrics = Metrics()
    async with Connector(database.dsn).pool(8) as pool:
        destinations, table, clients = Destinations([]), DestinationTable(pool), ClientTable(pool)
        jobs, schedules, operator = JobOperator(pool), ScheduleOperator(pool), DestinationOperator(pool)
        watcher, connections = JobWatcher(jobs.watched, clock), ConnectionCount(lambda: DEFAULT_QUOTAS.connections)
        signer = Signer(secrets.token_bytes(32))
        exported = {entity.code: entity for entity in map(entity_of, ENTITIES)}
        using = Collaborators(
            schedules=ScheduleCollaborators(
                table=OwnedScheduleTable(pool),
                operator=schedules,
                previewer=Previewer(
                    # Two of those that schedules may name, so that a preview of the others fails.
                    Catalog({entity.code: entity for entity in (THINGS, entity_of("ACCOUNTS"), entity_of("METERS"))}),
                    Connector(database.dsn),
                    JobTable(pool),
                    clock,
                ),
                entities=exported,
                check_rule=check_rule,
            ),
            destinations=DestinationCollaborators(
                table,
                operator,
                DestinationRefresher(table, destinations, opener, clock),
                StoredDestinationChecker(
                    DestinationOpener(settings_with(gcs={"endpoint": "http://127.0.0.1:9"})), clock
                ),
                verifier := DeliveryVerifier(clock),
            ),
            jobs=JobCollaborators(
                owned=OwnedJobTable(pool),
                table=JobTable(pool),
                operator=jobs,
                watcher=watcher,
                downloads=SpoolDownloads(
                    JobTable(pool), signer, lambda job_id: folder / str(job_id), spool_id=SPOOL, clock=clock
                ),
                public_url="",
                streams=DEFAULT_QUOTAS.streams,
                retention=RETENTION,
            ),
            access=AccessCollaborators(Authenticator(clients, access, signer, clock), clients),
            status=StatusCollaborators(
                local=local_status,
                shared=StatusReader(
                    jobs=jobs,
                    schedules=schedules,
                    destinations=operator,
                    spool_id=SPOOL,
                    clock=clock,
                    quotas=QuotaTable(pool, DEFAULT_QUOTAS, connections=lambda: connections.busy),
                ),
                condition=lambda _, code: "open" if code == BROKEN else None,
                exposition=Exposition(
                    metrics,
                    refresh=MetricsReader(
                        pool, {EntityCode(entity): log_name(EntityCode(entity)) for entity in ENTITIES}
                    ).read,
                    look=nothing,
                    clock=clock,
                ),
            ),
            host=HostCollaborators(
                capture=CaptureInstaller(Connector(database.dsn), pause=anyio.sleep),
                entities={THINGS.code: THINGS},
                daemons=DaemonTable(pool),
                log_level=LogLevelSwitch(logging.level, logging.set_level),
                auditor=Auditor(pool),
                reload=no_reload,
            ),
            limits=RequestLimits(
                organization=RateLimit(10_000, 1.0), token=RateLimit(10_000, 1.0), connections=connections
            ),
            signer=signer,
            clock=clock,
        )
        api = application(using)
        add_console(api, await asyncio.to_thread(Renderer.load), clock, over_tcp=certificate is not None)
        server = ControlServer(
            guarded(api, using, hosts=frozenset({"localhost", "127.0.0.1"}), refusals_a_second=10_000),
            socket_path=socket,
            group_id=None,
            listen="127.0.0.1:0",
            certificate=certificate,
            is_administrator=administrators(api),
        )
        async with anyio.create_task_group() as services:
            services.start_soon(watcher.run)
            services.start_soon(verifier.run)
            await services.start(server.run)
            assert server.address is not None
            url = f"{'http' if certificate is None else 'https'}://127.0.0.1:{server.address[1]}"
            verify = certificate is None or trusting(certificate.chain)
            async with (
                httpx.AsyncClient(
                    transport=httpx.AsyncHTTPTransport(uds=str(socket)), base_url="http://localhost", timeout=30
                ) as http,
                httpx.AsyncClient(base_url=url, timeout=30, trust_env=False, verify=verify) as tcp,
            ):
                yield ApiServer(pool, folder, socket, http, tcp, using, destinations, ScheduleTable(pool), api, opened)
            services.cancel_scope.cancel()
