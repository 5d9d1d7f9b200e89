"""A changed schedule is named in the event, so that daemons with thousands of them read this one only."""

from exportd.database.connector import Connector
from exportd.model.schedule import Cron
from exportd.schedules.editing import OwnedScheduleTable
from exportd.schedules.operations import ScheduleOperator
from tests.fixtures.postgres import Database
from tests.integration.schedules.postgres_schedules import ACME, NOON, PostgresSchedules, declare


async def test_what_its_owner_and_operators_do_sends_an_event_with_the_schedule(
    stored: PostgresSchedules, database: Database
) -> None:
    async with Connector(database.dsn).pool(1) as pool:
        owned, operator = OwnedScheduleTable(pool), ScheduleOperator(pool)
        made = (await owned.create(declare(), destination_ids=[], actor="amy", now=NOON)).schedule
        expected = [{"kind": "schedule_changed", "schedule": str(made.id)}]
        assert await stored.new_events() == expected
        await owned.update(
            made.id, declare(rule=Cron("0 3 * * *")), version=1, destination_ids=[], actor="amy", now=NOON
        )
        assert await stored.new_events() == expected
        await operator.pause(made.id, actor="amy")
        assert await stored.new_events() == expected
        await operator.resume(made.id, actor="amy")
        assert await stored.new_events() == expected
        await owned.delete(ACME, made.id, actor="amy", now=NOON)
        assert await stored.new_events() == expected


async def test_thousands_are_read_whole_and_in_order(stored: PostgresSchedules) -> None:
    """In slices."""
    codes = [f"schedule-{number:04}" for number in range(1001)]
    result = await stored.table.reconcile([declare(code) for code in codes], now=NOON)
    assert len({created.id for created in result.created}) == len(codes)
    assert [schedule.declaration.code for schedule in await stored.table.all()] == codes
    some = {created.id for created in result.created[:700]}
    assert {schedule.id for schedule in await stored.table.some(some)} == some
    edited = await stored.table.reconcile([declare(code, entities=("PLANS",)) for code in codes], now=NOON)
    assert (len(edited.changed), {changed.version for changed in edited.changed}) == (len(codes), {2})
