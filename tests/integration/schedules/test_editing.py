"""What an edit of a schedule leaves in the audit log."""

import json

from exportd.database.connector import Connector
from exportd.model.schedule import Cron
from exportd.schedules.editing import OwnedScheduleTable
from tests.fixtures.postgres import Database
from tests.integration.schedules.postgres_schedules import ACME, NOON, declare


async def test_the_audit_log_has_the_declaration_by_the_names_of_the_columns(database: Database) -> None:
    async with Connector(database.dsn).pool(1) as pool:
        owned = OwnedScheduleTable(pool)
        made = (await owned.create(declare(), destination_ids=[], actor="amy", now=NOON)).schedule
        edited = declare("renamed", rule=Cron("0 3 * * *"))
        await owned.update(made.id, edited, version=1, destination_ids=[], actor="ben", now=NOON)
        await owned.delete(ACME, made.id, actor="amy", now=NOON)
        rows = await pool.fetch("SELECT * FROM exportd.audit ORDER BY id")
    assert [(row["action"], row["actor"], row["organization"]) for row in rows] == [
        ("schedule created", "amy", "acme"),
        ("schedule edited", "ben", "acme"),
        ("schedule deleted", "amy", "acme"),
    ]
    assert {row["object_id"] for row in rows} == {made.id}
    created, changed, deleted = (json.loads(row["details"]) for row in rows)
    assert created == {
        "version": 1,
        "code": "nightly",
        "name": "The nightly one",
        "entities": ["ACCOUNTS", "PLANS"],
        "format": "JSONL",
        "destinations": [],
        "rule": {"unit": "HOUR", "period": 1},
    }
    assert changed == {**created, "version": 2, "code": "renamed", "name": edited.name, "rule": {"cron": "0 3 * * *"}}
    assert deleted == changed
