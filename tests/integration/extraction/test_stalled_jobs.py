"""Tables that hold up the jobs that read them, and what others notice of it: the dispatcher with real exports.

A function that the planner calls waits, as code of a table's owner may, and as a large table has an honest job wait.
"""

import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from exportd.capture.installer import CaptureInstaller, capture_is_intact
from exportd.catalog.document import Catalog
from exportd.database.connector import Connection, Connector
from exportd.extraction.copier import Copier
from exportd.extraction.extractor import Extractor
from exportd.extraction.snapshot_opener import SnapshotOpener
from exportd.jobs.dispatcher import Dispatcher
from exportd.jobs.job_record import JobRecord
from exportd.jobs.job_table import JobTable
from exportd.model.clock import SystemClock
from exportd.model.entity import Entity, EntityCode, Field, TableName
from exportd.model.errors import Reason
from exportd.model.job import JobId, JobProgress, JobState, Lease
from exportd.settings.schema import LimitSettings
from exportd.spool.spool import Spool
from tests.fixtures.postgres import Database
from tests.fixtures.settings import live_settings

STALLED_AFTER_S = 0.2
GATE = 4711
"""The advisory lock for which the honest table's function waits."""

SLEEPS = "PERFORM pg_catalog.pg_sleep(3600);"
WAITS = f"""PERFORM pg_catalog.set_config('lock_timeout', '0', true);
            PERFORM pg_catalog.pg_advisory_xact_lock_shared({GATE});"""


@dataclass
class Site:
    """Tables, a dispatcher whose jobs really read them, and the jobs. ``succeeded`` are the entities of those done."""

    connection: Connection
    table: JobTable
    dispatcher: Dispatcher
    succeeded: list[EntityCode] = field(default_factory=list)
    on_success: Callable[[Lease], Any] | None = None
    _news: anyio.Event = field(default_factory=anyio.Event)
    _adding: anyio.Lock = field(default_factory=anyio.Lock)

    async def add_job(self, organization: str, *entities: str) -> JobId:
        async with self._adding:  # a job that has ended may add one as well
            job = await self.connection.fetchval(
                "INSERT INTO exportd.job (organization, due_at, entities, format, destinations, not_before)"
                " VALUES ($1, clock_timestamp(), $2, 'JSONL', '{}', clock_timestamp()) RETURNING id",
                organization,
                list(entities),
            )
        self.dispatcher.wake()
        return JobId(job)

    async def record(self, job: JobId) -> JobRecord:
        record = await self.table.get(job)
        assert record is not None
        return record

    async def until(self, job: JobId, condition: Callable[[JobRecord], bool]) -> JobRecord:
        while not condition(record := await self.record(job)):
            await anyio.lowlevel.checkpoint()
        return record

    async def until_succeeded(self, entity: str, count: int = 1) -> None:
        while self.succeeded.count(EntityCode(entity)) < count:
            await self._news.wait()

    async def done(self, lease: Lease) -> None:
        self.succeeded += lease.job.entities
        news, self._news = self._news, anyio.Event()
        if self.on_success is not None:
            await self.on_success(lease)
        news.set()

    async def asleep(self) -> int:
        """How many sessions sleep in a function of a table's owner."""
        found: int = await self.connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
        )
        return found


def is_stalled(record: JobRecord) -> bool:
    return bool(record.progress.stalls)


@asynccontextmanager
async def open_site(database: Database, folder: Path, tables: dict[str, str], **limits: Any) -> AsyncIterator[Site]:
    """``tables`` has by code what a function does that the planner calls when the table is read by an export."""
    connection = await database.connect()
    for code, does in tables.items():
        await connection.execute(f"CREATE TABLE {code} (id int PRIMARY KEY); INSERT INTO {code} VALUES (1), (2)")
        if does:
            await connection.execute(f"""
                CREATE FUNCTION trap_{code}(int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
                BEGIN
                  IF current_setting('application_name') = 'exportd export' THEN {does} END IF;
                  RETURN true;
                END $$;
                CREATE INDEX ON {code} (id) WHERE trap_{code}(1)""")
    entities = {
        EntityCode(code): Entity(
            EntityCode(code), code, code, TableName("public", code), ("id",), None, (Field("id", column="id"),)
        )
        for code in tables
    }
    connector = Connector(database.dsn)
    settings = live_settings(
        limits={"job_attempts": 3, **limits}, capture={"poll_interval_s": 1.0}, spool={"directory": folder / "spool"}
    )
    async with Spool(settings) as spool, connector.pool(10) as pool, anyio.create_task_group() as group:
        table = JobTable(pool)
        installer = CaptureInstaller(connector, pause=anyio.sleep)
        await installer.install(list(entities.values()))
        silence = LimitSettings(streams=1, silence_timeout_s=limits.get("silence_timeout_s", 600))
        extractor = Extractor(
            catalog=Catalog(entities),
            installer=installer,
            opener=SnapshotOpener(connector, is_intact=capture_is_intact, pause=anyio.sleep),
            copier=Copier(connector, silence),
            spool=spool,
            limits=silence,
            stalled_after_s=STALLED_AFTER_S,
        )

        async def run_job(lease: Lease, progress: JobProgress) -> None:
            await extractor.extract(lease.job, {}, forced={}, progress=progress, on_part_started=lambda _: None)
            await table.succeed(lease, positions=[])
            await site.done(lease)

        dispatcher = Dispatcher(
            table,
            run_job,
            holder="test",
            spool_id=uuid.uuid4(),
            settings=settings,
            lease_s=60,
            clock=SystemClock(),
        )
        site = Site(connection, table, dispatcher)
        group.start_soon(dispatcher.run)
        with anyio.fail_after(60):
            yield site
        await dispatcher.drain(0)


@pytest.mark.parametrize("jobs", [1, 2])
async def test_others_export_while_a_function_sleeps(database: Database, tmp_path: Path, jobs: int) -> None:
    """All organizations read the table that sleeps, and their other exports go on."""
    organizations = [f"org-{number}" for number in range(4)]
    async with open_site(database, tmp_path, {"trap": SLEEPS, "fine": ""}, jobs=jobs, stalled_jobs=2) as site:
        asleep = [await site.add_job(organization, "trap") for organization in organizations]
        for organization in organizations * 3:
            await site.add_job(organization, "fine")
        await site.until_succeeded("fine", 12)
        assert "trap" not in site.succeeded
        assert 1 <= await site.asleep() <= jobs + 2
        states = [(await site.record(job)).state for job in asleep]
        assert set(states) <= {JobState.RUNNING, JobState.PENDING}
        assert list(site.dispatcher.stalled_entities) == ["trap"]


@pytest.mark.parametrize("jobs", [1, 2])
async def test_an_honest_table_gets_through_beside_one_that_sleeps_and_under_load(
    database: Database, tmp_path: Path, jobs: int
) -> None:
    await (gate := await database.connect()).execute(f"SELECT pg_advisory_lock({GATE})")
    tables = {"trap": SLEEPS, "slow": WAITS, "fine": ""}
    async with open_site(database, tmp_path, tables, jobs=jobs, stalled_jobs=2) as site:

        async def another(lease: Lease) -> None:
            if lease.job.entities == ("fine",) and lease.job.organization != "org-honest":
                await site.add_job(lease.job.organization, "fine")

        site.on_success = another
        for number in range(3):
            await site.add_job(f"org-{number}", "trap")
            await site.add_job(f"org-{number}", "fine")
        honest = await site.add_job("org-honest", "slow")
        stalled = await site.until(honest, lambda record: is_stalled(record) or record.finished)
        (stall,) = stalled.progress.stalls
        assert (stall.entities, stall.reason) == (("slow",), Reason.COPY_SILENT)
        assert "entity slow" in stall.sentence
        # Its organization is served meanwhile, though others have work without end.
        other = await site.add_job("org-honest", "fine")
        await site.until(other, lambda record: record.state is JobState.SUCCEEDED)
        assert is_stalled(await site.record(honest))
        await site.until_succeeded("fine", site.succeeded.count(EntityCode("fine")) + 5)
        await gate.execute(f"SELECT pg_advisory_unlock({GATE})")
        ended = await site.until(honest, lambda record: record.finished)
        assert (ended.state, ended.attempt, ended.progress.stalls) == (JobState.SUCCEEDED, 1, [])


async def test_a_job_that_stalls_makes_way_where_all_places_are_taken(database: Database, tmp_path: Path) -> None:
    tables = {"first": SLEEPS, "second": SLEEPS, "fine": ""}
    async with open_site(database, tmp_path, tables, jobs=1, stalled_jobs=1) as site:
        first = await site.add_job("org-1", "first")
        await site.until(first, is_stalled)
        second = await site.add_job("org-2", "second")
        await site.until(second, is_stalled)
        await site.add_job("org-3", "fine")
        await site.until_succeeded("fine")
        put_back = await site.until(second, lambda record: record.state is JobState.PENDING)
        assert (put_back.attempt, put_back.reason, put_back.progress.stalls) == (0, Reason.COPY_SILENT, [])
        assert "entity second" in (put_back.message or "")
        assert "Other jobs needed its place" in (put_back.message or "")
        assert is_stalled(await site.record(first)), "the one that has a place keeps it"


async def test_an_entity_whose_silence_ended_an_attempt_is_left_alone(database: Database, tmp_path: Path) -> None:
    async with open_site(database, tmp_path, {"trap": SLEEPS, "fine": ""}, jobs=2, silence_timeout_s=1) as site:
        with capture_logs() as logs:
            trap = await site.add_job("org-1", "trap")
            await site.until(trap, lambda record: record.state is JobState.PENDING and record.attempt == 1)
        assert (await site.record(trap)).reason is not None
        assert [log["entity"] for log in logs if log["event"] == "entity stalls"] == ["trap"]
        assert 0 < site.dispatcher.stalled_entities[EntityCode("trap")] <= 0.25
        await site.connection.execute("UPDATE exportd.job SET not_before = clock_timestamp()")
        await site.until(trap, lambda record: record.attempt == 2)
        await site.until(trap, lambda record: record.state is JobState.PENDING)
        assert 0.25 < site.dispatcher.stalled_entities[EntityCode("trap")] <= 0.5, "longer each time"


async def test_the_search_for_duplicate_keys_has_the_same_limit(database: Database, tmp_path: Path) -> None:
    """A table with children has no index that rules them out, so they are looked for; the planner is called there."""
    async with open_site(database, tmp_path, {"trap": SLEEPS, "fine": ""}, jobs=1, silence_timeout_s=1) as site:
        await site.connection.execute("CREATE TABLE child () INHERITS (trap)")
        trap = await site.add_job("org-1", "trap")
        ended = await site.until(trap, lambda record: record.state is JobState.PENDING and record.attempt == 1)
        assert ended.reason == Reason.COPY_SILENT


async def test_a_lock_is_named_while_a_job_waits_for_it(database: Database, tmp_path: Path) -> None:
    """Capture has to be mended, and a writer keeps its transaction open."""
    writer = await database.connect()
    await writer.execute("SET application_name = 'a long writer'")
    async with open_site(database, tmp_path, {"things": "", "fine": ""}, jobs=1) as site:
        (trigger, *_) = await site.connection.fetch(
            "SELECT tgname FROM pg_trigger WHERE tgrelid = 'things'::regclass AND NOT tgisinternal"
        )
        await site.connection.execute(f'DROP TRIGGER "{trigger["tgname"]}" ON things')
        transaction = writer.transaction()
        await transaction.start()
        await writer.execute("INSERT INTO things VALUES (3)")
        pid = writer.get_server_pid()
        with capture_logs() as logs:
            job = await site.add_job("org-1", "things")
            waiting = await site.until(job, lambda record: is_stalled(record) or record.finished)
        (stall,) = waiting.progress.stalls
        assert (stall.entities, stall.reason) == (("things",), Reason.LOCK_NOT_AVAILABLE)
        assert stall.sentence.startswith("The job waits for a lock while installing capture on public.things.")
        assert f"session {pid} 'a long writer' of postgres (idle in transaction), since " in stall.sentence
        assert [log["error"] for log in logs if log["event"] == "waiting for a lock"] == [stall.sentence]
        # It takes no slot of others.
        await site.add_job("org-2", "fine")
        await site.until_succeeded("fine")
        assert is_stalled(await site.record(job))
        await transaction.commit()
        ended = await site.until(job, lambda record: record.finished)
        assert (ended.state, ended.progress.stalls) == (JobState.SUCCEEDED, [])


async def test_a_lock_that_keeps_the_table_from_being_read_is_named_too(database: Database, tmp_path: Path) -> None:
    """Also one on a partition, which is locked with its root."""
    async with open_site(database, tmp_path, {"fine": "", "things": ""}, jobs=1) as site:
        await site.connection.execute("CREATE TABLE child () INHERITS (things)")
        await site.until(await site.add_job("org-1", "things"), lambda record: record.finished)
        owner = await database.connect()
        async with owner.transaction():
            await owner.execute("LOCK TABLE child")
            job = await site.add_job("org-1", "fine", "things")
            (stall,) = (await site.until(job, is_stalled)).progress.stalls
            assert stall.entities == ("things",), "the other entity is not to blame"
            assert f"session {owner.get_server_pid()} of postgres (idle in transaction)" in stall.sentence
        ended = await site.until(job, lambda record: record.finished)
        assert (ended.state, ended.progress.stalls) == (JobState.SUCCEEDED, [])
