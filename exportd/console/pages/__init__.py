"""The pages, and what adds them to the API's application: on the Unix socket, and over TCP where it is configured."""

from fastapi import FastAPI

from exportd.console.pages import destinations, entities, exports, jobs, overview, schedules, sign_in, system
from exportd.console.rendering import Renderer
from exportd.console.sessions import Sessions
from exportd.console.visitor import Console
from exportd.model.clock import Clock


def add_console(api: FastAPI, renderer: Renderer, clock: Clock, *, over_tcp: bool = False) -> None:
    """Add all pages, below ``/console/``. ``over_tcp``: persons may sign in there with credentials, with TLS."""
    api.state.console = Console(Sessions(clock), renderer, over_tcp)
    for page in (sign_in, overview, exports, schedules, jobs, destinations, entities, system):
        api.include_router(page.router)
