"""Who changes a schedule names it, so that daemons with thousands of them look at this one only."""

from exportd.database.connector import Connector
from exportd.model.schedule import Cron
from exportd.schedules.editing import OwnedScheduleTable
from exportd.schedules.operations import ScheduleOperator
from tests.fixtures.postgres import Database
from tests.integration.schedules.schedule_database import ACME, NOON, Office, declare


async def test_what_its_owner_and_operators_do_is_told_of_the_schedule(office: Office, database: Database) -> None:
    async with Connector(database.dsn).pool(1) as pool:
        owned, operator = OwnedScheduleTable(pool), ScheduleOperator(pool)
        made = (await owned.create(declare(), destination_ids=[], actor="amy", now=NOON)).schedule
        told = [{"kind": "schedule_changed", "schedule": str(made.id)}]
        assert await office.heard() == told
        await owned.update(
            made.id, declare(rule=Cron("0 3 * * *")), version=1, destination_ids=[], actor="amy", now=NOON
        )
        assert await office.heard() == told
        await operator.pause(made.id, actor="amy")
        assert await office.heard() == told
        await operator.resume(made.id, actor="amy")
        assert await office.heard() == told
        await owned.delete(ACME, made.id, actor="amy", now=NOON)
        assert await office.heard() == told


async def test_thousands_are_read_whole_and_in_order(office: Office) -> None:
    """By slices, which nobody notices."""
    codes = [f"schedule-{number:04}" for number in range(1001)]
    result = await office.table.reconcile([declare(code) for code in codes], now=NOON)
    assert len({each.id for each in result.created}) == len(codes)
    assert [each.declaration.code for each in await office.table.all()] == codes
    some = {each.id for each in result.created[:700]}
    assert {each.id for each in await office.table.some(some)} == some
    edited = await office.table.reconcile([declare(code, entities=("PLANS",)) for code in codes], now=NOON)
    assert (len(edited.changed), {each.version for each in edited.changed}) == (len(codes), {2})
