"""A daemon that is frozen until another one has ended its job, and goes on as if no time had passed."""

import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import anyio
import pytest

from exportd.daemon import assembly
from exportd.delivery.transfer import Transfer
from exportd.jobs.job_table import SPOOL_GRACE_S
from exportd.model.clock import boot_time
from exportd.model.job import Part
from exportd.stores.retrying import RetryBudget
from exportd.stores.store import ObjectInfo
from tests.acceptance.declarations import lake_of, of_tenants
from tests.acceptance.delivered_files import DeliveredFiles
from tests.acceptance.many_tenants import Tenants
from tests.acceptance.sample_application import CATALOG
from tests.acceptance.twin_sites import twin_of
from tests.fixtures.daemon import Daemon, Site, files_in, leftovers, until
from tests.fixtures.forked_process import run_logged_daemon

LEASE_S = 3.0
FREEZE_AT_NEXT_PUBLISHING = signal.SIGUSR1


def run_and_freeze(config: Path, log: Path) -> None:
    """The same as ``exportd run``, with leases that end while a test can wait for it.

    After the signal it stops when the next thing that it does is to write objects: whatever else notices, when it goes
    on, that time has passed comes too late for these.
    """
    assembly._LEASE_S = LEASE_S
    publish, call = Transfer.publish, RetryBudget.call
    is_prepared = publishes = False

    def prepare(*_: object) -> None:
        nonlocal is_prepared
        is_prepared = True

    async def watched_publish(transfer: Transfer, parts: Sequence[Part]) -> tuple[ObjectInfo, ...]:
        nonlocal publishes
        publishes = is_prepared
        return await publish(transfer, parts)

    async def call_or_freeze(budget: RetryBudget, work: Callable[[], Awaitable[Any]]) -> Any:
        nonlocal is_prepared, publishes
        if publishes:
            is_prepared = publishes = False
            os.kill(os.getpid(), signal.SIGSTOP)
        return await call(budget, work)

    signal.signal(FREEZE_AT_NEXT_PUBLISHING, prepare)
    Transfer.publish = watched_publish  # type: ignore[method-assign, assignment]
    RetryBudget.call = call_or_freeze  # type: ignore[method-assign, assignment]
    run_logged_daemon(config, log)


@pytest.mark.slow
async def test_what_another_daemon_published_meanwhile_is_not_overwritten(site: Site, tmp_path: Path) -> None:
    connection = await site.database.connect()
    tenants = Tenants(connection, ("acme",))
    await tenants.open()
    site.configure(CATALOG, of_tenants(site, ("acme",)))
    twin = twin_of(site, tmp_path / "twin")
    lake = site.destination(lake_of("acme"))
    try:
        frozen = site.fork(run_and_freeze)
        await frozen.wait_for_event("daemon ready")
        await site.succeeded(connection, await site.first_job(connection, "acme-1"))
        await tenants.change()
        frozen.signal(FREEZE_AT_NEXT_PUBLISHING)
        job = await site.fire("acme-1")
        await until(lambda: _is_stopped(frozen), what="a daemon that is frozen")
        frozen_at = boot_time()
        await tenants.change()
        # The spool with the job's parts is not waited for any more.
        await connection.execute(
            "UPDATE exportd.job SET lease_until = clock_timestamp() - make_interval(secs => $2) WHERE id = $1",
            job,
            SPOOL_GRACE_S + 1,
        )
        await twin.start()
        await site.succeeded(connection, job)
        published = _written_at(lake, job)

        async def lease_is_over() -> bool:
            return boot_time() > frozen_at + LEASE_S

        await until(lease_is_over, what="the end of the frozen daemon's lease")
        frozen.signal(signal.SIGCONT)
        await frozen.wait_for_event("lease lost", job_id=str(job))
        await site.succeeded(connection, await site.fire("acme-1"))
        assert len(published) > 1
        assert _written_at(lake, job) == published
        for daemon in (frozen, twin.daemons[-1]):
            assert await daemon.stop() == 0
        assert leftovers(twin.spool) == set()
    finally:
        twin.close()
    bucket = DeliveredFiles.of(lake)
    bucket.assert_whole()
    assert bucket.replayed() == await tenants.contents("acme")
    assert (await site.quickly("verify", str(lake), configured=False)).returncode == 0
    await site.assert_clean(lake)


async def _is_stopped(daemon: Daemon) -> bool:
    status = await anyio.Path(f"/proc/{daemon.process.pid}/stat").read_text(encoding="utf-8")
    return status.rpartition(")")[2].split()[0] == "T"


def _written_at(lake: Path, job: UUID) -> dict[Path, int]:
    """When each object of a job was written, and its manifest."""
    return {path: path.stat().st_mtime_ns for path in files_in(lake) if str(job) in str(path)}
