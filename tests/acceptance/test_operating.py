"""The real daemon is paused, and a job is stopped in the middle of its run."""

import asyncio
import json

import httpx
import pytest

from tests.acceptance import statement_blocker
from tests.acceptance.declarations import destination, schedule
from tests.acceptance.delivered_files import DeliveredFiles
from tests.acceptance.sample_application import BLOCKABLE_CATALOG, Application
from tests.fixtures.control_clients import bare
from tests.fixtures.daemon import Daemon, Site


@pytest.mark.slow
async def test_a_running_job_is_cancelled_and_a_pause_survives_a_restart(site: Site, application: Application) -> None:
    lake = site.destination()
    site.configure(BLOCKABLE_CATALOG, {"destination": [destination("lake", lake)], "schedule": [schedule()]})
    connection, keeper = application.connection, await site.database.connect()
    await connection.execute(statement_blocker.INSTALL)
    daemon = await site.start()
    first = await site.succeeded(connection, await site.first_job(connection))
    before = await _positions(application)

    # Cancelled while it reads: nothing of it is to be seen, and the position stays.
    await connection.execute("UPDATE public.accounts SET name = 'blocked' WHERE id = 7")
    async with statement_blocker.blocking(keeper) as closed:
        job = await site.fire()
        await closed.blocked_backend()
        assert (await _post(site, f"/v1/jobs/{job}/cancel")).json() == {"jobId": str(job), "status": "RUNNING"}
        row = await site.finished(connection, job)
        assert (row["state"], row["reason"]) == ("FAILED", "CANCELLED")
        await closed.terminate_blocked()
    assert await _positions(application) == before
    assert await connection.fetch("SELECT destination FROM exportd.delivery WHERE job_id = $1", job) == []

    # Paused: a retry waits, also for the daemon that comes after this one, until all is resumed.
    await _post(site, "/v1/pause")
    retried = (await _post(site, f"/v1/jobs/{job}/retry")).json()["jobId"]
    assert await daemon.stop() == 0
    daemon = await site.start()
    await _looked_for_jobs(site, daemon)
    assert await connection.fetchval("SELECT state::text FROM exportd.job WHERE id = $1", retried) == "PENDING"
    await _post(site, "/v1/resume")
    row = await site.succeeded(connection, retried)
    assert row["attempt"] == 1
    assert await _positions(application) != before

    # One entity anew: completely once, and never again.
    (often,) = await connection.fetch("SELECT id FROM exportd.schedule")
    asked = {"entity": "ORDERS", "now": True}
    refreshed = (await _post(site, f"/v1/schedules/{often['id']}/refresh", asked)).json()["jobId"]
    assert _modes((await site.succeeded(connection, refreshed))["extraction"]) == {
        "ACCOUNTS": ("incremental", None),
        "ORDERS": ("full", "REQUESTED"),
        "COUNTRIES": ("incremental", None),
    }
    after = await site.succeeded(connection, await site.fire())
    assert {mode for mode, _ in _modes(after["extraction"]).values()} == {"incremental"}
    assert await daemon.stop() == 0
    bucket = DeliveredFiles.of(lake)
    bucket.assert_whole()
    assert first["id"] != row["id"]
    await site.assert_clean(lake)


async def _looked_for_jobs(site: Site, daemon: Daemon) -> None:
    """The daemon is at work: it answers, and its dispatcher runs."""
    await daemon.wait_for_event("listening")
    answer = await asyncio.to_thread(_request, site, "GET", "/v1/status")
    assert answer.json()["services"]["dispatcher"]["running"] is True
    assert answer.json()["paused"]["by"].startswith("unix:")
    assert answer.json()["queue"]["pending"] == 1


async def _post(site: Site, url: str, body: object = None) -> httpx.Response:
    return await asyncio.to_thread(_request, site, "POST", url, body)


def _request(site: Site, method: str, url: str, body: object = None) -> httpx.Response:
    with bare(site.folder / "control.sock") as http:
        return http.request(method, url, json=body).raise_for_status()


def _modes(extraction: str) -> dict[str, tuple[str, str | None]]:
    entities = json.loads(extraction)["entities"]
    return {entity["entity"]: (entity["mode"], entity["full_reason"]) for entity in entities}


async def _positions(application: Application) -> list[tuple[str, str]]:
    rows = await application.connection.fetch("SELECT entity, snapshot::text FROM exportd.position ORDER BY entity")
    return [(row["entity"], row["snapshot"]) for row in rows]
