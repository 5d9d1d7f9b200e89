"""The console in a real browser: what it shows by itself, who can use it, and what a foreign page achieves."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect

from tests.acceptance import statement_blocker
from tests.acceptance.console_browser import console, origin
from tests.acceptance.declarations import destination, schedule
from tests.acceptance.sample_application import CATALOG, ORGANIZATION, Application
from tests.fixtures.chromium import FOREIGN_NAME, Chromium, Window
from tests.fixtures.daemon import Site

pytestmark = pytest.mark.browser

AXE = (Path(__file__).parents[1] / "vendor" / "axe-core-4.14.1.min.js").read_text(encoding="utf-8")
MAX_FIRST_LOAD_BYTES = 60_000
ONLY_COLOURS = {"runOnly": ["color-contrast"]}
LOOKS: list[tuple[int, Literal["light", "dark"], dict[str, list[str]]]] = [
    (1280, "light", {}),
    (320, "light", {}),
    (1280, "dark", ONLY_COLOURS),
    (320, "dark", ONLY_COLOURS),
]
"""Widths in pixels and themes, with the rules that can be broken there when they are not elsewhere."""

WIDER_THAN_WINDOW = """
    document.documentElement.scrollWidth <= innerWidth ? [] : [...document.querySelectorAll("main *")]
        .filter(found => !found.closest(".wide") && found.getBoundingClientRect().right > innerWidth)
        .map(found => found.outerHTML.slice(0, 200))
"""


@pytest.fixture
async def running(site: Site, application: Application) -> Site:
    """A daemon whose schedule ``often`` has run once."""
    lake = site.destination("lake")
    catalog = CATALOG.replace('"accountId"', '{ name = "accountId", reference = "ACCOUNTS" }')
    site.configure(catalog, {"destination": [destination("lake", lake)], "schedule": [schedule(name="Every day")]})
    await application.connection.execute(statement_blocker.INSTALL)
    await site.start()
    await site.succeeded(application.connection, await site.first_job(application.connection))
    return site


async def failed_job(site: Site, application: Application) -> str:
    """The id of a job that failed, for its destination was away."""
    site.destination("lake").rename(site.folder / "away")
    failed = await site.finished(application.connection, await site.fire())
    (site.folder / "away").rename(site.folder / "lake")
    assert failed["state"] == "FAILED"
    return str(failed["id"])


def _open(chromium: Chromium, address: str) -> Window:
    window = chromium.window()
    window.page.goto(address)
    expect(window.page.get_by_role("heading", name="Overview")).to_be_visible()
    return window


# --- every page -----------------------------------------------------------------------------------------------------


async def test_every_page_is_for_everyone_and_loads_nothing_from_elsewhere(
    running: Site, application: Application, chromium: Chromium
) -> None:
    done = await running.first_job(application.connection)
    failed = await failed_job(running, application)
    blocker = await running.database.connect()
    async with console(running) as address, statement_blocker.blocking(blocker, statement_blocker.DELIVERING) as closed:
        job = await running.fire()
        await closed.blocked_backend()
        await chromium.run(_look_at_every_page, address, failed, str(job), str(done))


def _look_at_every_page(chromium: Chromium, address: str, failed: str, job: str, done: str) -> None:
    window = _open(chromium, address)
    page, here = window.page, origin(address)
    ended = [
        found for found in window.responses if found.headers.get("content-type") != "text/event-stream; charset=utf-8"
    ]
    assert sum(found.request.sizes()["responseBodySize"] for found in ended) <= MAX_FIRST_LOAD_BYTES
    page.evaluate(AXE)
    _is_for_everyone(page)
    schedule = _first_link(page, f"{here}/console/exports", "/console/schedules/", but="/console/schedules/new")
    for path in (
        "/console/exports",
        "/console/exports?organization=none",
        "/console/jobs",
        "/console/jobs?status=PENDING",
        f"/console/jobs/ticked?deed=retry&job={failed}&job={done}",
        f"/console/jobs/{failed}",
        f"/console/jobs/{job}",
        "/console/entities",
        "/console/entities?show=diagram",
        "/console/entities/ORDERS",
        f"/console/jobs/{done}/manifest",
        f"/console/jobs/{done}/loader",
        "/console/exports/adhoc",
        "/console/schedules/new",
        "/console/destinations/new",
        "/console/destinations/new?kind=S3",
        "/console/system",
        "/console/system/capture",
        "/console/system/capture/remove?entity=ORDERS",
        "/console/system/clients",
        "/console/system/reload",
        "/console/system/audit",
        schedule,
        f"{schedule}/backfill",
        _first_link(page, f"{here}/console/exports", "/console/destinations/", but="/console/destinations/new"),
    ):
        page.goto(here + path)
        page.evaluate(AXE)
        _is_for_everyone(page)
        assert window.complaints == [], path
    page.get_by_role("button", name="Verify now").click()
    expect(page.locator(".good-news")).to_contain_text("Nothing is missing, nothing was altered")
    page.evaluate(AXE)
    _is_for_everyone(page)
    _write_a_schedule(page, f"{here}/console/schedules/new")
    page.evaluate(AXE)
    _is_for_everyone(page)
    page.keyboard.press("Escape")
    expect(page.locator("#chosen")).to_have_text("None yet.")
    page.locator("h1").click()  # no field
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    _is_for_everyone(page)
    assert window.complaints == []
    assert window.hosts == {urlsplit(address).netloc}
    page.goto(f"{here}/console/entities/NONE")
    page.evaluate(AXE)
    _is_for_everyone(page)


def _write_a_schedule(page: Page, form: str) -> None:
    """What its rule does is said while it is written; what is chosen with what it refers to, in a dialog."""
    page.goto(form)
    page.locator("[name=period]").fill("1")
    page.locator("[name=unit]").select_option("MINUTE")
    expect(page.locator("#rule .problem")).to_be_visible()
    page.locator("[name=cron]").fill("30 */6 * * *")
    expect(page.locator("#rule [data-local]")).to_have_count(5)
    assert page.locator("[value=advanced]").is_checked()
    page.locator("#pick").click()
    page.locator("#picker [type=search]").fill("ord")
    expect(page.locator("[value=ACCOUNTS]")).to_be_hidden()
    page.locator("[value=ORDERS]").check()
    page.get_by_role("button", name="Add what these refer to").click()
    expect(page.locator("[value=ACCOUNTS]")).to_be_checked()
    expect(page.locator("#picker [role=status]")).to_have_text("2 of 3 chosen")


def _first_link(page: Page, address: str, start: str, *, but: str = "") -> str:
    page.goto(address)
    links = [link.get_attribute("href") or "" for link in page.locator(f"main a[href^='{start}']").all()]
    return next(link for link in links if link != but)


def _is_for_everyone(page: Page) -> None:
    """Nothing that axe knows to be a barrier, in any look; and no page is wider than a phone."""
    for width, theme, rules in LOOKS:
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme=theme)
        found: dict[str, Any] = page.evaluate("rules => axe.run({resultTypes: ['violations'], ...rules})", rules)
        barriers = [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found["violations"]]
        assert barriers == [], (page.url, width, theme)
        assert page.evaluate(WIDER_THAN_WINDOW) == [], (page.url, width)
    page.set_viewport_size({"width": 640, "height": 400})  # what a window of 1280 × 800 has at 200 % zoom
    assert page.evaluate(WIDER_THAN_WINDOW) == [], page.url


# --- live -----------------------------------------------------------------------------------------------------------


async def test_pages_follow_a_job_by_themselves_and_what_a_person_does_there_stays(
    running: Site, application: Application, chromium: Chromium
) -> None:
    blocker = await running.database.connect()
    async with statement_blocker.blocking(blocker, statement_blocker.DELIVERING) as closed:
        async with console(running) as address:
            window = await chromium.run(_open, address)
            job = str(await running.fire())
            await closed.blocked_backend()
            await chromium.run(_follow_from_the_overview, window, job)
        await chromium.run(_see_the_loss, window)
        async with console(running, "--port", str(urlsplit(address).port)):
            await chromium.run(_see_it_mended, window)
            await blocker.execute("SELECT pg_advisory_unlock_all()")
            await chromium.run(_see_the_end, window)


def _follow_from_the_overview(_: Chromium, window: Window, job: str) -> None:
    page = window.page
    expect(page.get_by_role("status")).to_have_text("Live")
    page.locator(f"#running-{job} a", has_text=job[:8]).click()
    expect(page.locator(".state.running")).to_have_text("◐ Running: delivering")
    expect(page.get_by_role("status")).to_have_text("Live")
    page.locator("#files summary").click()  # closes it
    page.locator("#entity-ORDERS a").focus()
    page.evaluate("window.focused = document.activeElement")


def _see_the_loss(_: Chromium, window: Window) -> None:
    expect(window.page.get_by_role("status")).to_contain_text("The daemon does not answer. What you see is as of 20")


def _see_it_mended(_: Chromium, window: Window) -> None:
    expect(window.page.get_by_role("status")).to_have_text("Live")
    assert window.page.locator(".state.running").is_visible()


def _see_the_end(_: Chromium, window: Window) -> None:
    page = window.page
    expect(page.locator("main .state").first).to_have_text("✓ Succeeded")
    expect(page.get_by_role("status")).to_be_empty()
    assert page.evaluate("window.focused === document.activeElement && window.focused.isConnected")
    assert not page.evaluate("document.getElementById('files').open")


async def test_a_list_shows_a_new_job_and_says_when_the_session_has_ended(
    running: Site, application: Application, chromium: Chromium
) -> None:
    async with console(running) as address:
        window = await chromium.run(_open, address)
        await chromium.run(_open_jobs, window, origin(address))
        job = await running.fire()
        await chromium.run(_see_the_row_and_sign_out, window, str(job))


def _open_jobs(_: Chromium, window: Window, here: str) -> None:
    window.page.clock.set_system_time("2001-09-09T01:46:40Z")  # the browser's clock is wrong
    window.page.goto(f"{here}/console/jobs")
    window.page.locator("[name=job]").check()
    window.page.keyboard.press("/")
    window.page.keyboard.type("org-")
    expect(window.page.get_by_role("status")).to_have_text("Refreshed every 5 seconds")


def _see_the_row_and_sign_out(_: Chromium, window: Window, job: str) -> None:
    expect(window.page.locator(f"#job-{job}")).to_be_visible()
    assert window.page.evaluate("new Date().getFullYear()") == 2001
    due = window.page.locator(f"#job-{job} time").first.inner_text()
    assert re.fullmatch(r"now|(\d+ min )?\d+ s ago", due), "the daemon says how long ago it was"
    expect(window.page.get_by_label("Organization")).to_have_value("org-")
    expect(window.page.get_by_label("Organization")).to_be_focused()
    ticked = [box.get_attribute("value") for box in window.page.locator("[name=job]:checked").all()]
    assert len(ticked) == 1
    assert ticked != [job], "a tick stays with its own job"
    beside = window.context.new_page()
    beside.goto(window.page.url)
    beside.get_by_role("button", name="Sign out").click()
    window.page.bring_to_front()
    window.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # a person comes back to the tab
    expect(window.page.get_by_role("status")).to_contain_text("Your session has ended")
    assert window.page.locator(f"#job-{job}").is_visible()


# --- by keyboard ----------------------------------------------------------------------------------------------------


async def test_the_keyboard_is_enough(running: Site, application: Application, chromium: Chromium) -> None:
    await failed_job(running, application)
    async with console(running) as address:
        retried = await chromium.run(_retry_and_create, address)
    made = await running.first_job(application.connection, "nightly-copy")
    assert (await running.succeeded(application.connection, made))["entities"] == ["ORDERS"]
    states = await application.connection.fetch("SELECT id::text, state FROM exportd.job")
    assert retried in {row["id"] for row in states}


def _retry_and_create(chromium: Chromium, address: str) -> str:
    page = _open(chromium, address).page
    _tab_to(page, ".tasks a")
    page.keyboard.press("Enter")
    _tab_to(page, "form[action$='/retry'] button")
    page.keyboard.press("Enter")
    expect(page.locator(".notice")).to_contain_text("does again what the failed one did not")
    retried = page.url.rpartition("/")[2]
    page.keyboard.press("g")
    page.keyboard.press("e")
    _tab_to(page, "main a[href='/console/schedules/new']")
    page.keyboard.press("Enter")
    _tab_to(page, "[name=name]")
    page.keyboard.type("Nightly copy")
    _tab_to(page, "[name=period]")
    page.keyboard.type("6")
    expect(page.locator("#rule")).to_contain_text("Every 6 hours.")
    _tab_to(page, "#pick")
    page.keyboard.press("Enter")
    page.keyboard.type("orders")
    _tab_to(page, "#picker [value=ORDERS]")
    page.keyboard.press("Space")
    _tab_to(page, "#picker .main")
    page.keyboard.press("Enter")
    expect(page.locator("#pick")).to_be_focused()
    expect(page.locator("#chosen")).to_have_text("Orders")
    _tab_to(page, "button[value=save]")
    page.keyboard.press("Enter")
    expect(page.locator(".notice")).to_contain_text("The schedule is created.")
    return retried


def _tab_to(page: Page, selector: str) -> None:
    """Press Tab until the focus is there; what is focused has to be visible."""
    expect(page.locator(selector).first).to_be_visible()
    for _ in range(100):
        page.keyboard.press("Tab")
        if page.evaluate("wanted => document.activeElement.matches(wanted)", selector):
            assert page.locator(selector).first.is_visible()
            return
    raise AssertionError(f"Tab never leads to {selector}")


# --- a foreign page -------------------------------------------------------------------------------------------------


async def test_a_foreign_page_achieves_nothing(running: Site, application: Application, chromium: Chromium) -> None:
    jobs = await application.connection.fetchval("SELECT count(*) FROM exportd.job")
    schedule_id = await application.connection.fetchval("SELECT id::text FROM exportd.schedule")
    async with console(running) as address:
        with foreign_pages(origin(address), schedule_id) as port:
            await chromium.run(_attack, address, port)
    assert await application.connection.fetchval("SELECT count(*) FROM exportd.job") == jobs


@contextmanager
def foreign_pages(target: str, schedule_id: str) -> Iterator[int]:
    """A server of pages that attack; its port."""
    action = f"{target}/console/schedules/{schedule_id}/run"
    pages = {
        "/form": f'<form method="post" action="{action}"><button>Win</button></form>',
        "/frame": f'<iframe src="{target}/console/"></iframe>',
        "/empty": "nothing",
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.send_header("set-cookie", f"exportd-{urlsplit(target).port}=forged; Path=/")
            self.end_headers()
            self.wfile.write(pages.get(self.path, "").encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def _attack(chromium: Chromium, address: str, port: int) -> None:
    window = _open(chromium, address)
    page, here = window.page, origin(address)
    # From another site, and from another port of this machine, to which browsers send the same cookies.
    for site in (f"http://{FOREIGN_NAME}:{port}", f"http://127.0.0.1:{port}"):
        page.goto(f"{site}/form")
        with page.expect_response("**/run") as posted:
            page.get_by_role("button").click()
        assert posted.value.status == 403
        page.goto(f"{site}/frame")
        assert "Overview" not in page.frame_locator("iframe").locator(":root").inner_text()
        page.goto(f"{site}/empty")
        assert page.evaluate(
            "there => fetch(there, {credentials: 'include'}).then(() => 'read', () => 'refused')", here
        )
        seen = page.evaluate(
            "there => fetch(there, {credentials: 'include', mode: 'no-cors'}).then(() => 'read', () => 'refused')",
            f"{here}/console/",
        )
        assert seen == "refused"
    # The same port by a name of the attacker's (DNS rebinding).
    answer = page.goto(f"http://{FOREIGN_NAME}:{urlsplit(address).port}/console/")
    assert answer is not None
    assert (answer.status, ORGANIZATION in answer.text()) == (400, False)
    # The forged cookie begins no session, and ends none.
    page.goto(f"{here}/console/")
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
