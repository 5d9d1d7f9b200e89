"""A table of schedules for each test."""

from collections.abc import AsyncIterator

import pytest

from exportd.database.connector import Connector
from exportd.schedules.firing_table import ScheduleTable
from tests.fixtures.postgres import Database
from tests.integration.schedules.schedule_database import Office


@pytest.fixture
async def office(database: Database) -> AsyncIterator[Office]:
    async with Connector(database.dsn).pool(8) as pool:
        office = Office(ScheduleTable(pool), await database.connect())
        await office.listen()
        yield office
