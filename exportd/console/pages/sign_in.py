"""Signing in and out, and what all pages load."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import RedirectResponse, Response

from exportd.api.dependencies import Caller
from exportd.api.problems import Refusal
from exportd.console.sessions import FORWARDER_HEADER
from exportd.console.visitor import PageRoute, Visiting, console_of, cookie_name, session_secrets, user_id
from exportd.model.bounds import MAX_WORD_LENGTH

router = APIRouter(prefix="/console", route_class=PageRoute, include_in_schema=False)


@router.post("/invitations")
async def invite(
    request: Request, _caller: Caller, read_only: Annotated[bool, Query(alias="readOnly")] = False
) -> dict[str, str]:
    """For ``exportd console``: a secret with which a browser begins a session of the same user, once."""
    return {"invitation": console_of(request).sessions.invite(_unforwarded_user(request), read_only=read_only)}


@router.get("/open")
async def open_session(
    request: Request, invitation: Annotated[str, Query(alias="once", max_length=MAX_WORD_LENGTH)]
) -> Response:
    """Where the address leads that ``exportd console`` prints."""
    secret = console_of(request).sessions.accept(invitation, user_id(request))
    if secret is None:
        raise Refusal(401, "This address has been used, or is older than a minute. Run `exportd console` again.")
    return _signed_in(request, secret)


@router.get("/enter")
async def show_confirmation(request: Request) -> Response:
    """For a socket that was forwarded to a port: says as whom the browser would sign in."""
    uid = _unforwarded_user(request)
    return console_of(request).renderer.page("enter.html", {"uid": uid})


@router.post("/enter")
async def confirm(request: Request) -> Response:
    """Begin a session as the user who forwards the socket."""
    return _signed_in(request, console_of(request).sessions.begin(_unforwarded_user(request), read_only=False))


@router.post("/leave")
async def leave(request: Request, visitor: Visiting) -> Response:
    """Sign out."""
    for secret in session_secrets(request):
        visitor.console.sessions.end(secret)
    answer = visitor.console.renderer.page(
        "error.html",
        {"heading": "Signed out", "sentence": "`exportd console` opens the console again.", "signed_in": False},
    )
    answer.delete_cookie(cookie_name(request), path="/console/")
    return answer


@router.get("/static/{name}")
async def show_asset(request: Request, name: Annotated[str, Path(max_length=MAX_WORD_LENGTH)]) -> Response:
    """What pages load. It says nothing about this daemon, and needs no session."""
    asset = console_of(request).renderer.assets.get(name)
    if asset is None:
        raise Refusal(404, "There is no such file. Load the page again: exportd may have been upgraded.")
    return asset.answer(request.headers.get("accept-encoding", ""))


def _unforwarded_user(request: Request) -> int:
    """Who is at the other end of the socket.

    Raises Refusal 403 for what ``exportd console`` forwards: that may come from any user of its machine.
    """
    if FORWARDER_HEADER in request.headers:
        raise Refusal(403, "Open the address that `exportd console` printed. It is good for a minute, once.")
    return user_id(request)


def _signed_in(request: Request, secret: str) -> Response:
    answer = RedirectResponse("/console/", 303)
    # Strict: a page of another site, which may link here, begins nothing as this user.
    answer.set_cookie(cookie_name(request), secret, path="/console/", httponly=True, samesite="strict")
    return answer
