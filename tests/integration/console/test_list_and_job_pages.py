"""Data exports can be searched, and a job's page leads to its manifest and to the statements that load it."""

import asyncio
import html

from tests.acceptance.console_browser import ConsoleBrowser
from tests.integration.api import test_overview_api
from tests.integration.api.request_bodies import bucket, schedule
from tests.integration.api.standalone_api import ACME, ApiServer, path

HOSTILE = "<script>alert('x')</script> \"&quot;\" {{ 7 * 7 }}"


async def test_both_lists_are_searched_and_filtered_in_the_address(api: ApiServer, browser: ConsoleBrowser) -> None:
    lake = (await api.http.post(path(ACME, "destinations"), json=bucket(name=HOSTILE))).json()["id"]
    await api.http.post(path("other", "destinations"), json=bucket("pond"))
    bodies = schedule("one", name=HOSTILE, destinationIds=[lake]), schedule("two")
    one, two = [(await api.http.post(path(ACME, "schedules"), json=body)).json()["id"] for body in bodies]
    await api.http.post(f"/v1/schedules/{two}/pause")
    job_id = (await api.http.post(f"/v1/schedules/{one}/run")).json()["jobId"]
    lease = await test_overview_api.failed_job(api)
    assert lease == job_id

    def schedules(query: str) -> set[str]:
        page = browser.open(f"/console/exports?{query}")
        assert "script" not in page.tags
        prefix = "/console/schedules/"
        return {link.removeprefix(prefix) for link in page.links if link.startswith(prefix)} - {"new"}

    def work() -> None:
        assert schedules("") == {one, two}
        assert schedules("search=ALERT") == {one}
        assert schedules("destination=lake") == {one}
        assert schedules("paused=true") == {two}
        assert schedules("paused=false&organization=acme") == {one}
        page = browser.press(browser.open("/console/exports"), "Show", {"search": HOSTILE})
        assert (HOSTILE in page.text, "pond" in page.text, "script" in page.tags) == (True, False, False)
        assert html.escape(HOSTILE, quote=False)[:8] in page.answer.text
        everything = browser.open("/console/exports")
        assert "\u2715 Failed" in everything.text
        assert "DESTINATION_REFUSED" in everything.text
        none = browser.open("/console/exports?search=nothing")
        assert "No schedule is like that." in none.text
        assert "No destination is like that." in none.text
        assert browser.open("/console/exports?paused=maybe").answer.status_code == 400

    await asyncio.to_thread(work)


async def test_a_job_shows_its_manifest_and_how_to_load_it(api: ApiServer, browser: ConsoleBrowser) -> None:
    job_id = await test_overview_api.loadable_job(api)
    here = f"/console/jobs/{job_id}"

    def work() -> None:
        assert {f"{here}/manifest", f"{here}/loader"} <= set(browser.open(here).links)
        manifest = browser.open(f"{here}/manifest")
        assert f'"job_id": "{job_id}"' in manifest.text
        duckdb = browser.open(f"{here}/loader")
        assert f"s3://acme-exports/orgId={ACME}/date=2026-03-09/hour=05/type=accounts/{job_id}" in duckdb.text
        bigquery = browser.press(duckdb, "Show", {"dialect": "bigquery"})
        assert "into bigquery." in bigquery.text
        for query in ("dialect=excel", "destination=%3Cscript%3E", "destination=%00"):
            answer = browser.open(f"{here}/loader?{query}")
            assert (answer.answer.status_code, "script" in answer.tags) == (400, False), query
        (api.folder / job_id / "manifest.json").unlink()
        assert "has been removed" in browser.open(f"{here}/manifest").text
        assert "has been removed" in browser.open(f"{here}/loader").text

    await asyncio.to_thread(work)
    await api.pool.execute("UPDATE exportd.job SET destinations = '{}'")
    commands = await asyncio.to_thread(browser.open, f"{here}/loader")
    assert f"exportd loader files --job {job_id} --dialect duckdb" in commands.text
