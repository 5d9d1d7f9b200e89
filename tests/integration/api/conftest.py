"""An API for each test."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog

from exportd.api.identity.access import Access
from exportd.telemetry import logging
from tests.fixtures.postgres import Database
from tests.integration.api.standalone_api import ApiServer, serving


@pytest.fixture
async def api(database: Database, tmp_path: Path) -> AsyncIterator[ApiServer]:
    """The user who runs the tests is an administrator."""
    opened: asyncio.Future[ApiServer] = asyncio.get_running_loop().create_future()
    over = asyncio.Event()

    async def host() -> None:
        # A task group belongs to one task; a fixture's beginning and end run in two.
        async with serving(database, tmp_path, Access(os.getuid(), frozenset(), frozenset())) as found:
            opened.set_result(found)
            await over.wait()

    hosting = asyncio.create_task(host())
    hosting.add_done_callback(lambda _: opened.cancel())
    try:
        found = await opened
    except asyncio.CancelledError:
        await hosting
        raise
    yield found
    over.set()
    await hosting


@pytest.fixture
def log_level_kept() -> Iterator[None]:
    """Puts back what a test sets."""
    before, configuration = logging.level(), structlog.get_config()
    yield
    logging.set_level(before)
    structlog.configure(**configuration)
