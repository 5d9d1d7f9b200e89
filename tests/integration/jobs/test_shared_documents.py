"""What jobs have in common: stored once, named by digest, found again, kept while it is named."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio.lowlevel
import pytest

from exportd.database import queries
from exportd.extraction.guards import Guards
from exportd.jobs.history_pruner import HistoryKind, HistoryPruner
from exportd.jobs.job_table import JobTable
from exportd.jobs.leases import LeaseWriter, Seal, Success
from exportd.model.clock import SystemClock
from exportd.model.entity import EntityCode
from exportd.model.errors import PermanentError, Reason
from exportd.model.extraction import EntityExtraction, ExtractedField, Extraction, Mode
from exportd.model.job import JobId, Lease
from exportd.model.schedule import ScheduleId
from exportd.model.start import BackfillRequest, Beginning, SharedDocument
from exportd.schedules.operations import ScheduleOperator
from exportd.spool.spool import Spool
from tests.fixtures.requests_of_people import backfill_requests
from tests.fixtures.settings import live_settings
from tests.integration.jobs.postgres_jobs import ACCOUNTS, NOON, PLANS, SPOOL, PostgresJobs

FIELDS = (ExtractedField("id", "string", "uuid", None), ExtractedField("näme", "string", None, PLANS))
GUARDS = {"columns": "é", "type_parts": {"label x": "1"}, "last_member": 7}
SHARE, DELETE = queries.load("jobs")["share_documents"], queries.load("history")["delete_documents"]
INLINE_GUARDS = """UPDATE exportd.position SET guards = '{"columns": "inline"}'"""
INLINE_EXTRACTION = """UPDATE exportd.job SET extraction = jsonb_set(jsonb_set(extraction,
    '{entities,0,fields}', '[["id", "string", "uuid", null]]'), '{entities,0,guards}', '{"columns": "inline"}')"""


def extraction(*entities: EntityCode, number: int = 100, mode: Mode = Mode.FULL) -> Extraction:
    return Extraction(
        snapshot=f"{number}:{number}:",
        wal_position="0/1",
        taken_at=NOON,
        entities=tuple(
            EntityExtraction(
                entity=entity,
                type_token=entity.lower(),
                mode=mode,
                full_reason=None,
                previous=f"{number - 1}:{number - 1}:" if mode is Mode.INCREMENTAL else None,
                rows=1,
                deleted_rows=0,
                key=("id",),
                tenant=None,
                fields=FIELDS,
                guards=json.loads(json.dumps(GUARDS)),
            )
            for entity in entities or (ACCOUNTS, PLANS)
        ),
    )


def seal_of(lease: Lease, read: Extraction) -> Seal:
    return Seal(lease, (), read.to_text(), read.documents(), SPOOL)


async def seal(jobs: PostgresJobs, lease: Lease, read: Extraction) -> None:
    await jobs.table.seal(lease, parts=(), extraction=read.to_text(), documents=read.documents(), spool_id=SPOOL)


async def sealed(jobs: PostgresJobs, read: Extraction, schedule: ScheduleId | None = None) -> Lease:
    await jobs.add_job(schedule_id=schedule, due_at=NOON + timedelta(hours=int(read.snapshot.split(":")[0])))
    lease = await jobs.claimed()
    await seal(jobs, lease, read)
    return lease


async def succeeded(jobs: PostgresJobs, schedule: ScheduleId, read: Extraction | None = None) -> JobId:
    read = read or extraction()
    lease = await sealed(jobs, read, schedule)
    await jobs.table.succeed(lease, positions=read.positions(lease.job))
    return lease.job.id


async def digests(jobs: PostgresJobs) -> set[str]:
    return {row["digest"] for row in await jobs.connection.fetch("SELECT digest FROM exportd.shared_document")}


async def versions(jobs: PostgresJobs) -> list[tuple[object, ...]]:
    """The rows as they lie there: another one for each that was written or locked since."""
    rows = await jobs.connection.fetch("SELECT digest, xmin::text, xmax::text FROM exportd.shared_document ORDER BY 1")
    return [tuple(row) for row in rows]


def shaped(name: str) -> Extraction:
    """What is read of an entity with such guards."""
    (entity,) = extraction(ACCOUNTS).entities
    return replace(extraction(ACCOUNTS), entities=(replace(entity, guards={"name": name}),))


async def guards_left(jobs: PostgresJobs) -> set[str]:
    rows = await jobs.connection.fetch("SELECT document ->> 'name' AS name FROM exportd.shared_document")
    return {row["name"] for row in rows if row["name"] is not None}


async def age(jobs: PostgresJobs, *, days: int) -> None:
    """As if everything had happened so many days earlier."""
    await jobs.connection.execute("UPDATE exportd.shared_document SET used_on = used_on - $1::integer", days)
    for table, column in (("job", "created_at"), ("position", "taken_at")):
        await jobs.connection.execute(
            f"UPDATE exportd.{table} SET {column} = {column} - $1::integer * interval '1 day'", days
        )


@pytest.fixture
async def pruner(jobs: PostgresJobs, tmp_path: Path) -> AsyncIterator[HistoryPruner]:
    async with Spool(live_settings(spool={"directory": tmp_path / "spool"})) as spool:
        yield HistoryPruner(jobs.pool, spool, settings=live_settings(), clock=SystemClock())


@pytest.mark.every_postgres
async def test_what_was_read_is_found_again(jobs: PostgresJobs) -> None:
    schedule, read = await jobs.add_schedule(), extraction()
    job = await succeeded(jobs, schedule, read)
    for table in (jobs.table, JobTable(jobs.pool)):  # the second one has nothing in memory
        document = await table.extraction(job)
        assert document is not None
        assert Extraction.from_json(document) == read
        positions = (await table.start(schedule)).positions
        assert {position.entity: position.guards for position in positions.values()} == {
            ACCOUNTS: GUARDS,
            PLANS: GUARDS,
        }
    row = await jobs.row(job)
    assert "columns" not in row["extraction"], "the row names them by digest only"
    assert "uuid" not in row["extraction"]
    assert await jobs.connection.fetchval("SELECT bool_and(jsonb_typeof(guards) = 'string') FROM exportd.position")


@pytest.mark.every_postgres
async def test_many_jobs_in_one_statement_share_one_row(jobs: PostgresJobs) -> None:
    schedules = [await jobs.add_schedule(f"schedule-{number}") for number in range(8)]
    for schedule in schedules:
        await jobs.add_job(schedule_id=schedule)
    leases = [await jobs.claimed() for _ in schedules]
    writer = LeaseWriter(jobs.pool)
    reads = [extraction(number=100 + number) for number in range(len(leases))]
    assert await writer.seal(list(map(seal_of, leases, reads))) == [None] * 8
    positions = [read.positions(lease.job) for lease, read in zip(leases, reads, strict=True)]
    assert await writer.succeed([Success(lease, to, None) for lease, to in zip(leases, positions, strict=True)]) == (
        [None] * 8
    )
    assert await digests(jobs) == {document.digest for document in extraction().documents()}
    assert len(await digests(jobs)) == 2
    for lease, read in zip(leases, reads, strict=True):
        assert lease.job.schedule_id is not None
        assert (await jobs.positions(lease.job.schedule_id))[ACCOUNTS].snapshot == read.snapshot


async def test_nothing_is_written_or_locked_for_documents_that_were_used_today(jobs: PostgresJobs) -> None:
    await succeeded(jobs, await jobs.add_schedule("first"))
    before = await versions(jobs)
    await succeeded(jobs, await jobs.add_schedule("second"))
    assert await versions(jobs) == before
    await age(jobs, days=1)
    await sealed(jobs, extraction())
    assert await jobs.connection.fetchval("SELECT bool_and(used_on = current_date) FROM exportd.shared_document")


async def test_those_that_write_the_same_documents_do_not_block_each_other_for_ever(jobs: PostgresJobs) -> None:
    """As several daemons do after midnight, each in an order of its own."""
    documents = [SharedDocument.of({"name": number}) for number in range(300)]
    for _ in range(3):
        await asyncio.gather(
            *(
                jobs.pool.execute(SHARE, [one.digest for one in ordered], [one.text for one in ordered])
                for ordered in (documents, documents[::-1]) * 4
            )
        )
        assert await jobs.connection.fetchval("SELECT bool_and(used_on = current_date) FROM exportd.shared_document")
        await age(jobs, days=1)
    assert len(await digests(jobs)) == len(documents)


async def test_a_lost_row_is_written_again_by_the_next_job(jobs: PostgresJobs) -> None:
    """The process has sent it before: a database that was put back does not have it."""
    await succeeded(jobs, await jobs.add_schedule("first"))
    await jobs.connection.execute("DELETE FROM exportd.shared_document")
    job = await succeeded(jobs, await jobs.add_schedule("second"))
    assert await JobTable(jobs.pool).extraction(job) is not None


async def test_a_document_is_read_once(jobs: PostgresJobs) -> None:
    schedules = [await jobs.add_schedule(f"schedule-{number}") for number in range(3)]
    for schedule in schedules:
        await succeeded(jobs, schedule)
    table = JobTable(jobs.pool)
    first, *others = [(await table.start(schedule)).positions[ACCOUNTS].guards for schedule in schedules]
    assert all(guards is first for guards in others)
    await jobs.connection.execute("DELETE FROM exportd.shared_document")
    assert (await table.start(schedules[0])).positions[PLANS].guards is first


@pytest.mark.every_postgres
async def test_rows_of_earlier_versions_are_read(jobs: PostgresJobs) -> None:
    schedule = await jobs.add_schedule()
    job = await succeeded(jobs, schedule)
    await jobs.connection.execute(INLINE_GUARDS)
    await jobs.connection.execute(INLINE_EXTRACTION)
    assert (await jobs.positions(schedule))[PLANS].guards == {"columns": "inline"}
    document = await jobs.table.extraction(job)
    assert document is not None
    accounts, plans = Extraction.from_json(document).entities
    assert (accounts.guards, accounts.fields) == ({"columns": "inline"}, FIELDS[:1])
    assert (plans.guards, plans.fields) == (GUARDS, FIELDS)


async def test_a_position_moves_from_its_own_guards_to_shared_ones(jobs: PostgresJobs) -> None:
    """A job that an earlier version has sealed ends in this one."""
    schedule = await jobs.add_schedule()
    lease = await sealed(jobs, extraction(ACCOUNTS), schedule)
    await jobs.connection.execute(INLINE_EXTRACTION)
    await jobs.connection.execute("DELETE FROM exportd.shared_document")
    document = await jobs.table.extraction(lease.job.id)
    assert document is not None
    await jobs.table.succeed(lease, positions=Extraction.from_json(document).positions(lease.job))
    assert await digests(jobs) == {SharedDocument.of({"columns": "inline"}).digest}
    assert (await jobs.positions(schedule))[ACCOUNTS].guards == {"columns": "inline"}


@pytest.mark.parametrize("inline", [False, True], ids=["shared", "of an earlier version"])
async def test_a_back_fill_gets_the_guards_of_the_past(jobs: PostgresJobs, inline: bool) -> None:
    schedule = await jobs.add_schedule()
    await succeeded(jobs, schedule, extraction(number=100))
    if inline:
        await jobs.connection.execute(INLINE_EXTRACTION)
    past = await succeeded(jobs, schedule, extraction(number=101, mode=Mode.INCREMENTAL))
    await jobs.connection.execute("UPDATE exportd.job SET log_hold = '100' WHERE id = $1", past)
    requests = (await ScheduleOperator(jobs.pool).backfill(schedule, past, actor="test")).requests
    assert requests == await backfill_requests(jobs.connection, schedule)
    expected = {ACCOUNTS: {"columns": "inline"} if inline else GUARDS, PLANS: GUARDS}
    assert {request.entity: guards_of(request) for request in requests} == expected


def guards_of(request: BackfillRequest) -> object:
    assert isinstance(request.begins, Beginning)
    return request.begins.guards


class TestLost:
    """Rows that a person has deleted."""

    async def test_guards_of_a_position_compare_as_changed(self, jobs: PostgresJobs) -> None:
        schedule = await jobs.add_schedule()
        await succeeded(jobs, schedule)
        await jobs.connection.execute("DELETE FROM exportd.shared_document")
        positions = (await JobTable(jobs.pool).start(schedule)).positions
        assert [Guards.from_json(position.guards) for position in positions.values()] == [None, None]

    async def test_a_sealed_job_says_what_is_lost(self, jobs: PostgresJobs) -> None:
        lease = await sealed(jobs, extraction())
        fields, guards = {document.digest: document for document in extraction().documents()}
        await jobs.connection.execute("DELETE FROM exportd.shared_document WHERE digest = $1", fields)
        with pytest.raises(PermanentError, match=f"shared_document are gone \\({fields}\\)") as refused:
            await JobTable(jobs.pool).extraction(lease.job.id)
        assert refused.value.reason is Reason.SPOOL_DAMAGED
        assert guards not in refused.value.sentence
        assert (await jobs.records())[0].extraction is not None, "records do not need them"

    async def test_a_back_fill_begins_with_guards_that_compare_as_changed(self, jobs: PostgresJobs) -> None:
        schedule = await jobs.add_schedule()
        await succeeded(jobs, schedule, extraction(number=100))
        past = await succeeded(jobs, schedule, extraction(number=101, mode=Mode.INCREMENTAL))
        await jobs.connection.execute("UPDATE exportd.job SET log_hold = '100' WHERE id = $1", past)
        await jobs.connection.execute("DELETE FROM exportd.shared_document")
        requests = (await ScheduleOperator(jobs.pool).plan_backfill(schedule, past)).requests
        assert [guards_of(request) for request in requests] == [{}, {}]


class TestPruning:
    @pytest.mark.every_postgres
    async def test_what_is_named_stays_and_the_rest_goes(self, jobs: PostgresJobs, pruner: HistoryPruner) -> None:
        """Four shapes one after the other: named by nothing, by a position, by a job, and by a job of today."""
        schedule = await jobs.add_schedule()
        await sealed(jobs, shaped("of a deleted job"))
        assert not await pruner.run_once(), "it was used today"
        await jobs.connection.execute("DELETE FROM exportd.job")
        await age(jobs, days=5)
        await succeeded(jobs, schedule, replace(shaped("of a position"), taken_at=datetime.now(UTC)))
        await jobs.connection.execute("DELETE FROM exportd.job")
        await age(jobs, days=5)
        await sealed(jobs, shaped("of a job"))
        await age(jobs, days=5)
        await sealed(jobs, shaped("of today"))
        assert await guards_left(jobs) == {"of a deleted job", "of a position", "of a job", "of today"}
        assert (await pruner.run_once())[HistoryKind.DOCUMENTS] == 1
        assert await guards_left(jobs) == {"of a position", "of a job", "of today"}
        assert not await pruner.run_once()

        await jobs.connection.execute("DELETE FROM exportd.position")
        assert (await pruner.run_once())[HistoryKind.DOCUMENTS] == 1
        assert await guards_left(jobs) == {"of a job", "of today"}

    async def test_documents_of_jobs_that_are_gone_go_too(self, jobs: PostgresJobs, pruner: HistoryPruner) -> None:
        await sealed(jobs, extraction())
        await jobs.connection.execute("DELETE FROM exportd.job")
        await age(jobs, days=2)
        assert not await pruner.run_once(), "they were used not long ago"
        await age(jobs, days=1)
        assert await pruner.run_once() == {HistoryKind.DOCUMENTS: 2}

    @pytest.mark.every_postgres
    async def test_what_a_seal_has_just_touched_stays(self, jobs: PostgresJobs, pruner: HistoryPruner) -> None:
        await succeeded(jobs, await jobs.add_schedule())
        await age(jobs, days=30)
        await jobs.connection.execute("DELETE FROM exportd.job; DELETE FROM exportd.position")
        documents = {document.digest: document.text for document in extraction().documents()}
        async with jobs.connection.transaction():
            await jobs.connection.execute(SHARE, [*documents], [*documents.values()])
            sweep = asyncio.create_task(pruner.run_once())
            await _one_waits(jobs)
        assert not await sweep
        assert await digests(jobs) == documents.keys()

    @pytest.mark.every_postgres
    async def test_a_seal_writes_again_what_is_being_deleted(self, jobs: PostgresJobs) -> None:
        await succeeded(jobs, await jobs.add_schedule())
        await age(jobs, days=30)
        await jobs.connection.execute("DELETE FROM exportd.job; DELETE FROM exportd.position")
        await jobs.add_job()
        lease = await jobs.claimed()
        async with jobs.connection.transaction():
            assert len(await jobs.connection.fetch(DELETE, 1000)) == 2
            sealing = asyncio.create_task(seal(jobs, lease, extraction()))
            await _one_waits(jobs)
        await sealing
        document = await JobTable(jobs.pool).extraction(lease.job.id)
        assert document is not None
        assert Extraction.from_json(document) == extraction()


async def _one_waits(jobs: PostgresJobs) -> None:
    """Until a statement waits for this test's transaction."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid))"
    while await jobs.connection.fetchval(waiting) == 0:
        await anyio.lowlevel.checkpoint()
