"""What is deleted when it is old, and what stays: a sweep over rows of a real database."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import anyio
import asyncpg
import pytest

from exportd.delivery.tables import PublicationTable
from exportd.jobs.history_pruner import HistoryKind, HistoryPruner
from exportd.model.clock import SystemClock
from exportd.model.job import JobId, Publication
from exportd.model.schedule import ScheduleId
from exportd.settings.schema import MIN_AUDIT_DAYS
from exportd.spool.publication_store import read_publication, write_publication
from exportd.spool.spool import Spool
from tests.fixtures.fake_clock import FakeClock
from tests.fixtures.settings import live_settings, settings_with
from tests.integration.jobs.postgres_jobs import LAKE, NOON, SPOOL, PostgresJobs


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[Spool]:
    async with Spool(live_settings(spool={"directory": tmp_path / "spool"})) as spool:
        yield spool


@pytest.fixture
def pruner(jobs: PostgresJobs, spool: Spool) -> HistoryPruner:
    """By the defaults: jobs stay 90 days, the audit log 400."""
    return HistoryPruner(jobs.pool, spool, settings=live_settings(), clock=SystemClock())


async def ended(
    jobs: PostgresJobs, schedule: ScheduleId | None = None, *, days_ago: float = 91, state: str = "SUCCEEDED"
) -> JobId:
    """A job that ended so many days ago, with a part."""
    job = await jobs.add_job(schedule_id=schedule, due_at=NOON - timedelta(days=days_ago))
    await jobs.connection.execute(
        """UPDATE exportd.job
           SET state = $2::text::exportd.job_state,
               created_at = clock_timestamp() - $3::interval,
               finished_at = clock_timestamp() - $3::interval
           WHERE id = $1""",
        job,
        state,
        timedelta(days=days_ago),
    )
    await jobs.connection.execute(
        "INSERT INTO exportd.part VALUES ($1, 'ACCOUNTS', 1, 'accounts.csv.gz', 1, 1, 1, 'aa')", job
    )
    return job


async def deliver(jobs: PostgresJobs, job: JobId, schedule: ScheduleId, *, days_ago: float = 91) -> None:
    await jobs.connection.execute(
        "INSERT INTO exportd.delivery VALUES ($1, 'lake', $2, 'digest', clock_timestamp() - $3::interval)",
        job,
        schedule,
        timedelta(days=days_ago),
    )


async def left(jobs: PostgresJobs, table: str = "job") -> set[UUID]:
    return {row["id"] for row in await jobs.connection.fetch(f"SELECT id FROM exportd.{table}")}


async def count(jobs: PostgresJobs, table: str) -> int:
    number: int = await jobs.connection.fetchval(f"SELECT count(*) FROM exportd.{table}")
    return number


async def destination(jobs: PostgresJobs, *, deleted_days_ago: float | None) -> UUID:
    identity: UUID = await jobs.connection.fetchval(
        """INSERT INTO exportd.destination
               (organization, code, name, origin, settings, created_by, modified_by, deleted_at)
           VALUES ('org-1', 'lake', 'lake', 'API', '{}', 'x', 'x', clock_timestamp() - $1::interval) RETURNING id""",
        None if deleted_days_ago is None else timedelta(days=deleted_days_ago),
    )
    return identity


async def delete_schedule(jobs: PostgresJobs, schedule: ScheduleId, *, days_ago: float) -> None:
    await jobs.connection.execute(
        "UPDATE exportd.schedule SET deleted_at = clock_timestamp() - $2::interval WHERE id = $1",
        schedule,
        timedelta(days=days_ago),
    )


@pytest.mark.every_postgres
async def test_jobs_that_are_old_go_with_everything_of_them(jobs: PostgresJobs, pruner: HistoryPruner) -> None:
    schedule = await jobs.add_schedule()
    kept = {
        await ended(jobs, days_ago=89),
        await jobs.add_job(due_at=NOON),
        await ended(jobs, schedule, days_ago=95),  # its last success
    }
    for state in ("SUCCEEDED", "FAILED"):
        await ended(jobs, state=state)
        await ended(jobs, schedule, days_ago=100 if state == "FAILED" else 101, state=state)
    assert (await pruner.run_once())[HistoryKind.JOBS] == 4
    assert await left(jobs) == kept
    assert await count(jobs, "part") == 2
    assert not await pruner.run_once()


@pytest.mark.parametrize(
    ("needed", "settled"),
    [
        (
            "UPDATE exportd.job SET log_hold = '7' WHERE id = $1",
            "UPDATE exportd.job SET log_hold = NULL WHERE id = $1",
        ),
        (
            "INSERT INTO exportd.upload (job_id, destination, key, upload_id) VALUES ($1, 'lake', 'k', 'u')",
            "DELETE FROM exportd.upload WHERE job_id = $1",
        ),
        (
            "UPDATE exportd.job SET state = 'FAILED', objects_visible = true WHERE id = $1",
            "UPDATE exportd.job SET objects_visible = false WHERE id = $1",
        ),
        (
            f"UPDATE exportd.job SET spool_id = '{SPOOL}' WHERE id = $1",
            "UPDATE exportd.job SET expired_at = clock_timestamp() - interval '25 hours' WHERE id = $1",
        ),
    ],
    ids=["holds the log", "upload to abort", "objects to remove", "files to drop"],
)
async def test_what_has_to_be_settled_stays_until_it_is(
    jobs: PostgresJobs, pruner: HistoryPruner, needed: str, settled: str
) -> None:
    await jobs.connection.execute(
        "INSERT INTO exportd.daemon (spool_id, host, pid, configuration, version) VALUES ($1, 'h', 1, 'c', '1')", SPOOL
    )
    job = await ended(jobs)
    await jobs.connection.execute(needed, job)
    await pruner.run_once()
    assert await left(jobs) == {job}
    await jobs.connection.execute(settled, job)
    await pruner.run_once()
    assert await left(jobs) == set()


async def test_a_daemon_that_is_gone_and_a_destination_that_is_gone_keep_nothing(
    jobs: PostgresJobs, pruner: HistoryPruner
) -> None:
    """A destination that was deleted not long ago may come back, and one of the same code may have been made since."""
    await jobs.connection.execute("UPDATE exportd.job SET spool_id = $2 WHERE id = $1", await ended(jobs), SPOOL)
    unreachable = await ended(jobs, state="FAILED")
    await jobs.connection.execute("UPDATE exportd.job SET objects_visible = true WHERE id = $1", unreachable)
    schedule = await jobs.add_schedule()
    delivered, later = await ended(jobs, schedule, days_ago=95), await ended(jobs, schedule, days_ago=93)
    await deliver(jobs, delivered, schedule, days_ago=95)

    await destination(jobs, deleted_days_ago=89)
    await pruner.run_once()
    assert await left(jobs) == {unreachable, delivered, later}
    await jobs.connection.execute("UPDATE exportd.destination SET deleted_at = deleted_at - interval '2 days'")
    again = await destination(jobs, deleted_days_ago=None)
    await pruner.run_once()
    assert await left(jobs) == {unreachable, delivered, later}
    await jobs.connection.execute("DELETE FROM exportd.destination WHERE id = $1", again)
    await pruner.run_once()
    assert await left(jobs) == {later}


async def test_what_the_next_manifest_names_stays(jobs: PostgresJobs, pruner: HistoryPruner) -> None:
    """Also without a position, which an edit has taken away: the last success, and what was delivered since."""
    schedule = await jobs.add_schedule()
    before = await ended(jobs, schedule, days_ago=101, state="FAILED")
    success = await ended(jobs, schedule, days_ago=100)
    since = [await ended(jobs, schedule, days_ago=days, state="FAILED") for days in (99, 98)]
    undelivered = [await ended(jobs, schedule, days_ago=days, state="FAILED") for days in (97, 96)]
    for job, days_ago in ((before, 101), (success, 100), (since[0], 99), (since[1], 98)):
        await deliver(jobs, job, schedule, days_ago=days_ago)
    assert await jobs.table.redelivered(schedule, LAKE) == tuple(since)
    assert (await pruner.run_once())[HistoryKind.JOBS] == 2
    assert await left(jobs) == {success, *since, undelivered[-1]}
    assert await jobs.table.redelivered(schedule, LAKE) == tuple(since)
    assert await jobs.table.last_delivery(schedule, LAKE) == (since[1], "digest")


async def test_deleted_schedules_and_destinations_go_when_nothing_refers_to_them(
    jobs: PostgresJobs, pruner: HistoryPruner
) -> None:
    kept, gone = await jobs.add_schedule("kept"), await jobs.add_schedule("gone")
    await delete_schedule(jobs, kept, days_ago=89)
    await delete_schedule(jobs, gone, days_ago=91)
    # A request that was never done refers to an old job, and goes with its schedule.
    past = await ended(jobs, gone)
    unfinished = await jobs.add_job(schedule_id=gone)
    await jobs.connection.execute("UPDATE exportd.job SET created_at = created_at - interval '92 days'")
    await jobs.connection.execute(
        """INSERT INTO exportd.backfill_request (schedule_id, entity, job_id, full_reason, requested_by)
           VALUES ($1, 'ACCOUNTS', $2, 'REQUESTED', 'x')""",
        gone,
        past,
    )
    used = await destination(jobs, deleted_days_ago=91)
    await pruner.run_once()
    assert await left(jobs, "schedule") == {kept, gone}
    assert await left(jobs, "destination") == {used}
    assert await left(jobs) == {unfinished, past}

    await jobs.connection.execute(
        "UPDATE exportd.job SET state = 'FAILED', finished_at = clock_timestamp() - interval '91 days' WHERE id = $1",
        unfinished,
    )
    deleted = await pruner.run_once()
    assert (deleted[HistoryKind.JOBS], deleted[HistoryKind.SCHEDULES], deleted[HistoryKind.DESTINATIONS]) == (2, 1, 1)
    assert await left(jobs, "schedule") == {kept}
    assert await count(jobs, "backfill_request") == 0


async def test_rows_of_organizations_go_with_the_last_thing_of_them(jobs: PostgresJobs, pruner: HistoryPruner) -> None:
    for table, column in (("organization", ""), ("turn", ", number")):
        await jobs.connection.execute(
            f"INSERT INTO exportd.{table} (organization{column}) "
            f"SELECT unnest('{{org-1, gone, other}}'::text[]){', 1' if column else ''}"
        )
    await jobs.add_schedule()
    await ended(jobs, days_ago=1)
    await jobs.connection.execute(
        "INSERT INTO exportd.api_client (organization, name, role, secret_sha256, created_by) "
        "VALUES ('other', 'x', 'reader', '', 'x')"
    )
    await pruner.run_once()
    names = "SELECT array_agg(organization ORDER BY organization) FROM exportd."
    assert await jobs.connection.fetchval(f"{names}organization") == ["org-1", "other"]
    assert await jobs.connection.fetchval(f"{names}turn") == ["org-1"]


async def test_a_spool_forgets_a_schedule_before_its_row_goes(
    jobs: PostgresJobs, pruner: HistoryPruner, spool: Spool
) -> None:
    """The other daemon's note is a file on another host: the row waits for that daemon, as long as there is one."""
    live, gone = await jobs.add_schedule("live"), await jobs.add_schedule("gone")
    publication = Publication(JobId(uuid4()), "7:7:", "0/0", datetime.now(UTC))
    for schedule in (live, gone):
        await write_publication(spool, schedule, publication)
        await jobs.connection.executemany(
            "INSERT INTO exportd.publication (schedule_id, place, token) VALUES ($1, $2, 't')",
            [(schedule, spool.publication_place), (schedule, f"spool {SPOOL}")],
        )
    await jobs.connection.executemany(
        "INSERT INTO exportd.daemon (spool_id, host, pid, configuration, version) VALUES ($1, 'h', 1, 'c', '1')",
        [(spool.id,), (SPOOL,)],
    )
    await delete_schedule(jobs, gone, days_ago=91)
    assert (await pruner.run_once())[HistoryKind.NOTES] == 1
    assert await read_publication(spool.directory, gone) is None
    assert await read_publication(spool.directory, live) == publication
    assert await left(jobs, "schedule") == {live, gone}
    await jobs.connection.execute("DELETE FROM exportd.daemon WHERE spool_id = $1", SPOOL)
    await pruner.run_once()
    assert await left(jobs, "schedule") == {live}


@pytest.mark.every_postgres
class TestAudit:
    async def test_old_rows_go(self, jobs: PostgresJobs, pruner: HistoryPruner) -> None:
        await jobs.connection.execute(
            """INSERT INTO exportd.audit (at, actor, action, details)
               SELECT clock_timestamp() - make_interval(days => 398 + n), 'x', 'y', '{}'
               FROM generate_series(1, 1501) n"""
        )
        assert (await pruner.run_once())[HistoryKind.AUDIT] == 1500
        assert await count(jobs, "audit") == 1

    async def test_postgres_refuses_to_delete_young_rows_and_to_change_any(self, jobs: PostgresJobs) -> None:
        for days in (MIN_AUDIT_DAYS - 1, MIN_AUDIT_DAYS + 1):
            await jobs.connection.execute(
                "INSERT INTO exportd.audit (at, actor, action, details) "
                "VALUES (clock_timestamp() - $1::interval, 'x', 'y', '{}')",
                timedelta(days=days),
            )
        for statement in (
            "DELETE FROM exportd.audit",
            "UPDATE exportd.audit SET at = at - interval '1 year'",
            "TRUNCATE exportd.audit",
        ):
            with pytest.raises(asyncpg.RaiseError, match="only rows older than 30 days can be deleted"):
                await jobs.connection.execute(statement)
        assert await count(jobs, "audit") == 2
        await jobs.connection.execute(
            f"DELETE FROM exportd.audit WHERE at < clock_timestamp() - interval '{MIN_AUDIT_DAYS} days'"
        )
        assert await count(jobs, "audit") == 1


class TestBatches:
    async def test_a_sweep_that_dies_between_two_batches_leaves_whole_jobs(
        self, jobs: PostgresJobs, spool: Spool
    ) -> None:
        for _ in range(7):
            await ended(jobs)

        def die(kind: HistoryKind, rows: int) -> None:
            raise anyio.get_cancelled_exc_class()

        settings, clock = live_settings(), SystemClock()
        dying = HistoryPruner(jobs.pool, spool, settings=settings, clock=clock, on_deleted=die, batch_jobs=3)
        with pytest.raises(anyio.get_cancelled_exc_class()):
            await dying.run_once()
        assert (await count(jobs, "job"), await count(jobs, "part")) == (4, 4)
        again = HistoryPruner(jobs.pool, spool, settings=settings, clock=clock, batch_jobs=3)
        assert (await again.run_once())[HistoryKind.JOBS] == 4
        assert (await count(jobs, "job"), await count(jobs, "part")) == (0, 0)

    async def test_two_daemons_that_sweep_at_once_delete_each_row_once(self, jobs: PostgresJobs, spool: Spool) -> None:
        schedules = [await jobs.add_schedule(f"schedule-{number}") for number in range(4)]
        last = {await ended(jobs, schedule, days_ago=91) for schedule in schedules}
        for number in range(60):
            await ended(jobs, schedules[number % 4], days_ago=100 + number)
        pruners = [
            HistoryPruner(jobs.pool, spool, settings=live_settings(), clock=SystemClock(), batch_jobs=4)
            for _ in range(2)
        ]
        deleted = []

        async def sweep(pruner: HistoryPruner) -> None:
            deleted.append((await pruner.run_once())[HistoryKind.JOBS])

        async with anyio.create_task_group() as sweeping:
            for pruner in pruners:
                sweeping.start_soon(sweep, pruner)
        remaining = len(await left(jobs)) - len(last)
        assert sum(deleted) + remaining == 60
        # What one found in use by the other goes with the next sweep.
        assert (await pruners[0].run_once())[HistoryKind.JOBS] == remaining
        assert await left(jobs) == last

    async def test_jobs_that_have_to_stay_do_not_keep_the_younger_ones(self, jobs: PostgresJobs, spool: Spool) -> None:
        kept = {await ended(jobs, await jobs.add_schedule(f"schedule-{number}"), days_ago=200) for number in range(5)}
        await ended(jobs, days_ago=91)
        pruner = HistoryPruner(jobs.pool, spool, settings=live_settings(), clock=SystemClock(), batch_jobs=2)
        assert (await pruner.run_once())[HistoryKind.JOBS] == 1
        assert await left(jobs) == kept

    async def test_a_schedule_that_is_in_use_is_left_for_the_next_sweep(
        self, jobs: PostgresJobs, pruner: HistoryPruner
    ) -> None:
        schedule = await jobs.add_schedule()
        last, old = await ended(jobs, schedule, days_ago=91), await ended(jobs, schedule, days_ago=92)
        async with jobs.connection.transaction():
            await jobs.connection.execute("SELECT FROM exportd.schedule WHERE id = $1 FOR SHARE", schedule)
            assert not await pruner.run_once()
        assert await left(jobs) == {last, old}
        assert (await pruner.run_once())[HistoryKind.JOBS] == 1


async def test_a_reload_is_heard_at_once(jobs: PostgresJobs, spool: Spool) -> None:
    settings = settings_with(retention={"jobs": 90.0})
    deleted = anyio.Event()
    pruner = HistoryPruner(
        jobs.pool,
        spool,
        settings=lambda: settings,
        clock=FakeClock(),
        on_deleted=lambda kind, rows: deleted.set(),
    )
    first = await ended(jobs, days_ago=91)
    young = await ended(jobs, days_ago=80)
    async with anyio.create_task_group() as running:
        running.start_soon(pruner.run)
        await deleted.wait()
        assert first not in await left(jobs)
        assert young in await left(jobs)
        deleted = anyio.Event()
        settings = settings_with(retention={"jobs": 79.0})
        pruner.wake()
        await deleted.wait()
        running.cancel_scope.cancel()
    assert await left(jobs) == set()


async def test_what_a_place_remembers_of_a_deleted_job_is_no_other_history(
    jobs: PostgresJobs, pruner: HistoryPruner
) -> None:
    """It was silent while later jobs were published; a memory that is newer than all that was deleted is another's."""
    schedule = await jobs.add_schedule()
    await ended(jobs, schedule, days_ago=91)
    forgotten = await ended(jobs, schedule, days_ago=92)
    taken_at = datetime.now(UTC) - timedelta(days=1)
    await jobs.connection.execute(
        """UPDATE exportd.job SET extraction = json_build_object('snapshot', '7:7:', 'taken_at', $2::text,
                                                                 'entities', '[]'::json)
           WHERE id = $1""",
        forgotten,
        taken_at.isoformat(),
    )
    held = {
        str(LAKE): Publication(forgotten, "7:7:", "0/0", taken_at),
        "pond": Publication(JobId(uuid4()), "9:9:", "0/0", taken_at + timedelta(hours=1)),
    }
    table = PublicationTable(jobs.pool)
    assert await table.unknown(schedule, held) == {"pond"}
    await pruner.run_once()
    assert forgotten not in await left(jobs)
    assert await table.unknown(schedule, held) == {"pond"}
