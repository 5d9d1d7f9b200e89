"""What the API's operations work with, and what each of them is told about its request."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Protocol
from uuid import UUID

from fastapi import Depends, Path, Query, Request
from starlette.responses import Response

from exportd.api.exposition import Exposition
from exportd.api.identity.access import Identity, Role
from exportd.api.identity.authenticator import Authenticator
from exportd.api.identity.client_table import ClientTable
from exportd.api.identity.signing import Signer
from exportd.api.job_watcher import JobWatcher
from exportd.api.pagination import Pages
from exportd.api.problems import Refusal
from exportd.api.schemas.operations import LogLevelName
from exportd.api.schemas.status import LocalStatus
from exportd.api.status_reader import DestinationCondition, StatusReader
from exportd.api.transport.peer import Peer
from exportd.api.transport.rate_limit import RateLimit
from exportd.capture.installer import CaptureInstaller
from exportd.database.unit_of_work import Auditor
from exportd.destinations.operations import DestinationOperator
from exportd.destinations.record import DestinationDeclaration
from exportd.destinations.table import DestinationTable
from exportd.extraction.previewer import Previewer
from exportd.fleet.table import DaemonTable
from exportd.jobs.operations import JobOperator
from exportd.jobs.requests import OwnedJobTable
from exportd.model.clock import Clock
from exportd.model.entity import Entity, EntityCode, OrganizationId
from exportd.model.schedule import Rule
from exportd.schedules.editing import OwnedScheduleTable
from exportd.schedules.operations import ScheduleOperator
from exportd.settings.closest import did_you_mean
from exportd.settings.difference import Difference
from exportd.settings.section import check_organization


class LiveDestinations(Protocol):
    """The opened destinations, which have to learn at once that some were edited."""

    def check(self, declaration: DestinationDeclaration) -> None:
        """Raises SettingsError when it could not be opened."""
        ...

    async def refresh(self) -> None: ...


class Downloads(Protocol):
    """Hands out the files of finished jobs."""

    async def link(self, job_id: UUID, *, base_url: str) -> tuple[str, datetime]:
        """A URL, and until when it is good. Raises Refusal when the job's files cannot be had."""
        ...

    async def serve(self, token: str) -> Response:
        """What the URL answers with. Raises Refusal for a link that is not ours or has expired."""
        ...


class Reload(Protocol):
    """Puts the configuration file into effect."""

    async def __call__(self, *, dry_run: bool) -> Difference:
        """What it changes. Raises SettingsError with every problem, or what keeps it from being checked."""
        ...


@dataclass(frozen=True, slots=True)
class LogLevelSwitch:
    """How much this daemon says."""

    get: Callable[[], LogLevelName]
    set: Callable[[LogLevelName], None]


@dataclass(frozen=True, slots=True)
class Collaborators:
    """Everything that the operations need, handed in.

    ``check_rule`` says what is wrong with a schedule's rule. ``local_status`` is what this daemon knows of itself,
    ``shared_status`` what the database says, ``destination_condition`` what this daemon thinks of a destination.
    ``captured`` are the entities of the catalog.
    """

    schedules: OwnedScheduleTable
    destinations: DestinationTable
    jobs: OwnedJobTable
    clients: ClientTable
    daemons: DaemonTable
    authenticator: Authenticator
    signer: Signer
    entities: Collection[EntityCode]
    check_rule: Callable[[Rule], list[str]]
    live_destinations: LiveDestinations
    downloads: Downloads
    local_status: Callable[[], LocalStatus]
    shared_status: StatusReader
    destination_condition: DestinationCondition
    schedule_operator: ScheduleOperator
    job_operator: JobOperator
    destination_operator: DestinationOperator
    previewer: Previewer
    watcher: JobWatcher
    capture: CaptureInstaller
    captured: Mapping[EntityCode, Entity]
    log_level: LogLevelSwitch
    auditor: Auditor
    exposition: Exposition
    public_url: str
    clock: Clock
    organization_limit: RateLimit
    token_limit: RateLimit
    reload: Reload


def collaborators(request: Request) -> Collaborators:
    found = request.app.state.collaborators
    if not isinstance(found, Collaborators):
        raise TypeError("the application has no collaborators")
    return found


Using = Annotated[Collaborators, Depends(collaborators)]


def peer_of_request(request: Request) -> Peer | None:
    """The process on this machine that made it; None over TCP."""
    peer = getattr(request.state, "peer", None)
    return peer if isinstance(peer, Peer) else None


async def _identity(request: Request, using: Using) -> Identity:
    return await using.authenticator.identify(peer_of_request(request), request.headers.get("authorization"))


Caller = Annotated[Identity, Depends(_identity)]


@dataclass(frozen=True, slots=True)
class Tenant:
    """Whose things a request is about, and who makes it."""

    organization: OrganizationId
    actor: str


def _tenant(identity: Identity, organization: str, needed: Role) -> Tenant:
    try:
        check_organization(organization)
    except ValueError:
        allowed = False
    else:
        allowed = identity.organization in {None, organization}
    if not allowed:
        raise Refusal(403, "The organization in the path is not one that you may see. Check the organization's id.")
    require_role(identity, needed)
    return Tenant(OrganizationId(organization), identity.name)


def require_role(identity: Identity, needed: Role) -> None:
    """Raises Refusal 403 for a lesser role."""
    if identity.role < needed:
        raise Refusal(
            403,
            f"{identity.name} may not do this: it takes the role {needed.name.lower()}, and this is a"
            f" {identity.role.name.lower()}. Ask an administrator.",
        )


def _of_the_machine(identity: Identity, needed: Role) -> Identity:
    """Whoever may see every organization. Raises Refusal 403 for programs, and for a lesser role."""
    if identity.organization is not None:
        raise Refusal(
            403,
            "What lies under /v1 concerns the whole daemon and every organization: it is for users of its own machine,"
            " on the Unix socket.",
        )
    require_role(identity, needed)
    return identity


def _looking(caller: Caller) -> Identity:
    return _of_the_machine(caller, Role.READER)


def _operating(caller: Caller) -> Identity:
    return _of_the_machine(caller, Role.OPERATOR)


def _administering(caller: Caller) -> Identity:
    return _of_the_machine(caller, Role.ADMIN)


Looking = Annotated[Identity, Depends(_looking)]
Operating = Annotated[Identity, Depends(_operating)]
Administering = Annotated[Identity, Depends(_administering)]
"""Whoever may ask the daemon itself, by role."""


def _within_limit(request: Request, using: Collaborators, organization: str) -> None:
    if peer_of_request(request) is None:
        wait_s = using.organization_limit.wait_s(organization, using.clock.monotonic())
        if wait_s:
            raise too_many("An organization may make 50 requests a second.", wait_s)


def too_many(sentence: str, wait_s: float) -> Refusal:
    """429, with when to try again."""
    headers = {"retry-after": str(max(1, round(wait_s))), "retry-after-ms": str(round(wait_s * 1000))}
    return Refusal(429, f"{sentence} Try again later.", headers=headers)


OrganizationIdInPath = Annotated[str, Path(alias="orgId", description="The organization's id.")]


async def _reading(request: Request, organization_id: OrganizationIdInPath, caller: Caller, using: Using) -> Tenant:
    tenant = _tenant(caller, organization_id, Role.READER)
    _within_limit(request, using, tenant.organization)
    return tenant


async def _writing(request: Request, organization_id: OrganizationIdInPath, caller: Caller, using: Using) -> Tenant:
    tenant = _tenant(caller, organization_id, Role.OPERATOR)
    _within_limit(request, using, tenant.organization)
    return tenant


Reading = Annotated[Tenant, Depends(_reading)]
Writing = Annotated[Tenant, Depends(_writing)]

Ids = Annotated[list[str], Query(default_factory=list, description="Only these: repeated, or separated by commas.")]
NextToken = Annotated[str | None, Query(alias="nextToken", description="What the page before gave.")]


def pages(using: Collaborators, tenant: Tenant, collection: str) -> Pages:
    return Pages(using.signer, tenant.organization, collection)


def known_entities(using: Collaborators, names: list[str]) -> tuple[EntityCode, ...]:
    """Entities of the catalog, each once. Raises Refusal 400 for anything else."""
    for number, name in enumerate(names):
        if name not in using.entities:
            hint = did_you_mean(name, using.entities, what="entities of the catalog")
            raise Refusal(400, f"operationalDataTypes: there is no entity {name[:80]!r}; {hint}")
        if name in names[:number]:
            raise Refusal(400, f"operationalDataTypes: {name} is named twice; leave one out.")
    return tuple(EntityCode(name) for name in names)
