"""Declarations become rows of a real Postgres."""

from dataclasses import replace
from datetime import timedelta
from functools import partial

import anyio
import pytest

from exportd.database.connector import Connector
from exportd.model.schedule import ExportFormat, Interval, Unit
from exportd.schedules.firing_table import ReconcileResult, ScheduleTable
from tests.fixtures.postgres import Database
from tests.integration.schedules.postgres_schedules import (
    DAILY,
    HOURLY,
    NIGHTLY,
    NOON,
    PostgresSchedules,
    declare,
)

pytestmark = pytest.mark.every_postgres

LATER = NOON + timedelta(hours=5)


class TestANewSchedule:
    async def test_is_due_at_once_and_reads_back_as_declared(self, stored: PostgresSchedules) -> None:
        declarations = [declare("b", rule=DAILY), declare("a", rule=NIGHTLY), declare("c", rule=HOURLY)]
        result = await stored.table.reconcile(declarations, now=NOON)
        schedules = await stored.table.all()
        assert [schedule.declaration for schedule in schedules] == sorted(
            declarations, key=lambda declaration: declaration.code
        )
        assert {
            (schedule.created_at, schedule.next_due_at, schedule.last_due_at, schedule.version)
            for schedule in schedules
        } == {(NOON, NOON, None, 1)}
        assert sorted(result.created, key=lambda schedule: schedule.declaration.code) == schedules

    async def test_is_told_once(self, stored: PostgresSchedules) -> None:
        await stored.table.reconcile([declare("a"), declare("b")], now=NOON)
        assert await stored.new_events() == [{"kind": "schedule_changed", "schedule": None}]

    async def test_of_two_organizations_may_have_the_same_code(self, stored: PostgresSchedules) -> None:
        schedules = await stored.declared(declare(), declare(organization="other"))
        assert len({schedule.id for schedule in schedules}) == 2


class TestAnUnchangedSchedule:
    async def test_is_neither_touched_nor_told(self, stored: PostgresSchedules) -> None:
        before = await stored.declared(declare())
        result = await stored.table.reconcile([declare()], now=LATER)
        assert result == ReconcileResult((), (), (), tuple(before))
        assert await stored.table.all() == before
        assert await stored.new_events() == []


class TestAnEditedSchedule:
    async def test_keeps_its_due_time_unless_the_rule_changed(self, stored: PostgresSchedules) -> None:
        (before,) = await stored.declared(declare())
        edited = replace(declare(), name="Other", file_format=ExportFormat.CSV, destinations=())
        result = await stored.table.reconcile([edited], now=LATER)
        (after,) = await stored.table.all()
        assert after == replace(before, declaration=edited, version=2)
        assert result.changed == (after,)
        assert await stored.new_events() == [{"kind": "schedule_changed", "schedule": None}]

    async def test_counts_a_new_rule_from_the_last_due_time(self, stored: PostgresSchedules) -> None:
        (before,) = await stored.declared(declare())
        await stored.fire(before, due_at=NOON, next_due_at=NOON + timedelta(hours=1), now=NOON)
        await stored.table.reconcile([declare(rule=Interval(Unit.HOUR, 3))], now=LATER)
        (after,) = await stored.table.all()
        assert (after.last_due_at, after.next_due_at) == (NOON, NOON + timedelta(hours=3))
        assert after.created_at == NOON

    async def test_keeps_the_positions_of_entities_it_had_and_has(self, stored: PostgresSchedules) -> None:
        (schedule,) = await stored.declared(declare(entities=("ACCOUNTS", "PLANS", "BILLS")))
        await stored.add_positions(schedule, "ACCOUNTS", "PLANS", "BILLS")
        await stored.declared(declare(entities=("BILLS", "PLANS"), rule=DAILY))
        assert await stored.positions(schedule.id) == {"BILLS", "PLANS"}

    async def test_exports_an_entity_that_comes_back_from_the_start(self, stored: PostgresSchedules) -> None:
        (schedule,) = await stored.declared(declare(entities=("ACCOUNTS", "PLANS")))
        await stored.declared(declare(entities=("PLANS",)))
        await stored.add_positions(schedule, "ACCOUNTS", "PLANS")  # left behind by whatever ran across the edit
        await stored.declared(declare(entities=("ACCOUNTS", "PLANS")))
        assert await stored.positions(schedule.id) == {"PLANS"}


class TestADeletedSchedule:
    async def test_is_gone_for_everyone_but_its_jobs(self, stored: PostgresSchedules) -> None:
        (schedule,) = await stored.declared(declare())
        await stored.fire(schedule, due_at=NOON, next_due_at=LATER, now=NOON)
        await stored.add_positions(schedule, "ACCOUNTS")
        await stored.new_events()
        result = await stored.table.reconcile([], now=LATER)
        assert [deleted.id for deleted in result.deleted] == [schedule.id]
        assert await stored.new_events() == [{"kind": "schedule_changed", "schedule": None}]
        assert await stored.table.all() == []
        assert await stored.positions(schedule.id) == set()
        assert [job["schedule_id"] for job in await stored.jobs()] == [schedule.id]
        assert await stored.connection.fetchval("SELECT deleted_at FROM exportd.schedule") == LATER

    async def test_is_a_new_one_when_declared_again(self, stored: PostgresSchedules) -> None:
        (before,) = await stored.declared(declare())
        await stored.table.reconcile([], now=NOON)
        (after,) = await stored.declared(declare(), now=LATER)
        assert after.id != before.id
        assert (after.created_at, after.next_due_at, after.version) == (LATER, LATER, 1)


class TestSeveralDaemons:
    """Reconciling at the same time."""

    @pytest.mark.parametrize("isolation", ["read committed", "repeatable read", "serializable"])
    async def test_make_each_schedule_once(self, database: Database, isolation: str) -> None:
        connection = await database.connect()
        await connection.execute(f"ALTER DATABASE {database.name} SET default_transaction_isolation = '{isolation}'")
        declarations = [declare(f"s{number}") for number in range(5)]
        results: list[ReconcileResult] = []

        async def start_daemon() -> None:
            async with Connector(database.dsn).pool(1) as pool:
                results.append(await ScheduleTable(pool).reconcile(declarations, now=NOON))

        async with anyio.create_task_group() as group:
            for _ in range(6):
                group.start_soon(start_daemon)
        assert sorted((len(result.created), len(result.unchanged)) for result in results) == [(0, 5)] * 5 + [(5, 0)]
        assert await connection.fetchval("SELECT count(*) FROM exportd.schedule") == 5

    async def test_may_edit_fire_and_delete_at_once(self, stored: PostgresSchedules) -> None:
        """Nothing fails, and no firing is half done."""
        for _ in range(5):
            (schedule,) = await stored.declared(declare())
            fire = partial(stored.fire, schedule, due_at=NOON, next_due_at=LATER, now=NOON)
            async with anyio.create_task_group() as group:
                group.start_soon(fire)
                group.start_soon(partial(stored.table.reconcile, [declare(rule=DAILY)], now=NOON))
                group.start_soon(partial(stored.table.reconcile, [], now=NOON))
                group.start_soon(fire)
            await stored.table.reconcile([], now=NOON)
        halves = await stored.connection.fetch(
            """SELECT FROM exportd.schedule LEFT JOIN exportd.job ON job.schedule_id = schedule.id
               WHERE job.due_at IS DISTINCT FROM schedule.last_due_at"""
        )
        assert halves == []
