"""Who may do what: users of the machine, programs with credentials, and the border between organizations."""

import asyncio
import time
from typing import Any
from uuid import UUID, uuid4

import m3ter
import pytest
from m3ter import M3ter

from exportd.api.identity.access import Access
from exportd.api.identity.client_table import Role
from exportd.api.transport.unix_socket import Peer
from exportd.model.entity import OrganizationId
from tests.fixtures.runs import fire_now
from tests.integration.api.request_bodies import bucket, schedule
from tests.integration.api.standalone_api import ACME, ApiServer, path

GRANT = {"grant_type": "client_credentials"}


def test_groups_decide_on_the_role_of_a_user() -> None:
    access = Access(own_uid=900, operators=frozenset({50}), admins=frozenset({60}))

    def role(uid: int, *groups: int) -> Role:
        return access.identity(Peer(1, uid, frozenset(groups))).role

    assert role(1000, 1000) is Role.READER
    assert role(1000, 1000, 50) is Role.OPERATOR
    assert role(1000, 1000, 50, 60) is Role.ADMIN
    assert role(0) is Role.ADMIN
    assert role(900) is Role.ADMIN


class TestTokens:
    async def test_the_official_client_uses_credentials_of_an_organization(self, api: ApiServer) -> None:
        client, secret = await api.using.access.clients.create(
            OrganizationId(ACME), "billing", Role.OPERATOR, actor="test"
        )

        def live(official: M3ter) -> str | None:
            official.data_exports.create_adhoc(operational_data_types=["PLANS"], source_type="OPERATIONAL")
            with pytest.raises(m3ter.PermissionDeniedError):
                official.data_exports.schedules.list(org_id="other")
            return None

        await api.official(live, key=str(client.id), secret=secret)
        assert (str(client.id), "export requested") in await api.audit()

    async def test_wrong_credentials_are_told_apart_from_nothing_else(self, api: ApiServer) -> None:
        client, secret = await api.using.access.clients.create(
            OrganizationId(ACME), "billing", Role.READER, actor="test"
        )
        messages = set()
        for key, given in (
            (str(client.id), "wrong"),
            (str(client.id), ""),
            (str(uuid4()), secret),
            ("unknown", secret),
            ("local", "-"),
        ):
            answer = await api.tcp.post("/oauth/token", auth=(key, given), json=GRANT)
            assert answer.status_code == 401
            messages.add(answer.json()["message"])
        assert len(messages) == 1
        for header in ("Basic %%%", "Bearer x", "Basic", "Basic bm9jb2xvbg=="):
            answer = await api.tcp.post("/oauth/token", headers={"authorization": header}, json=GRANT)
            assert answer.status_code == 401

    async def test_older_tokens_stay_good_until_the_credentials_are_withdrawn(self, api: ApiServer) -> None:
        created = await api.http.post("/v1/clients", json={"organization": ACME, "name": "billing"})
        key, secret = created.json()["id"], created.json()["apiSecret"]
        tokens = [
            (await api.tcp.post("/oauth/token", auth=(key, secret), data=GRANT)).json()["access_token"]
            for _ in range(3)
        ]
        statuses = [await self._status(api, token) for token in tokens]
        assert statuses == [200] * 3
        assert (await api.http.delete(f"/v1/clients/{key}")).json()["active"] is False
        assert [await self._status(api, token) for token in tokens] == [403] * 3
        assert (await api.tcp.post("/oauth/token", auth=(key, secret), data=GRANT)).status_code == 401
        listed = (await api.http.get("/v1/clients")).json()["data"]
        assert [(client["id"], client["active"]) for client in listed] == [(key, False)]
        assert secret not in str(listed)
        assert secret.encode() not in await api.pool.fetchval("SELECT secret_sha256 FROM exportd.api_client")

    async def test_expired_and_forged_ones_are_refused(self, api: ApiServer) -> None:
        headers = await api.bearer()
        good = headers["authorization"].removeprefix("Bearer ")
        payload = api.using.signer.verify("access", good)
        assert payload is not None
        expired = api.using.signer.sign("access", {**payload, "until": int(time.time())})
        other = api.using.signer.sign("page", payload)
        for token in (expired, other, good[:-2] + "AA", "x", "x.y", "é"):
            assert await self._status(api, token) == 403
        missing = await api.tcp.get(path(ACME, "jobs"))
        assert (missing.status_code, list(missing.json())) == (401, ["message"])

    async def test_a_token_of_a_user_is_worth_nothing_elsewhere(self, api: ApiServer) -> None:
        answer = await api.http.post("/oauth/token", auth=("local", "-"), json=GRANT)
        assert answer.json()["expires_in"] == 18_000
        assert await self._status(api, answer.json()["access_token"]) == 403

    async def test_another_grant_is_refused(self, api: ApiServer) -> None:
        bodies: tuple[object, ...] = ({"grant_type": "password"}, {}, [], None)
        for body in bodies:
            answer = await api.http.post("/oauth/token", auth=("local", "-"), json=body)
            assert answer.status_code == 400

    async def _status(self, api: ApiServer, token: str) -> int:
        headers = {b"authorization": f"Bearer {token}".encode()}
        return (await api.tcp.get(path(ACME, "jobs"), headers=headers)).status_code


class TestRoles:
    async def test_a_reader_reads_and_an_operator_writes(self, api: ApiServer) -> None:
        reader, operator = await api.bearer(role=Role.READER), await api.bearer()
        for headers, status in ((reader, 403), (operator, 200)):
            created = await api.tcp.post(path(ACME, "schedules"), json=schedule(), headers=headers)
            assert created.status_code == status
        listed = await api.tcp.get(path(ACME, "schedules"), headers=reader)
        assert [found["code"] for found in listed.json()["data"]] == ["nightly"]
        refused = await api.tcp.delete(path(ACME, "schedules", listed.json()["data"][0]["id"]), headers=reader)
        assert (refused.status_code, "operator" in refused.json()["message"]) == (403, True)
        assert listed.json()["data"][0]["createdBy"] == await self._id(api, operator)

    async def test_programs_hand_out_no_credentials_and_see_no_daemon(self, api: ApiServer) -> None:
        headers = await api.bearer()
        body = {"organization": ACME, "name": "another"}
        assert (await api.tcp.post("/v1/clients", json=body, headers=headers)).status_code == 403
        assert (await api.tcp.get("/v1/clients", headers=headers)).status_code == 403
        assert (await api.tcp.get("/v1/status", headers=headers)).status_code == 403
        assert (await api.http.get("/v1/status")).status_code == 200

    async def _id(self, api: ApiServer, headers: dict[str, str]) -> str:
        payload = api.using.signer.verify("access", headers["authorization"].removeprefix("Bearer "))
        assert payload is not None
        return str(payload["client"])


async def test_what_belongs_to_another_organization_looks_as_if_it_did_not_exist(api: ApiServer) -> None:
    """Every operation, with a foreign id and with one that does not exist: the same answers but for the id."""
    lake = (await api.http.post(path("other", "destinations"), json=bucket())).json()["id"]
    nightly = (await api.http.post(path("other", "schedules"), json=schedule())).json()["id"]
    job = str(await fire_now(api.pool, "nightly"))
    foreign = {"destinations": lake, "schedules": nightly, "jobs": job}
    headers = await api.bearer()

    async def answers(ids: dict[str, str]) -> list[tuple[int, Any]]:
        found = []
        bodies = {"schedules": schedule(version=1), "destinations": bucket(version=1)}
        for kind, object_id in ids.items():
            asked: list[tuple[str, str, object]] = [
                ("GET", path(ACME, kind, object_id), None),
                ("GET", path(ACME, kind) + f"?ids={object_id}", None),
            ]
            if kind == "jobs":
                asked.append(("GET", path(ACME, kind, object_id, "getdownloadurl"), None))
            else:
                asked += [
                    ("PUT", path(ACME, kind, object_id), bodies[kind]),
                    ("DELETE", path(ACME, kind, object_id), None),
                ]
            for method, url, body in asked:
                answer = await api.tcp.request(method, url, json=body, headers=headers)
                found.append((answer.status_code, answer.text.replace(object_id, "ID")))
        used = schedule("uses", destinationIds=[ids["destinations"]])
        for url, body in (
            (path(ACME, "schedules"), used),
            (path(ACME, "adhoc"), {key: used[key] for key in ("sourceType", "operationalDataTypes", "destinationIds")}),
        ):
            answer = await api.tcp.post(url, json=body, headers=headers)
            found.append((answer.status_code, answer.text.replace(ids["destinations"], "ID")))
        answer = await api.tcp.get(path(ACME, "jobs"), params={"scheduleId": ids["schedules"]}, headers=headers)
        found.append((answer.status_code, answer.text))
        return found

    before = await api.pool.fetch("SELECT id, version, deleted_at FROM exportd.schedule")
    seen = await answers(foreign)
    assert seen == await answers({kind: str(uuid4()) for kind in foreign})
    assert {status for status, _ in seen} == {200, 400, 404}
    assert [text for status, text in seen if status == 200] == ['{"data":[],"nextToken":null}'] * 4
    assert await api.pool.fetch("SELECT id, version, deleted_at FROM exportd.schedule") == before


async def test_an_organization_that_is_not_ones_own_is_forbidden(api: ApiServer) -> None:
    headers = await api.bearer()
    for organization in ("other", "ACME", "acme%20", "acme%00", "acme%2Fother", "%F0%9F%A7%8A"):
        for method, rest in (("GET", "jobs"), ("POST", "adhoc"), ("GET", "schedules")):
            url = f"/organizations/{organization}/dataexports/{rest}"
            body = {"sourceType": "OPERATIONAL", "operationalDataTypes": ["PLANS"]} if method == "POST" else None
            answer = await api.tcp.request(method, url, json=body, headers=headers)
            # A slash makes it another path, which does not exist.
            assert answer.status_code == (404 if "%2F" in organization else 403), organization


class TestLimits:
    async def test_an_organization_may_make_so_many_requests_a_second(
        self, api: ApiServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(api.using.limits.organization, "_limit", 5)
        monkeypatch.setattr(api.using.limits.connections, "_limit", lambda: 1000)
        headers = await api.bearer()
        answers = await asyncio.gather(*(api.tcp.get(path(ACME, "jobs"), headers=headers) for _ in range(100)))
        statuses = [answer.status_code for answer in answers]
        assert set(statuses) == {200, 429}
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert int(refused.headers["retry-after"]) >= 1
        assert "50 requests a second" in refused.json()["message"]

    async def test_an_address_may_ask_for_so_many_tokens_a_second(
        self, api: ApiServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(api.using.limits.token, "_limit", 5)
        wrong = ("00000000-0000-4000-8000-000000000000", "guess")
        answers = await asyncio.gather(*(api.tcp.post("/oauth/token", auth=wrong, json=GRANT) for _ in range(100)))
        statuses = [answer.status_code for answer in answers]
        assert set(statuses) == {401, 429}
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert "tokens a second" in refused.json()["message"]

    async def test_users_of_the_machine_are_not_limited(self, api: ApiServer) -> None:
        answers = await asyncio.gather(*(api.http.get(path(ACME, "jobs")) for _ in range(200)))
        assert {answer.status_code for answer in answers} == {200}


async def test_the_audit_log_cannot_be_rewritten(api: ApiServer) -> None:
    await api.http.post(path(ACME, "schedules"), json=schedule())
    row = await api.pool.fetchrow("SELECT * FROM exportd.audit")
    assert row is not None
    assert isinstance(row["object_id"], UUID)
    for statement in (
        "DELETE FROM exportd.audit",
        "UPDATE exportd.audit SET actor = 'me'",
        "TRUNCATE exportd.audit",
    ):
        with pytest.raises(Exception, match="only ever added to"):
            await api.pool.execute(statement)
    assert await api.pool.fetchrow("SELECT * FROM exportd.audit") == row
