"""The console over TCP: a person signs in with a program's credentials, and sees and does what that program may."""

import asyncio
import importlib
import pkgutil
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar
from urllib.parse import quote
from uuid import uuid4

import httpx
from fastapi.routing import APIRoute
from markupsafe import escape

from exportd.api.identity.client_table import Client, Role
from exportd.console import pages
from exportd.console.sessions import MAX_TRIES_OF_A_KEY, MAX_TRIES_OF_AN_ADDRESS
from exportd.console.visitor import FOR_ORGANIZATIONS
from exportd.model.entity import OrganizationId
from tests.acceptance.console_browser import BrowserPage, ConsoleBrowser
from tests.integration.api.request_bodies import bucket, schedule
from tests.integration.api.standalone_api import ACME, ApiServer, declared_shelf, path, trusting

OTHER = "zebra <script>'\"&"
"""Another organization; all that it has is called so too."""

WRONG = "The access key id or the secret is wrong, or has been withdrawn."

T = TypeVar("T")


async def in_thread(work: Callable[[], T]) -> T:
    return await asyncio.to_thread(work)


async def program(api: ApiServer, role: Role = Role.OPERATOR) -> tuple[Client, str]:
    return await api.using.access.clients.create(OrganizationId(ACME), "billing", role, actor="test")


@contextmanager
def browser_at(api: ApiServer) -> Iterator[ConsoleBrowser]:
    """A browser without JavaScript at the TCP address."""
    verify = trusting(api.folder / "chain.pem")
    with httpx.Client(
        base_url=api.tcp.base_url, follow_redirects=True, timeout=30, trust_env=False, verify=verify
    ) as client:
        yield ConsoleBrowser(client)


def sign_in(browser: ConsoleBrowser, key: str, secret: str) -> BrowserPage:
    return browser.press(browser.open("/console/"), "Sign in", {"key": key, "secret": secret})


def routes() -> list[tuple[str, str]]:
    """Every page of the console: method and path."""
    found = []
    for module in pkgutil.iter_modules(pages.__path__):
        router = importlib.import_module(f"{pages.__name__}.{module.name}").router
        for route in router.routes:
            assert isinstance(route, APIRoute)
            found += [(method, route.path) for method in route.methods or ()]
    return sorted(found)


async def furnish(api: ApiServer, organization: str, name: str) -> dict[str, str]:
    """Something of each kind; the ids."""
    lake = (await api.http.post(path(organization, "destinations"), json=bucket(f"{name} lake", name=name))).json()
    nightly = schedule(f"{name} nightly", name=name, destinationIds=[lake["id"]])
    made = (await api.http.post(path(organization, "schedules"), json=nightly)).json()
    job = (await api.http.post(f"/v1/schedules/{made['id']}/run")).json()["jobId"]
    await api.http.post(f"/v1/jobs/{job}/cancel")
    await api.http.post(f"/v1/schedules/{made['id']}/run")
    return {"schedules": made["id"], "destinations": lake["id"], "jobs": job}


async def contents(api: ApiServer) -> list[object]:
    tables = ("schedule", "destination", "job", "audit")
    return [await api.pool.fetch(f"SELECT t.* FROM exportd.{table} AS t ORDER BY id") for table in tables]


async def test_no_byte_of_another_organization_is_in_any_page(api_with_tls: ApiServer) -> None:
    api = api_with_tls
    foreign = await furnish(api, quote(OTHER), OTHER)
    await declared_shelf(api)
    own = await furnish(api, ACME, "ours")
    client, secret = await program(api)
    before = await contents(api)
    seen = set()

    def look() -> None:
        with browser_at(api) as browser:
            assert f"billing of {ACME}, operator" in sign_in(browser, str(client.id), secret).text
            for page in browser.crawl("/console/"):
                there = page.answer.url.path
                # The catalog here has other entities than the schedules.
                assert page.answer.status_code in {200, 409} or "/entities/" in there, there
                _shows_nothing(page.answer)
                seen.add(re.sub("/[0-9a-f-]{36}", "/{id}", there))
            for method, url in routes():
                if url not in {"/console/leave", "/console/sign-in", "/console/events"}:  # a stream has no end
                    _look_for_what_is_foreign(browser, method, url, foreign)
            assert browser.open("/console/").answer.status_code == 200, "it is still signed in"

    await in_thread(look)
    assert {"/console/exports", "/console/schedules/{id}/edit", *(f"/console/{kind}/{{id}}" for kind in own)} <= seen
    assert await contents(api) == before, "nothing was done by looking, and nothing to another organization"


def _look_for_what_is_foreign(browser: ConsoleBrowser, method: str, url: str, foreign: dict[str, str]) -> None:
    """A page with ids, and the name, of another organization, and with ids that do not exist: the same answer."""
    answers = []
    for object_id in (foreign.get(url.split("/")[2], str(uuid4())), str(uuid4())):
        there = url.replace("{id}", object_id).replace("{name}", "manifest.json")
        told = {"organization": OTHER, "name": "x"}
        if method == "GET":
            answer = browser.client.get(there, params={} if "{" in url else told)
        else:
            answer = browser.client.post(there, data=told)
        _shows_nothing(answer, sent=True)
        answers.append((answer.status_code, re.sub("As of .*", "", answer.text.replace(object_id, "ID"))))
    if "{id}" in url:
        assert answers[0] == answers[1], (method, url)
        assert answers[0][0] in {400, 403, 404}, (method, url)
    assert url in FOR_ORGANIZATIONS or answers[0][0] != 200, (method, url)


def _shows_nothing(answer: httpx.Response, *, sent: bool = False) -> None:
    shown = answer.text
    if sent:  # a form comes back as it was filled in
        shown = shown.replace(str(escape(OTHER)), "")
    for hidden in ("zebra", "/spool", "public.things", "shelf of"):
        assert hidden not in shown, (answer.url, hidden)


async def test_a_person_does_what_the_program_may_and_the_audit_says_so(api_with_tls: ApiServer) -> None:
    api = api_with_tls
    ids = await furnish(api, ACME, "ours")
    client, secret = await program(api)
    reader, other_secret = await program(api, Role.READER)

    def work() -> None:
        with browser_at(api) as browser:
            sign_in(browser, str(client.id), secret)
            here = f"/console/schedules/{ids['schedules']}"
            assert f"Paused by {client.id} (console)" in browser.press(browser.open(here), "Pause").text
            wanted: dict[str, str | list[str]] = {"name": "Second", "period": "6", "entity": ["THINGS"]}
            form = browser.open("/console/schedules/new")
            assert f'value="{ACME}"' in form.answer.text, "its organization stands there"
            foreign = browser.press(form, "Create export schedule", {**wanted, "organization": "other"})
            assert (foreign.answer.status_code, "not one that you may see" in foreign.text) == (403, True)
            left = browser.press(browser.open("/console/"), "Sign out")
            assert "Sign in again" in left.text
            assert browser.client.post(f"{here}/resume").status_code == 401
        with browser_at(api) as browser:
            sign_in(browser, str(reader.id), other_secret)
            page = browser.open(here)
            assert "Resume" not in {button for form in page.forms for button in form.buttons}
            refused = browser.client.post(f"{here}/resume")
            assert (refused.status_code, "it takes the role operator" in refused.text) == (403, True)

    await in_thread(work)
    assert (f"{client.id} (console)", "schedule paused") in await api.audit()


async def test_the_cookie_and_the_rules_of_the_socket_hold_over_tcp_too(api_with_tls: ApiServer) -> None:
    api = api_with_tls
    client, secret = await program(api)
    form = {"key": str(client.id), "secret": secret}
    answer = await api.tcp.post("/console/sign-in", data=form)
    (cookie,) = answer.headers.get_list("set-cookie")
    name, *rest = cookie.split("; ")
    assert name.startswith(f"exportd-{api.tcp.base_url.port}=")
    assert sorted(rest) == ["HttpOnly", "Path=/console/", "SameSite=strict", "Secure"]
    page = await api.tcp.get("/console/")
    assert page.status_code == 200
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert (page.headers["cache-control"], page.headers["referrer-policy"]) == ("no-store", "no-referrer")
    assert (await api.tcp.get("/v1/jobs")).status_code == 401, "the API wants a token"
    for headers, status in (
        ({"host": "evil.example"}, 400),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "cors"}, 403),
        ({"sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors"}, 403),
    ):
        assert (await api.tcp.get("/console/", headers=headers)).status_code == status
    for origin in ("https://evil.example", f"https://127.0.0.1:{(api.tcp.base_url.port or 0) + 1}", "null"):
        assert (await api.tcp.post("/console/sign-in", data=form, headers={"origin": origin})).status_code == 403
    # A program's session is good over TCP alone, and a user's on the socket alone.
    own = (await api.http.post("/console/enter")).headers["set-cookie"].partition("; ")[0].partition("=")[2]
    for there, cookie in ((api.http, name.partition("=")[2]), (api.tcp, own)):
        there.cookies.clear()
        sent = {"cookie": f"exportd-{there.base_url.port or 0}={cookie}"}
        assert (await there.get("/console/", headers=sent)).status_code == 303


async def test_a_session_ends_with_the_credentials_and_with_another_role(api_with_tls: ApiServer) -> None:
    api = api_with_tls
    for end in ("UPDATE exportd.api_client SET role = 'reader'", ""):
        client, secret = await program(api)
        await api.tcp.post("/console/sign-in", data={"key": str(client.id), "secret": secret})
        assert (await api.tcp.get("/console/")).status_code == 200
        if end:
            await api.pool.execute(end)
        else:
            await api.http.delete(f"/v1/clients/{client.id}")
        assert (await api.tcp.get("/console/")).headers["location"] == "/console/sign-in"
        await api.pool.execute("UPDATE exportd.api_client SET role = 'operator', active = true")
        assert (await api.tcp.get("/console/")).status_code == 303, "it does not come to life again"


async def test_a_wrong_key_and_a_wrong_secret_are_told_apart_by_nothing(api_with_tls: ApiServer) -> None:
    api = api_with_tls
    client, secret = await program(api)
    withdrawn, its_secret = await program(api)
    await api.http.delete(f"/v1/clients/{withdrawn.id}")
    answers = [
        await api.tcp.post("/console/sign-in", data={"key": key, "secret": given})
        for key, given in (
            (str(client.id), "wrong"),
            (str(uuid4()), secret),
            ("\0\ud7ff", secret),
            ("", ""),
            (str(withdrawn.id), its_secret),
        )
    ]
    assert {(answer.status_code, answer.content, "set-cookie" in answer.headers) for answer in answers} == {
        (401, answers[0].content, False)
    }
    assert WRONG in answers[0].text
    assert secret not in answers[1].text
    large = await api.tcp.post("/console/sign-in", data={"key": "x" * 3000})
    assert large.status_code == 413


async def test_tries_are_bounded_by_key_and_by_address(api_with_tls: ApiServer) -> None:
    client, secret = await program(api_with_tls)

    async def tries(count: int, key: str, given: str) -> list[int]:
        form = {"key": key, "secret": given}
        return [(await api_with_tls.tcp.post("/console/sign-in", data=form)).status_code for _ in range(count)]

    spellings = [str(client.id), str(client.id).upper(), f"{{{client.id}}}", client.id.hex, f"urn:uuid:{client.id}"]
    for key in spellings:
        assert await tries(MAX_TRIES_OF_A_KEY // 5, key, "wrong") == [401] * (MAX_TRIES_OF_A_KEY // 5)
    assert await tries(1, str(client.id), secret) == [429], "also for the right one"
    rest = MAX_TRIES_OF_AN_ADDRESS - MAX_TRIES_OF_A_KEY - 1
    assert await tries(rest + 1, "other", "wrong") == [401] * rest + [429]


async def test_where_it_is_not_configured_there_is_none(api: ApiServer) -> None:
    for url in ("/console/", "/console/sign-in", "/console/exports", "/console/enter"):
        answer = await api.tcp.get(url)
        assert (answer.status_code, "`exportd console` opens" in answer.text) == (403, True), url
    assert (await api.tcp.post("/console/sign-in", data={"key": "x", "secret": "y"})).status_code == 403
    assert (await api.http.get("/console/sign-in")).status_code == 403
