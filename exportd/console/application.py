"""Adds the console to the API's application. It is served on the Unix socket alone."""

from fastapi import FastAPI

from exportd.console.pages import destinations, entities, exports, jobs, overview, schedules, sign_in, system
from exportd.console.rendering import Renderer
from exportd.console.sessions import Sessions
from exportd.console.visitor import Console
from exportd.model.clock import Clock


def add_console(api: FastAPI, renderer: Renderer, clock: Clock) -> None:
    """Add all pages, below ``/console/``."""
    api.state.console = Console(Sessions(clock), renderer)
    for page in (sign_in, overview, exports, schedules, jobs, destinations, entities, system):
        api.include_router(page.router)
