"""Schedules fire once, in a real Postgres."""

from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import uuid4

import anyio
import pytest

from exportd.database.connector import Connector
from exportd.model.errors import ExportdError, PermanentError, Reason, TransientError
from exportd.model.job import JobId
from exportd.model.schedule import ScheduleId
from exportd.schedules.firing_table import Firing, ScheduleTable
from exportd.schedules.operations import ScheduleOperator
from exportd.schedules.ticker import Ticker
from tests.fixtures.fake_clock import FakeClock
from tests.fixtures.postgres import Database
from tests.integration.schedules.postgres_schedules import ACME, DAILY, HOURLY, NOON, PostgresSchedules, declare

pytestmark = pytest.mark.every_postgres

HOUR = timedelta(hours=1)


class TestFiring:
    async def test_queues_a_job_with_what_the_schedule_says_and_moves_on(self, stored: PostgresSchedules) -> None:
        (schedule,) = await stored.declared(declare())
        job_id = await stored.fire(schedule, due_at=NOON, next_due_at=NOON + HOUR, now=NOON + HOUR / 2)
        (job,) = await stored.jobs()
        assert job["id"] == job_id
        assert (job["organization"], job["schedule_id"], job["schedule_code"]) == (ACME, schedule.id, "nightly")
        assert (job["entities"], job["format"]) == (["ACCOUNTS", "PLANS"], "JSONL")
        assert job["destinations"] == ["lake", "attic"]
        assert (job["state"], job["phase"], job["attempt"]) == ("PENDING", "EXTRACTING", 0)
        assert (job["due_at"], job["created_at"]) == (NOON, NOON + HOUR / 2)
        (moved,) = await stored.table.all()
        assert (moved.last_due_at, moved.next_due_at, moved.version) == (NOON, NOON + HOUR, 1)

    async def test_tells_of_the_job(self, stored: PostgresSchedules) -> None:
        (schedule,) = await stored.declared(declare())
        job_id = await stored.fire(schedule, due_at=NOON, next_due_at=NOON + HOUR, now=NOON)
        assert await stored.new_events() == [{"kind": "job_queued", "id": str(job_id), "state": "PENDING"}]

    async def test_is_refused_to_who_comes_second(self, stored: PostgresSchedules) -> None:
        (schedule,) = await stored.declared(declare())
        fire = partial(stored.fire, schedule, due_at=NOON, next_due_at=NOON + HOUR, now=NOON)
        assert await fire() is not None
        await stored.finish_jobs()
        assert await fire() is None
        assert len(await stored.jobs()) == 1

    async def test_happens_once_however_many_try_at_the_same_time(self, stored: PostgresSchedules) -> None:
        (schedule,) = await stored.declared(declare())
        fired: list[JobId | None] = []

        async def fire() -> None:
            fired.append(await stored.fire(schedule, due_at=NOON, next_due_at=NOON + HOUR, now=NOON))

        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(fire)
        (job,) = await stored.jobs()
        assert [job_id for job_id in fired if job_id is not None] == [job["id"]]

    async def test_waits_for_an_unfinished_job(self, stored: PostgresSchedules) -> None:
        (schedule,) = await stored.declared(declare())
        await stored.fire(schedule, due_at=NOON, next_due_at=NOON + HOUR, now=NOON)
        (schedule,) = await stored.table.all()
        fire = partial(stored.fire, schedule, due_at=NOON + HOUR, next_due_at=NOON + 2 * HOUR, now=NOON + HOUR)
        for state in ("PENDING", "RUNNING"):
            await stored.connection.execute(f"UPDATE exportd.job SET state = '{state}'")
            assert await fire() is None
            assert await stored.table.all() == [schedule]
        await stored.connection.execute("UPDATE exportd.job SET state = 'FAILED'")
        assert await fire() is not None

    async def test_is_refused_after_an_edit_or_a_deletion(self, stored: PostgresSchedules) -> None:
        (schedule,) = await stored.declared(declare())
        fire = partial(stored.fire, schedule, due_at=NOON, next_due_at=NOON + HOUR, now=NOON)
        (edited,) = await stored.declared(declare(rule=DAILY))
        assert edited.next_due_at == schedule.next_due_at
        assert await fire() is None
        await stored.table.reconcile([], now=NOON)
        assert await fire() is None
        assert await stored.jobs() == []

    async def test_moves_on_when_a_run_of_that_due_time_was_asked_for(self, stored: PostgresSchedules) -> None:
        (schedule,) = await stored.declared(declare())
        await stored.run("nightly")
        await stored.connection.execute("UPDATE exportd.job SET due_at = $1", NOON)
        fire = partial(stored.fire, schedule, due_at=NOON, next_due_at=NOON + HOUR, now=NOON)
        assert await fire() is None
        (moved,) = await stored.table.all()
        assert (moved.last_due_at, moved.next_due_at) == (NOON, NOON + HOUR)
        assert len(await stored.jobs()) == 1


class TestFiringTogether:
    async def test_fires_those_that_are_as_they_were_read_and_have_no_unfinished_job(
        self, stored: PostgresSchedules
    ) -> None:
        codes = ("busy", "due", "edited", "gone", "late", "paused", "run")
        read = {one.declaration.code: one for one in await stored.declared(*map(declare, codes))}
        asked_for = await stored.run("busy")
        await stored.run("run")
        await stored.connection.execute("UPDATE exportd.job SET due_at = $1 WHERE schedule_code = 'run'", NOON)
        await stored.connection.execute("UPDATE exportd.schedule SET paused_at = now() WHERE code = 'paused'")
        kept = (declare(code, rule=DAILY if code == "edited" else HOURLY) for code in codes if code != "gone")
        await stored.table.reconcile(kept, now=NOON)
        await stored.new_events()
        firings = [Firing(schedule, NOON, NOON + HOUR) for schedule in read.values()]
        jobs = await stored.table.fire(firings, now=NOON)
        assert jobs.keys() == {read["due"].id, read["late"].id}
        events = await stored.new_events()
        assert {event["id"] for event in events if event["kind"] == "job_queued"} == {*map(str, jobs.values())}
        moved = {one.declaration.code for one in await stored.table.all() if one.next_due_at == NOON + HOUR}
        assert moved == {"due", "late", "run"}, "a run that was asked for had that due time already"
        queued = [job["id"] for job in await stored.jobs() if job["schedule_code"] in {"busy", "due", "late"}]
        assert sorted(queued) == sorted([asked_for, *jobs.values()])

    async def test_by_several_at_the_same_time_fires_each_once(self, stored: PostgresSchedules) -> None:
        schedules = await stored.declared(*(declare(f"s{number}") for number in range(40)))
        fired: list[JobId] = []

        async def fire(begin: int, step: int) -> None:
            firings = [Firing(schedule, NOON, NOON + HOUR) for schedule in schedules[begin::step]]
            fired.extend((await stored.table.fire(firings, now=NOON)).values())

        async with anyio.create_task_group() as group:
            for begin, step in ((0, 1), (39, -1), (0, 2), (1, 2), (20, 1), (10, -1)):
                group.start_soon(fire, begin, step)
        assert sorted(fired) == sorted(job["id"] for job in await stored.jobs())
        assert len(fired) == 40


class TestFiringNow:
    async def test_queues_a_job_due_now_and_leaves_the_schedule_alone(self, stored: PostgresSchedules) -> None:
        schedules = await stored.declared(declare(), declare("other"))
        before = datetime.now(UTC) - timedelta(minutes=1)
        job_id = await stored.run("nightly")
        (job,) = await stored.jobs()
        assert (job["id"], job["schedule_code"], job["entities"]) == (job_id, "nightly", ["ACCOUNTS", "PLANS"])
        assert before < job["due_at"] < before + timedelta(minutes=2)
        assert await stored.table.all() == schedules
        assert await stored.new_events() == [
            {"kind": "job_queued", "id": str(job_id), "state": "PENDING"},
            {"kind": "schedule_changed", "schedule": str(job["schedule_id"])},
        ]
        (entry,) = await stored.connection.fetch("SELECT actor, action, organization, details FROM exportd.audit")
        assert (entry["actor"], entry["action"], entry["organization"]) == ("test", "schedule run", ACME)
        assert str(job_id) in entry["details"]

    async def test_may_be_asked_for_at_any_time_but_not_twice_at_once(self, stored: PostgresSchedules) -> None:
        await stored.declared(declare())
        first = await stored.run("nightly")
        with pytest.raises(TransientError) as raised:
            await stored.run("nightly")
        assert raised.value.reason is Reason.JOB_UNFINISHED
        assert f"'nightly' has an unfinished job, {first} (PENDING)" in raised.value.sentence
        await stored.finish_jobs()
        assert await stored.run("nightly") != first

    async def test_queues_one_job_however_many_ask_at_the_same_time(self, stored: PostgresSchedules) -> None:
        await stored.declared(declare())
        outcomes: list[JobId | Reason] = []

        async def ask() -> None:
            try:
                outcomes.append(await stored.run("nightly"))
            except ExportdError as error:
                outcomes.append(error.reason)

        async with anyio.create_task_group() as group:
            for _ in range(6):
                group.start_soon(ask)
        assert outcomes.count(Reason.JOB_UNFINISHED) == 5
        assert len(await stored.jobs()) == 1

    async def test_of_an_unknown_or_deleted_schedule_is_refused(self, stored: PostgresSchedules) -> None:
        (gone,) = await stored.declared(declare("gone"))
        await stored.table.reconcile([], now=NOON)
        for schedule in (gone.id, ScheduleId(uuid4())):
            with pytest.raises(PermanentError, match=str(schedule)) as raised:
                await ScheduleOperator(stored.pool).run(schedule, actor="test")
            assert raised.value.reason is Reason.NOT_FOUND


class TestTheTicker:
    """Over a real table."""

    async def test_fires_what_is_due_and_coalesces_what_was_missed(self, stored: PostgresSchedules) -> None:
        await stored.declared(declare())
        ticker = Ticker(stored.table, FakeClock(NOON))
        assert await ticker.run_once(NOON) == 1
        assert await ticker.run_once(NOON + 2 * HOUR) == 0
        await stored.finish_jobs()
        assert await ticker.run_once(NOON + 3.5 * HOUR) == 1
        assert [job["due_at"] for job in await stored.jobs()] == [NOON, NOON + 3 * HOUR]
        (schedule,) = await stored.table.all()
        assert schedule.next_due_at == NOON + 4 * HOUR

    async def test_of_two_daemons_fires_each_schedule_once(self, stored: PostgresSchedules) -> None:
        await stored.declared(*(declare(f"s{number}") for number in range(10)))
        fired: list[int] = []

        async def tick() -> None:
            fired.append(await Ticker(stored.table, FakeClock(NOON)).run_once(NOON + HOUR / 2))

        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(tick)
        assert sum(fired) == 10
        assert len(await stored.jobs()) == 10

    async def test_goes_on_after_a_connection_was_lost_on_the_way(self, database: Database) -> None:
        connection, observer = await database.connect(), await database.connect()
        async with Connector(database.dsn).pool(1) as pool:
            table = ScheduleTable(pool)
            await table.reconcile([declare("a"), declare("b")], now=NOON)
            ticker = Ticker(table, FakeClock(NOON))
            outcomes: list[int | Reason] = []

            async def tick() -> None:
                try:
                    outcomes.append(await ticker.run_once(NOON))
                except TransientError as error:
                    outcomes.append(error.reason)

            async with anyio.create_task_group() as group, connection.transaction():
                await connection.execute("LOCK exportd.schedule")
                group.start_soon(tick)
                while not await observer.fetchval(
                    """SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                       WHERE datname = current_database() AND wait_event_type = 'Lock'"""
                ):
                    await anyio.lowlevel.checkpoint()
            await tick()
        assert outcomes == [Reason.DATABASE_CONNECTION_LOST, 2]
        assert await connection.fetchval("SELECT count(*) FROM exportd.job") == 2
