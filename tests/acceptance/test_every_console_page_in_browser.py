"""Every page of the console in a real browser: no barrier in any look, no complaint, and nothing from elsewhere."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from playwright.sync_api import Page, expect

from tests.acceptance import statement_blocker
from tests.acceptance.console_browser import origin
from tests.acceptance.shared_console import SharedConsole
from tests.acceptance.test_console_in_browser import open_console
from tests.fixtures.chromium import Chromium, Window
from tests.fixtures.control_clients import bare
from tests.integration.api.request_bodies import bucket

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

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

COMES_BACK_OFTEN = "setInterval(() => document.dispatchEvent(new Event('visibilitychange')), 100)"
"""A person looks at the tab again and again: each time the page asks for what is new."""

PATHS = (
    "",
    "exports",
    "exports?organization=none",
    "exports?schedulesBy=name&destinationsBy=-kind",
    "jobs",
    "jobs?status=PENDING",
    "jobs/ticked?deed=retry&job={failed}&job={done}",
    "jobs/{failed}",
    "jobs/{running}",
    "jobs/{done}/manifest",
    "jobs/{done}/loader",
    "entities",
    "entities?show=diagram",
    "entities/ORDERS",
    "exports/adhoc",
    "schedules/new",
    "schedules/{schedule}",
    "schedules/{schedule}/backfill",
    "destinations/new",
    "destinations/new?kind=S3",
    "destinations/{destination}",
    "system",
    "system/capture",
    "system/capture/remove?entity=ORDERS",
    "system/clients",
    "system/reload",
    "system/runbook",
    "system/audit",
)


@dataclass(frozen=True)
class SignedIn:
    """A window that is signed in to a console, with a job that failed, one that runs and one that is done.

    ``first_load`` is what the first page loaded, in bytes.
    """

    here: str
    names: dict[str, str]
    window: Window
    first_load: list[int]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def signed_in(shared_console: SharedConsole, chromium: Chromium) -> AsyncIterator[SignedIn]:
    """Of all tests of this file: they change nothing that another looks at. There are two organizations."""
    site, failed = shared_console.site, await shared_console.failed_job()
    with bare(site.folder / "control.sock") as http:
        place = "/organizations/other/dataexports/destinations"
        (await asyncio.to_thread(http.post, place, json=bucket())).raise_for_status()
    async with statement_blocker.blocking(await site.database.connect(), statement_blocker.DELIVERING) as closed:
        running = str(await site.fire())
        await closed.blocked_backend()
        names = {"done": shared_console.done, "failed": failed, "running": running}
        yield await chromium.run(_sign_in, await shared_console.invitation(), names)


def _sign_in(chromium: Chromium, address: str, names: dict[str, str]) -> SignedIn:
    window = open_console(chromium, address)
    ended = [found for found in window.responses if "text/event-stream" not in found.headers.get("content-type", "")]
    first_load = [found.request.sizes()["responseBodySize"] for found in ended]
    window.page.goto(f"{origin(address)}/console/exports?organization=org-1")
    links = [link.get_attribute("href") or "" for link in window.page.locator("main a[href]").all()]
    for kind in ("schedule", "destination"):
        (found,) = {link for link in links if re.fullmatch(f"/console/{kind}s/[-0-9a-f]{{36}}", link)}
        names[kind] = found.rpartition("/")[2]
    return SignedIn(origin(address), names, window, first_load)


def _open(signed_in: SignedIn, path: str) -> Page:
    """Go to a page; what other pages were complained of is forgotten."""
    window = signed_in.window
    window.complaints.clear()
    window.requested.clear()
    window.page.goto(f"{signed_in.here}/console/{path.format(**signed_in.names)}")
    return window.page


async def test_the_first_load_is_small(signed_in: SignedIn) -> None:
    assert len(signed_in.first_load) > 4
    assert sum(signed_in.first_load) <= MAX_FIRST_LOAD_BYTES


@pytest.mark.parametrize("path", PATHS)
async def test_a_page_is_for_everyone(signed_in: SignedIn, chromium: Chromium, path: str) -> None:
    def look(_: Chromium) -> None:
        _open(signed_in, path)
        _assert_fit_for_everyone(signed_in)

    await chromium.run(look)


async def test_what_is_to_be_pasted_is_copied(signed_in: SignedIn, chromium: Chromium) -> None:
    def look(_: Chromium) -> None:
        page = _open(signed_in, "entities?show=diagram")
        signed_in.window.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.get_by_text("The same for Mermaid").click()
        page.get_by_role("button", name="Copy").click()
        expect(page.get_by_role("button", name="Copied")).to_be_visible()
        assert page.evaluate("navigator.clipboard.readText()") == page.locator("pre").text_content()
        assert "ACCOUNTS ||--o{ ORDERS : accountId" in (page.locator("pre").text_content() or "")
        _assert_fit_for_everyone(signed_in)

    await chromium.run(look)


async def test_a_page_that_is_not_there_is_for_everyone(signed_in: SignedIn, chromium: Chromium) -> None:
    def look(_: Chromium) -> None:
        _open(signed_in, "entities/NONE")
        signed_in.window.complaints.clear()  # the browser says that it was answered 404
        _assert_fit_for_everyone(signed_in)

    await chromium.run(look)


async def test_what_was_verified_is_for_everyone(signed_in: SignedIn, chromium: Chromium) -> None:
    def look(_: Chromium) -> None:
        page = _open(signed_in, "destinations/{destination}")
        page.get_by_role("button", name="Verify now").click()
        page.wait_for_url("**/verification")
        page.evaluate(COMES_BACK_OFTEN)
        expect(page.locator(".good-news")).to_contain_text("Nothing is missing, nothing was altered")
        _assert_fit_for_everyone(signed_in)

    await chromium.run(look)


async def test_the_frame_is_for_everyone_while_all_is_paused_and_there_are_several_organizations(
    signed_in: SignedIn, chromium: Chromium
) -> None:
    def look(_: Chromium) -> None:
        page = _open(signed_in, "system")
        page.get_by_role("button", name="Pause all daemons").click()
        expect(page.locator("main .warning")).to_contain_text("All daemons are paused")
        _assert_fit_for_everyone(signed_in)
        page.locator(".picker select").select_option("other")
        page.get_by_role("button", name="Go to what is this organization's").click()
        page.wait_for_url("**/console/exports?organization=other")
        page.locator("main .warning").get_by_role("link", name="Resume on the page System").click()
        page.get_by_role("button", name="Resume all daemons").click()
        expect(page.locator("main .warning")).to_have_count(0)
        _assert_fit_for_everyone(signed_in)

    await chromium.run(look)


async def test_a_form_that_is_being_written_is_for_everyone(signed_in: SignedIn, chromium: Chromium) -> None:
    def look(_: Chromium) -> None:
        page = _open(signed_in, "schedules/new")
        _write_a_schedule(page)
        _assert_fit_for_everyone(signed_in)
        page.keyboard.press("Escape")
        expect(page.locator("#chosen")).to_have_text("None yet.")

    await chromium.run(look)


async def test_the_dialog_of_keys_is_for_everyone(signed_in: SignedIn, chromium: Chromium) -> None:
    def look(_: Chromium) -> None:
        page = _open(signed_in, "schedules/new")
        page.locator("h1").click()  # no field
        page.keyboard.press("?")
        expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
        _assert_fit_for_everyone(signed_in)

    await chromium.run(look)


def _write_a_schedule(page: Page) -> None:
    """What its rule does is said while it is written; what is chosen with what it refers to, in a dialog."""
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


def _assert_fit_for_everyone(signed_in: SignedIn) -> None:
    """Nothing that axe knows to be a barrier, in any look, and no page is wider than a phone; the browser has not
    complained, and has asked no other host.
    """
    window, page = signed_in.window, signed_in.window.page
    page.evaluate(AXE)
    for width, theme, rules in LOOKS:
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme=theme)
        found: dict[str, Any] = page.evaluate("rules => axe.run({resultTypes: ['violations'], ...rules})", rules)
        barriers = [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found["violations"]]
        assert barriers == [], (page.url, width, theme)
        assert page.evaluate(WIDER_THAN_WINDOW) == [], (page.url, width)
    page.set_viewport_size({"width": 640, "height": 400})  # what a window of 1280 × 800 has at 200 % zoom
    assert page.evaluate(WIDER_THAN_WINDOW) == [], page.url
    assert window.complaints == [], page.url
    assert window.hosts == {urlsplit(signed_in.here).netloc}
