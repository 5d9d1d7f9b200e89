"""The real daemon, driven by the official client of m3ter."""

import asyncio
import gzip
import re
from datetime import datetime
from io import BytesIO
from typing import Any
from uuid import UUID
from zipfile import ZipFile

import m3ter
import pytest

from exportd.consumer.verifier import verify
from exportd.manifest.document import parse
from exportd.stores.location import parse_location
from exportd.stores.opener import open_location
from tests.acceptance.declarations import destination, schedule
from tests.acceptance.sample_application import CATALOG, ORGANIZATION, Application
from tests.fixtures.control_clients import bare, official
from tests.fixtures.daemon import Site
from tests.fixtures.file_parsers import csv_rows

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
            assert status["queue"] == {"pending": 0, "running": 0, "oldestWaiting": None}
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


START = "2026-03-09T12:00:00.000001Z"
DATED_CATALOG = CATALOG.replace('tenant = "organization_id"', 'tenant = "organization_id"\nmodified = "changed_at"')


async def test_the_official_client_exports_from_a_date_on_and_so_does_the_command_line(
    site: Site, application: Application
) -> None:
    await application.connection.execute(f"""
        ALTER TABLE accounts ADD COLUMN changed_at timestamptz; ALTER TABLE orders ADD COLUMN changed_at timestamp;
        UPDATE accounts SET changed_at = '{START}'::timestamptz - interval '1 us' * (id % 3);
        UPDATE orders SET changed_at = '2026-03-10'""")
    lake = site.destination("lake")
    site.configure(DATED_CATALOG, {"destination": [destination("lake", lake)]})
    daemon = await site.start()
    socket = site.folder / "control.sock"

    def ask(*entities: Any) -> str:
        with official(socket, ORGANIZATION) as client:
            exports = client.data_exports
            (there,) = exports.destinations.list().data
            unfit: Any = [*entities, "COUNTRIES"]
            more: dict[str, object] = {"startDate": START, "destinationIds": [there.id]}
            with pytest.raises(m3ter.BadRequestError, match="startDate: COUNTRIES: the catalog names no column"):
                exports.create_adhoc(operational_data_types=unfit, source_type="OPERATIONAL", extra_body=more)
            answer = exports.create_adhoc(
                operational_data_types=list(entities), source_type="OPERATIONAL", extra_body=more
            )
            assert answer.job_id is not None
            assert exports.jobs.retrieve(answer.job_id).model_extra == {"startDate": START}
            return str(answer.job_id)

    def files(job: str) -> bytes:
        with official(socket, ORGANIZATION) as client, bare(socket) as http:
            return http.get(str(client.data_exports.jobs.get_download_url(job).url)).raise_for_status().content

    expected = {
        str(row["id"])
        for row in await application.connection.fetch(
            "SELECT id FROM accounts WHERE organization_id = $1 AND id % 3 = 0", ORGANIZATION
        )
    }
    one, several = [await asyncio.to_thread(ask, *entities) for entities in (("ACCOUNTS",), ("ACCOUNTS", "ORDERS"))]
    for job in (one, several):
        await site.succeeded(application.connection, UUID(job))
    single = csv_rows(gzip.decompress(await asyncio.to_thread(files, one)).partition(b"\n")[2])
    assert {row[0] for row in single} == expected
    with ZipFile(BytesIO(await asyncio.to_thread(files, several))) as archive:
        *parts, last = archive.namelist()
        manifest = parse(archive.read(last))
        assert [entity.parts[0].key for entity in manifest.entities] == parts
    assert manifest == parse((lake / f"orgId={ORGANIZATION}/_manifests/{several}.json").read_bytes())
    assert (manifest.start_date, manifest.predecessor) == (datetime.fromisoformat(START), None)
    assert [(entity.code, entity.modified, entity.rows > 0) for entity in manifest.entities] == [
        ("ACCOUNTS", "changed_at", True),
        ("ORDERS", "changed_at", True),
    ]

    copied = await site.quickly("export", "ACCOUNTS", "--start-date", START, "--to", str(site.folder / "copied"))
    assert copied.returncode == 0, copied.stderr
    shown = await site.quickly("job", "show", copied.stdout.splitlines()[0])
    assert re.search(rf"^from +{re.escape(START)}$", shown.stdout, re.MULTILINE), shown.stdout
    for place in (lake, site.folder / "copied"):
        location = parse_location(str(place))
        assert (await verify(open_location(location), location)).findings == ()
    refused = await site.quickly("export", "COUNTRIES", "--start-date", START)
    assert refused.returncode == 2
    assert "COUNTRIES: the catalog names no column with the time of the last change" in refused.stderr
    assert await daemon.stop() == 0
