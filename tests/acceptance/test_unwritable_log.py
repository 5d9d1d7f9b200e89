"""The daemon's log has no reader any more, or no room: exports go on, and the lines are counted."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.acceptance.declarations import destination, schedule
from tests.acceptance.delivered_files import DeliveredFiles
from tests.acceptance.sample_application import CATALOG, Application
from tests.fixtures.control_clients import bare
from tests.fixtures.daemon import Daemon, Site, environment, until


@contextmanager
def broken_pipe() -> Iterator[int]:
    """A pipe whose reader goes away at the first word."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        yield writing
    finally:
        os.close(writing)


@contextmanager
def full_disk() -> Iterator[int]:
    descriptor = os.open("/dev/full", os.O_WRONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("log", [broken_pipe, full_disk], ids=["no reader", "no room"])
async def test_exports_go_on_without_a_log(
    site: Site, application: Application, log: Callable[[], AbstractContextManager[int]]
) -> None:
    lake = site.destination()
    site.configure(CATALOG, {"destination": [destination("lake", lake)], "schedule": [schedule()]})
    connection = application.connection
    with log() as descriptor:
        daemon = _launched(site, descriptor)

    async def installed() -> bool:
        return bool(await connection.fetchval("SELECT to_regclass('exportd.job') IS NOT NULL"))

    await until(installed, what="the daemon's tables")
    await site.succeeded(connection, await site.first_job(connection))
    await application.change()
    await site.succeeded(connection, await site.fire())
    assert daemon.process.poll() is None
    assert await asyncio.to_thread(_dropped, site) > 0
    assert await daemon.stop() == 0
    assert DeliveredFiles.of(lake).replayed() == await application.contents()
    await site.assert_clean(lake)


def _launched(site: Site, descriptor: int) -> Daemon:
    """A daemon that logs to an open descriptor."""
    process = subprocess.Popen(
        [sys.executable, "-m", "exportd", "run", "--config", str(site.config)],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.DEVNULL,
        stdout=descriptor,
        stderr=descriptor,
        env=environment(),
    )
    nothing = site.folder / "nothing.log"
    nothing.touch()
    daemon = Daemon(process, nothing)
    site.daemons.append(daemon)
    return daemon


def _dropped(site: Site) -> float:
    with bare(site.folder / "control.sock") as client:
        lines = client.get("/metrics").text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("exportd_log_lines_dropped_total "))
