"""Counts how many files a journey leads through: ``python -m tests.tools.count_journeys [--files] [CHECKOUT]``.

CHECKOUT is the folder of another checkout, to compare with; ``--files`` lists the files and what of them was called.
The rule is the same for each:

- A journey that something makes (a changed row, an edit, a signal) is made on a real Postgres with a real daemon that
  has done the same before. A file is on it when one of its functions is called by the function that begins the journey
  (ROOTS), by whatever way; a constructor alone does not count, for objects are built of more than one journey needs.
  The journey of a changed row begins where its job does its work, and that of an edit is the command and the requests
  that it makes. What a task of the whole daemon does for several jobs at once counts up to where it is asked.
- Left out are the rooms of nouns and of ground that every journey stands on (GROUND), and what Python itself calls.
- A journey that a developer makes (a new kind of destination, a new limit) leads through the files that name the last
  thing of its kind: GCS outside of its own room, and each number of ``[limits]`` by its name.
"""

import argparse
import ast
import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median_low

import asyncpg

from exportd.postgres.postgres_server import PostgresServer
from tests.acceptance.sample_application import CATALOG, ORGANIZATION, Application
from tests.tools.measure_tree import CHECKOUT, Source, read_sources

GROUND = ("model/", "telemetry/", "database/", "daemon/garbage.py")
"""Rooms that are not counted, and the module that Python calls when it collects garbage."""

ROW, REQUEST, RELOAD = ROOTS = ("Pipeline.run", "Gate.__call__", "Reloader.reload")
"""The functions of the daemon that begin a journey."""

Calls = dict[str, set[str]]
"""The functions that were called, by file."""

_TRACER = Path(__file__).with_name("traced_daemon.py")
_TIMEOUT_S = 60.0
_POLL_S = 0.05
_QUIET_S = 0.5  # after the last step that can be seen: what follows it at once still belongs to the journey


def on_path(calls: Mapping[str, Iterable[str]]) -> Calls:
    """The files of a journey and what of them was called, by the rule above."""
    found: Calls = {}
    for path, names in calls.items():
        own = {name for name in names if not name.endswith("__init__")}
        if own and not path.startswith(GROUND):
            found[path] = own
    return found


@dataclass
class TracedSite:
    """A daemon of a checkout in a folder of its own, on a database with the application's tables."""

    checkout: Path
    folder: Path
    dsn: str
    _process: "subprocess.Popen[bytes] | None" = field(default=None, init=False)

    def configure(self, *, jobs: int) -> None:
        """Write the configuration, with a number that a reload changes."""
        (self.folder / "lake").mkdir(exist_ok=True)
        (self.folder / "entities.toml").write_text(CATALOG)
        (self.folder / "exportd.toml").write_text(f"""
            database.dsn = "{self.dsn}"
            catalog.file = "entities.toml"
            spool = {{ directory = "spool", free_space_floor = 1 }}
            capture = {{ poll_interval_s = 3600, prune_interval_s = 3600 }}
            control.socket = "control.sock"
            limits.jobs = {jobs}
            log.format = "json"
            [[destination]]
            code = "lake"
            organization = "{ORGANIZATION}"
            directory = "lake"
            [[schedule]]
            code = "often"
            organization = "{ORGANIZATION}"
            entities = "ALL"
            destinations = ["lake"]
            unit = "DAY"
            period = 1
        """)

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    async def start(self) -> None:
        """Start the daemon; returns when it is ready."""
        self._launch()
        await self.until(self._says("daemon ready"))

    def _launch(self) -> None:
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                self._command("run"), cwd=self.checkout, env=self._environment("calls"), stdout=log, stderr=log
            )

    def end(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    async def traced(
        self, root: str, first: Callable[[], Awaitable[object]], last: Callable[[], Awaitable[bool]]
    ) -> Calls:
        """What ``root`` calls in the daemon from a step on until something is seen."""
        assert self._process is not None
        self._process.send_signal(signal.SIGUSR1)
        await first()
        await self.until(last)
        await asyncio.sleep(_QUIET_S)
        calls = self.folder / "calls"
        calls.unlink(missing_ok=True)
        self._process.send_signal(signal.SIGUSR2)

        async def written() -> bool:
            return calls.exists()

        await self.until(written)
        return on_path(json.loads(calls.read_text())[root])

    async def command(self, *words: str) -> Calls:
        """Run a command of the command line; what it calls."""
        environment = {**self._environment("command"), "TRACE_ALL": "1"}
        await asyncio.to_thread(
            subprocess.run, self._command(*words), cwd=self.checkout, env=environment, check=True, capture_output=True
        )
        return on_path(json.loads((self.folder / "command").read_text())[""])

    async def reload(self) -> None:
        assert self._process is not None
        self.configure(jobs=3)
        self._process.send_signal(signal.SIGHUP)

    async def until(self, seen: Callable[[], Awaitable[bool]]) -> None:
        """Raises TimeoutError with the log when it is never seen."""
        deadline = asyncio.get_running_loop().time() + _TIMEOUT_S
        while not await seen():
            if asyncio.get_running_loop().time() > deadline:
                raise TimeoutError(self.log)
            await asyncio.sleep(_POLL_S)

    def _says(self, words: str) -> Callable[[], Awaitable[bool]]:
        async def says() -> bool:
            return words in self.log

        return says

    def reloaded(self) -> Callable[[], Awaitable[bool]]:
        return self._says("reload")

    def _command(self, *words: str) -> list[str]:
        return [sys.executable, str(_TRACER), *words, "--config", str(self.folder / "exportd.toml")]

    def _environment(self, calls: str) -> dict[str, str]:
        target = str(self.folder / calls)
        return {
            **os.environ,
            "PYTHONPATH": str(self.checkout),
            "TRACE_FILE": target,
            "TRACE_ROOTS": ",".join(ROOTS),
        }


async def made_journeys(checkout: Path) -> dict[str, Calls]:
    """Make each journey once; the files that it leads through."""
    with tempfile.TemporaryDirectory() as folder:
        async with PostgresServer(settings={"fsync": "off"}) as server:
            site = TracedSite(checkout, Path(folder), await server.create_database("application"))
            connection = await asyncpg.connect(site.dsn)
            try:
                await Application(connection).open()
                site.configure(jobs=2)
                await site.start()
                return await _make(site, connection)
            finally:
                site.end()
                await connection.close()


async def _make(site: TracedSite, connection: "asyncpg.Connection[asyncpg.Record]") -> dict[str, Calls]:
    def succeeded(number: int) -> Callable[[], Awaitable[bool]]:
        async def look() -> bool:
            query = "SELECT count(*) FROM exportd.job WHERE state = 'SUCCEEDED'"
            return bool(await connection.fetchval(query) >= number)

        return look

    async def change() -> None:
        await connection.execute("UPDATE public.accounts SET note = 'changed' WHERE id = 2")
        await site.command("schedule", "run", "often")

    async def edit() -> None:
        said.update(await site.command("schedule", "edit", "made", "--organization", ORGANIZATION, "--period", "3"))

    async def edited() -> bool:
        return bool(said)

    said: Calls = {}
    await site.until(succeeded(1))
    await site.command(
        *("schedule", "create", "made", "--organization", ORGANIZATION, "--entities", "ACCOUNTS"),
        *("--destinations", "lake", "--unit", "DAY", "--period", "1"),
    )
    await site.until(succeeded(2))
    await change()
    await site.until(succeeded(3))
    row = await site.traced(ROW, change, succeeded(4))
    answered = await site.traced(REQUEST, edit, edited)
    return {
        "changed row → manifest": row,
        "schedule edited by the command line": said | answered,
        "SIGHUP": await site.traced(RELOAD, site.reload, site.reloaded()),
    }


def files_naming_gcs(sources: Iterable[Source]) -> list[str]:
    """The files outside of its own room that know that there is Google Cloud Storage."""
    return [source.path for source in sources if "gcs" in source.text.lower() and "stores/gcs" not in source.path]


def files_naming_limits(sources: Sequence[Source]) -> dict[str, list[str]]:
    """The files that name each number of ``[limits]``; names of one word say other things too, and are left out."""
    (section,) = [
        node
        for source in sources
        for node in source.nodes
        if isinstance(node, ast.ClassDef) and re.fullmatch(r"Limits?(Settings|Section)?", node.name)
        if "settings/" in source.path
    ]
    names = [
        node.target.id for node in section.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    ]
    return {
        name: [source.path for source in sources if re.search(rf"\b{name}\b", source.text)]
        for name in names
        if "_" in name
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", action="store_true")
    parser.add_argument("checkout", type=Path, nargs="?", default=CHECKOUT)
    chosen = parser.parse_args()
    checkout = chosen.checkout.resolve()
    for name, calls in asyncio.run(made_journeys(checkout)).items():
        sys.stdout.write(f"{name:38}{len(calls):4}\n")
        if chosen.files:
            sys.stdout.write("".join(f"    {path}: {', '.join(sorted(calls[path]))}\n" for path in sorted(calls)))
    sources = read_sources(checkout, "exportd")
    limits = files_naming_limits(sources)
    sys.stdout.write(f"{'a new kind of destination':38}{len(files_naming_gcs(sources)):4}\n")
    sys.stdout.write(f"{'a new number in [limits]':38}{median_low(map(len, limits.values())):4}\n")
    if chosen.files:
        sys.stdout.write("".join(f"    {name}: {', '.join(paths)}\n" for name, paths in limits.items()))


if __name__ == "__main__":
    main()
