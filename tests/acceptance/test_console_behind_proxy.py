"""The console behind a real nginx that asks who the person is, by the lines of docs/console.md."""

import asyncio
import grp
import pwd
import re
import ssl
import tomllib
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import expect

from tests.acceptance import statement_blocker
from tests.acceptance.console_browser import BrowserPage, ConsoleBrowser
from tests.acceptance.declarations import schedule
from tests.acceptance.sample_application import CATALOG, ORGANIZATION, Application
from tests.acceptance.test_control_socket import BECOMES_OTHERS, PROXY_ID, UNPRIVILEGED_ID, open_folder
from tests.fixtures.chromium import Chromium, Window
from tests.fixtures.control_clients import bare
from tests.fixtures.daemon import Site
from tests.fixtures.web_server import PAGE, Authentication, authentication, nginx

pytestmark = [
    pytest.mark.web_server,
    pytest.mark.skipif(not BECOMES_OTHERS, reason="nginx has to become another user than the daemon's"),
]

ANN, BOB, MALLORY = "ann@example.com", "bob@example.com", "mallory@example.com"
PROXY = pwd.getpwuid(PROXY_ID)
GROUP = grp.getgrgid(PROXY.pw_gid).gr_name


@dataclass(frozen=True)
class Proxied:
    """A daemon whose socket nginx opens for people that ``authentication`` knows."""

    site: Site
    folder: Path
    socket: Path
    authentication: Authentication
    address: str

    @contextmanager
    def browser(self, person: str = "") -> Iterator[ConsoleBrowser]:
        """A browser; with a person who has signed in at the identity provider."""
        context = ssl.create_default_context(cafile=str(self.folder / "ca.pem"))
        with httpx.Client(base_url=self.address, follow_redirects=True, timeout=20.0, verify=context) as client:
            browser = ConsoleBrowser(client)
            if person:
                browser.open(f"/oauth2/start?as={person}&rd=/console/enter")
            yield browser


@pytest.fixture
async def proxied(site: Site, application: Application) -> AsyncIterator[Proxied]:
    """By the page's configuration, with the organization of the tests."""
    (lines,) = re.findall(r"^```toml\n(\[control\]\ngroup.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    control = tomllib.loads(lines.replace("acme", ORGANIZATION))["control"]
    people = control.pop("user")
    with open_folder() as folder, authentication() as provider:
        socket = folder / "control.sock"
        control |= {"socket": str(socket), "group": GROUP, "proxy_user": PROXY.pw_name, "hosts": ["localhost"]}
        others = {**schedule(destinations=[]), "code": "others", "organization": "org-2"}
        schedules = [schedule(destinations=[]), others]
        site.configure(CATALOG, {"control": control, "control.user": people, "schedule": schedules})
        await site.start()
        await site.succeeded(application.connection, await site.first_job(application.connection))
        provider.people |= {ANN, BOB, MALLORY}
        with nginx(folder, socket, user=PROXY.pw_name, group=GROUP, authentication=provider.address) as address:
            yield Proxied(site, folder, socket, provider, address)
        assert await site.daemons[-1].stop() == 0


async def test_the_header_of_nginx_signs_in(proxied: Proxied) -> None:
    await asyncio.to_thread(_come_without_having_signed_in, proxied)
    await asyncio.to_thread(_sign_in_and_pause, proxied)
    with bare(proxied.socket) as http:
        newest = (await asyncio.to_thread(http.get, "/v1/audit")).json()["data"][0]
    assert (newest["action"], newest["actor"]) == ("schedule paused", f"proxy:{ANN} (console)")


def _come_without_having_signed_in(proxied: Proxied) -> None:
    """Where the person wanted to go is where they arrive afterwards; a page that refreshes itself is told."""
    wanted = "/console/jobs?status=FAILED&size=50"
    with proxied.browser() as browser:
        page = browser.open(wanted)
        assert ("rd", wanted) in page.form_with("With OpenID").fields
        refreshed = browser.client.get(wanted, headers={"hx-request": "true"})
        assert (refreshed.status_code, "OpenID" in refreshed.text) == (401, False)
        for path in ("/v1/status", "/metrics", "/console/../v1/status", "/oauth2/auth"):
            assert browser.client.get(path).status_code == 404, path


def _sign_in_and_pause(proxied: Proxied) -> None:
    with proxied.browser(ANN) as browser:
        page = _enter(browser, ANN)
        assert f"{ANN}, admin, by the proxy" in page.text
        cookie = next(cookie for cookie in browser.client.cookies.jar if cookie.name.startswith("exportd-"))
        assert (cookie.secure, cookie.path) == (True, "/console/")
        assert "org-2" in browser.open("/console/exports").text
        links = browser.open(f"/console/exports?organization={ORGANIZATION}").links
        (often,) = {link for link in links if re.fullmatch("/console/schedules/[-0-9a-f]{36}", link)}
        assert f"Paused by proxy:{ANN}" in browser.press(browser.open(often), "Pause").text


def _enter(browser: ConsoleBrowser, person: str) -> BrowserPage:
    asked = browser.open("/console/")
    assert f"The proxy says that you are {person}." in asked.text
    page = browser.press(asked, "Sign in")
    assert page.answer.url.path == "/console/"
    return page


async def test_a_person_is_who_the_proxy_says_and_no_other(proxied: Proxied) -> None:
    await asyncio.to_thread(_forge, proxied)


def _forge(proxied: Proxied) -> None:
    with proxied.browser(BOB) as browser:
        for name in ("X-Forwarded-Email", "x-forwarded-email", "X_Forwarded_Email", "X-Auth-Request-Email"):
            browser.client.headers[name] = ANN
        browser.client.headers["X-Forwarded-Uri"] = "/ping"
        page = _enter(browser, BOB)
        assert set(proxied.authentication.asked) == {"/console/", "/console/enter"}
        assert f"{BOB}, operator" in page.text
        assert "org-2" not in browser.open("/console/exports").text
        assert browser.open("/console/system").answer.status_code == 403
    with proxied.browser(MALLORY) as browser:
        browser.client.headers["X-Forwarded-Email"] = ANN
        refused = browser.open("/console/")
        assert (refused.answer.status_code, "not one of control.user" in refused.text) == (403, True)
    # Who is no person for the proxy gets nowhere with a header either.
    with proxied.browser() as browser:
        browser.client.headers["X-Forwarded-Email"] = ANN
        assert "With OpenID" in browser.open("/console/").text


async def test_a_header_of_another_user_is_not_believed(proxied: Proxied) -> None:
    """Neither that of another nginx, which may open the socket too, nor that of root."""
    other = pwd.getpwuid(UNPRIVILEGED_ID).pw_name

    def look() -> None:
        with open_folder() as folder:
            place = {"user": other, "group": GROUP, "authentication": proxied.authentication.address}
            with nginx(folder, proxied.socket, **place) as address:
                elsewhere = Proxied(proxied.site, folder, proxied.socket, proxied.authentication, address)
                with elsewhere.browser(ANN) as browser:
                    assert_refused(browser.open("/console/").answer)
        with bare(proxied.socket) as http:
            assert_refused(http.get("/console/", headers={"x-forwarded-email": ANN}))

    def assert_refused(answer: httpx.Response) -> None:
        assert (answer.status_code, "is believed from the user of control.proxy_user alone" in answer.text) == (
            403,
            True,
        )

    await asyncio.to_thread(look)


async def test_events_come_through_as_they_happen(proxied: Proxied) -> None:
    """While the stream goes on; nginx would hold back some kilobytes, or all until its end."""

    def follow(job: str) -> str:
        with proxied.browser(ANN) as browser:
            _enter(browser, ANN)
            with browser.client.stream("GET", "/console/events") as stream:
                assert stream.headers["content-type"].startswith("text/event-stream")
                return next(line for line in stream.iter_lines() if job in line)

    blocker = await proxied.site.database.connect()
    await blocker.execute(statement_blocker.INSTALL)
    async with statement_blocker.blocking(blocker, statement_blocker.SEALING) as closed:
        job = str(await proxied.site.fire())
        await closed.blocked_backend()
        assert (await asyncio.to_thread(follow, job)).startswith("data:")


@pytest.mark.browser
async def test_an_open_page_says_when_the_person_is_signed_out_at_the_proxy(
    proxied: Proxied, chromium: Chromium
) -> None:
    window = await chromium.run(_open_live, proxied)
    job = await proxied.site.fire()
    await chromium.run(_see_it_and_lose_it, window, proxied, str(job))


def _open_live(chromium: Chromium, proxied: Proxied) -> Window:
    window = chromium.window(ignore_https_errors=True)
    page = window.page
    page.goto(f"{proxied.address}/oauth2/start?as={ANN}&rd=/console/")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("status")).to_have_text("Live")
    return window


def _see_it_and_lose_it(_: Chromium, window: Window, proxied: Proxied, job: str) -> None:
    page = window.page
    page.goto(f"{proxied.address}/console/jobs")
    expect(page.locator(f"#job-{job}")).to_be_visible()
    status, come_back = page.get_by_role("status"), "document.dispatchEvent(new Event('visibilitychange'))"
    # Other proxies answer with a page to sign in at.
    page.route("**/console/jobs", lambda route: route.fulfill(body="<p>Sign in</p>", content_type="text/html"))
    page.evaluate(come_back)
    expect(status).to_contain_text("Your session has ended")
    assert page.locator(f"#job-{job}").is_visible()
    page.unroute("**/console/jobs")
    page.evaluate(come_back)
    expect(status).to_have_text("Refreshed every 5 seconds")
    proxied.authentication.people.clear()
    page.evaluate(come_back)
    expect(status).to_contain_text("Your session has ended")
    assert page.locator(f"#job-{job}").is_visible()
    assert window.hosts == {urlsplit(proxied.address).netloc}
