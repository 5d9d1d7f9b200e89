"""Every deed leaves a row in the audit log: a table of all operations that change something. And who may read them."""

import getpass
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import pytest

from exportd.api.identity.client_table import Role
from exportd.database import queries
from tests.integration.api.request_bodies import bucket, schedule
from tests.integration.api.standalone_api import ACME, ApiServer, declared_shelf, path
from tests.unit.model.test_foreign_text import HOSTILE

EXPORT = {"sourceType": "OPERATIONAL", "operationalDataTypes": ["ACCOUNTS"]}
TENANT = "/organizations/{orgId}/dataexports"

DEEDS: list[tuple[str, str, str, Mapping[str, Any] | None, str]] = [
    ("POST", f"{TENANT}/destinations", "", bucket("new"), "destination created"),
    ("PUT", f"{TENANT}/destinations/{{id}}", "destination", bucket(version=1, name="other"), "destination edited"),
    ("POST", "/v1/destinations/{id}/check", "shelf", None, "destination checked"),
    ("POST", "/v1/destinations/{id}/verification", "shelf", None, "destination verified"),
    ("POST", "/v1/destinations/{id}/pause", "destination", None, "destination paused"),
    ("POST", "/v1/destinations/{id}/resume", "destination", None, "destination resumed"),
    ("DELETE", f"{TENANT}/destinations/{{id}}", "destination", None, "destination deleted"),
    ("POST", f"{TENANT}/schedules", "", schedule("new"), "schedule created"),
    ("PUT", f"{TENANT}/schedules/{{id}}", "schedule", schedule(version=1, name="other"), "schedule edited"),
    ("POST", "/v1/schedules/{id}/pause", "schedule", None, "schedule paused"),
    ("POST", "/v1/schedules/{id}/resume", "schedule", None, "schedule resumed"),
    ("POST", "/v1/schedules/{id}/refresh", "schedule", {"entity": "ACCOUNTS"}, "refresh requested"),
    ("POST", "/v1/schedules/{id}/run", "schedule", None, "schedule run"),
    ("DELETE", f"{TENANT}/schedules/{{id}}", "schedule", None, "schedule deleted"),
    ("POST", f"{TENANT}/adhoc", "", {**EXPORT, "exportFileFormat": "JSONL"}, "export requested"),
    ("POST", "/v1/jobs/{id}/cancel", "job", None, "job cancelled"),
    ("POST", "/v1/jobs/{id}/retry", "job", None, "job retried"),
    ("POST", "/v1/clients", "", {"organization": ACME, "name": "x"}, "client created"),
    ("DELETE", "/v1/clients/{id}", "client", None, "client deactivated"),
    ("POST", "/v1/pause", "", None, "daemon paused"),
    ("POST", "/v1/resume", "", None, "daemon resumed"),
    ("PUT", "/v1/log-level", "", {"level": "info"}, "log level set"),
    ("POST", "/v1/reload", "", None, "configuration reloaded"),
]
"""Method, path, what its id is of, body, and the action, in an order in which each is possible."""

ELSEWHERE = {
    ("POST", "/v1/schedules/{id}/backfill"): "test_operations_api: needs a run that has succeeded",
    ("POST", "/v1/capture/install"): "test_operations_api: needs a table",
    ("POST", "/v1/capture/uninstall"): "test_operations_api: needs a table",
    ("DELETE", "/v1/daemons/{id}"): "tests/integration/fleet/test_presence.py: needs another daemon",
    ("DELETE", "/v1/destinations/{id}/verification"): "test_verification_api: needs one that runs",
    ("POST", "/v1/jobs/{id}/verification"): "begins that of the job's destination",
    ("POST", "/oauth/token"): "changes nothing",
    ("POST", "/v1/adhoc/preview"): "changes nothing",
}


@pytest.mark.usefixtures("log_level_kept")
async def test_every_deed_is_in_the_audit_log_with_who_did_it(api: ApiServer) -> None:
    ids = {
        "shelf": await declared_shelf(api),
        "destination": (await api.http.post(path(ACME, "destinations"), json=bucket())).json()["id"],
        "schedule": (await api.http.post(path(ACME, "schedules"), json=schedule())).json()["id"],
        "job": (await api.http.post(path(ACME, "adhoc"), json=EXPORT)).json()["jobId"],
        "client": (await api.http.post("/v1/clients", json={"organization": ACME, "name": "y"})).json()["id"],
    }
    for method, url, kind, body, action in DEEDS:
        before = len(await api.audit())
        where = url.replace("{orgId}", ACME).replace("{id}", ids.get(kind, ""))
        answer = await api.http.request(method, where, json=body)
        assert answer.status_code == 200, (method, url, answer.text)
        assert (await api.audit())[before:] == [(f"unix:{getpass.getuser()}", action)], (method, url)


async def test_the_table_has_every_operation_that_changes_something(api: ApiServer) -> None:
    document = (await api.http.get("/openapi.json")).json()
    changing = {
        (method.upper(), url)
        for url, operations in document["paths"].items()
        for method in operations
        if method != "get"
    }
    assert changing == {(method, url) for method, url, *_ in DEEDS} | ELSEWHERE.keys()


class TestReading:
    async def test_is_of_all_of_an_organization_or_of_an_object_the_newest_first(self, api: ApiServer) -> None:
        ours = (await api.http.post(path(ACME, "schedules"), json=schedule())).json()["id"]
        theirs = (await api.http.post(path("other", "schedules"), json=schedule())).json()["id"]
        await api.http.post(f"/v1/schedules/{ours}/pause")
        await api.http.post("/v1/pause")

        async def read(headers: dict[str, str] | None = None, **query: str) -> list[tuple[str, str | None]]:
            client = api.http if headers is None else api.tcp
            answer = await client.get("/v1/audit", params=query, headers=headers)
            assert answer.status_code == 200, answer.text
            return [(entry["action"], entry["objectId"]) for entry in answer.json()["data"]]

        created, paused = ("schedule created", ours), ("schedule paused", ours)
        everything = [("daemon paused", None), paused, ("schedule created", theirs), created]
        assert await read() == everything
        assert await read(organization=ACME) == await read(object=ours) == [paused, created]
        assert await read(object=theirs, organization=ACME) == await read(object="nightly") == []
        reader = await api.bearer(role=Role.READER)
        assert [found for found in await read(reader) if found[0] != "client created"] == [paused, created]
        assert await read(reader, object=theirs) == []
        assert (await api.tcp.get("/v1/audit", params={"organization": "other"}, headers=reader)).status_code == 403

    async def test_an_entry_says_who_did_what_to_what(self, api: ApiServer) -> None:
        name = HOSTILE["letters"] + HOSTILE["markup"]
        made = (await api.http.post(path(ACME, "schedules"), json=schedule(name=name))).json()
        (entry,) = (await api.http.get("/v1/audit")).json()["data"]
        assert entry["at"] >= made["dtCreated"]
        assert (entry["actor"], entry["organization"]) == (f"unix:{getpass.getuser()}", ACME)
        assert (entry["details"]["code"], entry["details"]["name"]) == ("nightly", name)

    async def test_comes_in_pages_whose_tokens_are_good_for_nothing_else(self, api: ApiServer) -> None:
        await api.pool.execute(
            "INSERT INTO exportd.audit (actor, organization, action, details)"
            " SELECT 'unix:ann', $1, 'act ' || n, '{}' FROM generate_series(1, 250) AS n",
            ACME,
        )
        seen, token = [], ""
        while True:
            answer = (await api.http.get("/v1/audit", params={"organization": ACME, "nextToken": token})).json()
            assert len(answer["data"]) <= 100
            seen += [entry["action"] for entry in answer["data"]]
            token = answer["nextToken"]
            if not token:
                break
            for query in ({"organization": "other"}, {"object": str(uuid4()), "organization": ACME}, {}):
                crossed = await api.http.get("/v1/audit", params={**query, "nextToken": token})
                assert crossed.status_code == 400, query
        assert seen == [f"act {number}" for number in range(250, 0, -1)]
        assert (await api.http.get("/v1/audit", params={"pageSize": "101"})).status_code == 400

    async def test_is_filtered_by_how_the_name_of_the_deed_begins(self, api: ApiServer) -> None:
        for action in ("capture installed", "log level set", "capture uninstalled"):
            await api.using.host.auditor.write(action, actor="unix:ann")
        await api.http.post(path(ACME, "schedules"), json=schedule())

        async def found(**query: str) -> list[str]:
            return [entry["action"] for entry in (await api.http.get("/v1/audit", params=query)).json()["data"]]

        assert await found(action="capture ") == ["capture uninstalled", "capture installed"]
        assert await found(action="schedule created", organization=ACME) == ["schedule created"]
        assert await found(action="schedule", organization="other") == await found(action="%") == []
        first = (await api.http.get("/v1/audit", params={"action": "capture", "pageSize": "1"})).json()
        assert await found(action="capture", nextToken=first["nextToken"]) == ["capture installed"]
        assert (await api.http.get("/v1/audit", params={"nextToken": first["nextToken"]})).status_code == 400
        program = await api.bearer()
        seen = (await api.tcp.get("/v1/audit", params={"action": "capture"}, headers=program)).json()
        assert seen["data"] == [], "that concerns every organization"

    async def test_looks_through_no_more_of_the_log_than_it_shows(self, api: ApiServer) -> None:
        await api.pool.execute(
            "INSERT INTO exportd.audit (actor, organization, action, object_id, details)"
            " SELECT 'unix:ann', 'org-' || n, 'act', gen_random_uuid(), '{}' FROM generate_series(1, 5000) AS n"
        )
        await api.pool.execute("ANALYZE exportd.audit")
        statements = queries.load("unit_of_work")
        for name, rest in (("audit", []), ("audit_of_organization", ["org-7"]), ("audit_of_object", [uuid4(), None])):
            rows = await api.pool.fetch(f"EXPLAIN {statements[name]}", None, 101, *rest)
            plan = "\n".join(row["QUERY PLAN"] for row in rows)
            assert "Index" in plan, plan
            assert "Sort" not in plan, plan
