"""Signing in and out, and the files that all pages load."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import RedirectResponse, Response

from exportd.api.dependencies import Access, Caller, peer_of_request, person_of_request, too_many
from exportd.api.identity.access import client_id_of
from exportd.api.problems import Refusal
from exportd.console.forms import Form
from exportd.console.sessions import FORWARDER_HEADER, MAX_TRIES_OF_A_KEY, MAX_TRIES_OF_AN_ADDRESS, Owner, Program
from exportd.console.visitor import (
    PageRoute,
    Visiting,
    console_of,
    cookie_name,
    end_sessions,
    owner_of,
    require_sign_in,
)
from exportd.model.foreign_text import MAX_WORD_LENGTH

_MAX_FORM_BYTES = 2000
_WRONG = "The access key id or the secret is wrong, or has been withdrawn."

router = APIRouter(prefix="/console", route_class=PageRoute, include_in_schema=False)


def _unforwarded_user(request: Request) -> Owner:
    """The user at the other end of the socket.

    Raises Refusal 403 for requests that ``exportd console`` forwards, because these may come from any user of its
    machine.
    """
    if FORWARDER_HEADER in request.headers:
        raise Refusal(403, "Open the address that `exportd console` printed. It is good for a minute, once.")
    return owner_of(request)


async def _admitted(request: Request, access: Access) -> Owner:
    """As ``_unforwarded_user``, if this daemon admits them. Raises Refusal 403 for a person who may do nothing here."""
    owner = _unforwarded_user(request)
    await access.authenticator.identify(peer_of_request(request), None, person=person_of_request(request))
    return owner


_Admitted = Annotated[Owner, Depends(_admitted)]


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
    secret = console_of(request).sessions.accept(invitation, owner_of(request))
    if secret is None:
        raise Refusal(401, "This address has been used, or is older than a minute. Run `exportd console` again.")
    return _signed_in(request, secret)


@router.get("/enter")
async def show_confirmation(request: Request, owner: _Admitted) -> Response:
    """For a socket that was forwarded to a port, and behind a proxy: says as whom the browser would sign in."""
    return console_of(request).renderer.page("enter.html", {"owner": owner})


@router.post("/enter")
async def confirm(request: Request, owner: _Admitted) -> Response:
    """Begin a session as the user who forwards the socket, or the person whom the proxy names."""
    return _signed_in(request, console_of(request).sessions.begin(owner, read_only=False))


@router.get("/sign-in")
async def show_sign_in(request: Request) -> Response:
    """Over TCP: asks for a program's key and secret."""
    require_sign_in(request)
    return console_of(request).renderer.page("sign_in.html", {"refused": ""})


@router.post("/sign-in")
async def sign_in(request: Request, access: Access) -> Response:
    """Begin a session that sees and does what the program may."""
    require_sign_in(request)
    sessions = console_of(request).sessions
    if wait_s := sessions.wait_of_address_s(request.client.host if request.client else ""):
        raise too_many(f"An address may try to sign in {MAX_TRIES_OF_AN_ADDRESS} times in 5 minutes.", wait_s)
    length = request.headers.get("content-length", "")
    if not length.isdecimal() or int(length) > _MAX_FORM_BYTES:
        raise Refusal(413, "This is more than a key and a secret.")
    form = Form.of(await request.body())
    key = form.text("key")
    if wait_s := sessions.wait_of_key_s(str(client_id_of(key))):
        raise too_many(f"A key may be tried {MAX_TRIES_OF_A_KEY} times in 5 minutes.", wait_s)
    client = await access.authenticator.program(key, form.text("secret"))
    if client is None:
        return console_of(request).renderer.page("sign_in.html", {"refused": _WRONG}, status=401)
    end_sessions(request)
    label = f"{client.name} of {client.organization}"
    return _signed_in(request, sessions.begin(Program(client.id, client.role), read_only=False, label=label))


@router.post("/leave")
async def leave(request: Request, visitor: Visiting) -> Response:
    """Sign out."""
    end_sessions(request)
    over_tcp = peer_of_request(request) is None
    again = "Sign in again at /console/sign-in." if over_tcp else "`exportd console` opens the console again."
    answer = visitor.console.renderer.page(
        "error.html", {"heading": "Signed out", "sentence": again, "signed_in": False}
    )
    answer.delete_cookie(cookie_name(request), path="/console/", secure=_has_tls(request))
    return answer


@router.get("/static/{name}")
async def show_asset(request: Request, name: Annotated[str, Path(max_length=MAX_WORD_LENGTH)]) -> Response:
    """What pages load. It says nothing about this daemon, and needs no session."""
    asset = console_of(request).renderer.assets.get(name)
    if asset is None:
        raise Refusal(404, "There is no such file. Load the page again: exportd may have been upgraded.")
    return asset.answer(request.headers.get("accept-encoding", ""))


def _has_tls(request: Request) -> bool:
    """Whether the browser used TLS, to this server or to the proxy, which must use it."""
    return request.url.scheme == "https" or person_of_request(request) is not None


def _signed_in(request: Request, secret: str) -> Response:
    answer = RedirectResponse("/console/", 303)
    # Strict, so that a page of another site, which may link here, cannot act as this user.
    answer.set_cookie(
        cookie_name(request),
        secret,
        path="/console/",
        httponly=True,
        samesite="strict",
        secure=_has_tls(request),
    )
    return answer
