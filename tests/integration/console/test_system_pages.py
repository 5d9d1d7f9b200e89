"""The pages about the daemon itself: for users of its machine, by role."""

import asyncio
from dataclasses import replace

import pytest

from exportd.api.identity.access import Access, Identity, Role
from exportd.model.entity import OrganizationId
from exportd.model.errors import SettingsError
from exportd.settings.difference import Change, ChangeKind, Difference
from tests.acceptance.console_browser import ConsoleBrowser
from tests.integration.api.request_bodies import bucket
from tests.integration.api.standalone_api import ACME, ApiServer, path

HOSTILE = "<script>alert('x')</script> \"&quot;\" {{ 7 * 7 }}"
PAGES = ("", "/capture", "/reload", "/audit")


@pytest.mark.usefixtures("log_level_kept")
async def test_services_version_and_log_level(api: ApiServer, browser: ConsoleBrowser) -> None:
    def work() -> None:
        page = browser.open("/console/system")
        assert "ticker \u2713 runs now" in page.text
        assert "Apache License 2.0" in page.text
        assert "They agree." not in page.text, "there is only one"
        assert "logs from the level warning on" in browser.press(page, "Set log level", {"level": "warning"}).text
        assert browser.client.post("/console/system/log-level", data={"level": "loud"}).status_code == 400

    await asyncio.to_thread(work)
    assert api.using.host.log_level.get() == "warning"
    assert [action for actor, action in await api.audit() if actor.endswith("(console)")] == ["log level set"]


async def test_capture_shows_what_is_wrong_with_the_sql_and_repairs_it(api: ApiServer, browser: ConsoleBrowser) -> None:
    await api.pool.execute("CREATE TABLE public.things (id int PRIMARY KEY)")

    def work() -> None:
        page = browser.open("/console/system/capture")
        assert "0 of 1 entities are captured completely." in page.text
        assert "THINGS \u2715 not whole" in page.text
        assert "CREATE TABLE" in page.text, "the SQL to copy"
        done = browser.press(page, "Install capture")
        assert "1 of 1 entities are captured completely now." in done.text
        whole = browser.open("/console/system/capture")
        assert "THINGS \u2713 whole" in whole.text
        assert "CREATE TABLE" not in whole.text
        for value in ("", "\0", "X" * 5000, "<script>"):
            answer = browser.client.post("/console/system/capture", data={"entity": value})
            assert (answer.status_code, "<script>" in answer.text) == (400, False), value

    await asyncio.to_thread(work)
    assert await api.pool.fetchval("SELECT count(*) FROM pg_trigger WHERE tgrelid = 'public.things'::regclass") > 0


async def test_a_reload_shows_the_differences_before_it_is_applied(api: ApiServer, browser: ConsoleBrowser) -> None:
    reloads: list[bool] = []

    async def reload(*, dry_run: bool) -> Difference:
        reloads.append(dry_run)
        return Difference(
            (Change(ChangeKind.ADDED, f"schedule {HOSTILE}"), Change(ChangeKind.NEEDS_RESTART, "control.listen", "was"))
        )

    async def spoilt(*, dry_run: bool) -> Difference:
        del dry_run
        raise SettingsError.of(f"there is no key {HOSTILE!r}", where="exportd.toml:3")

    api.application.state.collaborators = replace(api.using, host=replace(api.using.host, reload=reload))

    def work() -> None:
        page = browser.open("/console/system/reload")
        assert "differs from what is in effect in 2 places, 1 of them only after a restart" in page.text
        assert "script" not in page.tags
        assert reloads == [True]
        assert "The configuration is in effect. Differences: 2." in browser.press(page, "Apply").text
        assert reloads == [True, False]
        api.application.state.collaborators = replace(api.using, host=replace(api.using.host, reload=spoilt))
        wrong = browser.open("/console/system/reload")
        assert "Nothing is changed. exportd.toml:3: there is no key" in wrong.text
        assert "script" not in wrong.tags
        assert "Nothing is changed." in browser.press(page, "Apply").text

    await asyncio.to_thread(work)


async def test_the_audit_is_filtered_by_its_address(api: ApiServer, browser: ConsoleBrowser) -> None:
    lake = (await api.http.post(path(ACME, "destinations"), json=bucket(name=HOSTILE))).json()["id"]
    for number in range(51):
        await api.http.post(path("other", "destinations"), json=bucket(f"lake{number}"))

    def work() -> None:
        page = browser.open("/console/system/audit")
        (older,) = [link for link in page.links if "nextToken" in link]
        assert lake[:8] not in page.text
        last = browser.open(f"/console/system/audit{older}")
        assert HOSTILE.replace('"', '\\"') in last.text
        assert "script" not in last.tags
        assert f"?object={lake}" in last.links
        only = browser.open(f"/console/system/audit?object={lake}")
        assert (only.text.count("destination created"), f'value="{lake}"' in only.answer.text) == (1, True)
        assert browser.open("/console/system/audit?organization=none").text.count("destination created") == 0
        assert "Nothing of that kind was done." in browser.open("/console/system/audit?object=x").text

    await asyncio.to_thread(work)


@pytest.mark.parametrize("role", [Role.READER, Role.OPERATOR])
async def test_a_lesser_role_sees_why_it_may_not(
    api: ApiServer, browser: ConsoleBrowser, role: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    await api.pool.execute("CREATE TABLE public.things (id int PRIMARY KEY)")
    monkeypatch.setattr(Access, "identity", lambda _access, peer: Identity(f"unix:{peer.uid}", role, None))

    def work() -> None:
        for place in PAGES:
            page = browser.open(f"/console/system{place}")
            assert page.answer.status_code == 200
            buttons = {button for form in page.forms for button in form.buttons}
            assert not buttons & {"Set log level", "Apply"}
            assert ("Install capture" in buttons) == (place == "/capture" and role is Role.OPERATOR)
        for place in ("/log-level", "/reload", "/capture"):
            answer = browser.client.post(f"/console/system{place}", data={"level": "info", "entity": "THINGS"})
            assert (answer.status_code == 403) == (place != "/capture" or role is Role.READER), place

    await asyncio.to_thread(work)


async def test_an_organization_sees_nothing_of_the_daemon(
    api: ApiServer, browser: ConsoleBrowser, monkeypatch: pytest.MonkeyPatch
) -> None:
    only = Identity("client:x", Role.ADMIN, OrganizationId(ACME))
    monkeypatch.setattr(Access, "identity", lambda *_: only)
    del api

    def work() -> None:
        for place in PAGES[:3]:
            assert browser.open(f"/console/system{place}").answer.status_code == 403, place
        for place in ("/log-level", "/reload", "/capture"):
            body = {"level": "info", "entity": "THINGS"}
            assert browser.client.post(f"/console/system{place}", data=body).status_code == 403, place
        assert browser.open("/console/system/audit?organization=other").answer.status_code == 403

    await asyncio.to_thread(work)
