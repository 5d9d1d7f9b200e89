"""A table of schedules for each test."""

from collections.abc import AsyncIterator

import pytest

from exportd.database.connector import Connector
from exportd.schedules.firing_table import ScheduleTable
from tests.fixtures.postgres import Database
from tests.integration.schedules.postgres_schedules import PostgresSchedules


@pytest.fixture
async def stored(database: Database) -> AsyncIterator[PostgresSchedules]:
    async with Connector(database.dsn).pool(8) as pool:
        stored = PostgresSchedules(ScheduleTable(pool), pool, await database.connect())
        await stored.listen()
        yield stored
