"""What happened to a schedule stands in one list; what is asked of it is said in figures before it is done."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from exportd.api.identity.access import Access, Identity
from exportd.api.identity.client_table import Role
from exportd.api.schemas.entity import EntityStanding
from exportd.model.entity import EntityCode, OrganizationId
from tests.acceptance.console_browser import ConsoleBrowser
from tests.fixtures.fake_clock import FakeClock
from tests.integration.api import made_objects, test_operations_api
from tests.integration.api.request_bodies import schedule
from tests.integration.api.standalone_api import ACME, ApiServer, local_status, path

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


async def test_a_schedule_says_where_it_stands_with_each_entity(
    api: ApiServer, browser: ConsoleBrowser, here: str
) -> None:
    schedule_id = here.rpartition("/")[2]
    job_id = (await api.http.post(f"/v1/schedules/{schedule_id}/run")).json()["jobId"]
    await api.pool.execute("UPDATE exportd.job SET state = 'SUCCEEDED', finished_at = '2026-03-09T04:01:00Z'")
    # PLANS are exported no more.
    insert = """INSERT INTO exportd.position (schedule_id, entity, job_id, snapshot, taken_at, guards, destinations)
                VALUES ($1::text::uuid, $2, $3::text::uuid, '9:9:', '2026-03-09T04:00:00Z', '{}', '{}')"""
    for entity in ("METERS", "PLANS"):
        await api.pool.execute(insert, schedule_id, entity, job_id)
    position = {
        "entity": "METERS",
        "jobId": job_id,
        "readAt": "2026-03-09T04:00:00.000Z",
        "since": "2026-03-09T04:01:00.000Z",
        "startsAnew": False,
    }
    positions = f"/v1/schedules/{schedule_id}/positions"
    assert (await api.http.get(positions)).json() == {"data": [position]}
    page = await asyncio.to_thread(browser.open, here)
    assert "ACCOUNTS none yet: no run has succeeded with it complete" in page.text
    assert f"METERS {job_id[:8]} 2026-03-09 04:00:00 UTC (" in page.text
    assert "2026-03-09 04:01:00 UTC (" in page.text
    assert "what has changed since" in page.text
    await api.pool.execute("UPDATE exportd.position SET expired = true")
    assert "complete: it cannot go on from there" in (await asyncio.to_thread(browser.open, here)).text
    await api.pool.execute("UPDATE exportd.position SET expired = false, put_back_at = now()")
    await api.pool.execute("DELETE FROM exportd.job")
    changed = {**position, "since": None, "startsAnew": True}
    assert (await api.http.get(positions)).json() == {"data": [changed]}
    others = await api.tcp.get(positions, headers=await api.bearer("other"))
    assert others.status_code == 404


async def test_an_entity_is_refreshed_at_once_or_by_the_next_run(
    api: ApiServer, browser: ConsoleBrowser, here: str
) -> None:
    def work() -> None:
        asked = browser.press(browser.open(f"{here}/refresh"), "Next", {"entity": "METERS"})
        assert "Refresh METERS?" in asked.text
        assert "METERS has about 3 records now: " in asked.text
        assert "Its other entities (1) stay as they are." in asked.text
        assert asked.has_only_our_scripts
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
        assert unknown.has_only_our_scripts

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
        assert asked.has_only_our_scripts
        done = browser.press(asked, "Back-fill")
        assert "This run exports once more what has changed since then." in done.text
        for value in ("", "\0", "X" * 5000, "<script>", here):
            answer = browser.client.post(f"{here}/backfill", data={"job": value})
            assert (answer.status_code in {400, 404}, "<script>" in answer.text) == (True, False), value
        assert browser.open(f"{here}/backfill?job=x").answer.status_code == 404

    await asyncio.to_thread(work)
    done = [action for actor, action in await api.audit() if actor.endswith("(console)")]
    assert done == ["backfill requested"]


async def test_runs_deeds_and_repairs_of_capture_stand_in_one_timeline(
    api: ApiServer, browser: ConsoleBrowser, here: str
) -> None:
    schedule_id = here.rpartition("/")[2]
    job = await test_operations_api.TestBackfill.add_job(api, schedule_id)
    entities = [{"entity": "ACCOUNTS", "mode": "full", "full_reason": "CAPTURE_CHANGED"}]
    await api.pool.execute(
        "UPDATE exportd.job SET extraction = $1::text::jsonb, created_at = created_at - interval '1 day'",
        json.dumps({"entities": entities}),
    )
    for action, about in (("capture installed", "ACCOUNTS"), ("capture installed", "BILLS")):
        await api.using.host.auditor.write(action, actor="unix:ann", entities=[about])
    queued = (await api.http.post(f"/v1/schedules/{schedule_id}/run")).json()["jobId"]
    assert await made_objects.failed_job(api) == queued
    await api.http.post(f"/v1/schedules/{schedule_id}/pause")

    def work() -> None:
        page = browser.open(here)
        places = [
            page.text.index(words)
            for words in (
                "Schedule paused by unix:",
                "Schedule run by unix:",
                f"Run {queued[:8]} \u2715 Failed",
                "Capture installed by unix:ann ACCOUNTS",
                "Schedule created by unix:",
                f"Run {job[:8]} \u2713 Succeeded",
            )
        ]
        assert places == sorted(places), "the newest first"
        assert "DESTINATION_REFUSED : No." in page.text
        assert "1 of 1 entities complete: The triggers that record changes were missing" in page.text
        assert page.text.count("Capture installed") == 1, "BILLS are not this schedule's"
        assert page.text.count(f"/console/jobs/{queued}") == 0
        assert [link for link in page.links if link == f"/console/jobs/{job}"] == [f"/console/jobs/{job}"] * 2
        assert "\u2713 Succeeded, due 2026-03-09" in page.text, "in the strip: a sign and a word"

    await asyncio.to_thread(work)


async def test_how_many_rows_an_entity_has_stands_where_it_is_chosen_for_users_of_the_machine(
    api: ApiServer, browser: ConsoleBrowser, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = api.using.clock.now()
    standings = {
        EntityCode("THINGS"): EntityStanding(70_001, "DAMAGED", now),
        EntityCode("ACCOUNTS"): EntityStanding(70_002, "WHOLE", now),
        EntityCode("METERS"): EntityStanding(None, "NONE", now),
    }
    status = replace(local_status(), standings=standings)
    object.__setattr__(api.using.status, "local", lambda: status)
    pages = ("/console/schedules/new", "/console/exports/adhoc", "/console/entities", "/console/entities/THINGS")

    def work() -> None:
        for page in pages[:2]:
            form = browser.open(page).text
            assert "ACCOUNTS, about 70 002 rows" in form
            assert "METERS, about" not in form
        assert "70 001 \u2715 not whole: triggers are missing" in browser.open(pages[2]).text
        assert "about 70 001, of every organization" in browser.open(pages[3]).text
        only = Identity(OrganizationId(ACME), "client:x", Role.ADMIN)
        monkeypatch.setattr(Access, "identity", lambda *_: only)
        for page in pages:
            shown = browser.open(page)
            assert shown.answer.status_code == 200
            for hidden in ("70\u202f00", "70001", "not whole", "rows", "of every organization"):
                assert hidden not in shown.answer.text.partition("<main")[2], (page, hidden)

    await asyncio.to_thread(work)


async def test_the_overview_has_a_strip_of_the_jobs_since_midnight(
    api: ApiServer, browser: ConsoleBrowser, here: str
) -> None:
    schedule_id = here.rpartition("/")[2]
    jobs = []
    for created in ("2026-03-08T23:59:59Z", "2026-03-09T00:00:00Z"):
        jobs.append((await api.http.post(f"/v1/schedules/{schedule_id}/run")).json()["jobId"])
        assert await made_objects.failed_job(api) == jobs[-1]
        await api.pool.execute(
            "UPDATE exportd.job SET created_at = $2::text::timestamptz WHERE id = $1::text::uuid", jobs[-1], created
        )
    clock = FakeClock(datetime(2026, 3, 9, 12, tzinfo=UTC))
    api.application.state.collaborators = replace(api.using, clock=clock)

    def work() -> None:
        page = browser.open("/console/")
        assert page.text.count("\u2715 Failed, due") == 1
        assert [page.links.count(f"/console/jobs/{job}") for job in jobs] == [1, 3], "both are among the newest jobs"
        assert "Failed 1, the newest last." in page.text

    await asyncio.to_thread(work)
