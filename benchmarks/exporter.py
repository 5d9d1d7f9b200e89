"""An exporter in a process of its own, on uvloop like the daemon, that takes orders: ``python -m benchmarks.exporter``.

Each line of standard input is an order in JSON, each line of standard output what came of it. The time is taken here,
around the extraction: triggers checked, snapshot, COPY, gzip, SHA-256, files durable in the spool.
"""

import json
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import anyio

from benchmarks.bills import BILLS, CATALOG, job_of_bills
from exportd.capture.installer import CaptureInstaller, capture_is_intact
from exportd.catalog import document
from exportd.database.connector import Connector
from exportd.extraction.copier import Copier
from exportd.extraction.extractor import Extractor
from exportd.extraction.snapshot_opener import SnapshotOpener
from exportd.model.job import JobProgress
from exportd.model.schedule import ExportFormat
from exportd.model.start import Position
from exportd.settings.schema import LimitSettings, Settings
from exportd.spool.spool import Spool
from exportd.telemetry import logging

_SPOOL_BUDGET_BYTES = 50 * 1000**3


class Exporter:
    """Exports the bills of a database on request, and remembers its position."""

    def __init__(self, dsn: str, spool: Spool) -> None:
        self._connector = Connector(dsn)
        self._catalog = document.load(CATALOG)
        self._spool = spool
        self._positions: dict[str, Position] = {}

    async def obey(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Export: everything, or what changed ``since`` the export that was called so in its ``name``."""
        job = job_of_bills(ExportFormat(order["format"]))
        since = order["since"]
        progress = JobProgress()
        extractor = self._extractor(order["streams"])
        cpu_before, start = _cpu_s(), time.perf_counter()
        extraction, parts = await extractor.extract(
            job,
            {} if since is None else {BILLS: self._positions[since]},
            forced={},
            progress=progress,
            on_part_started=lambda _: None,
        )
        seconds = time.perf_counter() - start
        cpu_s = _cpu_s() - cpu_before
        await self._spool.remove_job(job.id)
        (self._positions[order["name"]],) = extraction.positions(job)
        (bills,) = extraction.entities
        return {
            "seconds": seconds,
            "cpu_s": cpu_s,
            "mode": bills.mode,
            "full_reason": bills.full_reason,
            "rows": bills.rows,
            "deleted_rows": bills.deleted_rows,
            "content_bytes": sum(part.content_bytes for part in parts),
            "size_bytes": sum(part.size_bytes for part in parts),
            "peak_bytes": _peak_bytes(),
        }

    def _extractor(self, streams: int) -> Extractor:
        return Extractor(
            catalog=self._catalog,
            installer=CaptureInstaller(self._connector, pause=anyio.sleep),
            opener=SnapshotOpener(self._connector, is_intact=capture_is_intact, pause=anyio.sleep),
            copier=Copier(self._connector, LimitSettings(streams=streams, stream_threshold=1)),
            spool=self._spool,
            limits=LimitSettings(),
        )


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _peak_bytes() -> int:
    """The peak memory of this process (VmHWM)."""
    status = Path("/proc/self/status")
    if not status.exists():
        # Not Linux; there the figure of getrusage may also count what the parent had before it became this program.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    line = next(entry for entry in status.read_text().splitlines() if entry.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def _orders() -> Iterator[str]:
    return iter(sys.stdin.readline, "")


async def serve(dsn: str, directory: Path) -> None:
    """Carry out orders until standard input ends."""
    logging.configure(level="warning", line_format="auto")
    orders = _orders()
    settings = Settings.model_validate(
        {
            "database": {"dsn": dsn},
            "spool": {"directory": directory, "budget": _SPOOL_BUDGET_BYTES, "free_space_floor": 1},
        }
    )
    async with Spool(lambda: settings) as spool:
        exporter = Exporter(dsn, spool)
        while order := await anyio.to_thread.run_sync(next, orders, ""):
            print(json.dumps(await exporter.obey(json.loads(order))), flush=True)


if __name__ == "__main__":
    anyio.run(serve, sys.argv[1], Path(sys.argv[2]), backend_options={"use_uvloop": True})
