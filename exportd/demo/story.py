"""``exportd demo``: the whole journey on a Postgres of its own, shown as it happens.

Everything is real: a Postgres server, the shipped catalog of 20 entities, the daemon as a process with a configuration
file. Only the waiting is shortened: the demo fires the next runs by hand (as ``exportd schedule run`` does) instead of
waiting for the 15 minutes that are the shortest interval of a schedule, and says so.
"""

import gzip
import signal
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import anyio
import anyio.to_thread

from exportd.catalog.document import Catalog
from exportd.database.connector import Connection, Connector, Pool
from exportd.demo.changer import Changer, OpenTransaction
from exportd.demo.generator import create_tables, fill, organization_ids
from exportd.demo.stage import Process, Screen, Stage, clear, require_running, running_console, running_daemon
from exportd.jobs.job_record import JobRecord
from exportd.jobs.job_table import JobTable
from exportd.jobs.requests import JobSearch, OwnedJobTable
from exportd.model.entity import EntityCode, OrganizationId
from exportd.model.errors import PermanentError, Reason, SettingsError, TransientError
from exportd.model.job import EntityProgress, JobId, JobState
from exportd.postgres.postgres_server import PostgresServer
from exportd.schedules.firing_table import ScheduleTable
from exportd.schedules.operations import ScheduleOperator

_ORGANIZATIONS = organization_ids(3)
_DEADLINE_S = 300.0
_REFRESH_S = 0.15
_CHANGES_PER_ROUND = 200
_MAX_DIFFERENCES_SHOWN = 10


async def tell(directory: Path, *, rows: int, keep: bool) -> int:
    """Play the demo in ``directory``; 0 when the rebuilt tables equal the database's, 1 when they do not.

    Raises SettingsError when the directory holds something else, or DuckDB or a Postgres is missing.
    """
    screen = Screen()
    _require_duckdb()
    directory = await anyio.to_thread.run_sync(clear, directory)
    screen.chapter("A Postgres of our own")
    async with PostgresServer(directory=directory / "postgres", settings={"fsync": "off"}) as server:
        stage = Stage(directory, await server.create_database("demo"))
        screen.line(f"PostgreSQL {server.version}, data in {directory / 'postgres'}")
        catalog = stage.configure(_ORGANIZATIONS)
        await _make_data(stage, rows, screen)
        screen.chapter("The daemon starts; each schedule's first run is complete and at once")
        async with running_daemon(stage) as daemon, Connector(stage.dsn).pool(2) as pool:
            jobs = JobTable(pool)
            runs = [await _wait(jobs, await _first_jobs(OwnedJobTable(pool), daemon, stage), screen, daemon, stage)]
            async with Connector(stage.dsn).connection("demo changes") as connection:
                late = await _change(connection, stage, 1, screen)
                screen.chapter("Run 2: only what changed (by hand; a schedule runs every 15 minutes at most)")
                runs.append(await _wait(jobs, await _fire(pool), screen, daemon, stage))
                screen.line(f"The transaction that was open meanwhile commits: {await late.commit()}")
                await (await _change(connection, stage, 2, screen)).rollback()
            screen.chapter("Run 3: what changed since, and the late transaction; what was rolled back never existed")
            runs.append(await _wait(jobs, await _fire(pool), screen, daemon, stage))
            _show_files(stage, runs, screen)
            equal = await _prove(stage, catalog, screen)
            if keep:
                screen.chapter("Everything keeps running, so that you can look around in a browser until Ctrl-C")
                async with running_console(stage):
                    await _until_interrupted()
    screen.line(f"\nFiles: {stage.exports}\nDaemon's log: {stage.log}")
    return 0 if equal else 1


def _require_duckdb() -> None:
    """Before anything starts: the proof at the end needs it."""
    try:
        import duckdb  # noqa: F401, PLC0415 - an extra, which this is to tell apart from a failure
    except ModuleNotFoundError as error:
        if error.name != "duckdb":
            raise
        raise SettingsError.of(
            "The demo needs DuckDB for its proof. Install it: pip install 'exportd[replay]'"
        ) from error


async def _make_data(stage: Stage, rows: int, screen: Screen) -> None:
    screen.chapter(f"About {rows:,} rows in 20 entities of {len(_ORGANIZATIONS)} organizations")
    async with Connector(stage.dsn).connection("demo data") as connection:
        await create_tables(connection)
        made = await fill(connection, rows=rows, organizations=len(_ORGANIZATIONS))
        await connection.execute("ANALYZE")
    largest = sorted(made.items(), key=lambda counted: -counted[1])[:4]
    screen.line(", ".join(f"{count:,} {entity}" for entity, count in largest) + ", …")


# --- the runs -------------------------------------------------------------------------------------------------------


async def _first_jobs(jobs: OwnedJobTable, daemon: Process, stage: Stage) -> list[JobId]:
    """The jobs that the schedules fire by themselves when the daemon starts."""
    with anyio.fail_after(_DEADLINE_S):
        while True:
            require_running(stage, daemon)
            try:
                found, _ = await jobs.search(None, JobSearch(), limit=len(_ORGANIZATIONS))
            except (PermanentError, TransientError):
                found = []  # the daemon has not created its tables yet
            if len(found) == len(_ORGANIZATIONS):
                return [job.id for job in found]
            await anyio.sleep(0.1)


def _totals(records: Sequence[JobRecord]) -> dict[EntityCode, EntityProgress]:
    """The figures of several jobs, added up by entity."""
    totals: dict[EntityCode, EntityProgress] = defaultdict(EntityProgress)
    for record in records:
        for entity in record.job.entities:
            progress, total = record.progress.of(entity), totals[entity]
            total.rows += progress.rows
            total.deleted_rows += progress.deleted_rows
            total.files += progress.files
            total.content_bytes += progress.content_bytes
            total.size_bytes += progress.size_bytes
    return dict(totals)


async def _wait(jobs: JobTable, ids: Sequence[JobId], screen: Screen, daemon: Process, stage: Stage) -> list[JobRecord]:
    records: list[JobRecord] = []
    with anyio.fail_after(_DEADLINE_S), screen.drawing() as draw:
        while not records or not all(record.finished for record in records):
            await anyio.sleep(_REFRESH_S)
            require_running(stage, daemon)
            records = [record for id_ in ids if (record := await jobs.get(id_)) is not None]
            draw(_totals(records))
    for record in records:
        if record.state is not JobState.SUCCEEDED:
            raise PermanentError(
                f"The export of {record.job.organization} failed: {record.message}. The daemon's log is {stage.log}.",
                reason=Reason(record.reason) if record.reason else Reason.BUG,
            )
    totals = _totals(records).values()
    rows = sum(total.rows for total in totals)
    deleted = sum(total.deleted_rows for total in totals)
    files = sum(total.files for total in totals)
    seconds = max(
        (record.finished_at - record.started_at).total_seconds()
        for record in records
        if record.finished_at and record.started_at
    )
    screen.line(f"{len(ids)} jobs: {rows:,} records ({deleted:,} deleted) in {files} files, {seconds:.1f} s")
    return records


async def _fire(pool: Pool) -> list[JobId]:
    operator = ScheduleOperator(pool)
    return [await operator.run(schedule.id, actor="demo") for schedule in await ScheduleTable(pool).all()]


async def _change(connection: Connection, stage: Stage, number: int, screen: Screen) -> OpenTransaction:
    """Changes of every kind; the last few are left in an open transaction on ``connection``."""
    screen.chapter(f"Changes of every kind, round {number}")
    async with Connector(stage.dsn).connection("demo changes") as other:
        summary = await Changer(other, seed=number).burst(size=_CHANGES_PER_ROUND)
    screen.line(str(summary))
    screen.line(", ".join(f"{count} {action}" for action, count in summary.actions.items()))
    screen.line("And one transaction is left open.")
    return await Changer(connection, seed=100 + number).open()


# --- the end --------------------------------------------------------------------------------------------------------


def _show_files(stage: Stage, runs: Sequence[Sequence[JobRecord]], screen: Screen) -> None:
    screen.chapter("The files")
    first = runs[0][-1].job
    for path in sorted(stage.exports.rglob("*")):
        relative = path.relative_to(stage.exports)
        if path.is_file() and str(first.id) in path.name and f"orgId={first.organization}/" in f"{relative}":
            screen.line(f"  {relative}  {path.stat().st_size:,} bytes")
    count = sum(1 for path in stage.exports.rglob("*") if path.is_file())
    screen.line(
        f"  … {count} files in all: {len(runs)} runs of {len(_ORGANIZATIONS)} organizations, and a manifest for each"
    )
    screen.chapter("What each run held")
    by_run = [_totals(run) for run in runs]
    columns = ["ENTITY", "FIRST RUN"]
    for number in range(2, len(runs) + 1):
        columns += [f"RUN {number}", "DELETED"]
    columns.append("BYTES")
    rows = []
    for entity in by_run[0]:
        row: list[object] = [entity, by_run[0][entity].rows]
        for later in by_run[1:]:
            row += [later[entity].rows, later[entity].deleted_rows]
        rows.append([*row, sum(run[entity].size_bytes for run in by_run)])
    screen.table(columns, rows)
    screen.chapter("A look into one file of the last run")
    _show_one_file(stage, runs[-1][-1], screen)


def _show_one_file(stage: Stage, record: JobRecord, screen: Screen) -> None:
    part = max(record.parts, key=lambda part: (part.rows > 0, part.entity == "ACCOUNTS", -part.content_bytes))
    path = next(stage.exports.rglob(part.file_name))
    screen.line(f"  {path.relative_to(stage.exports)}: {part.rows} records")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for _, line in zip(range(3), lines, strict=False):
            screen.line(f"  {line.rstrip()[:150]}")


async def _prove(stage: Stage, catalog: Catalog, screen: Screen) -> bool:
    from exportd.demo.proof import RecordDifference, compare, verify_exports  # noqa: PLC0415 - DuckDB takes a while to import

    screen.chapter("The proof: what was delivered is verified, replayed, and compared with the tables")
    verification = await verify_exports(stage.exports)
    problems = [finding.sentence for finding in verification.findings]
    screen.line(f"  verify: {verification.objects} files, {'whole' if not problems else f'{len(problems)} findings'}")
    differences: dict[OrganizationId, list[RecordDifference]] = {}

    async def replay(organization: OrganizationId) -> None:
        async with Connector(stage.dsn).connection("demo proof") as connection:
            into = stage.rebuilt(organization)
            differences[organization] = await compare(connection, catalog, stage.exports, organization, into=into)

    async with anyio.create_task_group() as replays:
        for organization in _ORGANIZATIONS:
            replays.start_soon(replay, organization, name=f"replay {organization}")
    for organization in _ORGANIZATIONS:
        found = differences[organization]
        screen.line(f"  replay of {organization}: {'equal' if not found else f'{len(found)} differences'}")
        problems += map(str, found)
    for problem in problems[:_MAX_DIFFERENCES_SHOWN]:
        screen.line(f"  {problem}")
    screen.line("EQUAL: replaying the exports gives the tables." if not problems else "NOT EQUAL")
    return not problems


async def _until_interrupted() -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            return
