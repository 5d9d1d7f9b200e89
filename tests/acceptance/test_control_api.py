"""The real daemon, driven by the official client of m3ter."""

import asyncio
import gzip
from typing import Any
from uuid import UUID

import m3ter
import pytest

from tests.acceptance.declarations import destination, schedule
from tests.acceptance.sample_application import CATALOG, ORGANIZATION, Application
from tests.fixtures.control_clients import bare, official
from tests.fixtures.daemon import Site

HOURLY = {"name": "Hourly", "code": "hourly", "scheduleType": "HOUR", "period": 1, "offset": 15}


async def test_the_official_client_leads_schedules_jobs_and_downloads_through_their_lives(
    site: Site, application: Application
) -> None:
    lake = site.destination("lake")
    site.configure(CATALOG, {"destination": [destination("lake", lake)], "schedule": [schedule("often")]})
    daemon = await site.start()
    await site.succeeded(application.connection, await site.first_job(application.connection, "often"))
    socket = site.folder / "control.sock"

    def live() -> dict[str, Any]:
        with official(socket, ORGANIZATION) as client:
            exports = client.data_exports
            (there,) = exports.destinations.list().data
            created = exports.schedules.create(
                operational_data_types=["ACCOUNTS"],
                source_type="OPERATIONAL",
                extra_body={**HOURLY, "destinationIds": [there.id]},
            )
            adhoc = exports.create_adhoc(operational_data_types=["ACCOUNTS"], source_type="OPERATIONAL")
            return {"schedule": created.id, "adhoc": adhoc.job_id}

    made = await asyncio.to_thread(live)
    await site.succeeded(application.connection, await site.first_job(application.connection, "hourly"))
    await site.succeeded(application.connection, UUID(made["adhoc"]))

    def look() -> None:
        with official(socket, ORGANIZATION) as client, bare(socket) as http:
            exports = client.data_exports
            status = http.get("/v1/status").raise_for_status().json()
            assert status["listener"]["listening"] is True
            assert all(service["running"] for service in status["services"].values())
            assert status["queue"] == {"pending": 0, "running": 0}
            assert status["destinations"][0]["lastSuccess"] is not None
            assert status["spool"]["usedBytes"] > 0
            metrics = http.get("/metrics").raise_for_status().text
            assert 'exportd_job_attempts_total{outcome="succeeded",reason=""} 3.0' in metrics
            assert 'exportd_freshness_lag_seconds{destination="lake",organization="org-1",schedule="hourly"}' in metrics
            assert f"exportd_spool_used_bytes {float(status['spool']['usedBytes'])}" in metrics
            jobs = exports.jobs.list(schedule_id=made["schedule"]).data
            assert [job.status for job in jobs] == ["SUCCEEDED"]
            link = exports.jobs.get_download_url(made["adhoc"])
            assert link.url is not None
            got = http.get(link.url).raise_for_status()
            assert got.headers["content-disposition"].endswith('_account.csv.gz"')
            assert gzip.decompress(got.content).startswith(b"id,")
            shown = exports.schedules.retrieve(made["schedule"])
            assert shown.version == 1
            exports.schedules.delete(made["schedule"])
            with pytest.raises(m3ter.NotFoundError):
                exports.schedules.retrieve(made["schedule"])

    await asyncio.to_thread(look)
    assert await daemon.stop() == 0
    assert not socket.exists()
