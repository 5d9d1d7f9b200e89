"""The pages about the daemon itself: for users of its machine, by role."""

import asyncio
import html
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from exportd.api.identity.access import Access, Identity
from exportd.api.identity.client_table import Role
from exportd.fleet.presence import Disagreement, Subject
from exportd.fleet.table import DaemonIdentity
from exportd.model.entity import OrganizationId
from exportd.model.errors import SettingsError
from exportd.model.schedule import Pause
from exportd.settings.difference import Change, ChangeKind, Difference
from tests.acceptance.console_browser import ConsoleBrowser
from tests.integration.api.request_bodies import bucket, schedule
from tests.integration.api.standalone_api import ACME, ApiServer, local_status, path

HOSTILE = "<script>alert('x')</script> \"&quot;\" {{ 7 * 7 }}"
PAGES = ("", "/capture", "/reload", "/clients", "/runbook", "/audit")


@pytest.mark.usefixtures("log_level_kept")
async def test_services_version_and_log_level(api: ApiServer, browser: ConsoleBrowser) -> None:
    def work() -> None:
        page = browser.open("/console/system")
        assert "ticker \u2713 runs now" in page.text
        assert "Apache License 2.0" in page.text
        assert "htmx 4.0.1, 0BSD" in page.text
        (licence,) = {link for link in page.links if "LICENSE" in link}
        assert "Permission to use, copy" in browser.client.get(licence).text
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
        assert page.has_only_our_scripts
        assert reloads == [True]
        assert "The configuration is in effect. Differences: 2." in browser.press(page, "Apply").text
        assert reloads == [True, False]
        api.application.state.collaborators = replace(api.using, host=replace(api.using.host, reload=spoilt))
        wrong = browser.open("/console/system/reload")
        assert "Nothing is changed. exportd.toml:3: there is no key" in wrong.text
        assert wrong.has_only_our_scripts
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
        assert last.has_only_our_scripts
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
    monkeypatch.setattr(Access, "identity", lambda _access, peer: Identity(None, f"unix:{peer.uid}", role))

    def work() -> None:
        for place in PAGES:
            page = browser.open(f"/console/system{place}")
            assert page.answer.status_code == 200
            buttons = {button for form in page.forms for button in form.buttons}
            assert not buttons & {"Set log level", "Apply"}
            assert ("Install capture" in buttons) == (place == "/capture" and role is Role.OPERATOR)
        for place in ("/clients", "/capture/remove", "/clients/x/withdraw"):
            assert browser.client.post(f"/console/system{place}", data={"entity": "THINGS"}).status_code == 403, place
        shown = browser.open("/console/system/clients").text
        assert "This takes the role admin. Who has credentials is for administrators." in shown
        removal = browser.open("/console/system/capture/remove?entity=THINGS")
        assert ("This takes the role admin." in removal.text, "DROP" in removal.text) == (True, False)
        forgetting = browser.client.post("/console/system/daemons/x/forget")
        assert forgetting.status_code == (403 if role is Role.READER else 404)
        for place in ("/log-level", "/reload", "/capture"):
            answer = browser.client.post(f"/console/system{place}", data={"level": "info", "entity": "THINGS"})
            assert (answer.status_code == 403) == (place != "/capture" or role is Role.READER), place

    await asyncio.to_thread(work)


async def test_an_organization_sees_nothing_of_the_daemon(
    api: ApiServer, browser: ConsoleBrowser, monkeypatch: pytest.MonkeyPatch
) -> None:
    only = Identity(OrganizationId(ACME), "client:x", Role.ADMIN)
    monkeypatch.setattr(Access, "identity", lambda *_: only)
    del api

    def work() -> None:
        for place in PAGES[:-1]:
            assert browser.open(f"/console/system{place}").answer.status_code == 403, place
        for place in ("/daemons/x/forget", "/clients/x/withdraw", "/capture/remove?entity=THINGS"):
            assert browser.open(f"/console/system{place}").answer.status_code == 403, place
        places = ("/clients", "/clients/x/withdraw", "/daemons/x/forget", "/capture/remove")
        for place in ("/log-level", "/reload", "/capture", "/pause", "/resume", *places):
            body = {"level": "info", "entity": "THINGS"}
            assert browser.client.post(f"/console/system{place}", data=body).status_code == 403, place
        assert browser.open("/console/system/audit?organization=other").answer.status_code == 403

    await asyncio.to_thread(work)


async def test_credentials_are_handed_out_once_and_withdrawn(api: ApiServer, browser: ConsoleBrowser) -> None:
    found: dict[str, str] = {}

    def work() -> None:
        page = browser.open("/console/system/clients")
        assert "No program has credentials." in page.text
        refused = browser.press(page, "Create credentials", {"organization": "\u202e!", "name": HOSTILE})
        assert (refused.answer.status_code, refused.has_only_our_scripts) == (400, True)
        assert "Not created. organization:" in refused.text
        assert html.escape(HOSTILE) in refused.answer.text.replace("&#34;", "&quot;").replace("&#39;", "&#x27;")
        made = browser.press(refused, "Create credentials", {"organization": ACME, "role": "reader"})
        assert "The secret is shown this one time" in made.text
        found["secret"] = made.text.partition("Secret ")[2].split()[0]
        found["id"] = made.text.partition("Access key id ")[2].split()[0]
        assert str(made.answer.url).endswith("/console/system/clients"), "no secret in an address"
        listed = browser.open("/console/system/clients")
        assert found["secret"] not in listed.answer.text
        assert f"{ACME} reader {found['id']} \u2713 good" in listed.text
        for fields in ({}, {"organization": ACME, "name": "x", "role": "admin"}, {"organization": "\0", "name": "x"}):
            assert browser.client.post("/console/system/clients", data=fields).status_code == 400, fields

    def end() -> None:
        asked = browser.open(f"/console/system/clients/{found['id']}/withdraw")
        assert f"0 other programs have credentials of {ACME}" in asked.text
        assert "are withdrawn." in browser.press(asked, "Withdraw the credentials").text
        again = browser.open(f"/console/system/clients/{found['id']}/withdraw")
        assert "Withdraw the credentials" not in {button for form in again.forms for button in form.buttons}
        for text in ("x", "%00", "00000000-0000-4000-8000-000000000000"):
            address = f"/console/system/clients/{text}/withdraw"
            assert (browser.open(address).answer.status_code, browser.client.post(address).status_code) in {
                (404, 404),
                (400, 400),
            }

    await asyncio.to_thread(work)
    body = {"grant_type": "client_credentials"}
    credentials = (found["id"], found["secret"])
    assert (await api.tcp.post("/oauth/token", auth=credentials, json=body)).status_code == 200
    await asyncio.to_thread(end)
    assert (await api.tcp.post("/oauth/token", auth=credentials, json=body)).status_code == 401
    deeds = [action for actor, action in await api.audit() if actor.endswith("(console)")]
    assert deeds == ["client created", "client deactivated"]
    audit = await api.pool.fetchval("SELECT string_agg(details::text, '') FROM exportd.audit")
    assert found["secret"] not in audit


async def test_every_page_says_that_all_is_paused_and_that_daemons_disagree(
    api: ApiServer, browser: ConsoleBrowser, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = (await api.http.post(path(ACME, "schedules"), json=schedule())).json()
    pages = ("", "exports", "exports/adhoc", "jobs", "entities", f"schedules/{made['id']}", "system/audit")
    apart = Disagreement(uuid4(), "south", Subject.SETTINGS, ("log.level",), "It differs.")
    pause = Pause(datetime(2026, 3, 9, 4, tzinfo=UTC), f"unix:{HOSTILE}")
    status = replace(local_status(), pause=pause, disagreements=(apart, apart))

    def banners(place: str) -> tuple[bool, bool]:
        page = browser.open(f"/console/{place}")
        assert page.answer.status_code == 200, page.text
        assert page.has_only_our_scripts
        words = f"All daemons are paused by unix:{' '.join(HOSTILE.split())} since 2026-03-09 04:00:00 UTC ."
        pauses = words in page.text and "/console/system#pause" in page.links
        disagree = "The daemons of this database disagree in 2 points." in page.text
        return pauses, disagree and "/console/system#disagreements" in page.links

    def work(expected: tuple[bool, bool]) -> None:
        assert {place: banners(place) for place in pages} == dict.fromkeys(pages, expected)

    await asyncio.to_thread(work, (False, False))
    object.__setattr__(api.using.status, "local", lambda: status)
    await asyncio.to_thread(work, (True, True))
    only = Identity(OrganizationId(ACME), "client:x", Role.ADMIN)
    monkeypatch.setattr(Access, "identity", lambda *_: only)
    assert await asyncio.to_thread(banners, "jobs") == (False, False), "that is the machine's"


async def test_all_daemons_are_paused_and_resumed(
    api: ApiServer, browser: ConsoleBrowser, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work() -> None:
        paused = browser.press(browser.open("/console/system"), "Pause all daemons")
        assert "All daemons are paused. Jobs that run go on." in paused.text
        assert "All daemons are paused by unix:" in paused.text, "at once, though memory does not know yet"
        resumed = browser.press(paused, "Resume all daemons")
        assert "The daemons take jobs again." in resumed.text
        assert "are paused by" not in resumed.text
        reader = Identity(None, "unix:reader", Role.READER)
        monkeypatch.setattr(Access, "identity", lambda *_: reader)
        page = browser.open("/console/system")
        assert "Pause all daemons" not in {button for form in page.forms for button in form.buttons}
        for deed in ("pause", "resume"):
            assert browser.client.post(f"/console/system/{deed}").status_code == 403

    await asyncio.to_thread(work)
    deeds = [action for actor, action in await api.audit() if actor.endswith("(console)")]
    assert deeds == ["daemon paused", "daemon resumed"]


async def test_a_daemon_that_is_gone_is_forgotten(api: ApiServer, browser: ConsoleBrowser) -> None:
    ids = {host: uuid4() for host in ("gone", "here")}
    table = api.using.host.daemons
    for host, spool_id in ids.items():
        await table.register(DaemonIdentity(spool_id, host, 1, "/etc/exportd.toml", "1"))
    await table.leave(ids["gone"], for_good=False)
    daemons = await table.all()
    status = replace(local_status(), daemons=daemons)
    object.__setattr__(api.using.status, "local", lambda: status)

    def work() -> None:
        page = browser.open("/console/system")
        (link,) = [link for link in page.links if link.endswith("/forget")]
        assert link == f"/console/system/daemons/{ids['gone']}/forget"
        asked = browser.open(link)
        assert "Forget the daemon on gone?" in asked.text
        done = browser.press(asked, "Forget the daemon")
        assert "The daemon on gone is forgotten." in done.text
        runs = f"/console/system/daemons/{ids['here']}/forget"
        assert "It runs" in browser.open(runs).text
        assert browser.client.post(runs).status_code == 409
        assert browser.client.post(link).status_code == 404
        assert browser.open("/console/system/daemons/x/forget").answer.status_code == 404

    await asyncio.to_thread(work)
    assert [daemon.host for daemon in await table.all()] == ["here"]


async def test_the_capture_of_an_entity_is_removed_here_or_by_pasting_the_sql(
    api: ApiServer, browser: ConsoleBrowser
) -> None:
    await api.pool.execute("CREATE TABLE public.things (id int PRIMARY KEY)")

    def work() -> None:
        nothing = browser.open("/console/system/capture/remove?entity=THINGS")
        assert "Nothing captures it." in nothing.text
        browser.press(browser.open("/console/system/capture"), "Install capture")
        page = browser.open("/console/system/capture")
        (link,) = [link for link in page.links if "remove?" in link]
        asked = browser.open(link)
        assert "0 schedules export it" in asked.text
        assert "BEGIN; SET LOCAL lock_timeout" in asked.text
        assert "DROP TABLE" in asked.text
        done = browser.press(asked, "Remove capture")
        assert "The capture of THINGS is removed with exportd.log_things." in done.text
        assert "THINGS \u2715 not whole" in done.text
        for value in ("", "\0", "X" * 5000, "<script>", "THINGZ"):
            answer = browser.client.post("/console/system/capture/remove", data={"entity": value})
            assert (answer.status_code, "<script>" in answer.text) == (400, False), value
        assert browser.open("/console/system/capture/remove?entity=%3Cscript%3E").answer.status_code == 400

    await asyncio.to_thread(work)
    assert await api.pool.fetchval("SELECT count(*) FROM pg_trigger WHERE tgrelid = 'public.things'::regclass") == 0
    assert (await api.audit())[-1][1] == "capture uninstalled"
