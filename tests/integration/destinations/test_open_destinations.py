"""Which destinations are open: those of this daemon's configuration, and whatever else the database has."""

import json
from datetime import UTC, datetime

import pytest

from exportd.database.connector import Connector
from exportd.database.migrator import migrate
from exportd.destinations.open_destinations import Destination, DestinationRefresher, Destinations
from exportd.destinations.record import DestinationDeclaration, check_origin
from exportd.destinations.table import DestinationTable
from exportd.model.clock import SystemClock
from exportd.model.entity import OrganizationId
from exportd.model.errors import PermanentError
from exportd.model.schedule import DestinationCode
from exportd.stores.layout import Layout
from tests.fixtures.postgres import Database
from tests.fixtures.store_doubles import MemoryStore

ACME = OrganizationId("acme")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def declaration(code: str) -> DestinationDeclaration:
    return DestinationDeclaration(ACME, DestinationCode(code), code, {"type": "S3", "bucket": code})


def opened(given: DestinationDeclaration) -> Destination:
    return Destination(given.organization, given.code, MemoryStore(), Layout())


def codes(live: Destinations) -> list[str]:
    return sorted(destination.code for destination in live)


async def test_open_are_those_that_this_daemon_declares_and_those_of_the_api(empty_database: Database) -> None:
    connector = Connector(empty_database.dsn)
    async with connector.connection("test") as connection:
        await migrate(connection)
    async with connector.pool(2) as pool:
        table = DestinationTable(pool)
        own = opened(declaration("own"))
        live = Destinations([own])
        refresher = DestinationRefresher(table, live, opened, SystemClock())
        await table.create(declaration("made"), actor="test", now=NOON)
        # A row says that it stands in a configuration, which is not this one.
        await table.reconcile([declaration("own"), declaration("theirs")], now=NOON)
        await refresher.refresh()
        assert codes(live) == ["made", "own"]
        assert live.get(ACME, own.code) is own

        # A reload declares what the API had made, and its own no more.
        taken = opened(declaration("made"))
        (replaced,) = refresher.declare([taken], keeping={("acme", "made")})
        assert replaced.code == "made"
        assert codes(live) == ["made", "own"]
        await refresher.refresh()
        assert codes(live) == ["made"]
        assert live.get(ACME, taken.code) is taken
        await live.aclose()


@pytest.mark.parametrize(
    "settings",
    [
        {"type": "DIRECTORY", "directory": "/etc"},
        {"type": "S3", "bucket": "lake", "profile": "admin"},
        {"type": "S3", "bucket": "lake", "endpoint": "http://169.254.169.254"},
        {"type": "GCS", "bucket": "lake", "credentials_file": "/root/key.json"},
        {"type": "NEW"},
        {},
    ],
)
async def test_a_planted_row_is_not_opened(empty_database: Database, settings: dict[str, str]) -> None:
    """Who may write the row could otherwise have files written anywhere, with any credentials of the daemon."""
    connector = Connector(empty_database.dsn)
    async with connector.connection("test") as connection:
        await migrate(connection)
    async with connector.pool(2) as pool:
        table = DestinationTable(pool)
        await table.create(declaration("made"), actor="test", now=NOON)
        await pool.execute("UPDATE exportd.destination SET settings = $1::text::jsonb", json.dumps(settings))
        live = Destinations([])
        await DestinationRefresher(table, live, opened, SystemClock()).refresh()
        assert codes(live) == []
        (record,) = await table.all()
        with pytest.raises(PermanentError, match="which the API cannot set"):
            check_origin(record)
