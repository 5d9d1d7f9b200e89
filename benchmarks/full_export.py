"""A full export of one table, beside psql: to nowhere, and through gzip into a file, the usual way by hand."""

import os
import shlex
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from benchmarks.bills import create_bills, full_query
from benchmarks.exporter_process import Export, ExporterProcess, exporter_process
from benchmarks.measurement import Measurement, Options, Say, in_turns, spread
from benchmarks.server import benchmark_server, run
from exportd.model.schedule import ExportFormat

ROWS = 1_000_000
ROUNDS = 5

_COPY_OPTIONS = {
    ExportFormat.CSV: "FORMAT csv",
    ExportFormat.JSONL: r"FORMAT csv, QUOTE E'\x01', DELIMITER E'\x02'",
}

Way = Callable[[], Awaitable[float]]
"""Exports all bills in one way; returns the seconds."""


async def measure(options: Options, say: Say) -> list[Measurement]:
    """Ratios of wall time."""
    rows = options.size(ROWS)
    async with benchmark_server(options) as server:
        say(f"making {rows:,} bills")
        dsn = await create_bills(server, rows=rows)
        with tempfile.TemporaryDirectory(prefix="exportd-bench-") as folder:
            async with exporter_process(dsn) as exporter:
                contest = _Contest(exporter, dsn, psql=server.binaries / "psql", rows=rows)
                await contest.run(await contest.ways(Path(folder, "bills.csv.gz")), options.repeats(ROUNDS), say)
    return contest.measurements()


class _Contest:
    """The ways to export, what they took, and what came out."""

    def __init__(self, exporter: ExporterProcess, dsn: str, *, psql: Path, rows: int) -> None:
        self._exporter = exporter
        self._dsn = dsn
        self._psql = psql
        self._rows = rows
        self._exports: dict[str, Export] = {}
        self._seconds: dict[str, list[float]] = {}

    async def ways(self, file: Path) -> dict[str, Way]:
        csv, jsonl = ExportFormat.CSV, ExportFormat.JSONL
        to_file = f"{await self._copy_command(csv, 'STDOUT')} | gzip > {shlex.quote(str(file))}"
        return {
            "CSV": self._exporting("CSV", streams=1, file_format=csv),
            "psql CSV": self._shell(await self._copy_command(csv, os.devnull)),
            "psql | gzip": self._shell(to_file),
            "two streams": self._exporting("two streams", streams=2, file_format=csv),
            "JSONL": self._exporting("JSONL", streams=1, file_format=jsonl),
            "psql JSONL": self._shell(await self._copy_command(jsonl, os.devnull)),
        }

    async def run(self, ways: dict[str, Way], rounds: int, say: Say) -> None:
        # What is read from disk and compiled once is not measured.
        await ways["CSV"]()
        await ways["psql CSV"]()
        for name in in_turns(list(ways), rounds):
            seconds = await ways[name]()
            self._seconds.setdefault(name, []).append(seconds)
            say(f"{name}: {seconds:.2f} s")

    def measurements(self) -> list[Measurement]:
        export = self._exports["CSV"]
        sizes = (
            f"{self._rows:,} rows of {export.content_bytes / self._rows:.0f} bytes, "
            f"compressed {export.content_bytes / export.size_bytes:.1f} to 1, {export.cpu_s:.1f} s of client CPU"
        )
        return [
            self._measurement("full export: CSV, against psql to /dev/null", "CSV", "psql CSV", 1.0, sizes),
            self._measurement("full export: CSV, against psql | gzip > file", "CSV", "psql | gzip", 0.45),
            self._measurement("full export: two streams, against one", "two streams", "CSV", 0.85),
            self._measurement("full export: JSONL, against psql to /dev/null", "JSONL", "psql JSONL", 1.0),
        ]

    def _measurement(self, title: str, one: str, other: str, limit: float, note: str = "") -> Measurement:
        median_s = statistics.median(self._seconds[one])
        detail = (
            f"{spread(self._seconds[one])} s ({self._exports[one].content_bytes / median_s / 1e6:.0f} MB/s), "
            f"{other} {spread(self._seconds[other])} s"
        )
        ratio = median_s / statistics.median(self._seconds[other])
        return Measurement(title, ratio, limit, "lower", f"{detail}; {note}" if note else detail)

    def _exporting(self, name: str, *, streams: int, file_format: ExportFormat) -> Way:
        async def export() -> float:
            done = self._exports[name] = await self._exporter.export(streams=streams, file_format=file_format)
            if done.rows != self._rows:
                raise AssertionError(f"{done.rows} of {self._rows} rows exported")
            return done.seconds

        return export

    def _shell(self, command: str) -> Way:
        async def shell() -> float:
            start = time.perf_counter()
            await run(["bash", "-o", "pipefail", "-c", command])
            return time.perf_counter() - start

        return shell

    async def _copy_command(self, file_format: ExportFormat, target: str) -> str:
        query = await full_query(self._dsn, file_format)
        copy = rf"\copy ({query}) TO {target} WITH ({_COPY_OPTIONS[file_format]})"
        return shlex.join([str(self._psql), "--no-psqlrc", "--quiet", self._dsn, "--command", copy])
