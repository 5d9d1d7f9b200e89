"""Runs the benchmarks, prints a table, writes ``results.json`` beside this file.

Every benchmark has servers of its own, which are gone at the end. Nothing is measured in parallel.
"""

import argparse
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import anyio
from rich.console import Console
from rich.table import Table

from benchmarks import (
    capture,
    console_pages,
    control,
    delivery,
    empty_job,
    first_runs,
    full_export,
    growth,
    incremental,
    kept_history,
    many_jobs,
    memory,
    role_clients,
    short_lane,
    small_jobs,
    timer_wheel,
)
from benchmarks.measurement import Measurement, Options, Say
from exportd.telemetry import logging

RESULTS = Path(__file__).with_name("results.json")

Benchmark = Callable[[Options, Say], Awaitable[list[Measurement]]]

BENCHMARKS: Mapping[str, Benchmark] = {
    "full_export": full_export.measure,
    "memory": memory.measure,
    "incremental": incremental.measure,
    "capture": capture.measure,
    "capture_at_flushes": capture.measure_at_flushes,
    "empty_job": empty_job.measure,
    "small_jobs": small_jobs.measure,
    "small_jobs_to_s3": small_jobs.measure_to_s3,
    "role_clients": role_clients.measure,
    "many_jobs": many_jobs.measure,
    "first_runs": first_runs.measure,
    "short_lane": short_lane.measure,
    "growth": growth.measure,
    "kept_history": kept_history.measure,
    "delivery": delivery.measure,
    "control": control.measure,
    "console": console_pages.measure,
    "timer_wheel": timer_wheel.measure,
}


def main() -> None:
    """The command."""
    arguments = _parser().parse_args()
    options = Options(major=arguments.major, rounds=arguments.rounds, quick=arguments.quick)
    logging.configure(level="warning", line_format="auto")
    console = Console(stderr=True)
    measurements: list[Measurement] = []
    for name in arguments.only or BENCHMARKS:
        start = time.monotonic()
        with console.status(name) as status:

            def say(what: str, name: str = name) -> None:
                status.update(f"{name}: {what}")

            measurements += anyio.run(BENCHMARKS[name], options, say, backend_options={"use_uvloop": True})
        console.print(f"{name}: done in {time.monotonic() - start:.0f} s", style="dim")
        # After each, so that a run that is broken off has left what it measured.
        _write(measurements)
    Console().print(_table(measurements, judged=not options.quick))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", choices=BENCHMARKS, action="append", help="this benchmark (can be given again)")
    parser.add_argument("--major", type=int, metavar="N", help="the Postgres to take, such as 15 (default: the newest)")
    parser.add_argument("--rounds", type=_positive, metavar="N", help="how often to repeat what is compared")
    parser.add_argument("--quick", action="store_true", help="small sizes and one round, to see whether it works")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("should be 1 or more")
    return number


def _write(measurements: list[Measurement]) -> None:
    entries = [{**asdict(measurement), "ratio": round(measurement.ratio, 4)} for measurement in measurements]
    RESULTS.write_text(json.dumps(entries, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _table(measurements: list[Measurement], *, judged: bool) -> Table:
    """For people. Ratios of small sizes are not ``judged``: they mean little."""
    table = Table("what", "ratio", "limit", "", "detail", header_style="bold")
    table.columns[1].justify = table.columns[2].justify = "right"
    for measurement in measurements:
        sign = "≤" if measurement.better == "lower" else "≥"
        verdict = "[green]ok" if measurement.within_limit else "[red]MISSED"
        if measurement.limit is None or not judged:
            verdict = ""
        limit = "" if measurement.limit is None else f"{sign} {measurement.limit:.4g}"
        table.add_row(measurement.name, f"{measurement.ratio:.3g}", limit, verdict, measurement.detail)
    return table
