"""The awkward table, in a database of its own, and how to set it up in one word."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from exportd.database.connector import Connection
from exportd.model.entity import Entity, OrganizationId
from tests.fixtures.postgres import Database
from tests.fixtures.snapshot_exports import Exporter, Schedule
from tests.integration.fidelity.values import (
    Column,
    available_columns,
    awkward_entity,
    create_table,
    fill_table,
)

READABLE = """
SET datestyle = 'ISO, DMY'; SET intervalstyle = 'postgres'; SET timezone = 'Pacific/Chatham'; SET bytea_output = 'hex';
SET extra_float_digits = 3; SET lc_monetary = 'C'; SET search_path = pg_catalog; SET xmloption = 'content';
"""
"""Settings of the connection that judges: lossless, and not all the exporter's own."""


@dataclass(frozen=True)
class Awkward:
    """The filled table, a connection that judges, and an exporter of it."""

    database: Database
    judge: Connection
    columns: tuple[Column, ...]
    entity: Entity
    exporter: Exporter

    def schedule(self) -> Schedule:
        return Schedule(OrganizationId("o"))

    async def refill(self, *, big: bool) -> None:
        """Bring the table back to what it was at first; unless ``big``, the biggest values are left out."""
        await self.judge.execute("DELETE FROM public.awkward")
        await fill_table(self.judge, self.columns, big=big)


@pytest.fixture(params=[False, True], ids=["plain", "partitioned"])
async def awkward(database: Database, request: pytest.FixtureRequest) -> AsyncIterator[Awkward]:
    """A plain table, and one whose partition has its columns in another order."""
    judge = await database.connect()
    await judge.execute(READABLE)
    columns = await available_columns(judge)
    await create_table(judge, columns, partitioned=request.param)
    await fill_table(judge, columns)
    entity = awkward_entity(columns)
    exporter = Exporter(database.dsn, [entity])
    await exporter.install()
    yield Awkward(database, judge, columns, entity, exporter)
