"""An API for each test."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
import structlog
import trustme

from exportd.api.identity.access import Access
from exportd.api.transport.certificate import Certificate
from exportd.telemetry import logging
from tests.fixtures.postgres import Database
from tests.integration.api.standalone_api import ApiServer, serving


@pytest.fixture
async def api(database: Database, tmp_path: Path) -> AsyncIterator[ApiServer]:
    """The user who runs the tests is an administrator."""
    async for found in hosted(serving(database, tmp_path, Access(os.getuid(), frozenset(), frozenset()))):
        yield found


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    issued = trustme.CA().issue_cert("127.0.0.1")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    issued.cert_chain_pems[0].write_to_path(chain)
    issued.private_key_pem.write_to_path(key)
    key.chmod(0o600)
    return Certificate(chain, key)


@pytest.fixture
async def api_with_tls(database: Database, tmp_path: Path, certificate: Certificate) -> AsyncIterator[ApiServer]:
    """The same with TLS, and with the console, on TCP."""
    access = Access(os.getuid(), frozenset(), frozenset())
    async for found in hosted(serving(database, tmp_path, access, certificate=certificate)):
        yield found


async def hosted(serving: AbstractAsyncContextManager[ApiServer]) -> AsyncIterator[ApiServer]:
    opened: asyncio.Future[ApiServer] = asyncio.get_running_loop().create_future()
    over = asyncio.Event()

    async def host() -> None:
        # A task group belongs to one task; a fixture's beginning and end run in two.
        async with serving as found:
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
