"""The console in a real browser: what it shows by itself, who can use it, and what a foreign page achieves."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, Route, expect

from tests.acceptance import statement_blocker
from tests.acceptance.console_browser import console, origin
from tests.acceptance.sample_application import ORGANIZATION
from tests.acceptance.shared_console import SharedConsole
from tests.fixtures.chromium import FOREIGN_NAME, Chromium, Window

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

HTMX_HAS_RUN = """
    new Promise(done => {
        const look = () => window.htmx ? setTimeout(done) : setTimeout(look);
        look();
    })
"""
"""Fulfilled when htmx has run, and what it does soon afterwards."""

POLL_MS = 5_000
RECONNECT_MAX_MS = 4_000
"""How often a list asks for itself; after how long, at most, a page looks for a stream again."""


def open_console(chromium: Chromium, address: str) -> Window:
    window = chromium.window()
    window.page.goto(address)
    expect(window.page.get_by_role("heading", name="Overview")).to_be_visible()
    assert window.complaints == []
    return window


# --- live -----------------------------------------------------------------------------------------------------------


async def test_the_overview_shows_a_new_job_by_itself(shared_console: SharedConsole, chromium: Chromium) -> None:
    site = shared_console.site
    window = await chromium.run(open_console, await shared_console.invitation())
    async with statement_blocker.blocking(await site.database.connect(), statement_blocker.DELIVERING) as closed:
        job = await site.fire()
        await closed.blocked_backend()
        await chromium.run(_go_to_the_job, window, str(job))
    await site.succeeded(shared_console.connection, job)


@pytest.mark.parametrize("script", ["hx-sse", "console"])
async def test_a_page_is_live_though_a_script_comes_late(
    shared_console: SharedConsole, chromium: Chromium, script: str
) -> None:
    def look(chromium: Chromium, address: str) -> None:
        page = chromium.window().page

        def come_late(route: Route) -> None:
            page.evaluate(HTMX_HAS_RUN)
            route.continue_()

        page.route(f"**/{script}*.js", come_late)
        page.goto(address)
        expect(page.get_by_role("status")).to_have_text("Live")

    await chromium.run(look, await shared_console.invitation())


def _go_to_the_job(_: Chromium, window: Window, job: str) -> None:
    page = window.page
    expect(page.get_by_role("status")).to_have_text("Live")
    page.locator(f"#running-{job} a", has_text=job[:8]).click()
    expect(page.locator(".state.running")).to_have_text("◐ Running: delivering")
    expect(page.get_by_role("status")).to_have_text("Live")


async def test_the_page_of_a_job_outlives_a_loss_and_what_a_person_does_there_stays(
    shared_console: SharedConsole, chromium: Chromium
) -> None:
    site = shared_console.site
    blocker = await site.database.connect()
    async with statement_blocker.blocking(blocker, statement_blocker.DELIVERING) as closed:
        job = str(await site.fire())
        async with console(site) as address:
            await closed.blocked_backend()
            window = await chromium.run(open_console, address)
            await chromium.run(_open_the_job, window, f"{origin(address)}/console/jobs/{job}")
        await chromium.run(_see_the_loss, window)
        async with console(site, "--port", str(urlsplit(address).port)):
            await chromium.run(_see_it_mended, window)
            await blocker.execute("SELECT pg_advisory_unlock_all()")
            await chromium.run(_see_the_end, window)


def _open_the_job(_: Chromium, window: Window, address: str) -> None:
    page = window.page
    page.clock.install()
    page.goto(address)
    expect(page.get_by_role("status")).to_have_text("Live")
    page.locator("#files summary").click()  # closes it
    page.locator("#entity-ORDERS a").focus()
    page.evaluate("window.focused = document.activeElement")


def _see_the_loss(_: Chromium, window: Window) -> None:
    expect(window.page.get_by_role("status")).to_contain_text("The daemon does not answer. What you see is as of 20")


def _see_it_mended(_: Chromium, window: Window) -> None:
    window.page.clock.fast_forward(RECONNECT_MAX_MS)
    expect(window.page.get_by_role("status")).to_have_text("Live")
    assert window.page.locator(".state.running").is_visible()


def _see_the_end(_: Chromium, window: Window) -> None:
    page = window.page
    expect(page.locator("main .state").first).to_have_text("✓ Succeeded")
    expect(page.get_by_role("status")).to_be_empty()
    assert page.evaluate("window.focused === document.activeElement && window.focused.isConnected")
    assert not page.evaluate("document.getElementById('files').open")


async def test_a_list_shows_a_new_job_and_says_when_the_session_has_ended(
    shared_console: SharedConsole, chromium: Chromium
) -> None:
    window = await chromium.run(open_console, await shared_console.invitation())
    await chromium.run(_open_jobs, window, shared_console.here)
    job = await shared_console.site.fire()
    await chromium.run(_see_the_row_and_sign_out, window, str(job))
    await shared_console.site.succeeded(shared_console.connection, job)


def _open_jobs(_: Chromium, window: Window, here: str) -> None:
    window.page.clock.install(time="2001-09-09T01:46:40Z")  # the browser's clock is wrong
    window.page.goto(f"{here}/console/jobs")
    window.page.locator("[name=job]").first.check()
    window.page.keyboard.press("/")
    window.page.keyboard.type("org-")
    expect(window.page.get_by_role("status")).to_have_text("Refreshed every 5 seconds")


def _see_the_row_and_sign_out(_: Chromium, window: Window, job: str) -> None:
    window.page.clock.fast_forward(POLL_MS)
    expect(window.page.locator(f"#job-{job}")).to_be_visible()
    assert window.page.evaluate("new Date().getFullYear()") == 2001
    due = window.page.locator(f"#job-{job} time").first.inner_text()
    assert re.fullmatch(r"now|(\d+ min )?\d+ s ago", due), "the daemon says how long ago it was"
    expect(window.page.locator("main").get_by_label("Organization")).to_have_value("org-")
    expect(window.page.locator("main").get_by_label("Organization")).to_be_focused()
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


async def test_the_keyboard_is_enough(shared_console: SharedConsole, chromium: Chromium) -> None:
    site, connection = shared_console.site, shared_console.connection
    await shared_console.failed_job()
    retried = await chromium.run(_retry_and_create, await shared_console.invitation())
    made = await site.first_job(connection, "nightly-copy")
    assert (await site.succeeded(connection, made))["entities"] == ["ORDERS"]
    states = await connection.fetch("SELECT id::text, state FROM exportd.job")
    assert retried in {row["id"] for row in states}


def _retry_and_create(chromium: Chromium, address: str) -> str:
    page = open_console(chromium, address).page
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


async def test_a_foreign_page_achieves_nothing(shared_console: SharedConsole, chromium: Chromium) -> None:
    connection = shared_console.connection
    jobs = await connection.fetchval("SELECT count(*) FROM exportd.job")
    schedule_id = await connection.fetchval("SELECT id::text FROM exportd.schedule WHERE code = 'often'")
    with foreign_pages(shared_console.here, schedule_id) as port:
        await chromium.run(_attack, await shared_console.invitation(), port)
    assert await connection.fetchval("SELECT count(*) FROM exportd.job") == jobs


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
    window = open_console(chromium, address)
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
