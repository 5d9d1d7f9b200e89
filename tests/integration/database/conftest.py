"""A source database for each test."""

from collections.abc import AsyncIterator

import pytest

from exportd.postgres.postgres_server import PostgresServer
from tests.integration.capture.source_database import SourceDatabase, open_source_database


@pytest.fixture
async def source(server: PostgresServer) -> AsyncIterator[SourceDatabase]:
    async with open_source_database(server) as source:
        yield source
