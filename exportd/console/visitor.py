"""Identifies who visits a page, by the browser's session, and answers errors with pages."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from exportd.api.collaborators import Collaborators
from exportd.api.dependencies import (
    Admission,
    StrictRoute,
    admit_program,
    collaborators,
    peer_of_request,
    person_of_request,
    require_role,
)
from exportd.api.identity.access import Identity, Viewer
from exportd.api.identity.client_table import Role
from exportd.api.job_watcher import EventStream
from exportd.api.problems import Refusal, answered
from exportd.api.routers.daemon import list_organizations, show_status
from exportd.api.schemas.fields import pause_status
from exportd.api.schemas.status import DaemonStatus
from exportd.api.transport.gate import Authority
from exportd.console.rendering import Renderer
from exportd.console.sessions import FORWARDER_HEADER, Owner, Program, Session, Sessions
from exportd.model.entity import EntityCode
from exportd.model.errors import ExportdError, TransientError

FOR_ORGANIZATIONS = frozenset(
    {
        "/console/",
        "/console/events",
        "/console/leave",
        "/console/exports",
        "/console/exports/adhoc",
        "/console/schedules/new",
        *(
            f"/console/schedules/{{id}}{deed}"
            for deed in ("", "/edit", "/run", "/pause", "/resume", "/preview", "/refresh", "/backfill", "/delete")
        ),
        "/console/jobs",
        "/console/jobs/ticked",
        *(
            f"/console/jobs/{{id}}{deed}"
            for deed in ("", "/events", "/files/{name}", "/archive", "/manifest", "/loader", "/retry", "/verification")
        ),
        "/console/destinations/new",
        *(
            f"/console/destinations/{{id}}{deed}"
            for deed in (
                *("", "/edit", "/check", "/pause", "/resume", "/delete"),
                *("/verification", "/verification/cancel"),
            )
        ),
        "/console/entities",
        "/console/entities/{name}",
        "/console/entities/{name}/schema",
    }
)
"""The pages that show an organization only its own objects. All other pages are for visitors who see every
organization.
"""

_HEADINGS = {
    400: "That cannot be done so",
    401: "Not signed in",
    403: "Not allowed",
    404: "Not found",
    409: "Not possible now",
    413: "Too large",
    429: "Too many requests",
    500: "A mistake of exportd",
    503: "Not available now",
}

_MAX_COOKIES = 20
_ORGANIZATIONS_FRESH_S = 10.0
MAX_PICKED = 200
"""The limit of organizations in a list to choose from. If there are more, the visitor types the id into the same field.
"""


@dataclass(slots=True)
class KnownOrganizations:
    """The organizations that the header of every page offers. The database is asked for them at most every ten
    seconds.
    """

    names: Sequence[str] = ()
    _asked_at_s: float | None = None

    async def look(self, viewer: Viewer, using: Collaborators) -> None:
        """Ask again when it is time. While the database is out of reach, the known ones stay."""
        now_s = using.clock.monotonic()
        if self._asked_at_s is not None and now_s - self._asked_at_s < _ORGANIZATIONS_FRESH_S:
            return
        self._asked_at_s = now_s
        with suppress(TransientError):
            self.names = (await list_organizations(viewer, using.destinations)).data


@dataclass(frozen=True, slots=True)
class Console:
    """The collaborators of all pages. With ``over_tcp`` a person may sign in with a program's credentials."""

    sessions: Sessions
    renderer: Renderer
    over_tcp: bool = False
    known_organizations: KnownOrganizations = field(default_factory=KnownOrganizations)


@dataclass(frozen=True, slots=True)
class Visitor:
    """A person at a browser, when the request came (``now``, aware UTC). Pages work with ``using``.

    ``identity`` is a user of this machine, a person whom a proxy names, or a program with whose credentials the person
    signed in. ``is_refresh``: an open page asks by itself, for what is new.
    """

    identity: Identity
    session: Session
    console: Console
    using: Collaborators
    now: datetime
    is_refresh: bool = False

    @property
    def viewer(self) -> Viewer:
        """The visitor as a viewer, for the API's operations that only read."""
        return self.identity

    async def organizations(self) -> list[str]:
        """The organizations that the visitor may see."""
        return (await list_organizations(self.viewer, self.using.destinations)).data

    async def daemon(self) -> DaemonStatus | None:
        """The status of this daemon; None for visitors who see only one organization."""
        return await show_status(self.identity, self.using.status, self.now) if self.viewer.sees_machine else None

    def row_estimates(self) -> Mapping[EntityCode, int]:
        """The estimated rows of the entities' tables; empty for visitors who see only one organization."""
        if not self.viewer.sees_machine:
            return {}
        standings = self.using.status.local().standings
        return {entity: standing.rows for entity, standing in standings.items() if standing.rows is not None}

    def damaged(self) -> Sequence[EntityCode]:
        """The entities whose capture was incomplete when the daemon last looked; none for visitors who see only one
        organization.
        """
        standings = self.using.status.local().standings if self.viewer.sees_machine else {}
        return [code for code, standing in standings.items() if standing.capture == "DAMAGED"]

    def require(self, role: Role) -> Identity:
        """The visitor, who wants to change something. Raises Refusal 403 for a lesser role, and in a session that may
        only read.
        """
        if self.session.read_only:
            raise Refusal(
                403, "This session only reads: `exportd console` without --read-only opens one that does not."
            )
        require_role(self.identity, role)
        return replace(self.identity, name=f"{self.identity.name} (console)")

    def page(self, template: str, *, status: int = 200, **values: object) -> Response:
        """Render a page in the console's frame, with the waiting notice."""
        notice = ""
        if not self.is_refresh:  # the page that a form led to shows it, not one that is open beside it
            notice, self.session.notice = self.session.notice, ""
        may_operate = not self.session.read_only and self.identity.role >= Role.OPERATOR
        local = self.using.status.local() if self.viewer.sees_machine else None  # in memory: each page has it
        several = [] if local is None else self.console.known_organizations.names
        frame = {
            "pickable": several if len(several) > 1 else [],
            "picks_from_list": len(several) <= MAX_PICKED,
            "pause": None if local is None else pause_status(local.pause),
            "disagreements": 0 if local is None else len(local.disagreements),
            "who": self.session.label or self.identity.name.partition(":")[2],
            "role": self.identity.role.name.lower(),
            "came_by": _came_by(self.session),
            "read_only": self.session.read_only,
            "may_operate": may_operate,
            "why_not": _why_not(self),
            "sees_machine": self.viewer.sees_machine,
            "notice": notice,
            "now": self.now,
        }
        return self.console.renderer.page(template, frame | values, status=status)

    def back(self, to: str, notice: str = "") -> Response:
        """Redirect to another page after a form. That page shows ``notice``."""
        self.session.notice = notice
        return RedirectResponse(to, 303)


def _came_by(session: Session) -> str:
    """How the person signed in, if not as a user of the machine."""
    if isinstance(session.owner, Program):
        return "by the credentials of a program"
    return "by the proxy" if isinstance(session.owner, str) else ""


def _why_not(visitor: Visitor) -> str:
    if visitor.session.read_only:
        return "This session only reads."
    if visitor.identity.role < Role.OPERATOR:
        return "This takes the role operator, and you are a reader. Ask an administrator."
    return ""


class NoSession(Refusal):
    """The browser has no session, or its session has ended."""

    def __init__(self) -> None:
        super().__init__(401, "You are not signed in, or your session has ended.")


def console_of(request: Request) -> Console:
    """The console of the application."""
    found = request.app.state.console
    if not isinstance(found, Console):
        raise TypeError("the application has no console")
    return found


def cookie_name(request: Request) -> str:
    """The cookie of this server. Browsers send the cookies of a host to all its ports, so the port is in its name."""
    authority = Authority.of(request.headers.get("host", ""))
    return f"exportd-{authority.port if authority and authority.port else 0}"


def _session_secrets(request: Request) -> list[str]:
    """The session secrets that the browser sends. A page on another port of this host may add cookies of the same
    name.
    """
    start = f"{cookie_name(request)}="
    cookies = ";".join(request.headers.getlist("cookie")).split(";")
    return [text.strip().removeprefix(start) for text in cookies if text.strip().startswith(start)][:_MAX_COOKIES]


def end_sessions(request: Request) -> None:
    """Sign the browser out."""
    for secret in _session_secrets(request):
        console_of(request).sessions.end(secret)


def owner_of(request: Request) -> Owner:
    """Who is at the other end of the Unix socket: a user, or the person whom the proxy names.

    Raises Refusal 403 over TCP.
    """
    peer = peer_of_request(request)
    if peer is None:
        raise Refusal(403, "The console is for users of the daemon's machine: `exportd console` opens it.")
    return person_of_request(request) or peer.uid


def require_sign_in(request: Request) -> None:
    """Raises Refusal 403 where there is none: on the socket, and over TCP unless it is configured."""
    if peer_of_request(request) is not None or not console_of(request).over_tcp or request.url.scheme != "https":
        raise Refusal(403, "There is no sign-in with credentials here. `exportd console` opens the console.")


def _owner(request: Request) -> Owner | None:
    """The owner whose session is searched; None over TCP, where it may be any program's."""
    if peer_of_request(request) is None and console_of(request).over_tcp and request.url.scheme == "https":
        return None
    return owner_of(request)


async def _visitor(request: Request) -> Visitor:
    using, console = await collaborators(request), console_of(request)
    is_refresh, owner = _asks_by_itself(request), _owner(request)
    found = (console.sessions.find(secret, owner, is_use=not is_refresh) for secret in _session_secrets(request))
    session = next((session for session in found if session is not None), None)
    if session is None:
        raise NoSession
    identity = await _identity(request, using, session)
    if identity is None:
        end_sessions(request)
        raise NoSession
    return Visitor(identity, session, console, using, using.clock.now(), is_refresh)


async def _identity(request: Request, using: Collaborators, session: Session) -> Identity | None:
    authenticator = using.access.authenticator
    if isinstance(session.owner, Program):
        return await authenticator.identity_of(session.owner.client_id, session.owner.role)
    return await authenticator.identify(peer_of_request(request), None, person=person_of_request(request))


async def _admitted(request: Request) -> Visitor:
    visitor = await _visitor(request)
    if visitor.identity.organization is not None:
        if request.scope["route"].path not in FOR_ORGANIZATIONS:
            raise Refusal(403, "This page concerns every organization: it is for users of the daemon's machine.")
        admit_program(request, visitor.using, visitor.identity.organization)
    elif not visitor.is_refresh:
        await visitor.console.known_organizations.look(visitor.viewer, visitor.using)
    return visitor


Visiting = Annotated[Visitor, Depends(Admission(_admitted))]
"""The parameter of each page: the visitor, who needs a session."""


def _asks_by_itself(request: Request) -> bool:
    """Whether an open page asks by itself for news, without a person."""
    return request.method == "GET" and "hx-request" in request.headers


def while_visiting(request: Request, stream: EventStream) -> EventStream:
    """A stream of events that ends when its visitor has no session any more, or has lost the right to look."""

    async def may_go_on() -> bool:
        try:
            await _visitor(request)
        except Refusal:
            return False
        return True

    return stream.only_while(may_go_on)


class PageRoute(StrictRoute):
    """The route of a page. Errors are answered with pages too. Without a session the page says how to get one."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except NoSession as refused:
                can_enter = FORWARDER_HEADER not in request.headers and request.method == "GET"
                if can_enter and not _asks_by_itself(request):
                    over_tcp = peer_of_request(request) is None
                    return RedirectResponse("/console/sign-in" if over_tcp else "/console/enter", 303)
                return _error_page(request, refused.status_code, str(refused.detail), signed_in=False)
            except (HTTPException, RequestValidationError, ExportdError) as error:
                status, sentence = await answered(request, error)
                return _error_page(request, status, sentence, signed_in=True)

        return answer


def _error_page(request: Request, status: int, sentence: str, *, signed_in: bool) -> Response:
    values = {"heading": _HEADINGS.get(status, "Error"), "sentence": sentence, "signed_in": signed_in}
    return console_of(request).renderer.page("error.html", values, status=status)
