"""An authenticating proxy in front of the socket: who runs as one certain user names persons, and no one else does."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from exportd.api.identity.access import Access, Identity, Proxy
from exportd.api.identity.client_table import Role
from exportd.model.entity import OrganizationId
from tests.acceptance.console_browser import ConsoleBrowser
from tests.fixtures.postgres import Database
from tests.integration.api.conftest import hosted
from tests.integration.api.request_bodies import schedule
from tests.integration.api.standalone_api import ACME, ApiServer, path, serving

HEADER = "x-forwarded-email"
ANN, BOB, CAT = ({HEADER: f"{name}@example.com"} for name in ("ann", "bob", "cat"))
PEOPLE = {
    "ann@example.com": Identity(None, "proxy:ann@example.com", Role.ADMIN),
    "bob@example.com": Identity(OrganizationId(ACME), "proxy:bob@example.com", Role.OPERATOR),
    "cat@example.com": Identity(None, "proxy:cat@example.com", Role.READER),
}


def access(uid: int) -> Access:
    return Access(os.getuid(), frozenset(), frozenset(), Proxy(HEADER, uid, PEOPLE))


@pytest.fixture
async def api(database: Database, tmp_path: Path) -> AsyncIterator[ApiServer]:
    """The user who runs the tests is the proxy."""
    async for found in hosted(serving(database, tmp_path, access(os.getuid()))):
        yield found


@pytest.fixture
async def api_of_others(database: Database, tmp_path: Path) -> AsyncIterator[ApiServer]:
    """Another user is."""
    async for found in hosted(serving(database, tmp_path, access(os.getuid() + 1))):
        yield found


async def make(api: ApiServer, organization: str) -> str:
    """The id of a schedule that Ann makes."""
    made = (await api.http.post(path(organization, "schedules"), json=schedule(), headers=ANN)).json()
    assert made["createdBy"] == "proxy:ann@example.com"
    return str(made["id"])


async def test_the_person_decides_and_stands_in_the_audit(api: ApiServer) -> None:
    made = {organization: await make(api, organization) for organization in (ACME, "other")}
    listed = [len((await api.http.get("/v1/schedules", headers=who)).json()["data"]) for who in (ANN, BOB, CAT)]
    assert listed == [2, 1, 2]
    for who, organization, status in ((CAT, ACME, 403), (BOB, "other", 404), (BOB, ACME, 200)):
        answer = await api.http.post(f"/v1/schedules/{made[organization]}/pause", headers=who)
        assert answer.status_code == status
    for who, status in ((ANN, 200), (BOB, 403), (CAT, 403)):
        assert (await api.http.get("/v1/clients", headers=who)).status_code == status
    assert (await api.audit())[-1] == ("proxy:bob@example.com", "schedule paused")


async def test_a_request_of_the_proxy_is_of_a_person_or_of_no_one(api: ApiServer) -> None:
    twice = [(HEADER, "ann@example.com"), (HEADER, "cat@example.com")]
    for headers, words in (
        ([], "has to name the person"),
        ([(HEADER, "")], "has to name the person"),
        (twice, "has to name the person"),
        ([(HEADER, "eve@example.com")], "not one of control.user"),
        ([(HEADER, "ANN@example.com")], "not one of control.user"),
        ([(HEADER, "\u202eann")], "not one of control.user"),
    ):
        sent = [(name.encode(), value.encode()) for name, value in headers]
        for url in ("/v1/schedules", "/v1/status", "/metrics"):
            answer = await api.http.get(url, headers=sent)
            assert (answer.status_code, words in answer.json()["message"]) == (403, True), (url, headers)
    # Neither a token nor a key of the proxy's client counts beside the person.
    grant = {"grant_type": "client_credentials"}
    token = await api.http.post("/oauth/token", auth=("local", "-"), json=grant, headers=CAT)
    bearer = {"authorization": f"Bearer {token.json()['access_token']}"}
    assert (await api.http.get("/v1/clients", headers={**CAT, **bearer})).status_code == 403
    assert (await api.http.get("/v1/status", headers=bearer)).status_code == 403


async def test_from_elsewhere_the_header_is_refused(api_of_others: ApiServer) -> None:
    api = api_of_others
    for client in (api.http, api.tcp):
        for url in ("/v1/status", "/openapi.json", "/console/", "/console/enter", "/oauth/token"):
            answer = await client.get(url, headers=ANN)
            assert (answer.status_code, "believed from the user of control.proxy_user" in answer.text) == (403, True)
    assert (await api.http.get("/v1/status")).status_code == 200
    assert (await api.tcp.get("/v1/status")).status_code == 401


async def test_the_console_belongs_to_the_person(api: ApiServer) -> None:
    made = {organization: await make(api, organization) for organization in (ACME, "zebra")}

    def look() -> None:
        transport = httpx.HTTPTransport(uds=str(api.socket))
        # The proxy has TLS, so that the browser sends a cookie that is Secure.
        with httpx.Client(transport=transport, base_url="http://localhost", follow_redirects=True) as client:
            browser = ConsoleBrowser(client)
            client.headers.update(BOB)
            asked = browser.open("/console/")
            assert "The proxy says that you are bob@example.com" in asked.text
            answer = client.post("/console/enter", follow_redirects=False)
            assert answer.headers["set-cookie"].endswith("; Secure")
            client.cookies.set(*answer.headers["set-cookie"].partition(";")[0].split("="))
            for page in browser.crawl("/console/"):
                assert page.answer.status_code in {200, 404, 409}
                assert "zebra" not in page.answer.text, page.answer.url
            assert "bob@example.com, operator" in browser.open("/console/").text
            paused = client.post(f"/console/schedules/{made[ACME]}/pause")
            assert "by proxy:bob@example.com (console)" in paused.text
            client.headers.update(CAT)
            assert "The proxy says that you are cat@example.com" in browser.open("/console/").text

    await asyncio.to_thread(look)
    assert ("proxy:bob@example.com (console)", "schedule paused") in await api.audit()
