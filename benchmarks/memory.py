"""The most memory an export takes, and that it is the same for a table ten times as large."""

import statistics

from benchmarks.bills import create_bills
from benchmarks.exporter_process import Export, exporter_process
from benchmarks.measurement import Measurement, Options, Say, in_turns
from benchmarks.server import benchmark_server

ROWS = 300_000
TIMES = 10
ROUNDS = 1
LIMIT_BYTES = 200_000_000


async def measure(options: Options, say: Say) -> list[Measurement]:
    """Peaks (VmHWM) of fresh processes that export by two streams, as the daemon does by default."""
    few = options.size(ROWS)
    peaks: dict[str, list[int]] = {"few": [], "many": []}
    sizes = {"few": few, "many": few * TIMES}
    exports: dict[str, Export] = {}
    async with benchmark_server(options) as server:
        databases = {}
        for name, rows in sizes.items():
            say(f"making {rows:,} bills")
            databases[name] = await create_bills(server, rows=rows)
        for name in in_turns(list(sizes), options.repeats(ROUNDS)):
            say(f"exporting {sizes[name]:,} bills")
            async with exporter_process(databases[name]) as exporter:
                exports[name] = await exporter.export(streams=2)
            peaks[name].append(exports[name].peak_bytes)
    small, large = (statistics.median(peaks[name]) for name in sizes)
    return [
        Measurement(
            "memory: peak of an export, against 200 MB",
            large / LIMIT_BYTES,
            1.0,
            "lower",
            f"{large / 1e6:.0f} MB: {sizes['many']:,} rows, {exports['many'].content_bytes / 1e9:.2f} GB of CSV by two "
            "streams; the whole process, Python and all",
        ),
        Measurement(
            "memory: peak for a table ten times as large",
            large / small,
            1.1,
            "lower",
            f"{sizes['few']:,} rows {small / 1e6:.1f} MB, {sizes['many']:,} rows {large / 1e6:.1f} MB",
        ),
    ]
