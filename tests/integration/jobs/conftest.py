"""Jobs in a database of their own, for each test."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from exportd.database.connector import Connector
from exportd.jobs.job_table import JobTable
from exportd.model.job import JobId
from tests.fixtures.postgres import Database
from tests.integration.jobs.postgres_jobs import PostgresJobs


@pytest.fixture
async def jobs(database: Database) -> AsyncIterator[PostgresJobs]:
    async with Connector(database.dsn).pool(8) as pool:
        yield PostgresJobs(JobTable(pool), pool, await database.connect())


@pytest.fixture
def unknown_job() -> JobId:
    return JobId(uuid4())
