"""An export without a schedule, from its form to its job's page."""

import asyncio

from tests.acceptance.console_browser import ConsoleBrowser
from tests.integration.api.request_bodies import bucket
from tests.integration.api.standalone_api import ACME, ApiServer, path

ADDRESS = "/console/exports/adhoc"


async def test_what_it_would_hold_is_shown_before_it_is_run(api: ApiServer, browser: ConsoleBrowser) -> None:
    await api.pool.execute("CREATE TABLE public.things (id int PRIMARY KEY, changed_at timestamptz)")
    await api.pool.execute(
        "INSERT INTO public.things SELECT n, make_timestamptz(2026, 3, n, 0, 0, 0, 'UTC') FROM generate_series(1, 9) n"
    )
    lake = (await api.http.post(path(ACME, "destinations"), json=bucket())).json()["id"]

    def work() -> str:
        page = browser.open(ADDRESS)
        assert ("format", "CSV") in page.form_with("Preview").fields
        assert "Not possible with METERS" in page.text
        wanted: dict[str, str | list[str]] = {"entity": ["ACCOUNTS"], "start": "2026-03-07T00:00", "destination": lake}
        shown = browser.press(page, "Preview", wanted)
        assert "would hold 3 records" in shown.text, shown.text
        assert "ACCOUNTS incremental 3 0" in shown.text
        complete = browser.press(shown, "Preview", {"start": ""})
        assert "would hold about" in complete.text
        assert "ACCOUNTS full about" in complete.text
        assert "An ad hoc export has no run before it." in complete.text
        job = browser.press(shown, "Run ad hoc export")
        assert "The export is queued." in job.text
        assert "Modified since 2026-03-07 00:00:00 UTC" in job.text
        assert "lake: not delivered" in job.text
        return job.answer.url.path.rpartition("/")[2]

    job_id = await asyncio.to_thread(work)
    (found,) = (await api.http.get("/v1/jobs")).json()["data"]
    assert (found["id"], found["organization"], found["scheduleId"]) == (job_id, ACME, None)
    assert [action for actor, action in await api.audit() if actor.endswith("(console)")] == ["export requested"]


async def test_what_is_refused_stands_at_its_field_and_nothing_is_run(api: ApiServer, browser: ConsoleBrowser) -> None:
    def work() -> None:
        page = browser.open(ADDRESS)
        for button in ("Preview", "Run ad hoc export"):
            empty = browser.press(page, button, {"organization": ACME})
            assert (empty.answer.status_code, "should be a list of at least 1" in empty.text) == (400, True)
            filled: dict[str, str | list[str]] = {
                "organization": ACME,
                "entity": ["METERS"],
                "start": "2026-03-07T00:00",
            }
            timeless = browser.press(page, button, filled)
            assert "Not run. startDate: METERS" in timeless.text, timeless.text
            assert 'value="2026-03-07T00:00"' in timeless.answer.text
        for name in ("organization", "entity", "destination", "format", "start"):
            for value in ("\0", "X" * 5000, "<script>", "-1"):
                body = {"organization": ACME, "entity": "ACCOUNTS", "format": "CSV", name: value}
                for action in ("preview", "run"):
                    answer = browser.client.post(ADDRESS, data={**body, "action": action})
                    # There is no table: a preview is refused for that at the latest.
                    expected = {200} if action == "run" and (name, value) in GOOD else {400, 409}
                    assert answer.status_code in expected, (name, value, action, answer.text)
                    assert "<script>" not in answer.text

    await asyncio.to_thread(work)
    assert len((await api.http.get("/v1/jobs")).json()["data"]) == len(GOOD)


GOOD = {("organization", "<script>"), ("organization", "-1")}
"""These may be the names of organizations."""
