"""What the real daemon delivers is verified, and rebuilt as of each of its jobs, by the real command line."""

import json
from collections.abc import Mapping

import duckdb
import pytest

from tests.acceptance.declarations import destination, gcs_destination, s3_destination, schedule
from tests.acceptance.destinations import GcsBucket, S3Bucket
from tests.acceptance.duckdb_contents import contents_of
from tests.acceptance.sample_application import CATALOG, Application, Contents
from tests.fixtures.daemon import Section, Site, Table
from tests.fixtures.stores import PROFILE


@pytest.mark.slow
@pytest.mark.parametrize("file_format", ["CSV", "JSONL"])
async def test_deliveries_are_verified_and_rebuilt_as_of_each_job(
    site: Site, application: Application, file_format: str
) -> None:
    lake = site.destination("lake")
    await _deliver_verify_and_rebuild(
        site, application, destination("lake", lake, prefix="product"), str(lake), file_format
    )
    (file, *_) = sorted(lake.rglob("*_order.*"))
    file.unlink()
    assert (await site.without_configuration("verify", str(lake))).returncode == 1


@pytest.mark.slow
async def test_the_loader_kit_comes_with_each_run_and_loads_it(site: Site, application: Application) -> None:
    lake = site.destination("lake")
    declared = destination("lake", lake, loader_kit=["duckdb", "postgresql"], empty_files=False)
    await _deliver_verify_and_rebuild(site, application, declared, str(lake), "CSV")
    scripts = sorted(lake.rglob("*.duckdb.sql"), key=lambda path: path.stat().st_mtime_ns)
    with duckdb.connect(site.folder / "loaded.duckdb") as connection:
        for script in scripts:
            connection.execute(script.read_text())
    assert contents_of(site.folder / "loaded.duckdb") == await application.contents()
    assert len(list(lake.rglob("*.postgresql.sql"))) == len(scripts) == 4


@pytest.mark.slow
async def test_from_s3_too(
    site: Site, application: Application, empty_s3_bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", PROFILE)
    monkeypatch.setenv("AWS_ENDPOINT_URL", empty_s3_bucket.account.endpoint)
    declared = s3_destination("lake", empty_s3_bucket, prefix="product", empty_files=False)
    await _deliver_verify_and_rebuild(site, application, declared, f"s3://{empty_s3_bucket.name}/product", "CSV")
    bucket = await empty_s3_bucket.delivered()
    entities = [entity for run in range(4) for entity in bucket.run(run).entities]
    assert {(entity.rows > 0, bool(entity.parts)) for entity in entities} == {(True, True), (False, False)}


@pytest.mark.slow
async def test_from_google_too(
    site: Site, application: Application, empty_gcs_bucket: GcsBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", empty_gcs_bucket.server.endpoint)
    sections = {"gcs": {"endpoint": empty_gcs_bucket.server.endpoint}}
    declared = gcs_destination("lake", empty_gcs_bucket)
    await _deliver_verify_and_rebuild(
        site, application, declared, f"gs://{empty_gcs_bucket.name}", "JSONL", sections=sections
    )


async def _deliver_verify_and_rebuild(
    site: Site,
    application: Application,
    declared: Table,
    place: str,
    file_format: str,
    *,
    sections: Mapping[str, Section] | None = None,
) -> None:
    """Four runs by the real daemon; the tables as of each of them, rebuilt by the real command line."""
    declarations: dict[str, Section] = {
        "destination": [declared],
        "schedule": [schedule("often", format=file_format)],
    }
    site.configure(CATALOG, {**declarations, **(sections or {})})
    daemon = await site.restart()
    job = await site.first_job(application.connection)
    contents: dict[str, Contents] = {}
    for _ in range(3):
        await site.succeeded(application.connection, job)
        contents[str(job)] = await application.contents()
        await application.change()
        job = await site.fire()
    await site.succeeded(application.connection, job)
    contents[str(job)] = await application.contents()

    assert await daemon.stop() == 0
    verified = await site.without_configuration("verify", place, "--json")
    assert verified.returncode == 0, verified.stderr
    found = json.loads(verified.stdout)
    assert found["unlisted"] == []
    (chain,) = found["chains"]
    assert chain["jobs"] == list(contents)
    for content, expected in contents.items():
        into = site.folder / f"{content}.duckdb"
        replayed = await site.without_configuration("replay", place, "--into", str(into), "--as-of", content)
        assert replayed.returncode == 0, replayed.stderr
        assert contents_of(into) == expected
