"""A console for each test, and a browser that is signed in to it."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.acceptance.console_browser import ConsoleBrowser
from tests.integration.api.conftest import api, log_level_kept
from tests.integration.api.standalone_api import ApiServer

__all__ = ["api", "log_level_kept"]


@pytest.fixture
async def browser(api: ApiServer) -> AsyncIterator[ConsoleBrowser]:  # a fixture is named as its parameter
    """Of the user who runs the tests, an administrator. It blocks: use it in a thread."""
    transport = httpx.HTTPTransport(uds=str(api.socket))
    with httpx.Client(transport=transport, base_url="http://localhost:8080", follow_redirects=True) as client:
        found = ConsoleBrowser(client)
        asked = await asyncio.to_thread(found.open, "/console/")
        await asyncio.to_thread(found.press, asked, "Sign in")
        yield found
