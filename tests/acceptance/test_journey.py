"""One row's journey, through the real daemon and the real command line."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import pytest

from exportd.model.errors import FullReason
from exportd.model.extraction import Mode
from tests.acceptance.declarations import destination, schedule
from tests.acceptance.delivered_files import DeliveredFiles
from tests.acceptance.duckdb_contents import contents_of
from tests.acceptance.sample_application import CATALOG, ENTITIES, ORGANIZATION, Application
from tests.fixtures.daemon import Site, files_in
from tests.fixtures.file_parsers import csv_rows


@pytest.mark.slow
@pytest.mark.every_postgres
async def test_a_first_run_is_complete_and_later_ones_hold_what_changed(site: Site, application: Application) -> None:
    lake, lines, lean = (site.destination(name) for name in ("lake", "lines", "lean"))
    site.configure(
        CATALOG,
        {
            "destination": [
                destination("lake", lake, prefix="product"),
                destination("lines", lines, partition_order="TYPE_FIRST"),
                destination("lean", lean, empty_files=False),
            ],
            "schedule": [
                schedule("often", destinations=["lake", "lean"]),
                schedule("lines", format="JSONL", destinations=["lines"]),
            ],
        },
    )
    connection = application.connection
    daemon = await site.start_program()
    for code in ("often", "lines"):
        await site.succeeded(connection, await site.first_job(connection, code))
    for directory in (lake, lines):
        bucket = DeliveredFiles.of(directory)
        bucket.assert_whole()
        assert bucket.replayed() == await application.contents()
        assert {entity.full_reason for entity in bucket.run(0).entities} == {FullReason.FIRST_RUN}

    await application.change()
    await connection.execute("DELETE FROM public.accounts WHERE id = 1")
    await connection.execute("UPDATE public.accounts SET note = 'told' WHERE id = 2")
    await connection.execute("INSERT INTO public.countries VALUES ('AQ', NULL)")
    for code in ("often", "lines"):
        await site.succeeded(connection, await site.fire(code))
    for directory in (lake, lines):
        bucket = DeliveredFiles.of(directory)
        bucket.assert_whole()
        assert bucket.replayed() == await application.contents()
        run = bucket.run(1)
        assert {entity.mode for entity in run.entities} == {Mode.INCREMENTAL}
        accounts = {row["id"]: row for row in bucket.records(run, run.entities[0])}
        assert accounts["1"]["deleted"] == "true"
        assert (accounts["2"]["note"], accounts["2"]["deleted"]) == ("told", "false")
        countries = next(entity for entity in run.entities if entity.code == "COUNTRIES")
        assert bucket.records(run, countries) == [{"code": "AQ", "label": None, "deleted": "false"}]

    # Nothing changed: the files are there all the same.
    for code in ("often", "lines"):
        await site.succeeded(connection, await site.fire(code))
    for directory, content in ((lake, b"id,name,balance,note,deleted\n"), (lines, b"")):
        bucket = DeliveredFiles.of(directory)
        bucket.assert_whole()
        assert bucket.replayed() == await application.contents()
        run = bucket.run(2)
        assert [(entity.rows, len(entity.parts)) for entity in run.entities] == [(0, 1)] * len(ENTITIES)
        assert gzip.decompress(bucket.objects[run.entities[0].parts[0].key]) == content
    bucket = DeliveredFiles.of(lean)  # in the same job, but for the empty files
    bucket.assert_whole(empty_files=False)
    assert bucket.replayed() == await application.contents()
    assert [(entity.rows, entity.parts) for entity in bucket.run(2).entities] == [(0, ())] * len(ENTITIES)
    assert all(key.startswith(f"product/orgId={ORGANIZATION}/date=") for key in DeliveredFiles.of(lake).objects)
    assert all(key.startswith(f"orgId={ORGANIZATION}/type=") for key in DeliveredFiles.of(lines).objects)

    assert await daemon.stop() == 0
    assert daemon.events_named("daemon stopped")
    assert "Traceback" not in daemon.text
    await site.assert_clean(lake, lines, lean)


@pytest.mark.slow
async def test_a_schedule_without_destinations_is_run_and_fetched_from_the_command_line(
    site: Site, application: Application
) -> None:
    site.configure(CATALOG, {"schedule": [schedule("kept", destinations=[])]})
    connection = application.connection
    daemon = await site.start_program()
    await site.succeeded(connection, await site.first_job(connection, "kept"))
    first = {code: len(rows) for code, rows in (await application.contents()).items()}
    await connection.execute("DELETE FROM public.accounts WHERE id IN (1, 2, 3)")

    fired = await site.exportd("schedule", "run", "kept")
    assert fired.returncode == 0, fired.stderr
    later = await connection.fetchval("SELECT $1::uuid", fired.stdout.strip())
    await site.succeeded(connection, later)

    jobs = json.loads((await site.quickly("job", "list", "--schedule", "kept", "--json")).stdout)
    assert [(job["id"], job["status"]) for job in jobs][:1] == [(str(later), "SUCCEEDED")]
    fetched = site.folder / "fetched"
    for job in reversed(jobs):
        downloaded = await site.exportd("download", job["id"], "--to", str(fetched))
        assert downloaded.returncode == 0, downloaded.stderr
    assert _records(fetched, jobs[1]["id"]) == first
    # One on top of the other they are a destination: a whole chain, which adds up to the tables.
    verified = await site.without_configuration("verify", str(fetched))
    assert verified.returncode == 0, verified.stdout + verified.stderr
    replayed = await site.without_configuration("replay", str(fetched), "--into", str(site.folder / "replayed.duckdb"))
    assert replayed.returncode == 0, replayed.stderr
    assert contents_of(site.folder / "replayed.duckdb") == await application.contents()
    shown = (await site.quickly("job", "show", str(later))).stdout
    assert "incremental" in shown
    assert "SUCCEEDED" in shown
    details = json.loads((await site.quickly("job", "show", str(later), "--json")).stdout)
    assert details["entities"]["ACCOUNTS"]["deletedRows"] == 3
    checked = await site.quickly("check")
    assert (checked.returncode, "fix" in checked.stdout) == (0, False), checked.stdout

    assert await daemon.stop() == 0
    await site.assert_clean()
    await _forget(site, application, [UUID(job["id"]) for job in jobs])


async def _forget(site: Site, application: Application, jobs: Sequence[UUID]) -> None:
    """When their time is over the files go, and a download says so."""
    site.configure(CATALOG, {"schedule": [schedule("kept", destinations=[])], "spool": {"retention_hours": 0}})
    daemon = await site.start()
    for job in jobs:
        await daemon.wait_for_event("files dropped", job_id=str(job))
        assert (
            await application.connection.fetchval("SELECT expired_at FROM exportd.job WHERE id = $1", job) is not None
        )
    assert files_in(site.spool / "jobs") == set()
    refused = await site.quickly("download", str(jobs[0]), "--to", str(site.folder / "late"))
    assert refused.returncode == 1
    assert "spool.retention_hours" in refused.stderr
    assert await daemon.stop() == 0
    await site.assert_clean()


def _records(folder: Path, job: str) -> dict[str, int]:
    """How many records were downloaded of each entity."""
    (path,) = folder.glob(f"orgId=*/_manifests/{job}.json")
    manifest = json.loads(path.read_text())
    files = {entity["code"]: [part["key"] for part in entity["parts"]] for entity in manifest["entities"]}
    return {
        code: sum(len(csv_rows(gzip.decompress((folder / name).read_bytes()))) - 1 for name in names)
        for code, names in files.items()
    }
