"""What the hourly run of a small tenant costs: its share of the CPU of daemon and server, its statements and fsyncs.

All organizations are due in the same second, each over 20 entities to a directory, with eight changed rows or none. The
tree of an earlier commit does the same in turns with this one, so that the ratio does not depend on the machine.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from benchmarks.bills import CATALOG
from benchmarks.measurement import Measurement, Options, Say
from benchmarks.server import benchmark_server

ORGANIZATIONS: Final = 300
ENTITIES: Final = 20
TENANTS: Final = 10_000
TENANTS_ENTITIES: Final = 2
ROUNDS = 2
BEFORE: Final = "15f2ed3"
"""The commit before small jobs were made cheaper."""

_CHECKOUT = Path(__file__).parents[1]
_SCRIPT = Path(__file__).with_name("small_jobs_tree.py")
_LIMITS: Mapping[str, float] = {"changed": 1 / 8, "empty": 1 / 10}


class _MeasuredTree:
    """A process that runs rounds of jobs with the exportd of one tree."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._lines = BufferedByteReceiveStream(_required(process.stdout))

    async def round(self, kind: str) -> dict[str, Any]:
        await _required(self._process.stdin).send(f"{kind}\n".encode())
        answer: dict[str, Any] = json.loads(await self._lines.receive_until(b"\n", 1 << 20))
        return answer


async def measure(options: Options, say: Say) -> list[Measurement]:
    """CPU of daemon and server against the earlier commit's, and statements and fsyncs of our own."""
    organizations = options.size(ORGANIZATIONS)
    rounds = [kind for _ in range(options.repeats(ROUNDS)) for kind in ("changed", "empty")]
    async with _trees(options, organizations, ENTITIES) as trees:
        figures: dict[str, dict[str, list[dict[str, Any]]]] = {name: {} for name in trees}
        # The first round, in which everything is new, is not counted.
        for number, kind in enumerate(["first", *rounds, "counted"]):
            for name, tree in trees.items():
                say(f"round {number + 1} of {len(rounds) + 2}: {kind}, {name}")
                figures[name].setdefault(kind, []).append(await tree.round(kind))
    return [_measurement(kind, limit, figures) for kind, limit in _LIMITS.items()]


async def measure_many(options: Options, say: Say) -> list[Measurement]:
    """Memory and the event loop while ten thousand schedules are due in the same second, and nothing has changed."""
    tenants = options.size(TENANTS)
    async with _trees(options, tenants, TENANTS_ENTITIES, with_earlier=False) as trees:
        say("first run of each tenant")
        await trees["now"].round("first")
        say("all of them again")
        figures = await trees["now"].round("empty")
    name = f"{tenants} schedules of {TENANTS_ENTITIES} entities due together, nothing changed"
    rate, cpu_ms = figures["jobs"] / figures["seconds"], 1000 * figures["process_s"] / tenants
    details = f"{rate:.0f} jobs/s, {cpu_ms:.0f} ms of CPU a job"
    return [
        Measurement(f"{name}: peak of the daemon's memory, MB", figures["peak_kb"] / 1000, 300, "lower", details),
        Measurement(f"{name}: delay of its event loop, p99, ms", 1000 * figures["loop_p99_s"], 50, "lower", details),
    ]


def _measurement(kind: str, limit: float, figures: Mapping[str, Mapping[str, list[dict[str, Any]]]]) -> Measurement:
    details, cost = [], {}
    for name, kinds in figures.items():
        found = kinds[kind]
        jobs = sum(figure["jobs"] for figure in found)
        process_ms, server_ms = (
            1000 * sum(figure[part] for figure in found) / jobs for part in ("process_s", "server_s")
        )
        cost[name] = process_ms + server_ms
        statements = kinds["counted"][0]["statements"]
        details.append(
            f"{name}: {process_ms:.0f} ms of CPU a job and {server_ms:.0f} ms of the server's, "
            f"{sum(figure['fsyncs'] for figure in found) / jobs:.0f} fsyncs, "
            f"{sum(statements.values()) / kinds['counted'][0]['jobs']:.0f} statements when nothing changed, "
            f"{sum(figure['rows'] for figure in found) / jobs:.0f} rows"
        )
    ratio = cost["now"] / cost["before"] if "before" in cost else cost["now"]
    return Measurement(
        f"small job, {kind}: CPU of daemon and server against {BEFORE}",
        ratio,
        limit if "before" in cost else None,
        "lower",
        "; ".join(details),
    )


@asynccontextmanager
async def _trees(
    options: Options, organizations: int, entities: int, *, with_earlier: bool = True
) -> AsyncIterator[dict[str, _MeasuredTree]]:
    """The tree at hand, and that of the earlier commit where the history is at hand, each with a server of its own."""
    with tempfile.TemporaryDirectory(prefix="exportd-before-") as folder:
        paths = {"now": _CHECKOUT}
        archive = await anyio.run_process(["git", "-C", str(_CHECKOUT), "archive", BEFORE, "exportd"], check=False)
        if with_earlier and not archive.returncode:
            await anyio.run_process(["tar", "-x", "-C", folder], input=archive.stdout)
            paths["before"] = Path(folder)
        async with benchmark_server(options) as first, benchmark_server(options) as second:
            running = {}
            try:
                for (name, path), server in zip(paths.items(), (first, second), strict=False):
                    dsn = await server.create_database("product")
                    process = await anyio.open_process(
                        [
                            *(sys.executable, str(_SCRIPT), dsn, str(CATALOG), str(server.log)),
                            *(str(organizations), str(entities)),
                        ],
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=None,
                        env={**os.environ, "PYTHONPATH": str(path)},
                    )
                    running[name] = process
                yield {name: _MeasuredTree(process) for name, process in running.items()}
            finally:
                for process in running.values():
                    await _required(process.stdin).aclose()
                    await process.wait()


def _required(stream: Any) -> Any:
    assert stream is not None
    return stream
