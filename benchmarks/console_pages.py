"""The console's pages: how long the daemon takes for each, and what the first one loads.

With 100 schedules, so that each list has 100 rows or fewer; then with 10,000 schedules, 100,000 jobs and 400 entities.
The last part counts how late the event loop is while five browsers follow full exports.
"""

import gzip
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread

from benchmarks.bills import BILLS, CATALOG, ORGANIZATION, create_bills
from benchmarks.control import DELAY_S, METRICS_PAUSE_S, configuration_of_bills, exporting, loop_delay, summary_of
from benchmarks.daemon_process import DaemonProcess, daemon_process
from benchmarks.many_schedules import SCHEDULES, SOME_HAVE_FAILED, configured, create_many, declared
from benchmarks.measurement import Measurement, Options, Say
from benchmarks.page_client import PageClient
from benchmarks.server import benchmark_server, connection_to
from exportd.postgres.postgres_server import PostgresServer

ROWS = 1_000_000
FEW_SCHEDULES = 100
TIMES_OF_CATALOG = 20
"""The demo's 20 entities so often: 400."""
REPEATS = 10
"""How often each page is loaded."""
STATUS_PAUSE_S = 1.05
"""Between loads of a page that shows the daemon's status, which is kept for a second."""
WATCHING_S = 40.0
OVERVIEWS, JOB_PAGES = 3, 2
"""The browsers that follow exports: at the overview, and at the page of the job that runs."""

_FEW_MS, _MANY_MS = 100.0, 250.0
_FIRST_LOAD_BYTES = 60_000
_CHECKOUT = Path(__file__).parents[1]
_ASSET = re.compile(r'(?:src|href)="(/console/static/[^"]+)"')

# Files of the newest jobs, and what was done by people.
_PAST = """
INSERT INTO exportd.part (job_id, entity, number, file_name, rows, content_bytes, size_bytes, sha256)
SELECT id, entity, number, id || '_' || entity || '.' || number || '.csv.gz', 1000, 100000, 10000, repeat('0', 64)
FROM (SELECT id, entities FROM exportd.job ORDER BY created_at DESC, id DESC LIMIT 100) AS newest,
     unnest(entities) AS entity, generate_series(1, 3) AS number;

INSERT INTO exportd.audit (actor, action, object_id, organization, details)
SELECT 'uid:0', 'run schedule', id, organization, '{}' FROM exportd.schedule, generate_series(1, 3);
"""

_SOME = """
SELECT organization, code AS schedule_code, id AS schedule, entities[1] AS entity,
       (SELECT id FROM exportd.job WHERE schedule_id = schedule.id ORDER BY created_at DESC LIMIT 1) AS job,
       (SELECT id FROM exportd.destination WHERE organization = schedule.organization LIMIT 1) AS destination
FROM exportd.schedule
ORDER BY cardinality(entities) DESC, created_at
LIMIT 1
"""

PAGES: Mapping[str, str] = {
    "overview": "/console/",
    "exports": "/console/exports",
    "exports of an organization": "/console/exports?organization={organization}",
    "exports, searched": "/console/exports?search=NUMBER 7",
    "exports, a destination": "/console/exports?destination=lake",
    "exports, paused": "/console/exports?paused=true",
    "ad hoc": "/console/exports/adhoc",
    "new schedule": "/console/schedules/new",
    "schedule": "/console/schedules/{schedule}",
    "edit schedule": "/console/schedules/{schedule}/edit",
    "jobs": "/console/jobs?size=100",
    "jobs of an organization": "/console/jobs?size=100&organization={organization}",
    "jobs of a schedule": "/console/jobs?size=100&schedule={schedule_code}",
    "jobs of an entity": "/console/jobs?size=100&entity={entity}",
    "jobs to a destination": "/console/jobs?size=100&destination=lake",
    "jobs that failed": "/console/jobs?size=100&status=FAILED",
    "jobs that wait": "/console/jobs?size=100&status=PENDING",
    "jobs with a reason": "/console/jobs?size=100&reason=DESTINATION_UNAVAILABLE",
    "jobs, nothing found": "/console/jobs?size=100&entity=NONE",
    "job": "/console/jobs/{job}",
    "destination": "/console/destinations/{destination}",
    "new destination": "/console/destinations/new?kind=S3",
    "entities": "/console/entities",
    "entities, searched": "/console/entities?search=account",
    "entities, diagram": "/console/entities?show=diagram",
    "entity": "/console/entities/{entity}",
    "system": "/console/system",
    "credentials": "/console/system/clients",
    "audit": "/console/system/audit",
    "audit, an action": "/console/system/audit?action=capture",
}


_PAUSES: Mapping[str, float] = {
    **dict.fromkeys(
        ("overview", "exports", "exports of an organization", "destination", "entity", "system", "status"),
        STATUS_PAUSE_S,
    ),
    "metrics": METRICS_PAUSE_S,
}
"""Before loads of what would be answered from memory otherwise."""


@dataclass(frozen=True, slots=True)
class LoadedPage:
    """``milliseconds`` to the last byte, and of the daemon's CPU; medians."""

    name: str
    milliseconds: float
    cpu_milliseconds: float

    def __str__(self) -> str:
        return f"{self.name} {self.milliseconds:.0f} ({self.cpu_milliseconds:.0f})"


@dataclass(frozen=True, slots=True)
class Loader:
    """Loads pages of a daemon, each ``repeats`` times, for ``some`` organization, schedule and job."""

    client: PageClient
    _daemon: DaemonProcess
    _some: Mapping[str, object]
    _repeats: int

    @classmethod
    async def of(cls, daemon: DaemonProcess, folder: Path, dsn: str, *, repeats: int) -> "Loader":
        """For the daemon whose socket is in the folder, and one of the organizations with most entities."""
        client = PageClient(folder / "control.sock")
        client.sign_in()
        async with connection_to(dsn) as connection:
            return cls(client, daemon, dict(await connection.fetchrow(_SOME) or {}), repeats)

    async def load_all(self, pages: Mapping[str, str], say: Say) -> list[LoadedPage]:
        """Paths by their names, with what is filled in in braces."""
        loaded = []
        for name, path in pages.items():
            say(name)
            loaded.append(await self._load(name, path.format(**self._some).replace(" ", "%20")))
        return loaded

    async def _load(self, name: str, path: str) -> LoadedPage:
        """After a first time, which compiles the page's template."""
        await anyio.to_thread.run_sync(self.client.get, path)
        took = []
        before_s = self._daemon.cpu_s
        for _ in range(self._repeats):
            if pause_s := _PAUSES.get(name):
                self.client.disconnect()
                await anyio.sleep(pause_s)
            start = time.perf_counter()
            await anyio.to_thread.run_sync(self.client.get, path)
            took.append((time.perf_counter() - start) * 1000)
        return LoadedPage(name, statistics.median(took), (self._daemon.cpu_s - before_s) / self._repeats * 1000)


@dataclass(frozen=True, slots=True)
class _Database:
    """How many ``schedules`` it has, how often the entities of the demo, and what a page may take."""

    schedules: int
    times: int
    limit_ms: float

    def __str__(self) -> str:
        return f"with {self.schedules:,} schedules, {self.schedules * 10:,} jobs and {self.times * 20} entities"


async def measure(options: Options, say: Say) -> list[Measurement]:
    """Figures as parts of what they may be."""
    found: list[Measurement] = []
    many = options.size(SCHEDULES)
    async with benchmark_server(options) as server:
        for database in (_Database(FEW_SCHEDULES, 1, _FEW_MS), _Database(many, TIMES_OF_CATALOG, _MANY_MS)):
            with tempfile.TemporaryDirectory(prefix="exportd-bench-") as name:
                found += await _pages(server, Path(name), database, options, say)
        with tempfile.TemporaryDirectory(prefix="exportd-bench-") as name:
            found.append(await _watched(server, Path(name), options, say))
    return found


async def _pages(
    server: PostgresServer, folder: Path, database: _Database, options: Options, say: Say
) -> list[Measurement]:
    say(f"making {database.schedules:,} schedules")
    catalog = folder / "entities.toml"
    await anyio.Path(catalog).write_text(_catalog(database.times), encoding="utf-8")
    schedules = declared(database.schedules)
    dsn = await create_many(server, schedules)
    async with connection_to(dsn) as connection:
        await connection.execute(SOME_HAVE_FAILED + _PAST + _tables(database.times))
        await connection.execute("VACUUM (ANALYZE)")
    configuration = configured(schedules, dsn, folder) | {"catalog": {"file": str(catalog)}}
    async with daemon_process(dsn, folder, configuration, environment={}) as daemon:
        loader = await Loader.of(daemon, folder, dsn, repeats=options.repeats(REPEATS))
        loaded = await loader.load_all(PAGES, say)
        first_load = _first_load(loader.client)
    return [
        slowest(f"console: the slowest page {database}", loaded, limit_ms=database.limit_ms),
        Measurement(
            f"console: the overview and what it loads {database}, of 60 kB in gzip",
            sum(first_load) / _FIRST_LOAD_BYTES,
            1.0,
            "lower",
            f"the page {first_load[0] / 1000:.1f} kB, the rest {sum(first_load[1:]) / 1000:.1f} kB",
        ),
    ]


def slowest(name: str, loaded: Sequence[LoadedPage], *, limit_ms: float) -> Measurement:
    """Of these pages the one that took longest; all of them are named."""
    in_order = sorted(loaded, key=lambda page: page.milliseconds, reverse=True)
    return Measurement(
        f"{name}, of {limit_ms:.0f} ms",
        in_order[0].milliseconds / limit_ms,
        1.0,
        "lower",
        f"milliseconds to the last byte (of the daemon's CPU): {', '.join(map(str, in_order))}",
    )


def _first_load(client: PageClient) -> Sequence[int]:
    """Bytes of the overview, and of each file that it loads, in gzip."""
    page = client.get("/console/")
    assets = dict.fromkeys(_ASSET.findall(page.decode()))
    return [len(gzip.compress(page)), *(len(client.get(path, accept_encoding="gzip")) for path in assets)]


# A larger catalog


def _catalog(times: int) -> str:
    """The demo's, so often: its entities, types and tables with numbers behind their names."""
    text = CATALOG.read_text(encoding="utf-8")
    named = re.compile(r'((?:^(?:code|type_token|table)|reference) = "[^"]+)"', re.MULTILINE)
    copies = (named.sub(rf'\g<1>{number}"', text) for number in range(1, times))
    return "\n".join([text, *copies])


def _tables(times: int) -> str:
    tables = re.findall(r'^table = "([^"]+)"', CATALOG.read_text(encoding="utf-8"), re.MULTILINE)
    return "".join(
        f"CREATE TABLE {table}{number} (LIKE {table} INCLUDING ALL);\n"
        for table in tables
        for number in range(1, times)
    )


# While it exports


async def _watched(server: PostgresServer, folder: Path, options: Options, say: Say) -> Measurement:
    rows = options.size(ROWS)
    say(f"making {rows:,} bills")
    dsn = await create_bills(server, rows=rows)
    seconds = WATCHING_S / 10 if options.quick else WATCHING_S
    async with daemon_process(dsn, folder, configuration_of_bills(dsn, folder), environment={}) as daemon:
        await daemon.export(ORGANIZATION, BILLS, ["lake"])
        command = [sys.executable, "-m", "benchmarks.page_client", str(folder / "control.sock"), str(seconds)]
        say("watching exports")
        async with exporting(daemon) as exports:
            before = await loop_delay(folder)
            watching = await anyio.run_process([*command, str(OVERVIEWS), str(JOB_PAGES)], cwd=_CHECKOUT, stderr=None)
            delay = (await loop_delay(folder)).since(before)
    loads = int(watching.stdout)
    return Measurement(
        f"console: p99 of the event loop's delay with {OVERVIEWS + JOB_PAGES} watchers of full exports, of 50 ms",
        delay.percentile(0.99) / DELAY_S,
        1.0,
        "lower",
        f"{summary_of(delay)}; {loads} pages loaded in {seconds:.0f} s; {len(exports)} exports of {rows:,} rows",
    )
