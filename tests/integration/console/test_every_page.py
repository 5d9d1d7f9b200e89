"""Every page that links lead to, with names that were written to break it."""

import asyncio
from dataclasses import replace

from tests.acceptance.console_browser import ConsoleBrowser
from tests.acceptance.test_console import assert_safe
from tests.integration.api import made_objects
from tests.integration.api.request_bodies import bucket, gcs_bucket
from tests.integration.api.standalone_api import ACME, ApiServer, declared_shelf, path

HOSTILE = "<script>alert('x')</script> \"&quot;\" {{ 7 * 7 }} \u202e\u05d0 </title></pre></textarea> " + "x" * 10_000


async def test_every_page_is_safe_and_works_without_javascript(api: ApiServer, browser: ConsoleBrowser) -> None:
    await api.pool.execute("CREATE TABLE public.things (id int PRIMARY KEY, changed_at timestamptz)")
    host = replace(api.using.host, entities=api.using.schedules.entities)
    api.application.state.collaborators = replace(api.using, host=host)
    await declared_shelf(api)
    job_id = await made_objects.loadable_job(api)
    await api.http.post(path(ACME, "destinations"), json=gcs_bucket())
    await api.http.post(path("other", "destinations"), json=bucket())
    # The API would refuse such names; rows may have been planted, and are older than its rules.
    await api.pool.execute("UPDATE exportd.schedule SET name = $1, entities = '{ACCOUNTS}'", HOSTILE)
    await api.pool.execute("UPDATE exportd.destination SET name = $1", HOSTILE)
    await api.pool.execute("INSERT INTO exportd.audit (actor, action, details) VALUES ($1, $1, '{}')", HOSTILE)
    await api.pool.execute("UPDATE exportd.job SET reason = 'INTERNAL', message = $1", HOSTILE)
    seen: set[str] = set()

    def work() -> None:
        for page in browser.crawl("/console/"):
            assert page.answer.status_code == 200, (page.answer.url, page.text)
            assert_safe(page)
            assert len(page.forms) < 20
            seen.add(page.answer.url.raw_path.decode().replace(job_id, "JOB"))

    await asyncio.to_thread(work)
    for place in (
        "destinations/new",
        "exports/adhoc",
        "jobs/JOB/manifest",
        "jobs/JOB/loader",
        "system",
        "system/audit",
    ):
        assert f"/console/{place}" in seen
    for ending in (
        "/edit",
        "/delete",
        "/refresh",
        "/backfill",
        "/backfill?job=JOB",
        "/preview",
        "/capture",
        "/reload",
    ):
        assert any(place.endswith(ending) for place in seen), ending
