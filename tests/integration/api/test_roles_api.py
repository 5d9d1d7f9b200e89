"""Who may use which of the operations: programs, and the roles of users of the machine."""

import re
from typing import Any
from uuid import UUID, uuid4

import pytest

from exportd.api.identity.access import Access, Identity
from exportd.api.identity.client_table import Role
from exportd.jobs.job_table import JobTable
from exportd.model.errors import Reason
from exportd.settings.schema import QuotaSettings
from tests.integration.api.made_objects import claimed, make_schedule
from tests.integration.api.request_bodies import ADHOC, BODIES, bucket, schedule
from tests.integration.api.standalone_api import ACME, ApiServer, path

VERBS = (
    ("GET", "/v1/status", "reader"),
    ("GET", "/v1/pause", "reader"),
    ("GET", "/v1/schedules/{id}/pause", "reader"),
    ("GET", "/v1/destinations/{id}/pause", "reader"),
    ("GET", "/v1/organizations", "reader"),
    ("GET", "/v1/events", "reader"),
    ("GET", "/v1/capture", "reader"),
    ("GET", "/v1/log-level", "reader"),
    ("GET", "/v1/jobs", "reader"),
    ("GET", "/v1/jobs/{id}", "reader"),
    ("GET", "/v1/jobs/{id}/files/{name}", "reader"),
    ("GET", "/v1/jobs/{id}/loader", "reader"),
    ("GET", "/v1/schedules", "reader"),
    ("GET", "/v1/schedules/{id}", "reader"),
    ("GET", "/v1/schedules/{id}/positions", "reader"),
    ("GET", "/v1/schedules/{id}/preview", "reader"),
    ("POST", "/v1/adhoc/preview", "reader"),
    ("GET", "/v1/destinations", "reader"),
    ("GET", "/v1/destinations/{id}", "reader"),
    ("GET", "/v1/rule", "reader"),
    ("GET", "/v1/audit", "reader"),
    ("GET", "/v1/entities", "reader"),
    ("GET", "/v1/entities/{name}", "reader"),
    ("POST", "/v1/pause", "operator"),
    ("POST", "/v1/resume", "operator"),
    ("POST", "/v1/schedules/{id}/pause", "operator"),
    ("POST", "/v1/schedules/{id}/resume", "operator"),
    ("POST", "/v1/schedules/{id}/run", "operator"),
    ("POST", "/v1/schedules/{id}/refresh", "operator"),
    ("POST", "/v1/schedules/{id}/backfill", "operator"),
    ("GET", "/v1/destinations/{id}/grants", "reader"),
    ("POST", "/v1/destinations/{id}/check", "operator"),
    ("GET", "/v1/destinations/{id}/verification", "reader"),
    ("POST", "/v1/destinations/{id}/verification", "operator"),
    ("DELETE", "/v1/destinations/{id}/verification", "operator"),
    ("POST", "/v1/jobs/{id}/verification", "operator"),
    ("POST", "/v1/destinations/{id}/pause", "operator"),
    ("POST", "/v1/destinations/{id}/resume", "operator"),
    ("GET", "/v1/jobs/{id}/events", "reader"),
    ("POST", "/v1/jobs/{id}/cancel", "operator"),
    ("POST", "/v1/jobs/{id}/retry", "operator"),
    ("DELETE", "/v1/daemons/{id}", "operator"),
    ("POST", "/v1/capture/install", "operator"),
    ("POST", "/v1/capture/uninstall", "admin"),
    ("PUT", "/v1/log-level", "admin"),
    ("POST", "/v1/reload", "admin"),
)

FOR_THE_MACHINE = {
    "/v1/status",
    "/v1/pause",
    "/v1/resume",
    "/v1/capture",
    "/v1/capture/install",
    "/v1/capture/uninstall",
    "/v1/log-level",
    "/v1/reload",
    "/v1/daemons/{id}",
}
"""What concerns all organizations. The rest is for programs too, each with what is its organization's."""

QUERIES = {
    "/v1/jobs/{id}/loader": {"destination": "lake", "dialect": "duckdb"},
    "/v1/jobs/{id}/verification": {"destination": "lake"},
}


async def everything(api: ApiServer) -> list[Any]:
    """What requests about other organizations' objects must not change."""
    return [
        await api.pool.fetch(f"SELECT t.* FROM exportd.{table} AS t WHERE organization = 'other' ORDER BY id")
        for table in ("schedule", "destination", "job", "audit")
    ]


class TestWhoMayDoWhat:
    async def test_the_table_has_every_verb(self, api: ApiServer) -> None:
        document = (await api.http.get("/openapi.json")).json()
        found = {
            (method.upper(), url)
            for url, operations in document["paths"].items()
            for method in operations
            if url.startswith("/v1/") and not url.startswith("/v1/clients")
        }
        assert found == {(method, url) for method, url, _ in VERBS}

    async def test_programs_of_an_organization_are_refused_what_concerns_the_daemon(self, api: ApiServer) -> None:
        headers = await api.bearer()
        for method, url, _ in VERBS:
            if url not in FOR_THE_MACHINE:
                continue
            answer = await api.tcp.request(
                method, url.format(id=uuid4(), name="x"), json=BODIES.get(url), headers=headers
            )
            assert (answer.status_code, "users of its own machine" in answer.json()["message"]) == (403, True), url

    @pytest.mark.parametrize("role", [Role.READER, Role.OPERATOR])
    async def test_a_program_does_what_its_role_allows_and_a_client_without_credentials_nothing(
        self, api: ApiServer, role: Role
    ) -> None:
        headers = await api.bearer(role=role)
        for method, url, needed in VERBS:
            there, body = url.format(id=uuid4(), name="x"), BODIES.get(url)
            assert (await api.tcp.request(method, there, json=body)).status_code == 401, url
            if url in FOR_THE_MACHINE or url == "/v1/events":
                continue
            answer = await api.tcp.request(method, there, json=body, headers=headers)
            assert (answer.status_code != 403) == (Role[needed.upper()] <= role), url
            if answer.status_code == 403:
                assert "it takes the role operator, and this is a reader" in answer.json()["message"]

    async def test_what_is_another_organizations_looks_to_a_program_as_if_it_did_not_exist(
        self, api: ApiServer
    ) -> None:
        """Every operation on an object, with a foreign id and with one that does not exist: the same bytes."""
        lake = (await api.http.post(path("other", "destinations"), json=bucket())).json()["id"]
        nightly = (await api.http.post(path("other", "schedules"), json=schedule())).json()["id"]
        job = (await api.http.post(f"/v1/schedules/{nightly}/run")).json()["jobId"]
        failed = (await api.http.post(path("other", "adhoc"), json=ADHOC)).json()["jobId"]
        await api.http.post(f"/v1/jobs/{failed}/cancel")
        foreign, headers = {"schedules": [nightly], "destinations": [lake], "jobs": [job, failed]}, await api.bearer()
        before = await everything(api)
        for method, url, _ in VERBS:
            if "{id}" not in url or url in FOR_THE_MACHINE:
                continue
            for hidden in foreign[url.split("/")[2]]:
                seen = set()
                for object_id in (hidden, str(uuid4())):
                    there = url.format(id=object_id, name="manifest.json")
                    query = QUERIES.get(url)
                    answer = await api.tcp.request(method, there, params=query, json=BODIES.get(url), headers=headers)
                    assert answer.status_code == 404, url
                    sent = [(name, value) for name, value in answer.headers.multi_items() if name != "date"]
                    seen.add((answer.text.replace(object_id, "ID"), str(sent)))
                assert len(seen) == 1, url
        own = await make_schedule(api)
        for schedule_id, object_id in ((own, job), (nightly, job), (nightly, failed)):
            for dry_run in (False, True):
                answers = [
                    await api.tcp.post(
                        f"/v1/schedules/{asked}/backfill", json={"job": about, "dryRun": dry_run}, headers=headers
                    )
                    for asked, about in (
                        (schedule_id, object_id),
                        (own if schedule_id == own else str(UUID(int=0)), str(UUID(int=0))),
                    )
                ]
                assert {answer.status_code for answer in answers} == {404}
                texts = {re.sub("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}", "ID", answer.text) for answer in answers}
                assert len(texts) == 1
        await api.http.delete(path(ACME, "schedules", own))
        assert await everything(api) == before

    async def test_a_program_operates_what_is_its_organizations(self, api: ApiServer) -> None:
        lake = (await api.http.post(path(ACME, "destinations"), json=bucket())).json()["id"]
        own, headers = await make_schedule(api, destinationIds=[lake]), await api.bearer()

        async def ask(url: str, method: str = "POST", **body: Any) -> Any:
            answer = await api.tcp.request(method, f"/v1/{url}", json=body or None, headers=headers)
            assert answer.status_code == 200, answer.text
            return answer.json()

        for kind, object_id in (("schedules", own), ("destinations", lake)):
            await ask(f"{kind}/{object_id}/pause")
            assert (await ask(f"{kind}/{object_id}/pause", "GET"))["paused"] is True
            await ask(f"{kind}/{object_id}/resume")
            assert (await ask(f"{kind}/{object_id}/pause", "GET"))["paused"] is False
        job = (await ask(f"schedules/{own}/run"))["jobId"]
        assert (await ask(f"jobs/{job}/cancel"))["status"] == "FAILED"
        again = (await ask(f"jobs/{job}/retry"))["jobId"]
        await ask(f"jobs/{again}/cancel")
        refreshed = await ask(f"schedules/{own}/refresh", entity="BILLS", now=True)
        await JobTable(api.pool).fail(await claimed(api), reason=Reason.SPOOL_FULL, message="Full.")
        await api.pool.execute("UPDATE exportd.job SET state = 'SUCCEEDED' WHERE id = $1", refreshed["jobId"])
        assert (await ask(f"schedules/{own}/backfill", job=refreshed["jobId"]))["jobId"] is not None
        rows = await api.pool.fetch(
            "SELECT actor, organization, action FROM exportd.audit WHERE actor NOT LIKE 'unix%'"
        )
        assert {(UUID(row["actor"]).version, row["organization"]) for row in rows if row["actor"] != "test"} == {
            (4, ACME)
        }
        assert [row["action"] for row in rows if row["actor"] != "test"] == [
            *("schedule paused", "schedule resumed", "destination paused", "destination resumed", "schedule run"),
            *("job cancelled", "job retried", "job cancelled", "refresh requested", "backfill requested"),
        ]

    async def test_the_quotas_of_its_organization_hold_for_a_program(self, api: ApiServer) -> None:
        first, second = await make_schedule(api), await make_schedule(api, code="second")
        headers = await api.bearer()
        limited = QuotaSettings(waiting_jobs=1)
        for operator in (api.using.schedules.operator, api.using.jobs.operator, api.using.destinations.operator):
            operator._quotas = limited
        run = await api.tcp.post(f"/v1/schedules/{first}/run", headers=headers)
        for verb, body in (("run", None), ("refresh", {"entity": "BILLS", "now": True})):
            refused = await api.tcp.post(f"/v1/schedules/{second}/{verb}", json=body, headers=headers)
            assert (refused.status_code, "quotas.waiting_jobs" in refused.text) == (429, True)
        api.using.jobs.operator._quotas = QuotaSettings(changes_per_hour=1)
        refused = await api.tcp.post(f"/v1/jobs/{run.json()['jobId']}/cancel", headers=headers)
        assert (refused.status_code, "quotas.changes_per_hour" in refused.text) == (429, True)
        # Users of the machine put things right whatever an organization has used up.
        assert (await api.http.post(f"/v1/jobs/{run.json()['jobId']}/cancel")).status_code == 200

    @pytest.mark.parametrize("role", [Role.READER, Role.OPERATOR])
    async def test_a_role_does_what_is_its_own(
        self, api: ApiServer, role: Role, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Access, "identity", lambda _access, peer: Identity(None, f"unix:{peer.uid}", role))
        for method, url, needed in VERBS:
            if url == "/v1/events":
                continue  # it does not end
            answer = await api.http.request(method, url.format(id=uuid4(), name="x"), json=BODIES.get(url))
            assert (answer.status_code != 403) == (Role[needed.upper()] <= role), url
