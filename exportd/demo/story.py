"""``exportd demo``: the whole journey on a Postgres of its own, told as it happens.

Everything is the real thing: a real server, the shipped catalog of 20 entities, the real daemon as a process with a
configuration file. Only the clock is shortened: the next runs are fired by hand (``exportd schedule run``) instead of
15 minutes later, which is the shortest interval for everybody, and the demo says so.
"""

import gzip
import shutil
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread

from exportd.catalog import document
from exportd.catalog.document import Catalog
from exportd.database.connector import Connection, Connector
from exportd.demo.changer import Changer
from exportd.demo.generator import fill
from exportd.demo.installer import create_tables
from exportd.demo.replay import compare
from exportd.demo.screen import Screen
from exportd.demo.transaction_holder import OpenTransaction
from exportd.jobs.job_record import JobRecord
from exportd.jobs.job_table import JobTable
from exportd.model.entity import EntityCode, OrganizationId
from exportd.model.errors import PermanentError, SettingsError, TransientError
from exportd.model.job import EntityProgress, JobId, JobState
from exportd.model.reason import Reason
from exportd.postgres.postgres_server import PostgresServer
from exportd.schedules.firing_table import ScheduleTable

_MARKER = ".exportd-demo"
_ORGANIZATIONS = 3
_SCHEDULE = "everything"
_DEADLINE_S = 300.0
_CHANGES_PER_ROUND = 200


@dataclass(frozen=True, slots=True)
class _Stage:
    """Where the demo plays. Everything lies below ``directory``."""

    directory: Path
    dsn: str

    @property
    def config(self) -> Path:
        return self.directory / "exportd.toml"

    @property
    def exports(self) -> Path:
        return self.directory / "exports"

    @property
    def log(self) -> Path:
        return self.directory / "daemon.log"


async def tell(directory: Path, *, rows: int, keep: bool, screen: Screen | None = None) -> int:
    """Play the demo in ``directory``; 0 when the replayed exports equal the tables, 1 when they do not.

    Raises SettingsError when the directory holds something else, or no Postgres is to be found.
    """
    screen = screen or Screen()
    directory = await anyio.to_thread.run_sync(_clear, directory)
    screen.chapter("A Postgres of our own")
    async with PostgresServer(directory=directory / "postgres", settings={"fsync": "off"}) as server:
        stage = _Stage(directory, await server.create_database("demo"))
        screen.line(f"PostgreSQL {server.version}, data in {directory / 'postgres'}")
        catalog = _write_configuration(stage)
        organizations = await _make_data(stage, rows, screen)
        screen.chapter("The daemon starts; each schedule's first run is complete and at once")
        async with _daemon(stage) as process, Connector(stage.dsn).pool(2) as pool:
            jobs, schedules = JobTable(pool), ScheduleTable(pool)
            runs = [await _wait(jobs, await _first_jobs(jobs, process, stage), screen, process, stage)]
            async with Connector(stage.dsn).connection("demo changes") as connection:
                late = await _change(connection, stage, 1, screen)
                screen.chapter("Run 2: only what changed (by hand; a schedule runs every 15 minutes at most)")
                runs.append(await _wait(jobs, await _fire(schedules, organizations), screen, process, stage))
                screen.line(f"The transaction that was open meanwhile commits: {await late.commit()}")
                await (await _change(connection, stage, 2, screen)).rollback()
            screen.chapter("Run 3: what changed since, and the late transaction; what was rolled back never existed")
            runs.append(await _wait(jobs, await _fire(schedules, organizations), screen, process, stage))
            _show_files(stage, runs, screen)
            equal = await _prove(stage, catalog, organizations, screen)
            if keep:
                screen.line(f"\nStill running. `exportd job list -c {stage.config}` works; Ctrl-C ends it.")
                await _until_interrupted()
    screen.line(f"\nFiles: {stage.exports}\nDaemon's log: {stage.log}")
    return 0 if equal else 1


# --- the stage ------------------------------------------------------------------------------------------------------


def _clear(directory: Path) -> Path:
    """Make room for a new run, but only where an earlier one was; the directory's absolute path."""
    directory = directory.absolute()
    if directory.exists() and any(directory.iterdir()):
        if not (directory / _MARKER).exists():
            raise SettingsError.of("is not empty and not of an earlier demo; give another --dir", where=str(directory))
        for name in ("postgres", "exports", "spool"):
            shutil.rmtree(directory / name, ignore_errors=True)
    (directory / "exports").mkdir(parents=True, exist_ok=True)
    (directory / _MARKER).touch()
    return directory


def _write_configuration(stage: _Stage) -> Catalog:
    catalog = stage.directory / "entities.toml"
    shutil.copyfile(_shipped_catalog(), catalog)
    sections = [
        f'[database]\ndsn = "{stage.dsn}"\n',
        '[catalog]\nfile = "entities.toml"\n',
        '[spool]\ndirectory = "spool"\n',
        '[control]\nsocket = "control.sock"\n',
        f"[limits]\njobs = {_ORGANIZATIONS}\n",
        '[log]\nformat = "console"\n',
    ]
    for number in range(1, _ORGANIZATIONS + 1):
        organization = _ORGANIZATION_NAMES[number - 1]
        sections.append(
            f'[[destination]]\ncode = "warehouse"\norganization = "{organization}"\ndirectory = "exports"\n\n'
            f'[[schedule]]\ncode = "{_SCHEDULE}"\norganization = "{organization}"\nentities = "ALL"\n'
            f'format = "{"JSONL" if number == _ORGANIZATIONS else "CSV"}"\ndestinations = ["warehouse"]\n'
            'unit = "MINUTE"\nperiod = 15\n'
        )
    stage.config.write_text("\n".join(sections), encoding="utf-8")
    return document.load(catalog)


def _shipped_catalog() -> Path:
    """In an installed package beside this module, in a checkout in config/."""
    here = Path(__file__).parent
    installed = here / "entities.toml"
    return installed if installed.exists() else here.parent.parent / "config" / "entities.toml"


async def _make_data(stage: _Stage, rows: int, screen: Screen) -> list[OrganizationId]:
    screen.chapter(f"About {rows:,} rows in 20 entities of {_ORGANIZATIONS} organizations")
    async with Connector(stage.dsn).connection("demo data") as connection:
        await create_tables(connection)
        made = await fill(connection, rows=rows, organizations=_ORGANIZATIONS)
        await connection.execute("ANALYZE")
    largest = sorted(made.items(), key=lambda each: -each[1])[:4]
    screen.line(", ".join(f"{count:,} {entity}" for entity, count in largest) + ", …")
    return [OrganizationId(organization_name) for organization_name in _ORGANIZATION_NAMES[:_ORGANIZATIONS]]


@asynccontextmanager
async def _daemon(stage: _Stage) -> AsyncIterator[subprocess.Popen[bytes]]:
    """The real daemon, as a process; asked to leave at the end."""
    with stage.log.open("wb") as log:
        process = subprocess.Popen(  # noqa: ASYNC220 - returns at once; waited for in a thread
            [sys.executable, "-m", "exportd", "run", "--config", str(stage.config)], stdout=log, stderr=log
        )
        try:
            yield process
        finally:
            with anyio.CancelScope(shield=True):
                process.send_signal(signal.SIGTERM)
                await anyio.to_thread.run_sync(process.wait)


# --- the runs -------------------------------------------------------------------------------------------------------


async def _first_jobs(jobs: JobTable, process: subprocess.Popen[bytes], stage: _Stage) -> list[JobId]:
    """The jobs that the schedules fire by themselves when the daemon starts."""
    with anyio.fail_after(_DEADLINE_S):
        while True:
            _require_running(process, stage)
            try:
                found = await jobs.list(limit=_ORGANIZATIONS)
            except (PermanentError, TransientError):
                found = ()  # the daemon has not made its tables yet
            if len(found) == _ORGANIZATIONS:
                return [each.job.id for each in found]
            await anyio.sleep(0.1)


class _Run:
    """Some jobs, as one run on the screen."""

    def __init__(self, jobs: JobTable, ids: Sequence[JobId], process: subprocess.Popen[bytes], stage: _Stage) -> None:
        self._jobs = jobs
        self._ids = ids
        self._process = process
        self._stage = stage
        self.records: list[JobRecord] = []

    async def finished(self) -> bool:
        _require_running(self._process, self._stage)
        self.records = [record for id_ in self._ids if (record := await self._jobs.get(id_)) is not None]
        return all(each.finished for each in self.records)

    async def figures(self) -> Mapping[EntityCode, EntityProgress]:
        return totals(self.records)


def totals(records: Sequence[JobRecord]) -> dict[EntityCode, EntityProgress]:
    """The figures of several jobs, added up by entity."""
    added: dict[EntityCode, EntityProgress] = defaultdict(EntityProgress)
    for record in records:
        for entity in record.job.entities:
            each, total = record.progress.of(entity), added[entity]
            total.rows += each.rows
            total.deleted_rows += each.deleted_rows
            total.files += each.files
            total.content_bytes += each.content_bytes
            total.size_bytes += each.size_bytes
    return dict(added)


async def _wait(
    jobs: JobTable, ids: Sequence[JobId], screen: Screen, process: subprocess.Popen[bytes], stage: _Stage
) -> list[JobRecord]:
    run = _Run(jobs, ids, process, stage)
    with anyio.fail_after(_DEADLINE_S):
        await screen.follow(run)
    for record in run.records:
        if record.state is not JobState.SUCCEEDED:
            raise PermanentError(
                f"The export of {record.job.organization} failed: {record.message}. The daemon's log is {stage.log}.",
                reason=Reason(record.reason) if record.reason else Reason.BUG,
            )
    rows = sum(total.rows for total in totals(run.records).values())
    deleted = sum(total.deleted_rows for total in totals(run.records).values())
    files = sum(total.files for total in totals(run.records).values())
    seconds = max(
        (record.finished_at - record.started_at).total_seconds()
        for record in run.records
        if record.finished_at and record.started_at
    )
    screen.line(f"{len(ids)} jobs: {rows:,} records ({deleted:,} deleted) in {files} files, {seconds:.1f} s")
    return run.records


def _require_running(process: subprocess.Popen[bytes], stage: _Stage) -> None:
    if process.poll() is not None:
        words = stage.log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:]
        raise PermanentError("The daemon ended: " + "\n".join(words), reason=Reason.BUG)


async def _fire(schedules: ScheduleTable, organizations: Sequence[OrganizationId]) -> list[JobId]:
    return [await schedules.fire_now(organization, _SCHEDULE) for organization in organizations]


async def _change(connection: Connection, stage: _Stage, number: int, screen: Screen) -> OpenTransaction:
    """Changes of every kind; the last few are left in an open transaction on ``connection``."""
    screen.chapter(f"Changes of every kind, round {number}")
    async with Connector(stage.dsn).connection("demo changes") as other:
        summary = await Changer(other, seed=number).burst(size=_CHANGES_PER_ROUND)
    screen.line(str(summary))
    screen.line(", ".join(f"{count} {action}" for action, count in summary.actions.items()))
    screen.line("And one transaction is left open.")
    return await Changer(connection, seed=100 + number).open()


# --- the end --------------------------------------------------------------------------------------------------------


def _show_files(stage: _Stage, runs: Sequence[Sequence[JobRecord]], screen: Screen) -> None:
    screen.chapter("The files")
    first = runs[0][-1].job
    for path in sorted(stage.exports.rglob("*")):
        relative = path.relative_to(stage.exports)
        if path.is_file() and str(first.id) in path.name and f"orgId={first.organization}/" in f"{relative}":
            screen.line(f"  {relative}  {path.stat().st_size:,} bytes")
    count = sum(1 for path in stage.exports.rglob("*") if path.is_file())
    screen.line(
        f"  … {count} files in all: {len(runs)} runs of {_ORGANIZATIONS} organizations, and a manifest for each"
    )
    screen.chapter("What each run held")
    by_run = [totals(run) for run in runs]
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


def _show_one_file(stage: _Stage, record: JobRecord, screen: Screen) -> None:
    part = max(record.parts, key=lambda each: (each.rows > 0, each.entity == "ACCOUNTS", -each.content_bytes))
    path = next(stage.exports.rglob(part.file_name))
    screen.line(f"  {path.relative_to(stage.exports)}: {part.rows} records")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for _, line in zip(range(3), lines, strict=False):
            screen.line(f"  {line.rstrip()[:150]}")


async def _prove(stage: _Stage, catalog: Catalog, organizations: Sequence[OrganizationId], screen: Screen) -> bool:
    screen.chapter("The proof: all files replayed, compared with the tables")
    differences = []
    async with Connector(stage.dsn).connection("demo proof") as connection:
        for organization in organizations:
            found = await compare(connection, catalog, stage.exports, organization)
            differences += found
            screen.line(f"  {organization}: {'equal' if not found else f'{len(found)} differences'}")
    for difference in differences[:10]:
        screen.line(f"  {difference}")
    screen.line("EQUAL: replaying the exports gives the tables." if not differences else "NOT EQUAL")
    return not differences


async def _until_interrupted() -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            return


_ORGANIZATION_NAMES = ("org-acme", "org-globex", "org-initech")
