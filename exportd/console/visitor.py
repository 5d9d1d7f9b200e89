"""Who looks at a page: the browser's session, the user of this machine behind it, and how pages answer errors."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from exportd.api.collaborators import Collaborators
from exportd.api.dependencies import collaborators, peer_of_request, require_role
from exportd.api.identity.access import Identity, Role, Viewer
from exportd.api.problems import Refusal, answered
from exportd.api.transport.origin import Authority
from exportd.api.transport.request_reader import Admission, StrictRoute
from exportd.console.rendering import Renderer
from exportd.console.sessions import FORWARDER_HEADER, Session, Sessions
from exportd.model.errors import ExportdError

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


@dataclass(frozen=True, slots=True)
class Console:
    """What all pages work with."""

    sessions: Sessions
    renderer: Renderer


@dataclass(frozen=True, slots=True)
class Visitor:
    """A user of this machine at a browser, when the request came (``now``, aware UTC). Pages work with ``using``."""

    identity: Identity
    session: Session
    console: Console
    using: Collaborators
    now: datetime

    @property
    def viewer(self) -> Viewer:
        """The same for the API's operations that only look."""
        return self.identity

    def require(self, role: Role) -> Identity:
        """Who does something. Raises Refusal 403 for a lesser role, and in a session that only reads."""
        if self.session.read_only:
            raise Refusal(
                403, "This session only reads: `exportd console` without --read-only opens one that does not."
            )
        require_role(self.identity, role)
        return replace(self.identity, name=f"{self.identity.name} (console)")

    def page(self, template: str, *, status: int = 200, **values: object) -> Response:
        """A page in the console's frame, with the notice that waits for it."""
        notice, self.session.notice = self.session.notice, ""
        may_operate = not self.session.read_only and self.identity.role >= Role.OPERATOR
        frame = {
            "who": self.identity.name.removeprefix("unix:"),
            "role": self.identity.role.name.lower(),
            "read_only": self.session.read_only,
            "may_operate": may_operate,
            "why_not": _why_not(self),
            "notice": notice,
            "now": self.now,
        }
        return self.console.renderer.page(template, frame | values, status=status)

    def back(self, to: str, notice: str = "") -> Response:
        """Leave for another page after a form, where ``notice`` stands."""
        self.session.notice = notice
        return RedirectResponse(to, 303)


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
    """What the application's pages work with."""
    found = request.app.state.console
    if not isinstance(found, Console):
        raise TypeError("the application has no console")
    return found


def cookie_name(request: Request) -> str:
    """The cookie of this server. Browsers send the cookies of a host to all its ports, so the port is in its name."""
    authority = Authority.of(request.headers.get("host", ""))
    return f"exportd-{authority.port if authority and authority.port else 0}"


def user_id(request: Request) -> int:
    """Who is at the other end of the Unix socket. Raises Refusal 403 over TCP."""
    peer = peer_of_request(request)
    if peer is None:
        raise Refusal(403, "The console is for users of the daemon's machine: `exportd console` opens it.")
    return peer.uid


async def _visitor(request: Request) -> Visitor:
    using, console = await collaborators(request), console_of(request)
    session = console.sessions.find(request.cookies.get(cookie_name(request), ""), user_id(request))
    if session is None:
        raise NoSession
    identity = await using.access.authenticator.identify(peer_of_request(request), None)
    return Visitor(identity, session, console, using, using.clock.now())


Visiting = Annotated[Visitor, Depends(Admission(_visitor))]
"""What each page is given: it is for a browser that has a session."""


class PageRoute(StrictRoute):
    """A page: what goes wrong is answered with a page too. Without a session, with the way to one."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except NoSession as refused:
                if FORWARDER_HEADER not in request.headers and request.method == "GET":
                    return RedirectResponse("/console/enter", 303)
                return _error_page(request, refused.status_code, str(refused.detail), signed_in=False)
            except (HTTPException, RequestValidationError, ExportdError) as error:
                status, sentence = await answered(request, error)
                return _error_page(request, status, sentence, signed_in=True)

        return answer


def _error_page(request: Request, status: int, sentence: str, *, signed_in: bool) -> Response:
    values = {"heading": _HEADINGS.get(status, "Error"), "sentence": sentence, "signed_in": signed_in}
    return console_of(request).renderer.page("error.html", values, status=status)
