"""An export that is much larger than the daemon's memory goes to a bucket in parts within their cap."""

import random
import re
from pathlib import Path

import pytest

from exportd.stores.s3.options import USUAL_PIECE_BYTES
from tests.acceptance.declarations import s3_destination, schedule
from tests.acceptance.delivered_files import DeliveredFiles
from tests.acceptance.destinations import S3Bucket
from tests.acceptance.sample_application import CATALOG, ORGANIZATION, Application
from tests.fixtures.daemon import Site

_ROW_BYTES = 1500
"""Of noise in a row, which neither Postgres nor gzip makes smaller than itself."""


@pytest.mark.slow
async def test_a_large_export_arrives_in_parts_and_takes_little_memory(
    site: Site, application: Application, empty_s3_bucket: S3Bucket
) -> None:
    await export_noise(site, application, empty_s3_bucket, size_bytes=300 * 1000**2, cap_bytes=30 * 1000**2)


async def export_noise(
    site: Site, application: Application, lake: S3Bucket, *, size_bytes: int, cap_bytes: int
) -> None:
    """Export about that much, compressed; check what arrives and what it took."""
    await _fill_with_noise(application, size_bytes // _ROW_BYTES)
    site.configure(
        CATALOG,
        {
            "destination": [s3_destination("lake", lake)],
            "schedule": [schedule(entities=["ACCOUNTS"])],
            "limits": {"part_size": cap_bytes},
            "spool": {"budget": size_bytes * 2},
        },
    )
    daemon = await site.start_program()
    await site.succeeded(application.connection, await site.first_job(application.connection))
    peak_bytes = _peak_memory_bytes(daemon.process.pid)
    assert await daemon.stop() == 0
    tags, manifest = {}, {}
    async with lake.account.client() as client:
        async for page in client.get_paginator("list_objects_v2").paginate(Bucket=lake.name):
            for content in page.get("Contents", ()):
                tags[content["Key"], content["Size"]] = content["ETag"]
                if "_manifests" in content["Key"]:
                    answer = await client.get_object(Bucket=lake.name, Key=content["Key"])
                    manifest[content["Key"]] = await answer["Body"].read()
    [accounts] = DeliveredFiles(manifest).run(0).entities
    sizes = [part.size_bytes for part in accounts.parts]
    assert sum(sizes) == pytest.approx(size_bytes, rel=0.1)
    assert max(sizes) <= cap_bytes
    assert len(sizes) == -(-sum(sizes) // cap_bytes), "no more parts than it takes"
    assert accounts.rows == await application.connection.fetchval(
        "SELECT count(*) FROM public.accounts WHERE organization_id = $1", ORGANIZATION
    )
    pieces = {(part.key, part.size_bytes): -(-part.size_bytes // USUAL_PIECE_BYTES) for part in accounts.parts}
    tags = {(key, size): tag for (key, size), tag in tags.items() if "/_published/" not in key}
    assert set(tags) == {*pieces, *((key, len(content)) for key, content in manifest.items())}
    for key, count in pieces.items():
        assert count == 1 or tags[key].strip('"').endswith(f"-{count}")
    assert await lake.leftovers() == set()
    assert peak_bytes <= 250 * 1000**2
    await site.assert_clean()


async def _fill_with_noise(application: Application, rows: int) -> None:
    """Any two rows share bytes, but so far apart that gzip does not see it."""
    await application.connection.execute("ALTER TABLE public.accounts ALTER COLUMN note SET STORAGE EXTERNAL")
    await application.connection.execute(
        """INSERT INTO public.accounts
           SELECT n, $1, 'noise', n, encode(substr($2::bytea, 1 + (n * 7919 % 900000)::integer, $4), 'base64')
           FROM generate_series(1000000::bigint, 999999 + $3) n""",
        ORGANIZATION,
        random.Random(1).randbytes(1000000),
        rows,
        _ROW_BYTES,
    )


def _peak_memory_bytes(pid: int) -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024
