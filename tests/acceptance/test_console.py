"""The console, in a browser without JavaScript, over the port that ``exportd console`` opens."""

import asyncio
import hashlib
import html
import json
import subprocess
import sys
from io import BytesIO
from uuid import UUID
from zipfile import ZipFile

import httpx
import pytest

from tests.acceptance.console_browser import BrowserPage, ConsoleBrowser, browser_at, console, origin
from tests.acceptance.declarations import destination, schedule
from tests.acceptance.sample_application import CATALOG, ORGANIZATION, Application
from tests.fixtures.control_clients import bare
from tests.fixtures.daemon import Site, environment

HOSTILE = "<script>alert('x')</script> \"&quot;\" {{ 7 * 7 }}"


@pytest.fixture
async def running(site: Site, application: Application) -> Site:
    """A daemon whose schedule ``often`` has run once."""
    lake = site.destination("lake")
    site.configure(CATALOG, {"destination": [destination("lake", lake)], "schedule": [schedule(name="Every day")]})
    await site.start()
    await site.succeeded(application.connection, await site.first_job(application.connection))
    return site


async def test_a_schedule_is_created_watched_changed_and_deleted(running: Site, application: Application) -> None:
    async with console(running) as address:
        with browser_at(origin(address)) as browser:
            await asyncio.to_thread(_sign_in, browser, address)
            await asyncio.to_thread(_send_what_no_form_sends, browser)
            await asyncio.to_thread(_create, browser)
            job = await running.first_job(application.connection, "nightly-copy")
            await running.succeeded(application.connection, job)
            delivered = str(await running.first_job(application.connection))
            script = await _loader_script(running, delivered)
            await asyncio.to_thread(_look_and_change, browser, str(job), delivered, script)
    with bare(running.folder / "control.sock") as http:
        deeds = (await asyncio.to_thread(http.get, "/v1/audit")).json()["data"]
    done = {(row["action"], row["actor"].endswith("(console)")) for row in deeds}
    assert {("schedule created", True), ("schedule edited", True), ("schedule deleted", True)} <= done
    assert await running.daemons[-1].stop() == 0


def _sign_in(browser: ConsoleBrowser, address: str) -> None:
    page = browser.open(address)
    assert (page.answer.status_code, page.answer.url.path) == (200, "/console/")
    assert "Nothing. Every schedule's newest run succeeded" in page.text


def _send_what_no_form_sends(browser: ConsoleBrowser) -> None:
    """Whatever is in a field: the form comes back and says what is wrong, and nothing is created."""
    address = "/console/schedules/new"
    names = (
        "organization",
        "name",
        "code",
        "destination",
        "format",
        "kind",
        "unit",
        "period",
        "offset",
        "cron",
        "entity",
    )
    good = {"organization": ORGANIZATION, "name": "Hostile", "unit": "HOUR", "period": "1", "entity": "ACCOUNTS"}
    for name in (*names, "version"):
        for value in ("\0", "X" * 5000, "-1", "' OR 1=1 --", "\u202e<b>"):
            body = {"kind": "advanced" if name == "cron" else "simple", **good, name: value}
            checked = browser.client.post(address, data={**body, "action": "check"})
            # With this code it is refused, whatever is in the other field.
            saved = browser.client.post(address, data={**body, "code": "\0", "action": "save"})
            assert (checked.status_code, saved.status_code) == (200, 400), (name, value, saved.text)
            assert "<b>" not in checked.text + saved.text
    unknown = browser.client.post(address, data={**good, "unit": "X", "action": "check"})
    assert "This should be one of the units." in unknown.text
    for content in (b"\xff", b"a", b"&".join(b"entity=%d" % number for number in range(1000))):
        assert browser.client.post(address, content=content).status_code == 400


def _create(browser: ConsoleBrowser) -> None:
    empty = browser.open("/console/schedules/new")
    assert "lake" in empty.text
    wanted: dict[str, str | list[str]] = {
        "organization": ORGANIZATION,
        "name": "Nightly copy",
        "period": "6",
        "offset": "75",
        "entity": ["ACCOUNTS", "ORDERS"],
    }
    refused = browser.press(empty, "Create export schedule", wanted)
    assert refused.answer.status_code == 400
    assert "Not created." in refused.text
    assert 'value="Nightly copy"' in refused.answer.text
    checked = browser.press(refused, "Show the next firings", {"offset": "15"})
    assert checked.text.count("(in ") == 5
    made = browser.press(checked, "Create export schedule")
    assert made.answer.status_code == 200, made.text
    assert "The schedule is created." in made.text
    assert "nightly-copy" in made.text


async def _loader_script(site: Site, job: str) -> str:
    command = [
        sys.executable,
        "-m",
        "exportd",
        "loader",
        str(site.folder / "lake"),
        "--job",
        job,
        "--dialect",
        "duckdb",
    ]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, env=environment())
    printed, _ = await process.communicate()
    return printed.decode().strip()


def _look_and_change(browser: ConsoleBrowser, job: str, delivered: str, script: str) -> None:
    page = browser.open(f"/console/jobs/{job}")
    assert "✓ Succeeded" in page.text
    assert "It is the first run." in page.text
    manifest = json.loads(browser.client.get(f"/console/jobs/{job}/files/manifest.json").content)
    files = [link for link in page.links if "/files/" in link and not link.endswith("manifest.json")]
    told = {file["sha256"] for entity in manifest["entities"] for file in entity["parts"]}
    with ZipFile(BytesIO(browser.client.get(f"/console/jobs/{job}/archive").content)) as archive:
        *parts, last = archive.namelist()
        assert last.endswith(f"/_manifests/{job}.json")
        assert {hashlib.sha256(archive.read(part)).hexdigest() for part in parts} == told
    assert {entity["window"]["snapshot"] in page.text for entity in manifest["entities"]} == {True}
    assert {hashlib.sha256(browser.client.get(link).content).hexdigest() for link in files} == told
    (here,) = {link for link in page.links if link.startswith("/console/schedules/") and "?" not in link}
    paused = browser.press(browser.open(here), "Pause")
    assert "Paused by unix:" in paused.text
    assert "Resume" in {button for form in paused.forms for button in form.buttons}
    browser.press(paused, "Resume")
    edited = browser.press(
        browser.open(f"{here}/edit"), "Save", {"name": HOSTILE, "kind": "advanced", "cron": "5 */2 * * *"}
    )
    assert "The schedule is changed." in edited.text
    stale = browser.press(browser.open(f"{here}/edit"), "Save", {"version": "0"})
    assert (stale.answer.status_code, "Not changed." in stale.text) == (409, True)
    for page in browser.crawl("/console/"):
        assert page.answer.status_code == 200, page.answer.url
        assert_safe(page)
    statements = browser.open(f"/console/jobs/{delivered}/loader")
    assert script in html.unescape(statements.answer.text), "as the command writes them"
    asked = browser.open(f"{here}/delete")
    assert "exports 2 entities" in asked.text
    gone = browser.press(asked, "Delete export schedule")
    assert "is deleted" in gone.text
    assert browser.open(here).answer.status_code == 404


def assert_safe(page: BrowserPage) -> None:
    """Nothing that others wrote is markup, and no page may load or embed anything from elsewhere."""
    headers = page.answer.headers
    assert headers["cross-origin-resource-policy"] == "same-origin"
    if headers["content-type"].startswith("text/html"):
        assert page.has_only_our_scripts
        assert "alert" not in " ".join(page.scripts)
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'; ")
        assert "unsafe" not in headers["content-security-policy"]
        assert (headers["cache-control"], headers["referrer-policy"]) == ("no-store", "no-referrer")


async def test_a_failed_run_is_on_the_first_page_and_is_tried_again_from_its_own(
    running: Site, application: Application
) -> None:
    lake = running.destination("lake")
    for path in sorted(lake.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    lake.rmdir()
    failed = await running.finished(application.connection, await running.fire())
    assert failed["state"] == "FAILED"
    async with console(running) as address:
        with browser_at(origin(address)) as browser:
            first = await asyncio.to_thread(browser.open, address)
            assert f"Schedule often of {ORGANIZATION} failed" in first.text
            page = await asyncio.to_thread(browser.open, f"/console/jobs/{failed['id']}")
            assert failed["reason"] in page.text
            lake.mkdir()
            again = await asyncio.to_thread(browser.press, page, "Retry")
            assert "does again what the failed one did not" in again.text
    await running.succeeded(application.connection, UUID(again.answer.url.path.rpartition("/")[2]))
    assert await running.daemons[-1].stop() == 0


async def test_only_the_browser_that_was_let_in_sees_anything(running: Site) -> None:
    async with console(running, "--read-only") as address:
        with browser_at(origin(address)) as browser, browser_at(origin(address)) as stranger:
            await asyncio.to_thread(_only_reads, browser, address)
            await running.fire()
            await asyncio.to_thread(_ends_with_the_session, browser)
            await asyncio.to_thread(_sees_nothing, stranger, address)
    assert await running.daemons[-1].stop() == 0


def _ends_with_the_session(browser: ConsoleBrowser) -> None:
    """A stream, and a page that asks for itself again: each learns of the end, and is not led to the sign-in."""
    with browser.client.stream("GET", "/console/events", timeout=30.0) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        left = browser.press(browser.open("/console/"), "Sign out")
        assert "Signed out" in left.text
        stream.read()  # to its end, which comes with the next event
    assert browser.client.get("/console/", headers={"hx-request": "true"}).status_code == 401
    assert browser.client.get("/console/events", headers={"hx-request": "true"}).status_code == 401
    assert browser.open("/console/").answer.status_code == 401


def _only_reads(browser: ConsoleBrowser, address: str) -> None:
    page = browser.open(address)
    assert "this session only reads" in page.text
    (here,) = {link for link in browser.open("/console/exports").links if link.startswith("/console/schedules/")} - {
        "/console/schedules/new"
    }
    assert "Run now" not in {button for form in browser.open(here).forms for button in form.buttons}
    refused = browser.client.post(f"{here}/run")
    assert (refused.status_code, "only reads" in refused.text) == (403, True)
    site = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "cors"}
    assert browser.client.get("/console/", headers=site).status_code == 403
    assert browser.client.post("/console/leave", headers={"origin": "http://127.0.0.1:1"}).status_code == 403
    assert browser.client.get("/console/", headers={"host": "evil.example"}).status_code == 400


def _sees_nothing(stranger: ConsoleBrowser, address: str) -> None:
    """Another user of the machine may open the port too."""
    assert stranger.open(address).answer.status_code == 401  # it has been used
    for path in ("/console/", "/console/exports", "/console/jobs", "/console/entities", "/console/schedules/new"):
        answer = stranger.open(path).answer
        assert (answer.status_code, ORGANIZATION in answer.text) == (401, False)
    assert stranger.client.get("/console/enter").status_code == 403
    assert stranger.client.post("/console/enter").status_code == 403
    for path in ("/console/invitations", "/console/%69nvitations"):
        assert stranger.client.post(path).status_code == 403
    for path in ("/v1/status", "/console/../v1/status", "/metrics", "//console/", "/console/..%2fv1/status"):
        answer = stranger.client.get(path)
        assert (answer.status_code, "services" in answer.text) == (404, False), path


async def test_a_socket_that_was_forwarded_asks_as_whom_first(running: Site) -> None:
    transport = httpx.HTTPTransport(uds=str(running.folder / "control.sock"))
    with httpx.Client(transport=transport, base_url="http://localhost:8080", follow_redirects=True) as client:
        browser = ConsoleBrowser(client)
        asked = await asyncio.to_thread(browser.open, "/console/")
        assert (asked.answer.url.path, "as the user with the number" in asked.text) == ("/console/enter", True)
        page = await asyncio.to_thread(browser.press, asked, "Sign in")
        assert page.answer.url.path == "/console/"
        assert "exportd-8080" in client.cookies
    assert await running.daemons[-1].stop() == 0
