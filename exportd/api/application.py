"""The API as an ASGI application. What it works with is handed in."""

from collections.abc import Callable, Iterable
from threading import Lock
from typing import Any

import anyio.to_thread
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from exportd import __version__
from exportd.api.collaborators import Collaborators
from exportd.api.openapi_document import completed
from exportd.api.problems import install_handlers
from exportd.api.routers import destinations, host, jobs, operations, overview, schedules, status, tokens
from exportd.api.transport.gate import REFUSALS_A_SECOND, Gate
from exportd.api.transport.peer import Peer
from exportd.api.transport.rate_limit import RateLimit


class DescribedApi(FastAPI):
    """Makes its OpenAPI document when it is first asked for, in a thread: that takes as long as all else of a start."""

    def __init__(self, **options: Any) -> None:
        super().__init__(openapi_url=None, **options)
        self._making = Lock()
        self.add_route("/openapi.json", self._send_document, include_in_schema=False)

    def openapi(self) -> dict[str, Any]:
        with self._making:
            if self.openapi_schema is None:
                self.openapi_schema = completed(super().openapi())
            return self.openapi_schema

    async def _send_document(self, _: Request) -> Response:
        return JSONResponse(await anyio.to_thread.run_sync(self.openapi))


def application(using: Collaborators) -> FastAPI:
    """The operations, the OpenAPI document and the answers to errors; without the gate before them."""
    api = DescribedApi(
        title="exportd",
        version=__version__,
        summary="Scheduled exports of operational data, as m3ter's API has them, and the daemon's own operations.",
        docs_url=None,  # would load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    api.state.collaborators = using
    install_handlers(api)
    for resource in (schedules, destinations, jobs, tokens, status, overview, operations, host):
        api.include_router(resource.router)
    return api


def guarded(
    api: FastAPI, using: Collaborators, *, hosts: frozenset[str], refusals_a_second: int = REFUSALS_A_SECOND
) -> ASGIApp:
    """The application behind its gate. ``hosts`` are the names by which it may be called over TCP."""

    def person_of(peer: Peer | None, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
        now: Collaborators = api.state.collaborators
        proxy = now.access.authenticator.proxy
        return None if proxy is None else proxy.person(peer, headers)

    limit = RateLimit(20_000, 300.0)
    return Gate(
        api,
        hosts=hosts,
        address_limit=limit,
        clock=using.clock,
        refusals_a_second=refusals_a_second,
        person_of=person_of,
    )


def administrators(api: FastAPI) -> Callable[[Peer], bool]:
    """Who is an administrator of this machine's daemon, by the collaborators that the application has at the time."""

    def decide(peer: Peer) -> bool:
        using: Collaborators = api.state.collaborators
        return using.access.authenticator.is_administrator(peer)

    return decide
