"""What a job costs when nothing has changed, where that goes, and what a second login adds; and how fast a thousand of
them are done.
"""

import statistics
import tempfile
from pathlib import Path

import anyio

from benchmarks.bills import CATALOG
from benchmarks.draining import drained
from benchmarks.measurement import Measurement, Options, Say, in_turns, spread
from benchmarks.server import benchmark_server, connection_to
from benchmarks.stages import Stages, ended_by
from exportd.capture.script import role_sql
from exportd.catalog import document
from exportd.catalog.document import Catalog
from exportd.daemon.assembly import Components, assembled
from exportd.daemon.current import Configuration
from exportd.database.connector import Connection, Connector
from exportd.database.migrator import migrate
from exportd.demo.generator import create_tables, fill, organization_ids
from exportd.extraction.copier import Copier
from exportd.extraction.extractor import Extractor
from exportd.extraction.snapshot_opener import SnapshotOpener
from exportd.jobs.job_table import JobTable
from exportd.model.entity import OrganizationId
from exportd.model.job import JobId, JobProgress
from exportd.model.schedule import DestinationCode, ExportFormat, Interval, ScheduleDeclaration, Unit
from exportd.settings.dsn import with_user
from exportd.settings.schema import Settings
from exportd.spool.spool import Spool
from tests.fixtures.runs import fire_now

JOBS = 30
SCHEDULES = 1_000
ORGANIZATIONS = 20
ROUNDS = 1
_ROWS = 100_000

_ACME = organization_ids(1)[0]
_LAKE = DestinationCode("lake")
_READER = "exportd_reader"
_EVERY_15_MINUTES = Interval(Unit.MINUTE, 15)

_STAGES: dict[str, tuple[type, str]] = {
    "claim": (JobTable, "claim"),
    "open snapshot": (SnapshotOpener, "open_captured"),
    "read": (Copier, "copy"),
    "files": (Extractor, "extract"),
    "seal": (JobTable, "seal"),
    "publish": (Spool, "write_manifest"),
    "succeed": (JobTable, "succeed"),
}
"""In their order, each with what ends it."""

_DUE = "UPDATE exportd.schedule SET next_due_at = date_trunc('second', clock_timestamp()) WHERE code LIKE 'many-%'"
_LOOK_AGAIN_S = 0.1


async def measure(options: Options, say: Say) -> list[Measurement]:
    """Milliseconds, and jobs a second: for information, since what they mean depends on the machine."""
    async with benchmark_server(options) as server:
        dsn = await server.create_database("product")
        async with connection_to(dsn) as connection:
            await migrate(connection)
            await create_tables(connection)
            say("filling 20 tables")
            await fill(connection, rows=options.size(_ROWS), organizations=1)
            await connection.execute("VACUUM (ANALYZE)")
            catalog = document.load(CATALOG)
            with tempfile.TemporaryDirectory(prefix="exportd-bench-") as folder:
                await anyio.Path(folder, _LAKE).mkdir()
                configuration = Configuration(_settings(dsn, Path(folder)), catalog, catalog)
                async with assembled(configuration, Connector(dsn)) as components:
                    jobs = 5 if options.quick else JOBS
                    one = await _one_job(components, connection, catalog, jobs=jobs, say=say)
                    many = await _many_schedules(components, connection, catalog, options=options, say=say)
    return [*one, many]


def _settings(dsn: str, folder: Path) -> Settings:
    """The daemon's defaults, with one destination."""
    destination = {"code": _LAKE, "organization": _ACME, "type": "DIRECTORY", "directory": folder / _LAKE}
    return Settings.model_validate(
        {"database": {"dsn": dsn}, "spool": {"directory": folder / "spool"}, "destination": [destination]}
    )


async def _one_job(
    components: Components, connection: Connection, catalog: Catalog, *, jobs: int, say: Say
) -> list[Measurement]:
    """One after the other, jobs over all entities that find nothing, with one login and with a second one that reads.

    The first job, which finds all, is not counted.
    """
    everything = ScheduleDeclaration(
        _ACME, "everything", "", tuple(catalog.entities), ExportFormat.CSV, (_LAKE,), _EVERY_15_MINUTES
    )
    await components.schedules.reconcile([everything], now=components.clock.now())
    await _run_job(components, everything.code, Stages(), first=True)
    readers = {"one login": None, "two logins": await _reader(components.connector, connection, catalog)}
    stages = {logins: Stages() for logins in readers}
    seconds: dict[str, list[float]] = {logins: [] for logins in readers}
    for number, logins in enumerate(in_turns(list(readers), jobs), start=1):
        say(f"job {number} of {len(readers) * jobs} over {len(catalog.entities)} entities, {logins}")
        components.connector.reader_dsn = readers[logins]
        seconds[logins].append(await _run_job(components, everything.code, stages[logins]))
    components.connector.reader_dsn = None
    entities = len(catalog.entities)
    details = {logins: _detail(seconds[logins], stages[logins]) for logins in readers}
    one, two = (statistics.median(seconds[logins]) for logins in readers)
    return [
        Measurement(
            "empty job: milliseconds an entity",
            1000 * one / entities,
            None,
            "lower",
            f"for {entities} entities, to one directory: {details['one login']}",
        ),
        Measurement("empty job: two logins against one", two / one, None, "lower", details["two logins"]),
    ]


def _detail(seconds: list[float], stages: Stages) -> str:
    parts = ", ".join(f"{stage} {1000 * statistics.median(stages.seconds[stage]):.1f}" for stage in _STAGES)
    return f"{spread((1000 * second for second in seconds), 0)} ms: {parts}"


async def _reader(connector: Connector, connection: Connection, catalog: Catalog) -> str:
    """The DSN of a second login that may read what is captured by now."""
    owner, database = connector.address.user, connector.address.database
    if owner is None or database is None:
        raise AssertionError("the server's DSN names user and database")
    tables = [entity.table for entity in catalog.entities.values()]
    script = role_sql(owner, database=database, tables=tables, reader=_READER, entities=catalog.entities)
    await connection.execute(script)
    return with_user(connector.dsn, _READER)


async def _run_job(components: Components, schedule: str, stages: Stages, *, first: bool = False) -> float:
    """The seconds that it took."""
    await fire_now(components.control_pool, schedule)
    with ended_by(stages, _STAGES):
        stages.begin()
        lease = await components.jobs.claim(
            holder="benchmark", lease_s=60, spool_id=components.spool.id, attempt_limit=1
        )
        if lease is None:
            raise AssertionError("the job that was fired is not there")
        await components.run_job(lease, JobProgress())
    await _require_empty(components, lease.job.id, first=first)
    return stages.finish()


async def _require_empty(components: Components, job: JobId, *, first: bool) -> None:
    """Only the first job may have found anything."""
    rows = sum(part.rows for part in await components.jobs.parts(job))
    if (rows > 0) is not first:
        raise AssertionError(f"job {job} found {rows} rows")


async def _many_schedules(
    components: Components, connection: Connection, catalog: Catalog, *, options: Options, say: Say
) -> Measurement:
    """All due in the same second, again and again, each with one entity, of organizations that have no rows."""
    count = options.size(SCHEDULES)
    entities = list(catalog.entities)
    declarations = [
        ScheduleDeclaration(
            OrganizationId(f"org-{number % ORGANIZATIONS}"),
            f"many-{number}",
            "",
            (entities[number % len(entities)],),
            ExportFormat.CSV,
            (),
            _EVERY_15_MINUTES,
        )
        for number in range(count)
    ]
    seconds = []
    async with anyio.create_task_group() as services:
        for service in (components.listener, components.pruner, components.cleaner):
            services.start_soon(service.run)
        start = await connection.fetchval("SELECT clock_timestamp()")
        await components.schedules.reconcile(declarations, now=components.clock.now())
        services.start_soon(components.dispatcher.run)
        services.start_soon(components.ticker.run)
        first_s = await drained(connection, start, count, look_again_s=_LOOK_AGAIN_S, say=say)
        for _ in range(options.repeats(ROUNDS)):
            start = await connection.fetchval("SELECT clock_timestamp()")
            await connection.execute(_DUE)
            components.ticker.wake()
            seconds.append(await drained(connection, start, count, look_again_s=_LOOK_AGAIN_S, say=say))
        services.cancel_scope.cancel()
    rate = count / statistics.median(seconds)
    detail = (
        f"{count:,} schedules of one entity due in the same second: drained in {spread(seconds, 1)} s, "
        f"with 2 jobs at a time; their first runs took {first_s:.1f} s"
    )
    return Measurement("empty jobs: jobs a second", rate, None, "higher", detail)
