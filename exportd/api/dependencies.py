"""The parameters of operations: who makes the request, for which organization, and the collaborators of the resource.

An operation declares what it needs by the types of its parameters. ``Reading`` and ``Writing`` are an organization and
who acts for it. ``Viewing`` is who sees one organization or all. ``Looking``, ``Operating`` and ``Administering`` are
users of this machine. ``Schedules``, ``Jobs``, … are the collaborators of that resource.

A body is read only after the request was admitted by its head. So strangers are refused without reading theirs.
"""

import inspect
import re
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Generic, TypeVar, get_args, get_origin

from fastapi import Depends, FastAPI, Path, Request, params
from fastapi.routing import APIRoute
from pydantic.json_schema import WithJsonSchema
from pydantic_core import from_json
from starlette.responses import Response

from exportd.api.collaborators import (
    AccessCollaborators,
    Collaborators,
    DestinationCollaborators,
    HostCollaborators,
    JobCollaborators,
    RequestLimits,
    ScheduleCollaborators,
    StatusCollaborators,
)
from exportd.api.identity.access import Identity, Viewer
from exportd.api.identity.client_table import Role
from exportd.api.identity.signing import Signer
from exportd.api.problems import Refusal
from exportd.api.transport.gate import ON_ANSWERED, PERSON, PersonOf
from exportd.api.transport.unix_socket import Peer
from exportd.model.entity import OrganizationId
from exportd.model.errors import PermanentError, Reason
from exportd.model.foreign_text import (
    MAX_CODE_LENGTH,
    MAX_DOCUMENT_BYTES,
    check_organization,
)

OrganizationIdInPath = Annotated[
    str,
    WithJsonSchema({"type": "string", "maxLength": MAX_CODE_LENGTH}),
    Path(alias="orgId", description="The organization's id."),
]
"""A longer id is answered like that of an organization that the caller may not see."""

_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
"""Finds a NUL in a text of a JSON document, which Postgres cannot store: an escape that is not itself escaped. It is
searched in the bytes, because walking through a hundred thousand values would block the event loop.
"""

Decision = TypeVar("Decision")


class Admission(Generic[Decision]):
    """A dependency of an operation that admits a request by its head. It decides once for each request.

    ``decide`` returns the parameter of the operation, or raises Refusal.
    """

    def __init__(self, decide: Callable[[Request], Awaitable[Decision]]) -> None:
        self._decide = decide

    async def __call__(self, request: Request) -> Decision:
        return await self.of(request)

    async def of(self, request: Request) -> Decision:
        decisions: dict[object, Decision] = request.scope.setdefault("state", {}).setdefault("admissions", {})
        if self not in decisions:
            decisions[self] = await self._decide(request)
        return decisions[self]


class StrictRequest(Request):
    """A request whose ``json`` raises Refusal for anything that is not valid JSON."""

    async def json(self) -> Any:
        body = await self.body()
        if len(body) > MAX_DOCUMENT_BYTES:
            raise Refusal(413, f"The body is too large: a JSON document has at most {MAX_DOCUMENT_BYTES} bytes here.")
        try:
            document = from_json(body, allow_inf_nan=False)
        except ValueError as error:
            raise Refusal(400, f"The body is not JSON that can be read: {error}.") from error
        if _NUL.search(body):
            raise Refusal(400, "The body has a NUL character (\\u0000) in a text. Leave it out.")
        return document


class StrictRoute(APIRoute):
    """A route that reads its requests strictly."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        admissions = _admissions(self.endpoint)

        async def read_strictly(request: Request) -> Response:
            for admission in admissions:
                await admission.of(request)
            if b"%00" in request.scope["query_string"]:
                raise Refusal(400, "The query has a NUL character (%00) in a parameter. Leave it out.")
            return await handle(StrictRequest(request.scope, request.receive))

        return read_strictly


def _admissions(operation: Callable[..., Any]) -> list[Admission[Any]]:
    return [
        mark.dependency
        for parameter in inspect.signature(operation).parameters.values()
        if get_origin(parameter.annotation) is Annotated
        for mark in get_args(parameter.annotation)[1:]
        if isinstance(mark, params.Depends) and isinstance(mark.dependency, Admission)
    ]


async def collaborators(request: Request) -> Collaborators:
    """The application's current collaborators. A reload replaces them."""
    return _current(request.app)


def _current(api: FastAPI) -> Collaborators:
    found = api.state.collaborators
    if not isinstance(found, Collaborators):
        raise TypeError("the application has no collaborators")
    return found


def person_of(api: FastAPI) -> PersonOf:
    """Tells the gate whom a request is of, by the application's current collaborators."""

    def person(peer: Peer | None, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
        return _current(api).access.authenticator.person(peer, headers)

    return person


def administrators(api: FastAPI) -> Callable[[Peer], bool]:
    """Tells whether a user is an administrator of this daemon, by the application's current collaborators."""

    def is_administrator(peer: Peer) -> bool:
        return _current(api).access.authenticator.is_administrator(peer)

    return is_administrator


_Using = Annotated[Collaborators, Depends(collaborators)]


def _part(select: Callable[[Collaborators], object]) -> object:
    """A part of the collaborators, as a dependency."""

    async def part(using: _Using) -> object:
        return select(using)

    return Depends(part)


Schedules = Annotated[ScheduleCollaborators, _part(lambda using: using.schedules)]
Destinations = Annotated[DestinationCollaborators, _part(lambda using: using.destinations)]
Jobs = Annotated[JobCollaborators, _part(lambda using: using.jobs)]
Access = Annotated[AccessCollaborators, _part(lambda using: using.access)]
Status = Annotated[StatusCollaborators, _part(lambda using: using.status)]
Host = Annotated[HostCollaborators, _part(lambda using: using.host)]
Limits = Annotated[RequestLimits, _part(lambda using: using.limits)]
PageSigner = Annotated[Signer, _part(lambda using: using.signer)]
Now = Annotated[datetime, _part(lambda using: using.clock.now())]
"""When the request came, aware UTC."""

MonotonicS = Annotated[float, _part(lambda using: using.clock.monotonic())]
"""The same in seconds of a monotonic clock."""


def peer_of_request(request: Request) -> Peer | None:
    """The process on this machine that made the request; None over TCP."""
    peer = getattr(request.state, "peer", None)
    return peer if isinstance(peer, Peer) else None


def person_of_request(request: Request) -> str | None:
    """The person whom the proxy names; None without a proxy."""
    person = getattr(request.state, PERSON, None)
    return person if isinstance(person, str) else None


async def _identity(request: Request) -> Identity:
    authenticator = (await collaborators(request)).access.authenticator
    peer, authorization = peer_of_request(request), request.headers.get("authorization")
    return await authenticator.identify(peer, authorization, person=person_of_request(request))


_caller = Admission(_identity)
Caller = Annotated[Identity, Depends(_caller)]


@dataclass(frozen=True, slots=True)
class Tenant:
    """The organization that a request is about, and who makes it."""

    organization: OrganizationId
    actor: str


def require_role(identity: Identity, needed: Role) -> None:
    """Raises Refusal 403 for a lesser role."""
    if identity.role < needed:
        raise Refusal(
            403,
            f"{identity.name} may not do this: it takes the role {needed.name.lower()}, and this is a"
            f" {identity.role.name.lower()}. Ask an administrator.",
        )


def _of_the_machine(identity: Identity) -> Identity:
    """A user who may see every organization. Raises Refusal 403 for programs."""
    if identity.organization is not None:
        raise Refusal(
            403,
            "This concerns the whole daemon and every organization: it is for users of its own machine, on the Unix"
            " socket.",
        )
    return identity


def _user_with(needed: Role) -> Admission[Identity]:
    async def decide(request: Request) -> Identity:
        identity = _of_the_machine(await _caller.of(request))
        require_role(identity, needed)
        return identity

    return Admission(decide)


async def _handing_out(request: Request) -> Identity:
    identity = await _caller.of(request)
    require_role(identity, Role.ADMIN)
    return _of_the_machine(identity)


def _viewer_with(needed: Role) -> Admission[Viewer]:
    async def decide(request: Request) -> Viewer:
        identity = await _caller.of(request)
        require_role(identity, needed)
        if identity.organization is not None:
            admit_program(request, await collaborators(request), identity.organization)
        return identity

    return Admission(decide)


Viewing = Annotated[Viewer, Depends(_viewer_with(Role.READER))]
Acting = Annotated[Viewer, Depends(_viewer_with(Role.OPERATOR))]
"""Users of this machine see and act for every organization, programs only for their own."""

Looking = Annotated[Identity, Depends(_user_with(Role.READER))]
Operating = Annotated[Identity, Depends(_user_with(Role.OPERATOR))]
Administering = Annotated[Identity, Depends(_user_with(Role.ADMIN))]
"""Users who may use operations on the daemon itself, by role."""

HandingOut = Annotated[Identity, Depends(Admission(_handing_out))]
"""Users who may see, create and withdraw credentials of programs."""


def admit_program(request: Request, using: Collaborators, organization: str) -> None:
    """Count a request over TCP for the organization, and its connection until it is answered.

    Raises Refusal 429, and PermanentError QUOTA_BUSY.
    """
    if peer_of_request(request) is None:
        wait_s = using.limits.organization.wait_s(organization, using.clock.monotonic())
        if wait_s:
            raise too_many("An organization may make 50 requests a second.", wait_s)
    occupy_connection(request, using.limits, organization)


def occupy_connection(request: Request, limits: RequestLimits, organization: str) -> None:
    """Count the request's connection for the organization until it is answered. Users of the machine are not counted.

    Raises PermanentError QUOTA_BUSY.
    """
    if peer_of_request(request) is not None:
        return
    if not limits.connections.begin(organization):
        raise PermanentError(
            f"The organization {organization!r} has {limits.connections.limit} connections on which requests are being "
            "answered, as many as are allowed. Wait for one of them, or ask the administrator of the daemon for more "
            "(quotas.connections).",
            reason=Reason.QUOTA_BUSY,
        )
    request.scope["state"][ON_ANSWERED] = partial(limits.connections.end, organization)


def too_many(sentence: str, wait_s: float) -> Refusal:
    """The refusal 429, with the time after which to try again."""
    headers = {"retry-after": str(max(1, round(wait_s))), "retry-after-ms": str(round(wait_s * 1000))}
    return Refusal(429, f"{sentence} Try again later.", headers=headers)


class _TenantAdmission(Admission[Tenant]):
    """Admits callers who may see the organization in the path, in the given role."""

    def __init__(self, needed: Role) -> None:
        super().__init__(self._tenant)
        self._needed = needed

    async def __call__(  # type: ignore[override]  # the parameter stands in the OpenAPI document
        self, request: Request, organization_id: OrganizationIdInPath
    ) -> Tenant:
        del organization_id
        return await self.of(request)

    async def _tenant(self, request: Request) -> Tenant:
        identity, organization = await _caller.of(request), request.path_params["orgId"]
        try:
            allowed = identity.sees(check_organization(organization))
        except ValueError:
            allowed = False
        if not allowed:
            raise Refusal(403, "The organization in the path is not one that you may see. Check the organization's id.")
        require_role(identity, self._needed)
        admit_program(request, await collaborators(request), organization)
        return Tenant(OrganizationId(organization), identity.name)


Reading = Annotated[Tenant, Depends(_TenantAdmission(Role.READER))]
Writing = Annotated[Tenant, Depends(_TenantAdmission(Role.OPERATOR))]
