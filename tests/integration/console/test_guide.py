"""The guide to the console, walked step by step without JavaScript: its words, its order, its limits."""

import asyncio

from tests.acceptance.console_browser import BrowserPage, ConsoleBrowser
from tests.integration.api.request_bodies import ROLE
from tests.integration.api.standalone_api import ACME, ApiServer

RULES: tuple[tuple[dict[str, str | list[str]], str], ...] = (
    ({"unit": "MINUTE", "period": "15"}, ""),
    ({"unit": "MINUTE", "period": "14"}, "15 minutes"),
    ({"unit": "MINUTE", "period": "4320"}, ""),
    ({"unit": "MINUTE", "period": "4321"}, "3 days"),
    ({"unit": "HOUR", "period": "72"}, ""),
    ({"unit": "HOUR", "period": "73"}, "3 days"),
    ({"unit": "DAY", "period": "3"}, ""),
    ({"unit": "DAY", "period": "4"}, "3 days"),
    ({"unit": "HOUR", "period": "6", "offset": "59"}, ""),
    ({"unit": "HOUR", "period": "6", "offset": "60"}, "59"),
    ({"unit": "DAY", "period": "1", "offset": "23"}, ""),
    ({"unit": "DAY", "period": "1", "offset": "24"}, "23"),
    ({"kind": "advanced", "cron": "0 0 * * 1-5"}, ""),  # from Friday to Monday it is three days
    ({"kind": "advanced", "cron": "0 0 * * 1"}, "3 days"),
    ({"kind": "advanced", "cron": "*/10 * * * *"}, "15 minutes"),
)
"""What is filled in, and what the error at the field has to name; empty: there is none."""


def in_order(page: BrowserPage, *words: str) -> None:
    """These words stand on the page one after the other."""
    place = 0
    for word in words:
        found = page.text.find(word, place)
        assert found >= 0, f"{word} does not come after what is before it: {page.text}"
        place = found + len(word)


async def test_the_guide(api: ApiServer, browser: ConsoleBrowser) -> None:
    await api.pool.execute("CREATE TABLE public.things (id int PRIMARY KEY, changed_at timestamptz)")

    def work() -> None:
        form = step_one(browser)
        form = step_two(browser, form)
        step_three(browser, form)
        step_four(form)
        step_six(browser, step_five(browser, form))

    await asyncio.to_thread(work)
    (made,) = (await api.http.get("/v1/schedules")).json()["data"]
    assert (made["exportFileFormat"], made["scheduleType"], made["period"], made["offset"]) == ("CSV", "DAY", 2, 2)
    assert (made["destinations"], made["operationalDataTypes"]) == (["the-lake"], ["ACCOUNTS"])


def step_one(browser: ConsoleBrowser) -> BrowserPage:
    """Data exports, then Create export schedule."""
    start = browser.open("/console/")
    assert "/console/exports" in start.links
    exports = browser.open("/console/exports")
    in_order(exports, "Data exports", "Export schedules", "Create export schedule", "Export destinations")
    assert "/console/schedules/new" in exports.links
    return browser.open("/console/schedules/new")


def step_two(browser: ConsoleBrowser, form: BrowserPage) -> BrowserPage:
    """Export schedule details: a destination is made first, for there are no options."""
    in_order(form, "Export schedule details", "Name", "Code", "Destinations", "No options.", "Export file format")
    in_order(form, "With none, the files are kept for download only.", "CSV", "JSONL")
    assert ("format", "CSV") in form.form_with("Create export schedule").fields, "CSV is preselected"
    kinds = browser.open("/console/destinations/new")
    in_order(kinds, "Create export destination", "Export destination type", "AWS S3", "Google Cloud Storage", "Next")
    details = browser.press(kinds, "Next")
    in_order(details, "Export destination details", "Name", "Code", "Bucket name")
    wanted: dict[str, str | list[str]] = {
        "organization": ACME,
        "name": "The lake",
        "bucketName": "acme-exports",
        "iamRoleArn": ROLE,
    }
    assert browser.press(details, "Create export destination", wanted).answer.status_code == 200
    form = browser.open("/console/schedules/new")
    in_order(form, "Destinations", "The lake", "Export file format")
    assert "No options" not in form.text
    return form


def step_three(browser: ConsoleBrowser, form: BrowserPage) -> None:
    """Export schedule: Simple or Advanced, and the limits of both."""
    in_order(
        form, "Export schedule", "Simple", "Every", "Unit", "Hours", "Days", "Minutes", "Offset", "Advanced", "Cron"
    )
    in_order(form, "Hours: minutes into the hour.", "Days: hours into the day.", "Minutes have none.")
    assert "The shortest interval between two runs is 15 minutes, the longest 3 days." in form.text
    assert "The first run is at once." in form.text
    assert ("kind", "simple") in form.form_with("Create export schedule").fields
    for filled, words in RULES:
        checked = browser.press(form, "Show the next firings", {"offset": "", **filled})
        problems = checked.answer.text.count('class="problem"')
        assert (problems > 0, checked.text.count("(in ")) == ((True, 0) if words else (False, 5)), filled
        if words:
            problem = checked.answer.text.partition('class="problem"')[2].partition("</span>")[0]
            assert words in problem, (filled, problem)


def step_four(form: BrowserPage) -> None:
    """Export data: the source type, and the entities."""
    in_order(
        form, "Export data", "Source type", "Operational data", "Usage data", "Operational data entities", "ACCOUNTS"
    )
    assert "exportd exports operational data only." in form.text


def step_five(browser: ConsoleBrowser, form: BrowserPage) -> BrowserPage:
    """Create export schedule: its details open."""
    lake = form.answer.text.partition('name="destination" value="')[2].partition('"')[0]
    filled: dict[str, str | list[str]] = {
        "name": "Every second day",
        "destination": [lake],
        "unit": "DAY",
        "period": "2",
        "offset": "2",
        "entity": ["ACCOUNTS"],
    }
    preview = browser.press(form, "Preview the first run", filled)
    in_order(
        preview, "The first run", "ACCOUNTS", "records now", "[[schedule]]", "exportd schedule create", "POST /org"
    )
    details = browser.press(form, "Create export schedule", filled)
    assert details.answer.status_code == 200, details.text
    in_order(
        details, "The schedule is created. Its first run begins now.", "Export schedule details", "the-lake", "CSV"
    )
    return details


def step_six(browser: ConsoleBrowser, details: BrowserPage) -> None:
    """Back on Data exports it is in the panel; its jobs are on Export jobs."""
    exports = browser.open("/console/exports")
    in_order(
        exports, "Export schedules", "Every second day", "every-second-day", "the-lake", "CSV", "Export destinations"
    )
    assert details.answer.url.path in exports.links
    in_order(browser.open("/console/jobs"), "Export jobs")
