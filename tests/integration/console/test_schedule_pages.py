"""What is asked of a schedule is said in figures on a page of its own before it is done."""

import asyncio
import json

import pytest

from tests.acceptance.console_browser import ConsoleBrowser
from tests.integration.api import test_operations_api
from tests.integration.api.request_bodies import schedule
from tests.integration.api.standalone_api import ACME, ApiServer, path

HOSTILE = "<script>alert('x')</script> \"&quot;\" {{ 7 * 7 }}"


@pytest.fixture
async def here(api: ApiServer) -> str:
    """The page of a schedule that exports two entities of a table with three rows."""
    await api.pool.execute("CREATE TABLE public.things (id int PRIMARY KEY, changed_at timestamptz)")
    await api.pool.execute("INSERT INTO public.things SELECT generate_series(1, 3)")
    await api.pool.execute("ANALYZE public.things")
    body = schedule(name=HOSTILE, operationalDataTypes=["ACCOUNTS", "METERS"])
    made = (await api.http.post(path(ACME, "schedules"), json=body)).json()
    return f"/console/schedules/{made['id']}"


async def test_an_entity_is_refreshed_at_once_or_by_the_next_run(
    api: ApiServer, browser: ConsoleBrowser, here: str
) -> None:
    def work() -> None:
        asked = browser.press(browser.open(f"{here}/refresh"), "Next", {"entity": "METERS"})
        assert "Refresh METERS?" in asked.text
        assert "METERS has about 3 records now: " in asked.text
        assert "Its other entities (1) stay as they are." in asked.text
        assert "script" not in asked.tags
        later = browser.press(asked, "Refresh with the next run")
        assert "The next run that begins exports METERS completely." in later.text
        now = browser.press(asked, "Refresh at once")
        assert now.answer.url.path.startswith("/console/jobs/")
        assert "This run exports METERS completely." in now.text
        refused = browser.press(asked, "Refresh at once")
        assert (refused.answer.status_code, "Not possible now" in refused.text) == (409, True)
        for value in ("", "\0", "X" * 5000, "<script>"):
            answer = browser.client.post(f"{here}/refresh", data={"entity": value})
            assert (answer.status_code, "<script>" in answer.text) == (400, False), value
        unknown = browser.open(f"{here}/refresh?entity=%3Cscript%3E")
        assert "How much that is cannot be said now: operationalDataTypes: there is no entity" in unknown.text
        assert "script" not in unknown.tags

    await asyncio.to_thread(work)
    rows = await api.pool.fetch("SELECT entity FROM exportd.refresh_request")
    assert [row["entity"] for row in rows] == ["METERS"]


async def test_a_backfill_says_what_comes_again_before_it_begins(
    api: ApiServer, browser: ConsoleBrowser, here: str
) -> None:
    schedule_id = here.rpartition("/")[2]
    job = await test_operations_api.TestBackfill.add_job(api, schedule_id)
    progress = {"entities": {"ACCOUNTS": {"rows": 70_001, "deleted_rows": 2, "size_bytes": 5000, "done": True}}}
    await api.pool.execute(
        """UPDATE exportd.job SET progress = $1::text::jsonb, extraction = extraction || '{"wal_position": "0/1"}'""",
        json.dumps(progress),
    )

    def work() -> None:
        runs = browser.open(f"{here}/backfill")
        assert "2026-03-09 01:00:00 UTC" in runs.text
        assert f"{here}/backfill?job={job}" in runs.links
        assert f"{here}/backfill?job={job}" in browser.open(f"/console/jobs/{job}").links
        asked = browser.open(f"{here}/backfill?job={job}")
        assert "0 entities from there on, 2 completely" in asked.text
        assert "1 run has succeeded since, with 70 001 records in all" in asked.text
        assert "ACCOUNTS, METERS have about 6 records now" in asked.text
        assert "The entity was added to the schedule." in asked.text
        assert "script" not in asked.tags
        done = browser.press(asked, "Back-fill")
        assert "This run exports once more what has changed since then." in done.text
        for value in ("", "\0", "X" * 5000, "<script>", here):
            answer = browser.client.post(f"{here}/backfill", data={"job": value})
            assert (answer.status_code in {400, 404}, "<script>" in answer.text) == (True, False), value
        assert browser.open(f"{here}/backfill?job=x").answer.status_code == 404

    await asyncio.to_thread(work)
    done = [action for actor, action in await api.audit() if actor.endswith("(console)")]
    assert done == ["backfill requested"]
