"""A row that is larger than the size cap of files is exported, and reported in the log, the job and the manifest."""

import gzip
import json

import asyncpg

from exportd.manifest.document import Manifest, ManifestEntity, parse
from tests.acceptance.declarations import destination, schedule
from tests.acceptance.delivered_files import DeliveredFiles
from tests.acceptance.sample_application import CATALOG, ORGANIZATION, Application
from tests.fixtures.daemon import Site

CAP_BYTES = 10_000

ADD_GIANTS = """
    INSERT INTO public.accounts (id, organization_id, name, note)
    SELECT n, $1, 'giant', (SELECT string_agg(md5((n * 10000 + m)::text), '') FROM generate_series(1, 1000) m)
    FROM generate_series(100001, 100002) n
"""
"""Two rows of 32 kB that compress to half of that at best."""

OVERSIZED_IN_JOB = "SELECT (progress->'entities'->$2->>'oversized_parts')::integer FROM exportd.job WHERE id = $1"


async def test_rows_larger_than_the_cap_are_reported(site: Site, application: Application) -> None:
    lake = site.destination()
    site.configure(
        CATALOG,
        {
            "destination": [destination("lake", lake)],
            "schedule": [schedule()],
            "limits": {"part_size": f"{CAP_BYTES} B"},
        },
    )
    connection: asyncpg.Connection[asyncpg.Record] = application.connection
    daemon = await site.start()
    first = await site.first_job(connection)
    await site.succeeded(connection, first)
    await daemon.wait_for_event("job ended", job_id=str(first))
    assert await connection.fetchval(OVERSIZED_IN_JOB, first, "ACCOUNTS") == 0
    assert not daemon.events_named("part larger than the size cap")

    await connection.execute(ADD_GIANTS, ORGANIZATION)
    await application.add_account()
    job = await site.fire()
    await site.succeeded(connection, job)
    await daemon.wait_for_event("job ended", job_id=str(job))

    bucket = DeliveredFiles.of(lake)
    bucket.assert_whole()
    accounts = entity_of(bucket.run(1), "ACCOUNTS")
    oversized = [part for part in accounts.parts if part.size_bytes > CAP_BYTES]
    assert [part.rows for part in oversized] == [1, 1]
    assert all(gzip.decompress(bucket.objects[part.key]).count(b"giant") == 1 for part in oversized)
    assert accounts.oversized_parts == 2
    assert [entity.oversized_parts for entity in bucket.run(1).entities if entity.code != "ACCOUNTS"] == [0, 0]

    warnings = daemon.events_named("part larger than the size cap", job_id=str(job), entity="ACCOUNTS")
    assert [warning["level"] for warning in warnings] == ["warning", "warning"]
    assert {warning["file"] for warning in warnings} == {part.key.rpartition("/")[2] for part in oversized}
    assert {warning["size_bytes"] for warning in warnings} == {part.size_bytes for part in oversized}
    assert {warning["cap_bytes"] for warning in warnings} == {CAP_BYTES}

    assert await connection.fetchval(OVERSIZED_IN_JOB, job, "ACCOUNTS") == 2
    watched = await site.quickly("job", "watch", str(job), "--json")
    progress = next(event for event in map(json.loads, watched.stdout.splitlines()) if "entities" in event)
    assert progress["entities"]["ACCOUNTS"]["oversizedParts"] == 2
    assert progress["entities"]["ORDERS"]["oversizedParts"] == 0

    spooled = parse((site.spool / "jobs" / str(job) / "manifest.json").read_bytes())
    assert entity_of(spooled, "ACCOUNTS").oversized_parts == 2
    assert bucket.replayed()["ACCOUNTS"] == (await application.contents())["ACCOUNTS"]


def entity_of(manifest: Manifest, code: str) -> ManifestEntity:
    (entity,) = (entity for entity in manifest.entities if entity.code == code)
    return entity
