"""What the hourly run of a small tenant costs: its share of the CPU of daemon and server, its statements and fsyncs.

All organizations are due in the same second, each over 20 entities to a directory or to S3, with eight changed rows or
none. The tree of an earlier commit does the same in turns with this one, so that the ratio does not depend on the
machine.
"""

import fcntl
import json
import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import anyio
import anyio.to_thread
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from benchmarks.bills import CATALOG
from benchmarks.measurement import Measurement, Options, Say
from benchmarks.server import benchmark_server
from tests.fixtures.stores import PROFILE, aws_environment
from tests.fixtures.swift import SwiftServer, running_swift

ORGANIZATIONS: Final = 300
"""More than there are destinations that keep their connections while nothing uses them."""
ROUNDS, ROUNDS_TO_S3 = 2, 1
BEFORE: Final = "15f2ed3"
"""The commit before small jobs were made cheaper."""

_CHECKOUT = Path(__file__).parents[1]
_SCRIPT = Path(__file__).with_name("small_jobs_tree.py")
_BUCKETS = ("tree-now", "tree-before")
_LIMITS: Mapping[str, float] = {"changed": 1 / 8, "empty": 1 / 10}
_LIMIT_TO_S3 = 1 / 5
_MAX_FSYNCS = 2
_MAX_STATEMENTS = 12

# From <linux/fs.h>, which Python does not have.
_GET_FLAGS, _SET_FLAGS, _TOP_OF_HIERARCHY = 0x8008_6601, 0x4008_6602, 0x0002_0000
_FLAGS = struct.Struct("l")

_Figures = Mapping[str, Mapping[str, list[dict[str, Any]]]]
"""By tree and kind of round."""


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
    async with _trees(options, options.size(ORGANIZATIONS)) as trees:
        figures = await _rounds(trees, options.repeats(ROUNDS), say)
        say("counting statements")
        await trees["now"].round("together")
        counted = await trees["now"].round("counted")
    return [
        *(_against_earlier(kind, kind, limit, figures) for kind, limit in _LIMITS.items()),
        *(_fsyncs(kind, figures["now"][kind]) for kind in _LIMITS),
        _statements(counted),
    ]


async def measure_to_s3(options: Options, say: Say) -> list[Measurement]:
    """The same to S3, which is Swift on the loopback: its own CPU is not counted."""
    with tempfile.TemporaryDirectory(prefix="exportd-bench-") as name:
        folder = Path(name)
        say("starting Swift")
        async with _swift(folder / "swift") as swift:
            environment = aws_environment(swift, folder)
            organizations = options.size(ORGANIZATIONS)
            async with _trees(options, organizations, swift=swift, environment=environment) as trees:
                figures = await _rounds(trees, options.repeats(ROUNDS_TO_S3), say)
    return [_against_earlier(f"{kind}, to S3", kind, _LIMIT_TO_S3, figures) for kind in _LIMITS]


async def _rounds(trees: Mapping[str, _MeasuredTree], count: int, say: Say) -> _Figures:
    figures: dict[str, dict[str, list[dict[str, Any]]]] = {name: {} for name in trees}
    kinds = ["first", *(kind for _ in range(count) for kind in _LIMITS)]
    # The first round, in which everything is new, is not counted.
    for number, kind in enumerate(kinds):
        for name, tree in trees.items():
            say(f"round {number + 1} of {len(kinds)}: {kind}, {name}")
            figures[name].setdefault(kind, []).append(await tree.round(kind))
    return figures


def _against_earlier(title: str, kind: str, limit: float, figures: _Figures) -> Measurement:
    details, cost = [], {}
    for name, kinds in figures.items():
        found = kinds[kind]
        process_ms, server_ms = 1000 * _a_job("process_s", found), 1000 * _a_job("server_s", found)
        cost[name] = process_ms + server_ms
        details.append(
            f"{name}: {process_ms:.0f} ms of CPU a job and {server_ms:.0f} ms of the server's, "
            f"{_a_job('fsyncs', found):.0f} fsyncs, {_a_job('rows', found):.0f} rows"
        )
    has_earlier = "before" in cost
    return Measurement(
        f"small job, {title}: CPU of daemon and server against {BEFORE}",
        cost["now"] / cost["before"] if has_earlier else cost["now"],
        limit if has_earlier else None,
        "lower",
        "; ".join(details),
    )


def _fsyncs(kind: str, found: Sequence[Mapping[str, Any]]) -> Measurement:
    spool, database = _a_job("spool_fsyncs", found), _a_job("wal_flushes", found)
    return Measurement(
        f"small job, {kind}: fsyncs of spool and database a job",
        spool + database,
        _MAX_FSYNCS,
        "lower",
        f"spool {spool:.2f}, database {database:.2f}, the destination's beside them "
        f"{_a_job('fsyncs', found) - spool:.1f}",
    )


def _statements(counted: Mapping[str, Any]) -> Measurement:
    jobs, sessions = counted["jobs"], counted["statements"]
    detail = ", ".join(f"{session} {count / jobs:.1f}" for session, count in sessions.items())
    return Measurement(
        f"small job, nothing changed: statements a job, {jobs} of them due together",
        sum(sessions.values()) / jobs,
        _MAX_STATEMENTS,
        "lower",
        detail,
    )


def _a_job(figure: str, found: Sequence[Mapping[str, Any]]) -> float:
    total, jobs = (float(sum(figures[name] for figures in found)) for name in (figure, "jobs"))
    return total / jobs


@asynccontextmanager
async def _swift(folder: Path) -> AsyncIterator[SwiftServer]:
    manager = running_swift(folder)
    swift = await anyio.to_thread.run_sync(manager.__enter__)
    try:
        for bucket in _BUCKETS:
            await anyio.to_thread.run_sync(swift.create_bucket, bucket)
        yield swift
    finally:
        await anyio.to_thread.run_sync(manager.__exit__, None, None, None)


@asynccontextmanager
async def _trees(
    options: Options,
    organizations: int,
    *,
    swift: SwiftServer | None = None,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> AsyncIterator[dict[str, _MeasuredTree]]:
    """The tree at hand, and that of the earlier commit where the history is at hand, each with a server of its own."""
    with (
        tempfile.TemporaryDirectory(prefix="exportd-before-") as folder,
        tempfile.TemporaryDirectory(prefix="exportd-bench-") as files,
    ):
        paths, files_of = {"now": _CHECKOUT}, _subfolders_apart(Path(files), ("now", "before"))
        archive = await anyio.run_process(["git", "-C", str(_CHECKOUT), "archive", BEFORE, "exportd"], check=False)
        if not archive.returncode:
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
                            *(str(organizations), _place(swift, bucket=f"tree-{name}")),
                        ],
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=None,
                        env={
                            **os.environ,
                            **environment,
                            # What is exportd's comes from that tree, what is the benchmarks' from this one.
                            "PYTHONPATH": f"{path}{os.pathsep}{_CHECKOUT}",
                            "TMPDIR": str(files_of[name]),
                        },
                    )
                    running[name] = process
                yield {name: _MeasuredTree(process) for name, process in running.items()}
            finally:
                for process in running.values():
                    await _required(process.stdin).aclose()
                    await process.wait()


def _subfolders_apart(folder: Path, names: Sequence[str]) -> Mapping[str, Path]:
    """New folders, the files of each of which ext4 puts elsewhere (chattr +T); other file systems do as they like.

    For minutes after a file was removed, making others near it is dear: the earlier tree, which makes and removes
    thousands, would have the other one pay for that.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):
            (flags,) = _FLAGS.unpack(fcntl.ioctl(descriptor, _GET_FLAGS, _FLAGS.pack(0)))
            fcntl.ioctl(descriptor, _SET_FLAGS, _FLAGS.pack(flags | _TOP_OF_HIERARCHY))
    finally:
        os.close(descriptor)
    for name in names:
        (folder / name).mkdir()
    return {name: folder / name for name in names}


def _place(swift: SwiftServer | None, *, bucket: str) -> str:
    """The S3 as the script takes it."""
    if swift is None:
        return ""
    return json.dumps({"bucket": bucket, "endpoint": swift.endpoint, "region": swift.region, "profile": PROFILE})


def _required(stream: Any) -> Any:
    assert stream is not None
    return stream
