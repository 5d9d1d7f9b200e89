"""The daemon under control: how soon commands and the API answer, also while it exports, and with 10,000 schedules."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from benchmarks.api_client import UnixConnection
from benchmarks.bills import BILLS, CATALOG, ORGANIZATION, create_bills
from benchmarks.daemon_process import DaemonProcess, daemon_process, write_configuration
from benchmarks.loop_delay import LoopDelay
from benchmarks.many_schedules import SCHEDULES, configured, create_many, declared
from benchmarks.measurement import Measurement, Options, Say, spread
from benchmarks.server import benchmark_server
from exportd.postgres.postgres_server import PostgresServer

ROWS = 1_000_000
ASKING_S = 30.0
"""How long each kind of client sends requests while exports run."""
STARTS = 15
RELOADS = 5
METRICS_PAUSE_S = 5.2
"""The text of the metrics is built again after five seconds."""

_START_MS = 150.0
DELAY_S = 0.05
"""So late the event loop may be, at the 99th percentile."""

_MEMORY_BYTES = 300e6
_ANSWER_S = 1.0
_RELOAD_S = 5.0
_EXPORTS_PATH = f"/organizations/{ORGANIZATION}/dataexports"
_CHECKOUT = Path(__file__).parents[1]


async def measure(options: Options, say: Say) -> list[Measurement]:
    """Figures as parts of what they may be."""
    async with benchmark_server(options) as server:
        with tempfile.TemporaryDirectory(prefix="exportd-bench-") as name:
            found = await _while_exporting(server, Path(name), options, say)
        with tempfile.TemporaryDirectory(prefix="exportd-bench-") as name:
            return [*found, *await _with_many_schedules(server, Path(name), options, say)]


# While it exports


async def _while_exporting(server: PostgresServer, folder: Path, options: Options, say: Say) -> list[Measurement]:
    rows = options.size(ROWS)
    say(f"making {rows:,} bills")
    dsn = await create_bills(server, rows=rows)
    async with daemon_process(dsn, folder, configuration_of_bills(dsn, folder), environment={}) as daemon:
        await daemon.export(ORGANIZATION, BILLS, ["lake"])
        starts = await _starts(folder, options, say)
        jobs = json.loads(await _get(folder, f"{_EXPORTS_PATH}/jobs"))["data"]
        paths = ("/v1/status", f"{_EXPORTS_PATH}/schedules", f"{_EXPORTS_PATH}/jobs/{jobs[0]['id']}")
        seconds = ASKING_S / 10 if options.quick else ASKING_S
        quiet = await _ask(folder, paths, seconds / 3, say)
        async with exporting(daemon) as exports:
            before = await loop_delay(folder)
            busy = await _ask(folder, paths, seconds, say)
            delay = (await loop_delay(folder)).since(before)
    ways = "; ".join(f"{way}: {busy[way]}, without exports {quiet[way]}" for way in busy)
    return [
        *starts,
        Measurement(
            "control: p99 of the event loop's delay during full exports, of 50 ms",
            delay.percentile(0.99) / DELAY_S,
            1.0,
            "lower",
            f"{summary_of(delay)}; {len(exports)} exports of {rows:,} rows",
        ),
        Measurement(
            "control: p99 of the API during full exports, against without",
            busy["kept connection"].p99_ms / quiet["kept connection"].p99_ms,
            None,
            "lower",
            ways,
        ),
    ]


def configuration_of_bills(dsn: str, folder: Path) -> dict[str, Any]:
    lake = folder / "lake"
    lake.mkdir()
    return {
        "database": {"dsn": dsn},
        "catalog": {"file": str(CATALOG)},
        "spool": {"directory": str(folder / "spool"), "retention_hours": 0},
        "control": {"socket": str(_socket(folder))},
        "destination": [{"code": "lake", "organization": ORGANIZATION, "directory": str(lake)}],
        "schedule": [
            {
                "code": "nightly",
                "organization": ORGANIZATION,
                "entities": [BILLS],
                "destinations": ["lake"],
                "cron": "0 2 * * *",
            }
        ],
    }


@asynccontextmanager
async def exporting(daemon: DaemonProcess) -> AsyncIterator[list[float]]:
    """Full exports, one after the other, until the end of the block; the seconds of those that are done."""
    seconds: list[float] = []

    async def export() -> None:
        while True:
            seconds.append((await daemon.export(ORGANIZATION, BILLS, ["lake"])).seconds)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(export)
        yield seconds
        tasks.cancel_scope.cancel()


@dataclass(frozen=True, slots=True)
class _Answers:
    """How fast a client that sends one request after the other is answered."""

    a_second: float
    p50_ms: float
    p99_ms: float

    def __str__(self) -> str:
        return f"{self.a_second:.0f} a second, p50 {self.p50_ms:.1f} ms, p99 {self.p99_ms:.1f} ms"


async def _ask(folder: Path, paths: Sequence[str], seconds: float, say: Say) -> dict[str, _Answers]:
    found = {}
    for way, name in (("kept", "kept connection"), ("new", "new connections")):
        command = [sys.executable, "-m", "benchmarks.api_client", str(_socket(folder)), str(seconds), way, *paths]
        output = await anyio.run_process(command, cwd=_CHECKOUT, stderr=None)
        took: list[float] = json.loads(output.stdout)
        percentiles = statistics.quantiles(took, n=100)
        found[name] = _Answers(len(took) / seconds, percentiles[49], percentiles[98])
        say(f"{name}: {found[name]}")
    return found


async def _starts(folder: Path, options: Options, say: Say) -> list[Measurement]:
    """Commands, from their start to their end. As an installation leaves them, with their bytecode."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
    found = []
    for words in (["--help"], ["status", "--socket", str(_socket(folder))]):
        command = [sys.executable, "-m", "exportd", *words]
        await _milliseconds(command, environment)  # compiles
        took = [await _milliseconds(command, environment) for _ in range(options.repeats(STARTS))]
        say(f"exportd {words[0]}: {spread(took, 0)} ms")
        nothing = [
            await _milliseconds([sys.executable, "-c", "pass"], environment) for _ in range(options.repeats(STARTS))
        ]
        found.append(
            Measurement(
                f"control: exportd {words[0]}, of 150 ms",
                statistics.median(took) / _START_MS,
                1.0,
                "lower",
                f"{spread(took, 0)} ms, of which Python's own start {spread(nothing, 0)}",
            )
        )
    return found


async def _milliseconds(command: Sequence[str], environment: Mapping[str, str]) -> float:
    start = time.perf_counter()
    await anyio.run_process(command, env=environment, stdin=subprocess.DEVNULL, stderr=None)
    return (time.perf_counter() - start) * 1000


# With many schedules


async def _with_many_schedules(server: PostgresServer, folder: Path, options: Options, say: Say) -> list[Measurement]:
    count = options.size(SCHEDULES)
    say(f"making {count:,} schedules")
    schedules = declared(count)
    dsn = await create_many(server, schedules)
    configuration = configured(schedules, dsn, folder)
    async with daemon_process(dsn, folder, configuration, environment={}) as daemon:
        started_bytes = daemon.peak_bytes
        repeats = options.repeats(RELOADS)
        unchanged = [await _reload_s(folder) for _ in range(repeats)]
        say(f"reloading {count:,} schedules: {spread(unchanged)} s")
        changed = []
        before = await loop_delay(folder)
        for turn in range(repeats):
            # A tenth of them has another name each time, and a hundredth goes and comes again.
            edited = [
                replace(schedule, name=f"{schedule.name}, edition {turn}") if number % 10 == 0 else schedule
                for number, schedule in enumerate(schedules)
                if turn % 2 or number % 100 != 1
            ]
            await write_configuration(folder, configured(edited, dsn, folder))
            changed.append(await _reload_s(folder))
        reloading = (await loop_delay(folder)).since(before)
        say(f"the same with changes: {spread(changed)} s")
        before = await loop_delay(folder)
        metrics_s, status_s = [], []
        for _ in range(repeats):
            await anyio.sleep(METRICS_PAUSE_S)
            metrics_s.append(await _seconds(lambda: _fetch(folder, "/metrics")))
            status_s.append(await _seconds(lambda: _fetch(folder, "/v1/status")))
        say(f"metrics {spread(metrics_s)} s, status {spread(status_s)} s")
        looking = (await loop_delay(folder)).since(before)
        peak_bytes = daemon.peak_bytes
    of = f"with {count:,} schedules"
    return [
        Measurement(
            f"control: reload {of}, of 5 s",
            statistics.median(changed) / _RELOAD_S,
            1.0,
            "lower",
            f"a tenth edited, a hundredth removed or added {spread(changed)} s, nothing changed {spread(unchanged)} s",
        ),
        Measurement(
            f"control: p99 of the event loop's delay during reloads {of}, of 50 ms",
            reloading.percentile(0.99) / DELAY_S,
            1.0,
            "lower",
            summary_of(reloading),
        ),
        Measurement(
            f"control: /metrics {of}, of 1 s",
            statistics.median(metrics_s) / _ANSWER_S,
            1.0,
            "lower",
            f"{spread(metrics_s)} s; the event loop's delay meanwhile: {summary_of(looking)}",
        ),
        Measurement(
            f"control: /v1/status {of}, of 1 s",
            statistics.median(status_s) / _ANSWER_S,
            1.0,
            "lower",
            f"{spread(status_s)} s",
        ),
        Measurement(
            f"control: peak memory {of}, of 300 MB",
            peak_bytes / _MEMORY_BYTES,
            1.0,
            "lower",
            f"{peak_bytes / 1e6:.0f} MB after {2 * repeats} reloads, {started_bytes / 1e6:.0f} MB when it had started; "
            f"1 to 20 entities each",
        ),
    ]


async def _reload_s(folder: Path) -> float:
    """From the start of the command to its end."""
    command = [sys.executable, "-m", "exportd", "reload", "--config", str(folder / "exportd.toml")]
    start = time.perf_counter()
    await anyio.run_process(command, stdin=subprocess.DEVNULL, stderr=None)
    return time.perf_counter() - start


# Asking


def _socket(folder: Path) -> Path:
    return folder / "control.sock"


def _fetch(folder: Path, path: str) -> bytes:
    connection = UnixConnection(_socket(folder))
    try:
        return connection.get(path)
    finally:
        connection.close()


async def _get(folder: Path, path: str) -> bytes:
    return await anyio.to_thread.run_sync(_fetch, folder, path)


async def _seconds(fetch: Callable[[], bytes]) -> float:
    start = time.perf_counter()
    await anyio.to_thread.run_sync(fetch)
    return time.perf_counter() - start


async def loop_delay(folder: Path) -> LoopDelay:
    """As it is now: the metrics are built for it."""
    await anyio.sleep(METRICS_PAUSE_S)
    return LoopDelay.of((await _get(folder, "/metrics")).decode())


def summary_of(delay: LoopDelay) -> str:
    late = 1 - delay.counts[DELAY_S] / delay.samples
    return (
        f"p50 {delay.percentile(0.5) * 1000:.1f} ms, p99 {delay.percentile(0.99) * 1000:.1f} ms, "
        f"{late:.2%} of {delay.samples:,} samples above 50 ms"
    )
