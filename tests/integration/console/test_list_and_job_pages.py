"""Data exports can be searched, jobs be ticked, and a job's page leads to its manifest and to how to load it."""

import asyncio
import html
import re
from datetime import datetime
from uuid import UUID, uuid4

import pytest

from exportd.api.identity.access import Access, Identity
from exportd.api.identity.client_table import Role
from exportd.console import visitor
from exportd.console.pages.jobs import MAX_TICKED
from exportd.jobs.job_table import JobTable
from exportd.model.entity import OrganizationId
from tests.acceptance.console_browser import BrowserPage, ConsoleBrowser
from tests.integration.api import made_objects
from tests.integration.api.request_bodies import bucket, schedule
from tests.integration.api.standalone_api import ACME, RETENTION, SPOOL, ApiServer, path

HOSTILE = "<script>alert('x')</script> \"&quot;\" {{ 7 * 7 }}"


async def test_both_lists_are_searched_and_filtered_in_the_address(api: ApiServer, browser: ConsoleBrowser) -> None:
    lake = (await api.http.post(path(ACME, "destinations"), json=bucket(name=HOSTILE))).json()["id"]
    await api.http.post(path("other", "destinations"), json=bucket("pond"))
    bodies = schedule("one", name=HOSTILE, destinationIds=[lake]), schedule("two")
    one, two = [(await api.http.post(path(ACME, "schedules"), json=body)).json()["id"] for body in bodies]
    await api.http.post(f"/v1/schedules/{two}/pause")
    job_id = (await api.http.post(f"/v1/schedules/{one}/run")).json()["jobId"]
    lease = await made_objects.failed_job(api)
    assert lease == job_id

    def schedules(query: str) -> set[str]:
        page = browser.open(f"/console/exports?{query}")
        assert page.has_only_our_scripts
        prefix = "/console/schedules/"
        return {link.removeprefix(prefix) for link in page.links if link.startswith(prefix)} - {"new"}

    def work() -> None:
        assert schedules("") == {one, two}
        assert schedules("search=ALERT") == {one}
        assert schedules("destination=lake") == {one}
        assert schedules("paused=true") == {two}
        assert schedules("paused=false&organization=acme") == {one}
        page = browser.press(browser.open("/console/exports"), "Show", {"search": HOSTILE})
        assert (HOSTILE in page.text, "pond" in page.text, page.has_only_our_scripts) == (True, False, True)
        assert html.escape(HOSTILE, quote=False)[:8] in page.answer.text
        everything = browser.open("/console/exports")
        assert "\u2715 Failed" in everything.text
        assert "DESTINATION_REFUSED" in everything.text
        none = browser.open("/console/exports?search=nothing")
        assert "No schedule is like that." in none.text
        assert "No destination is like that." in none.text
        assert browser.open("/console/exports?paused=maybe").answer.status_code == 400

    await asyncio.to_thread(work)


async def test_both_lists_are_sorted_by_their_heads_and_keep_their_filters(
    api: ApiServer, browser: ConsoleBrowser
) -> None:
    for number, code in enumerate(("b-one", "a-two", "c-three")):
        body = schedule(code, name=f"{'xyz'[number]} {HOSTILE}")
        made = (await api.http.post(path(ACME, "schedules"), json=body)).json()
        await api.http.post(path(ACME, "destinations"), json=bucket(f"lake-{code}"))
        if code == "c-three":
            await api.http.post(f"/v1/schedules/{made['id']}/pause")

    def work() -> None:
        here = "/console/exports?search=-&organization=acme"

        def order(page: BrowserPage) -> list[str]:
            return re.findall(r"<td>((?:lake-)?[abc]-[a-z]+)</td>", page.answer.text)

        newest = ["c-three", "a-two", "b-one"]
        page = browser.open(here)
        assert order(page) == [*newest, *(f"lake-{code}" for code in newest)]
        assert "aria-sort" not in page.answer.text

        def follow(page: BrowserPage, sorting: str) -> BrowserPage:
            (link,) = [link for link in page.links if link.startswith("?") and sorting in link.split("&")]
            assert {"search=-", "organization=acme"} <= set(link.removeprefix("?").split("&"))
            found = browser.open(f"/console/exports{link}")
            assert found.has_only_our_scripts
            return found

        ascending = follow(page, "schedulesBy=code")
        assert order(ascending)[:3] == ["a-two", "b-one", "c-three"]
        assert ascending.answer.text.count('aria-sort="ascending"') == 1
        descending = follow(ascending, "schedulesBy=-code")
        assert order(descending)[:3] == ["c-three", "b-one", "a-two"]
        assert descending.answer.text.count('aria-sort="descending"') == 1
        both = follow(descending, "destinationsBy=code")
        assert order(both) == ["c-three", "b-one", "a-two", *(f"lake-{code}" for code in ("a-two", "b-one", "c-three"))]
        kept = browser.press(both, "Show", {"search": "-t"})
        assert order(kept) == ["c-three", "a-two", "lake-a-two", "lake-c-three"]
        assert order(browser.open(f"{here}&schedulesBy=nextDue"))[2] == "c-three", "paused: it is not due"
        for wrong in ("schedulesBy=rule", "destinationsBy=name%27", "schedulesBy=--name", "schedulesBy=%00"):
            assert browser.open(f"{here}&{wrong}").answer.status_code == 400, wrong

    await asyncio.to_thread(work)


async def test_an_organization_is_picked_in_the_header_of_every_page(
    api: ApiServer, browser: ConsoleBrowser, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids: dict[str, str] = {}
    for organization in (ACME, "other"):
        body = schedule(f"of-{organization}")
        made = (await api.http.post(path(organization, "schedules"), json=body)).json()
        ids[organization] = str((await api.http.post(f"/v1/schedules/{made['id']}/run")).json()["jobId"])
        if organization == ACME:
            assert (await asyncio.to_thread(browser.open, "/console/")).answer.text.count('class="picker"') == 0
    object.__setattr__(api.application.state.console, "known_organizations", visitor.KnownOrganizations())

    def picked(start: str) -> str:
        page = browser.press(browser.open(start), "Go", {"organization": "other"})
        assert page.answer.status_code == 200
        assert page.has_only_our_scripts
        assert 'value="other" selected' in page.answer.text
        assert (f"/console/jobs/{ids[ACME]}" in page.links, "of-acme" in page.text) == (False, False), start
        return page.answer.url.raw_path.decode()

    def work() -> None:
        assert picked("/console/") == "/console/?organization=other"
        assert picked("/console/exports?search=of&destination=") == "/console/exports?search=of&organization=other"
        assert picked("/console/jobs?status=PENDING") == "/console/jobs?status=PENDING&organization=other"
        assert picked(f"/console/jobs/{ids[ACME]}") == "/console/jobs?organization=other"
        assert picked("/console/entities") == "/console/exports?organization=other"
        assert picked("/console/schedules/new") == "/console/exports?organization=other"
        assert picked("/console/system/audit?object=x") == "/console/system/audit?object=x&organization=other"
        everything = browser.press(browser.open("/console/jobs?organization=other"), "Go", {"organization": ""})
        assert {f"/console/jobs/{job_id}" for job_id in ids.values()} <= set(everything.links)
        monkeypatch.setattr(visitor, "MAX_PICKED", 1)
        assert "All organizations" not in browser.open("/console/").text
        written = browser.press(browser.open("/console/jobs"), "Go", {"organization": "other"})
        assert f"/console/jobs/{ids['other']}" in written.links
        only = Identity(OrganizationId(ACME), "client:x", Role.READER)
        monkeypatch.setattr(Access, "identity", lambda *_: only)
        own = browser.open("/console/jobs")
        assert (own.answer.status_code, 'class="picker"' in own.answer.text) == (200, False)

    await asyncio.to_thread(work)


async def test_the_schema_of_an_entity_is_copied_or_downloaded(
    api: ApiServer, browser: ConsoleBrowser, monkeypatch: pytest.MonkeyPatch
) -> None:
    del api

    def work() -> None:
        page = browser.open("/console/entities/THINGS")
        assert '"required": [ "id", "deleted" ]' in page.text
        assert "/console/entities/THINGS/schema" in page.links
        file = browser.open("/console/entities/THINGS/schema").answer
        assert file.headers["content-disposition"] == 'attachment; filename="THINGS.schema.json"'
        assert (file.headers["content-type"], file.json()["title"]) == ("application/schema+json", "THINGS")
        for wrong in ("%3Cscript%3E", "%00", "..", "NONE"):
            answer = browser.open(f"/console/entities/{wrong}/schema")
            assert (answer.answer.status_code, answer.has_only_our_scripts) == (404, True), wrong
        only = Identity(OrganizationId(ACME), "client:x", Role.READER)
        monkeypatch.setattr(Access, "identity", lambda *_: only)
        own = browser.open("/console/entities/THINGS/schema")
        assert (own.answer.status_code, "public." in own.answer.text) == (200, False)

    await asyncio.to_thread(work)


async def test_a_job_shows_its_manifest_and_how_to_load_it(api: ApiServer, browser: ConsoleBrowser) -> None:
    job_id = await made_objects.loadable_job(api)
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
            assert (answer.answer.status_code, answer.has_only_our_scripts) == (400, True), query
        (api.folder / job_id / "manifest.json").unlink()
        assert "has been removed" in browser.open(f"{here}/manifest").text
        assert "has been removed" in browser.open(f"{here}/loader").text

    await asyncio.to_thread(work)
    await api.pool.execute("UPDATE exportd.job SET destinations = '{}'")
    commands = await asyncio.to_thread(browser.open, f"{here}/loader")
    assert f"exportd loader files --job {job_id} --dialect duckdb" in commands.text


async def test_a_finished_job_says_until_when_its_files_are_kept(api: ApiServer, browser: ConsoleBrowser) -> None:
    job_id = await made_objects.loadable_job(api)
    await api.pool.execute("UPDATE exportd.job SET sealed_at = now(), finished_at = now() - interval '1 hour'")
    job = (await api.http.get(f"/v1/jobs/{job_id}")).json()
    kept = datetime.fromisoformat(job["filesKeptUntil"])
    assert kept - datetime.fromisoformat(job["finishedAt"]) == RETENTION
    page = await asyncio.to_thread(browser.open, f"/console/jobs/{job_id}")
    assert f"Files kept until {kept:%Y-%m-%d %H:%M:%S} UTC (in 2" in page.text
    await api.pool.execute("UPDATE exportd.job SET expired_at = now()")
    assert (await api.http.get(f"/v1/jobs/{job_id}")).json()["filesKeptUntil"] is None
    assert "kept until" not in (await asyncio.to_thread(browser.open, f"/console/jobs/{job_id}")).text


async def test_a_failed_job_says_what_to_do_to_those_who_can_do_it(
    api: ApiServer, browser: ConsoleBrowser, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = (await api.http.post(path(ACME, "schedules"), json=schedule())).json()
    await api.http.post(f"/v1/schedules/{made['id']}/run")
    here = f"/console/jobs/{await made_objects.failed_job(api)}"
    refused = await asyncio.to_thread(browser.open, here)
    assert "What to do : Check the destination on its page: it says what its owner has to grant. Then retry." in (
        refused.text
    )
    (link,) = [link for link in refused.links if "runbook" in link]
    runbook = await asyncio.to_thread(browser.open, link)
    assert f'id="{link.partition("#")[2]}">A destination refuses</h2>' in runbook.answer.text
    await api.pool.execute("UPDATE exportd.job SET reason = 'SPOOL_FULL'")
    assert "Give the disk more space" in (await asyncio.to_thread(browser.open, here)).text
    await api.pool.execute("UPDATE exportd.job SET reason = 'OF_ANOTHER_VERSION'")
    unknown = await asyncio.to_thread(browser.open, here)
    assert (unknown.answer.status_code, "What to do" in unknown.text) == (200, False)
    own = Identity(OrganizationId(ACME), "client:x", Role.READER)
    monkeypatch.setattr(Access, "identity", lambda *_: own)
    for reason, is_theirs in (("SPOOL_FULL", False), ("DESTINATION_REFUSED", True)):
        await api.pool.execute("UPDATE exportd.job SET reason = $1", reason)
        shown = await asyncio.to_thread(browser.open, here)
        assert ("What to do" in shown.text, "runbook" in shown.text) == (is_theirs, False), reason


async def test_files_that_go_while_a_job_is_looked_at_are_a_sentence(api: ApiServer, browser: ConsoleBrowser) -> None:
    job_id = await made_objects.loadable_job(api)
    file = f"/console/jobs/{job_id}/files/manifest.json"
    page = await asyncio.to_thread(browser.open, f"/console/jobs/{job_id}")
    assert file in page.links
    assert (await asyncio.to_thread(browser.open, file)).answer.status_code == 200
    (api.folder / job_id / "manifest.json").unlink()
    gone = await asyncio.to_thread(browser.open, file)
    assert (gone.answer.status_code, "The file manifest.json of the job" in gone.text) == (404, True)
    assert "has been removed. Overview" in gone.text, "with a way on"
    await api.pool.execute("UPDATE exportd.job SET expired_at = now()")
    for address in (file, f"/console/jobs/{job_id}/manifest", f"/console/jobs/{job_id}/loader"):
        answer = await asyncio.to_thread(browser.open, address)
        assert (answer.answer.status_code, "removed" in answer.text) == (404, True), address
    looked_at_again = await asyncio.to_thread(browser.open, f"/console/jobs/{job_id}")
    assert "The spool has removed them." in looked_at_again.text
    assert file not in looked_at_again.links
    await api.pool.execute("DELETE FROM exportd.job")
    unknown = await asyncio.to_thread(browser.open, file)
    assert (unknown.answer.status_code, "There is no job" in unknown.text) == (404, True)


@pytest.fixture
async def jobs(api: ApiServer) -> dict[str, str]:
    """Ids of two failed jobs of one schedule, a failed one without a schedule, one that runs, one that waits."""

    async def queued(address: str) -> str:
        return str((await api.http.post(address)).json()["jobId"])

    bodies = [schedule(code, name=HOSTILE) for code in ("one", "two", "three")]
    one, two, three = [
        f"/v1/schedules/{(await api.http.post(path(ACME, 'schedules'), json=body)).json()['id']}/run" for body in bodies
    ]
    found = {}
    for name in ("older", "newer"):
        found[name] = await queued(one)
        assert await made_objects.failed_job(api) == found[name]
    body = {"sourceType": "OPERATIONAL", "operationalDataTypes": ["ACCOUNTS"]}
    found["adhoc"] = str((await api.http.post(path(ACME, "adhoc"), json=body)).json()["jobId"])
    assert await made_objects.failed_job(api) == found["adhoc"]
    found["running"] = await queued(two)
    assert await JobTable(api.pool).claim(holder="test", lease_s=60, spool_id=SPOOL, attempt_limit=5) is not None
    return {**found, "waiting": await queued(three)}


async def test_ticked_jobs_are_retried_and_each_refusal_is_a_sentence(
    api: ApiServer, browser: ConsoleBrowser, jobs: dict[str, str]
) -> None:
    def work() -> None:
        ticked = list(jobs.values())
        asked = browser.press(browser.open("/console/jobs"), "Retry the ticked jobs", {"job": ticked})
        assert "Retry 2 jobs?" in asked.text
        assert "1 schedule runs once more" in asked.text
        assert "1 exports without a schedule are asked for anew" in asked.text
        assert "It has not failed (RUNNING): only a failed job can be retried." in asked.text
        assert f"The retry of {jobs['newer'][:8]} does this too" in asked.text
        assert asked.has_only_our_scripts
        done = browser.press(asked, "Retry them")
        assert done.text.count("It is done again by the job") == 2
        again = browser.press(asked, "Retry them")
        assert "Refused: The schedule 'one' has an unfinished job" in again.text
        assert again.text.count("It is done again by the job") == 1, "a refusal concerns its own job alone"

    await asyncio.to_thread(work)
    deeds = [action for actor, action in await api.audit() if actor.endswith("(console)")]
    assert deeds == ["job retried"] * 3


async def test_jobs_are_filtered_by_the_time_when_they_were_made(
    api: ApiServer, browser: ConsoleBrowser, jobs: dict[str, str]
) -> None:
    await api.pool.execute(
        "UPDATE exportd.job SET created_at = '2026-03-09 04:30Z' WHERE id = $1::uuid", UUID(jobs["older"])
    )

    def shown(**query: str) -> set[str]:
        page = browser.press(browser.open("/console/jobs"), "Show", query)
        assert page.answer.status_code == 200, page.text
        assert all(f'value="{text}"' in page.answer.text for text in query.values()), "the form keeps it"
        return {link.rpartition("/")[2] for link in page.links if link.startswith("/console/jobs/")}

    def work() -> None:
        assert shown(until="2026-03-09T05:00") == {jobs["older"]}
        assert shown(**{"from": "2026-03-09T04:30", "until": "2026-03-09T04:30:01+00:00"}) == {jobs["older"]}
        assert shown(**{"from": "2026-03-09T04:31"}) == set(jobs.values()) - {jobs["older"]}
        assert browser.open("/console/jobs?from=yesterday").answer.status_code == 400

    await asyncio.to_thread(work)


async def test_a_job_is_cancelled_from_its_page_once_it_is_said_what_is_lost(
    api: ApiServer, browser: ConsoleBrowser, jobs: dict[str, str]
) -> None:
    def work() -> None:
        (link,) = {link for link in browser.open(f"/console/jobs/{jobs['waiting']}").links if "deed=cancel" in link}
        asked = browser.open(link)
        assert "Cancel 1 job?" in asked.text
        assert "It is cancelled." in browser.press(asked, "Cancel it").text

    await asyncio.to_thread(work)
    states = await api.pool.fetch("SELECT id::text FROM exportd.job WHERE cancel_requested_at IS NOT NULL")
    assert {row["id"] for row in states} == {jobs["waiting"]}


async def test_ticked_jobs_are_cancelled_once_it_is_said_what_is_lost(
    api: ApiServer, browser: ConsoleBrowser, jobs: dict[str, str]
) -> None:
    figures = '{"entities": {"ACCOUNTS": {"rows": 70001, "files": 2, "size_bytes": 5000}}}'
    await api.pool.execute("UPDATE exportd.job SET progress = $1::text::jsonb WHERE state = 'RUNNING'", figures)

    def work() -> None:
        chosen = [jobs[name] for name in ("waiting", "running", "older")]
        asked = browser.press(browser.open("/console/jobs"), "Cancel the ticked jobs", {"job": chosen})
        assert "Cancel 2 jobs?" in asked.text
        assert "1 of them wait and end at once; 1 run" in asked.text
        assert "70 001 records in 2 files, 5 kB" in asked.text
        assert "It has ended (FAILED): there is nothing to cancel." in asked.text
        done = browser.press(asked, "Cancel them")
        assert "It is cancelled." in done.text
        assert "The daemon that runs it stops it." in done.text

    await asyncio.to_thread(work)
    states = await api.pool.fetch("SELECT id::text FROM exportd.job WHERE cancel_requested_at IS NOT NULL")
    assert {row["id"] for row in states} == {jobs["waiting"], jobs["running"]}
    deeds = [action for actor, action in await api.audit() if actor.endswith("(console)")]
    assert deeds == ["job cancelled"] * 2


async def test_what_no_list_sends_does_nothing(
    api: ApiServer, browser: ConsoleBrowser, jobs: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def work() -> None:
        page = browser.open("/console/jobs")
        assert "no job is ticked" in browser.press(page, "Cancel the ticked jobs").text
        for fields in ([], [str(uuid4()) for _ in range(MAX_TICKED + 1)]):
            answer = browser.client.post("/console/jobs/ticked", data={"deed": "cancel", "job": fields})
            assert answer.status_code == 400
        answer = browser.client.post("/console/jobs/ticked", data={"deed": "delete", "job": jobs["waiting"]})
        assert answer.status_code == 400
        assert browser.client.get("/console/jobs/ticked?deed=delete&job=x").status_code == 400
        assert browser.client.get("/console/jobs/ticked?deed=retry&job=%00").status_code == 400
        for text in ("X" * 150, "<script>", str(uuid4())):
            asked = browser.client.get("/console/jobs/ticked", params={"deed": "retry", "job": text})
            done = browser.client.post("/console/jobs/ticked", data={"deed": "retry", "job": text})
            for answer in (asked, done):
                assert (answer.status_code, "There is no such job any more." in answer.text) == (200, True), text
                assert "<script>" not in answer.text
        other = Identity(OrganizationId("other"), "client:x", Role.OPERATOR)
        monkeypatch.setattr(Access, "identity", lambda *_: other)
        hidden = browser.open(f"/console/jobs/ticked?deed=cancel&job={jobs['waiting']}")
        assert "There is no such job any more." in hidden.text
        assert ACME not in hidden.answer.text
        reader = Identity(None, "unix:reader", Role.READER)
        monkeypatch.setattr(Access, "identity", lambda *_: reader)
        page = browser.open(f"/console/jobs/ticked?deed=cancel&job={jobs['waiting']}")
        assert "Cancel 1 job?" in page.text
        assert not {"Cancel it", "Cancel the ticked jobs"} & {button for form in page.forms for button in form.buttons}
        refused = browser.client.post("/console/jobs/ticked", data={"deed": "cancel", "job": jobs["waiting"]})
        assert refused.status_code == 403

    await asyncio.to_thread(work)
    assert not [action for actor, action in await api.audit() if actor.endswith("(console)")]
