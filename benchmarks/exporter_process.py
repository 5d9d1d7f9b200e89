"""Starts exporters and gives them orders. See ``benchmarks.exporter``."""

import json
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from exportd.model.errors import FullReason
from exportd.model.extraction import Mode
from exportd.model.schedule import ExportFormat

_MAX_ANSWER_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Export:
    """What an export took and brought. ``peak_bytes`` is the process's, since it was started."""

    seconds: float
    cpu_s: float
    mode: Mode
    full_reason: FullReason | None
    rows: int
    deleted_rows: int
    content_bytes: int
    size_bytes: int
    peak_bytes: int


class ExporterProcess:
    """An exporter that waits for orders."""

    def __init__(self, process: Process) -> None:
        if process.stdin is None or process.stdout is None:
            raise AssertionError("the process was started with pipes")
        self._orders = process.stdin
        self._answers = BufferedByteReceiveStream(process.stdout)

    async def export(
        self,
        *,
        streams: int = 1,
        file_format: ExportFormat = ExportFormat.CSV,
        since: str | None = None,
        name: str = "last",
    ) -> Export:
        """Export all bills, or what changed ``since`` the export of that name."""
        order = {"streams": streams, "format": file_format, "since": since, "name": name}
        await self._orders.send(json.dumps(order).encode() + b"\n")
        try:
            answer = await self._answers.receive_until(b"\n", _MAX_ANSWER_BYTES)
        except (anyio.EndOfStream, anyio.IncompleteRead):
            raise RuntimeError("the exporter died; what it says about it stands above") from None
        return Export(**json.loads(answer))


@asynccontextmanager
async def exporter_process(dsn: str) -> AsyncIterator[ExporterProcess]:
    """An exporter of its own, with an empty spool; both are gone at the end."""
    command = [sys.executable, "-m", "benchmarks.exporter", dsn]
    root = Path(__file__).parents[1]
    with tempfile.TemporaryDirectory(prefix="exportd-bench-") as spool:
        async with await anyio.open_process([*command, spool], stdin=subprocess.PIPE, stderr=None, cwd=root) as process:
            yield ExporterProcess(process)
            if process.stdin is not None:
                await process.stdin.aclose()
            await process.wait()
