"""A workshop for each test."""

from collections.abc import AsyncIterator

import pytest

from exportd.postgres.postgres_server import PostgresServer
from tests.integration.capture.captured_tables import Workshop, open_workshop


@pytest.fixture
async def shop(server: PostgresServer) -> AsyncIterator[Workshop]:
    async with open_workshop(server) as workshop:
        yield workshop
