"""Declared destinations become rows, and what is no longer there is not taken for delivered."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from exportd.database import queries
from exportd.database.connector import Connector
from exportd.destinations.record import DestinationDeclaration
from exportd.destinations.table import DestinationTable
from exportd.model.entity import OrganizationId
from exportd.model.schedule import DestinationCode, Origin
from tests.fixtures.postgres import Database

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
_SCHEDULE = """
    INSERT INTO exportd.schedule (organization, code, name, entities, format, destinations, rule, next_due_at)
    VALUES ($1, 'nightly', '', '{ACCOUNTS}', 'CSV', $2, '{"cron": "0 2 * * *"}', now()) RETURNING id"""
_POSITION = """
    INSERT INTO exportd.position (schedule_id, entity, job_id, snapshot, taken_at, guards, destinations)
    VALUES ($1, 'ACCOUNTS', gen_random_uuid(), '1:1:', now(), '{}', $2)"""


def declare(code: str, organization: str = "acme", name: str = "", **settings: str) -> DestinationDeclaration:
    return DestinationDeclaration(
        OrganizationId(organization), DestinationCode(code), name, {"type": "DIRECTORY", **settings}
    )


@pytest.mark.every_postgres
async def test_many_are_made_edited_and_deleted_at_once(database: Database) -> None:
    connection = await database.connect()
    async with Connector(database.dsn).pool(1) as pool:
        table = DestinationTable(pool)
        first = [declare(f"lake-{n}", directory=f"/{n}") for n in range(20)]
        await table.reconcile(first, now=NOON)
        before = {str(record.declaration.code): record for record in await table.all()}
        assert [record.declaration for record in before.values()] == sorted(first, key=lambda record: record.code)
        assert {(record.origin, record.version, record.created_by) for record in before.values()} == {
            (Origin.CONFIGURATION, 1, "configuration")
        }
        await table.reconcile([*first[:5], declare("lake-5", name="Other", directory="/5"), declare("new")], now=NOON)
        after = {str(record.declaration.code): record for record in await table.all()}
        assert set(after) == {*(f"lake-{n}" for n in range(6)), "new"}
        assert [after[f"lake-{n}"] == before[f"lake-{n}"] for n in range(6)] == [True] * 5 + [False]
        assert (after["lake-5"].id, after["lake-5"].version) == (before["lake-5"].id, 2)
        assert await connection.fetchval("SELECT count(*) FROM exportd.destination WHERE deleted_at = $1", NOON) == 14


@pytest.mark.every_postgres
async def test_what_was_delivered_to_another_place_is_forgotten_and_nothing_else(database: Database) -> None:
    connection = await database.connect()
    places = ["lake", "moved", "away"]
    for organization in ("acme", "other"):
        schedule = await connection.fetchval(_SCHEDULE, organization, places)
        await connection.execute(_POSITION, schedule, places)

    async def held() -> Mapping[str, list[str]]:
        rows = await connection.fetch(
            "SELECT organization, position.destinations FROM exportd.position JOIN exportd.schedule ON id = schedule_id"
        )
        return {row["organization"]: row["destinations"] for row in rows}

    async with Connector(database.dsn).pool(1) as pool:
        table = DestinationTable(pool)
        both = [declare(code, organization, directory="/") for code in places for organization in ("acme", "other")]
        await table.reconcile(both, now=NOON)
        assert await held() == {"acme": places, "other": places}
        renamed = declare("lake", name="Lake", directory="/")
        moved = [declare("moved", directory="/elsewhere"), declare("away", directory="/", prefix="in")]
        await table.reconcile(
            [renamed, *moved, *(declaration for declaration in both if declaration.organization == "other")], now=NOON
        )
        assert await held() == {"acme": ["lake"], "other": places}


@pytest.mark.every_postgres
async def test_deliveries_are_looked_for_at_those_destinations_alone_that_are_shown(database: Database) -> None:
    connection = await database.connect()
    async with Connector(database.dsn).pool(1) as pool:
        await DestinationTable(pool).reconcile([declare(f"lake-{n}", directory=f"/{n}") for n in range(9)], now=NOON)
    statement = f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {queries.load('destination_operations')['health']}"

    [plan] = json.loads(await connection.fetchval(statement, 2))

    assert 0 < max(_loops_over(plan["Plan"], {"job", "delivery"})) <= 2


def _loops_over(node: Mapping[str, Any], tables: set[str]) -> Iterator[int]:
    if node.get("Relation Name") in tables:
        yield node["Actual Loops"]
    for part in node.get("Plans", []):
        yield from _loops_over(part, tables)
