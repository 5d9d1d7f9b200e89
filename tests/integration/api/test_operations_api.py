"""The daemon's own verbs: pause, run, cancel, retry, refresh; status, live progress, capture and log level."""

import getpass
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import anyio
import httpx
import pytest

from exportd.api.identity.access import Access, Identity
from exportd.api.identity.client_table import Role
from exportd.api.job_watcher import MAX_LISTENERS
from exportd.jobs.job_table import JobTable
from exportd.model.entity import EntityCode, OrganizationId
from exportd.model.errors import Reason
from exportd.model.job import JobProgress, Lease
from exportd.schedules.firing_table import Firing
from exportd.settings.schema import DEFAULT_QUOTAS, QuotaSettings
from tests.fixtures.requests_of_people import refresh_requests
from tests.integration.api.request_bodies import bucket, schedule
from tests.integration.api.standalone_api import ACME, BROKEN, SPOOL, ApiServer, path

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
BODIES: dict[str, Any] = {
    "/v1/adhoc/preview": {"sourceType": "OPERATIONAL", "operationalDataTypes": ["ACCOUNTS"]},
    "/v1/schedules/{id}/refresh": {"entity": "ACCOUNTS"},
    "/v1/schedules/{id}/backfill": {"job": str(uuid4())},
    "/v1/capture/install": {"dryRun": True},
    "/v1/capture/uninstall": {"dryRun": True},
    "/v1/log-level": {"level": "info"},
}


ADHOC = {"sourceType": "OPERATIONAL", "operationalDataTypes": ["PLANS"]}


async def make_schedule(api: ApiServer, **others: Any) -> str:
    return str((await api.http.post(path(ACME, "schedules"), json=schedule(**others))).json()["id"])


async def claim(api: ApiServer) -> Lease | None:
    return await JobTable(api.pool).claim(holder="test", lease_s=60, spool_id=SPOOL, attempt_limit=5)


async def claimed(api: ApiServer) -> Lease:
    lease = await claim(api)
    assert lease is not None
    return lease


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


class TestPreview:
    """What it says of a schedule is in tests/acceptance/test_preview.py."""

    async def test_what_would_fail_the_run_is_a_conflict(self, api: ApiServer) -> None:
        answer = await api.http.get(f"/v1/schedules/{await make_schedule(api)}/preview")
        assert (answer.status_code, "the catalog has no entity BILLS" in answer.json()["message"]) == (409, True)

    async def test_tells_a_program_no_tables_and_makes_one_of_an_organization_at_a_time(self, api: ApiServer) -> None:
        about, headers = f"/v1/schedules/{await make_schedule(api)}/preview", await api.bearer(role=Role.READER)
        answer = await api.tcp.get(about, headers=headers)
        assert (answer.status_code, answer.json()["message"]) == (
            409,
            "What the next run would hold cannot be said now. The operators of exportd see why in their preview.",
        )
        api.using.schedules.previewer._asking.add(OrganizationId(ACME))
        busy = await api.tcp.get(about, headers=headers)
        assert (busy.status_code, "is being made" in busy.json()["message"]) == (429, True)
        assert (await api.http.get(about)).status_code == 409

    async def test_of_nothing(self, api: ApiServer) -> None:
        for wrong in (uuid4(), "nightly"):
            answer = await api.http.get(f"/v1/schedules/{wrong}/preview")
            assert (answer.status_code, "There is no schedule" in answer.json()["message"]) == (404, True)

    async def test_of_an_export_without_a_schedule(self, api: ApiServer) -> None:
        url, body = "/v1/adhoc/preview", BODIES["/v1/adhoc/preview"]
        missing = await api.http.post(url, params={"organization": ACME}, json=body)
        assert (missing.status_code, "public.things does not exist" in missing.json()["message"]) == (409, True)
        await api.pool.execute("CREATE TABLE public.things (id integer PRIMARY KEY, changed_at date)")
        await api.pool.execute("INSERT INTO public.things VALUES (1, '2026-01-01'), (2, '2026-01-02'), (3, NULL)")
        from_second = body | {"startDate": "2026-01-02T00:00:00Z"}
        found = (await api.http.post(url, params={"organization": ACME}, json=from_second)).json()
        assert (found["rows"], found["entities"][0]["mode"]) == (2, "incremental")
        for wrong in ({}, {"organization": "a/b"}):
            assert (await api.http.post(url, params=wrong, json=body)).status_code == 400
        timeless = from_second | {"operationalDataTypes": ["METERS"]}
        refused = await api.http.post(url, params={"organization": ACME}, json=timeless)
        assert (refused.status_code, "startDate: METERS" in refused.json()["message"]) == (400, True)
        assert (await api.http.get("/v1/jobs")).json()["data"] == []


class TestPause:
    async def test_of_all_daemons_is_kept_and_shown(self, api: ApiServer) -> None:
        schedule_id = await make_schedule(api)
        paused = (await api.http.post("/v1/pause")).json()
        assert paused["paused"] is True
        assert (await api.http.get("/v1/pause")).json() == paused
        assert (await api.http.get("/v1/status")).json()["paused"] == {"since": paused["since"], "by": paused["by"]}
        await api.http.post(f"/v1/schedules/{schedule_id}/run")
        assert await claim(api) is None
        assert (await api.http.post("/v1/resume")).json() == {"paused": False, "since": None, "by": None}
        assert await claim(api) is not None
        assert [action for _, action in await api.audit()][1:] == ["daemon paused", "schedule run", "daemon resumed"]

    async def test_of_a_schedule_keeps_it_from_firing_but_not_from_being_run(self, api: ApiServer) -> None:
        schedule_id = await make_schedule(api)
        assert (await api.http.post(f"/v1/schedules/{schedule_id}/pause")).status_code == 200
        (found,) = await api.schedules.all()
        now = api.using.clock.now()
        firing = Firing(found, due_at=now, next_due_at=now + timedelta(days=1))
        assert await api.schedules.fire([firing], now=now) == {}
        assert (await api.http.get("/v1/status")).json()["wheel"] == {
            **{"schedules": 1, "paused": 1},
            "nextDue": None,
        }
        shown = (await api.http.get(f"/v1/schedules/{schedule_id}/pause")).json()
        assert (shown["paused"], shown["by"][:5]) == (True, "unix:")
        job = (await api.http.post(f"/v1/schedules/{schedule_id}/run")).json()["jobId"]
        await JobTable(api.pool).fail(await claimed(api), reason=Reason.SPOOL_FULL, message="Full.")
        await api.http.post(f"/v1/schedules/{schedule_id}/resume")
        assert (await api.http.get(f"/v1/schedules/{schedule_id}/pause")).json() == {
            "paused": False,
            "since": None,
            "by": None,
        }
        again = await api.schedules.fire([firing], now=now)
        assert again.keys() == {found.id} and UUID(job) not in again.values()

    async def test_of_a_destination_lets_its_jobs_wait(self, api: ApiServer) -> None:
        lake = (await api.http.post(path(ACME, "destinations"), json=bucket())).json()["id"]
        first = await make_schedule(api, destinationIds=[lake])
        second = await make_schedule(api, code="other")
        assert (await api.http.get(f"/v1/destinations/{lake}/pause")).json() == {
            "paused": False,
            "since": None,
            "by": None,
        }
        assert (await api.http.post(f"/v1/destinations/{lake}/pause")).status_code == 200
        shown = (await api.http.get(f"/v1/destinations/{lake}/pause")).json()
        assert (shown["paused"], shown["by"][:5]) == (True, "unix:")
        for schedule_id in (first, second):
            assert (await api.http.post(f"/v1/schedules/{schedule_id}/run")).status_code == 200
        assert (await claimed(api)).job.schedule_code == "other"
        assert await claim(api) is None
        assert (await api.http.post(f"/v1/destinations/{lake}/resume")).status_code == 200
        assert (await claimed(api)).job.schedule_code == "nightly"

    async def test_of_what_there_is_not_is_404(self, api: ApiServer) -> None:
        for kind in ("schedules", "destinations"):
            for method, verb in (("GET", "pause"), ("POST", "pause"), ("POST", "resume")):
                for wrong in (str(uuid4()), "nightly"):
                    answer = await api.http.request(method, f"/v1/{kind}/{wrong}/{verb}")
                    assert (answer.status_code, wrong in answer.json()["message"]) == (404, True)


class TestJobs:
    async def test_a_second_run_waits_for_the_first(self, api: ApiServer) -> None:
        schedule_id = await make_schedule(api)
        job = (await api.http.post(f"/v1/schedules/{schedule_id}/run")).json()["jobId"]
        answer = await api.http.post(f"/v1/schedules/{schedule_id}/run")
        assert (answer.status_code, job in answer.json()["message"]) == (409, True)
        assert answer.headers["x-should-retry"] == "false"

    async def test_cancelled_and_retried(self, api: ApiServer) -> None:
        schedule_id = await make_schedule(api)
        job = (await api.http.post(f"/v1/schedules/{schedule_id}/run")).json()["jobId"]
        assert (await api.http.post(f"/v1/jobs/{job}/retry")).status_code == 409
        assert (await api.http.post(f"/v1/jobs/{job}/cancel")).json() == {"jobId": job, "status": "FAILED"}
        assert (await api.http.post(f"/v1/jobs/{job}/cancel")).status_code == 409
        again = (await api.http.post(f"/v1/jobs/{job}/retry")).json()["jobId"]
        lease = await claimed(api)
        assert (str(lease.job.id), str(lease.job.schedule_id)) == (again, schedule_id)
        assert (await api.http.post(f"/v1/jobs/{again}/cancel")).json()["status"] == "RUNNING"
        assert [action for _, action in await api.audit()][1:] == [
            "schedule run",
            "job cancelled",
            "job retried",
            "job cancelled",
        ]

    async def test_an_export_without_a_schedule_is_retried_as_one(self, api: ApiServer) -> None:
        job = (await api.http.post(path(ACME, "adhoc"), json=ADHOC)).json()["jobId"]
        await api.http.post(f"/v1/jobs/{job}/cancel")
        again = (await api.http.post(f"/v1/jobs/{job}/retry")).json()["jobId"]
        lease = await claimed(api)
        assert (str(lease.job.id), lease.job.schedule_id, lease.job.entities) == (again, None, ("PLANS",))


class TestRefresh:
    async def test_is_kept_for_the_next_run_or_done_at_once(self, api: ApiServer) -> None:
        schedule_id = await make_schedule(api)
        url = f"/v1/schedules/{schedule_id}/refresh"
        assert (await api.http.post(url, json={"entity": "BILLS"})).json() == {
            "entity": "BILLS",
            "jobId": None,
        }
        assert await claim(api) is None
        at_once = (await api.http.post(url, json={"entity": "ACCOUNTS", "now": True})).json()
        lease = await claimed(api)
        assert str(lease.job.id) == at_once["jobId"]
        assert lease.job.schedule_id is not None
        assert await refresh_requests(api.pool, lease.job.schedule_id) == ("ACCOUNTS", "BILLS")

    async def test_of_what_is_not_exported_is_refused(self, api: ApiServer) -> None:
        url = f"/v1/schedules/{await make_schedule(api)}/refresh"
        for entity, status in (("METERS", 404), ("METRES", 400), ("", 400)):
            answer = await api.http.post(url, json={"entity": entity})
            assert answer.status_code == status, answer.text

    async def test_that_cannot_be_at_once_asks_for_nothing(self, api: ApiServer) -> None:
        schedule_id = await make_schedule(api)
        await api.http.post(f"/v1/schedules/{schedule_id}/run")
        answer = await api.http.post(f"/v1/schedules/{schedule_id}/refresh", json={"entity": "BILLS", "now": True})
        assert answer.status_code == 409
        assert await api.pool.fetch("SELECT * FROM exportd.refresh_request") == []


class TestBackfill:
    """What the run then holds is in tests/acceptance/test_backfill.py."""

    @staticmethod
    async def add_job(
        api: ApiServer,
        schedule_id: str | None,
        state: str = "SUCCEEDED",
        *,
        organization: str = ACME,
        hour: int = 1,
    ) -> str:
        """A job that read accounts at an hour, since the hour before."""
        extraction = {
            "snapshot": f"1{hour}:1{hour}:",
            "taken_at": f"2026-03-09T0{hour}:00:00+00:00",
            "entities": [
                {"entity": "ACCOUNTS", "mode": "incremental", "previous": f"1{hour - 1}:1{hour - 1}:", "guards": {}},
            ],
        }
        return str(
            await api.pool.fetchval(
                """INSERT INTO exportd.job (organization, schedule_id, due_at, entities, format, destinations, state,
                                            started_at, finished_at, extraction, log_hold)
                   VALUES ($1, $2, $3, '{ACCOUNTS}', 'CSV', '{}', $4::text::exportd.job_state, $3, $3, $5::text::jsonb,
                           '10')
                   RETURNING id""",
                organization,
                schedule_id,
                datetime(2026, 3, 9, hour, tzinfo=UTC),
                state,
                json.dumps(extraction),
            )
        )

    async def test_fires_the_schedule_and_tells_where_it_begins(self, api: ApiServer) -> None:
        schedule_id = await make_schedule(api)
        await api.pool.execute(
            """INSERT INTO exportd.position (schedule_id, entity, job_id, snapshot, taken_at, guards, destinations)
               VALUES ($1, 'ACCOUNTS', $2, '13:13:', now(), '{}', '{}')""",
            schedule_id,
            uuid4(),
        )
        first, second, third = [await self.add_job(api, schedule_id, hour=hour) for hour in (1, 2, 3)]
        url = f"/v1/schedules/{schedule_id}/backfill"
        planned = (await api.http.post(url, json={"job": third, "dryRun": True})).json()
        assert (planned.pop("jobId"), await claim(api)) == (None, None)
        answer = (await api.http.post(url, json={"job": third})).json()
        assert answer["entities"] == [
            {"entity": "ACCOUNTS", "since": "2026-03-09T02:00:00.000Z", "reason": None},
            {"entity": "BILLS", "since": None, "reason": "ENTITY_ADDED"},
        ]
        assert planned["entities"] == answer["entities"]
        # The queued job does that too, and what was asked before stays asked for.
        assert (await api.http.post(url, json={"job": second})).json() == {
            "entities": [{**answer["entities"][0], "since": "2026-03-09T01:00:00.000Z"}, answer["entities"][1]],
            "jobId": answer["jobId"],
            "running": None,
        }
        assert (await claimed(api)).job.id == UUID(answer["jobId"])
        # Where the first began is not known any more: that job is gone.
        assert (await api.http.post(url, json={"job": first})).json() == {
            "entities": [{"entity": "ACCOUNTS", "since": None, "reason": "LOG_PRUNED"}, answer["entities"][1]],
            "jobId": None,
            "running": answer["jobId"],
        }
        assert [action for _, action in await api.audit()][1:] == ["backfill requested"] * 3

    async def test_from_what_is_no_success_of_the_schedule_is_refused(self, api: ApiServer) -> None:
        schedule_id, other = await make_schedule(api), await make_schedule(api, code="other")
        none = "has no job"
        for job, status, words in (
            (str(uuid4()), 404, none),
            ("nightly", 404, "There is no job"),
            (await self.add_job(api, other), 404, none),
            (await self.add_job(api, None, organization="globex"), 404, none),
            (await self.add_job(api, None), 409, "without a schedule"),
            (await self.add_job(api, schedule_id, "FAILED"), 409, "failed"),
            (await self.add_job(api, schedule_id, "RUNNING", hour=2), 409, "has not ended yet (RUNNING)"),
            ("", 400, "job: should be at least 1"),
        ):
            answer = await api.http.post(f"/v1/schedules/{schedule_id}/backfill", json={"job": job})
            assert (answer.status_code, words in answer.json()["message"]) == (status, True), answer.text
        answer = await api.http.post(f"/v1/schedules/{uuid4()}/backfill", json={"job": str(uuid4())})
        assert (answer.status_code, "There is no schedule" in answer.json()["message"]) == (404, True)
        assert await api.pool.fetch("SELECT * FROM exportd.backfill_request") == []


async def test_status_shows_what_waits_what_runs_and_how_destinations_are(api: ApiServer) -> None:
    lake = (await api.http.post(path(ACME, "destinations"), json=bucket(BROKEN))).json()["id"]
    for code in ("first", "second"):
        schedule_id = await make_schedule(api, code=code, destinationIds=[lake])
        await api.http.post(f"/v1/schedules/{schedule_id}/run")
    failed = await claimed(api)
    await JobTable(api.pool).fail(failed, reason=Reason.DESTINATION_REFUSED, message="No.")
    await api.http.post(f"/v1/schedules/{failed.job.schedule_id}/run")
    running = await claimed(api)
    status = (await api.http.get("/v1/status")).json()
    assert {key: status["queue"][key] for key in ("pending", "running")} == {"pending": 1, "running": 1}
    assert status["queue"]["oldestWaiting"] is not None
    assert [(lease["jobId"], lease["phase"], lease["attempt"]) for lease in status["leases"]] == [
        (str(running.job.id), "EXTRACTING", 1)
    ]
    assert status["wheel"]["nextDue"] is not None
    (destination,) = status["destinations"]
    assert (destination["code"], destination["condition"]) == (BROKEN, "open")
    assert (destination["lastFailure"]["reason"], destination["lastFailure"]["message"]) == (
        "DESTINATION_REFUSED",
        "No.",
    )
    assert status["services"]["ticker"]["running"] is True


class TestLiveProgress:
    async def test_of_a_job_ends_with_it(self, api: ApiServer) -> None:
        schedule_id = await make_schedule(api)
        job = (await api.http.post(f"/v1/schedules/{schedule_id}/run")).json()["jobId"]
        table, lease = JobTable(api.pool), await claimed(api)
        progress = JobProgress()
        progress.of(EntityCode("BILLS")).rows = 7
        seen = []
        async with api.http.stream("GET", f"/v1/jobs/{job}/events") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            async for name, data in events(answer):
                seen.append(name)
                assert data["jobId"] == job
                if seen == ["phase"]:
                    await table.heartbeat(lease, progress, lease_s=60)
                elif name == "progress":
                    assert data["entities"]["BILLS"]["rows"] == 7
                    await table.fail(lease, reason=Reason.CANCELLED, message="Cancelled.")
                elif name == "end":
                    assert (data["state"], data["reason"]) == ("FAILED", "CANCELLED")
        assert seen == ["phase", "progress", "end"]

    async def test_of_all_jobs_ends_with_the_daemon(self, api: ApiServer) -> None:
        await api.http.post(f"/v1/schedules/{await make_schedule(api)}/run")
        await claimed(api)
        async with api.http.stream("GET", "/v1/events") as answer:
            found = events(answer)
            assert (await anext(found))[0] == "phase"
            api.using.jobs.watcher.close()
            assert [event async for event in found] == []

    async def test_is_for_so_many_listeners_and_their_places_become_free(self, api: ApiServer) -> None:
        await api.http.post(f"/v1/schedules/{await make_schedule(api)}/run")
        await claimed(api)
        object.__setattr__(api.using.jobs, "streams", MAX_LISTENERS)  # all of them are this test's
        async with AsyncExitStack() as stack:
            streams = [
                events(await stack.enter_async_context(api.http.stream("GET", "/v1/events")))
                for _ in range(MAX_LISTENERS)
            ]
            for stream in streams:
                assert (await anext(stream))[0] == "phase"
            refused = await api.http.get("/v1/events")
            assert (refused.status_code, "Try again later" in refused.json()["message"]) == (503, True)

        with anyio.fail_after(10):
            while api.using.jobs.watcher.is_full():
                await anyio.wait_all_tasks_blocked()

    async def test_one_user_leaves_places_to_others(self, api: ApiServer) -> None:
        await api.http.post(f"/v1/schedules/{await make_schedule(api)}/run")
        job_id = (await claimed(api)).job.id
        watcher = api.using.jobs.watcher
        async with AsyncExitStack() as stack:
            streams = [
                events(await stack.enter_async_context(api.http.stream("GET", "/v1/events")))
                for _ in range(DEFAULT_QUOTAS.streams)
            ]
            for stream in streams:
                assert (await anext(stream))[0] == "phase"
            for url in ("/v1/events", f"/v1/jobs/{job_id}/events"):
                with anyio.fail_after(20):
                    refused = await api.http.get(url)
                assert (refused.status_code, "quotas.streams" in refused.json()["message"]) == (429, True)
            async with aclosing(watcher.stream(owner="unix:other")) as others:
                assert (await anext(others)).startswith(b"event: phase")
        with anyio.fail_after(10):
            while watcher.count_of(f"unix:{getpass.getuser()}"):
                await anyio.wait_all_tasks_blocked()

    async def test_of_an_unknown_job_is_404(self, api: ApiServer) -> None:
        assert (await api.http.get(f"/v1/jobs/{uuid4()}/events")).status_code == 404


async def events(answer: httpx.Response) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """Names and data of server-sent events."""
    name = ""
    async for line in answer.aiter_lines():
        key, _, value = line.partition(": ")
        if key == "event":
            name = value
        elif key == "data":
            yield name, json.loads(value)


class TestCapture:
    async def test_is_shown_installed_and_taken_away(self, api: ApiServer) -> None:
        await api.pool.execute("CREATE TABLE public.things (id integer PRIMARY KEY)")

        async def whole() -> bool:
            (shown,) = (await api.http.get("/v1/capture")).json()["data"]
            assert shown["entity"] == "THINGS"
            return bool(shown["whole"])

        tried = (await api.http.post("/v1/capture/install", json={"dryRun": True})).json()["data"][0]
        assert (tried["whole"], any(" TRIGGER " in statement for statement in tried["statements"])) == (False, True)
        assert not await whole()
        assert (await api.http.post("/v1/capture/install", json={})).json()["data"][0]["whole"] is True
        assert await whole()
        tried = (await api.http.post("/v1/capture/uninstall", json={"dryRun": True})).json()
        assert (tried["removed"], any("DROP TABLE" in statement for statement in tried["statements"])) == ([], True)
        assert await whole()
        removed = (await api.http.post("/v1/capture/uninstall", json={"entities": ["THINGS"]})).json()
        assert removed == {"removed": ["log_things"], "statements": tried["statements"]}
        assert not await whole()
        assert [action for _, action in await api.audit()] == ["capture installed", "capture uninstalled"]

    async def test_of_a_table_that_is_not_there_is_a_sentence(self, api: ApiServer) -> None:
        answer = await api.http.post("/v1/capture/install", json={})
        assert (answer.status_code, "public.things does not exist" in answer.json()["message"]) == (409, True)

    async def test_of_an_unknown_entity_is_refused(self, api: ApiServer) -> None:
        answer = await api.http.post("/v1/capture/install", json={"entities": ["THING"]})
        assert (answer.status_code, "did you mean THINGS?" in answer.json()["message"]) == (400, True)


@pytest.mark.usefixtures("log_level_kept")
async def test_the_log_level_is_set_at_run_time(api: ApiServer) -> None:
    assert (await api.http.put("/v1/log-level", json={"level": "error"})).json() == {"level": "error"}
    assert (await api.http.get("/v1/log-level")).json() == {"level": "error"}
    assert (await api.http.put("/v1/log-level", json={"level": "loud"})).status_code == 400
    assert [action for _, action in await api.audit()] == ["log level set"]


async def test_organizations_are_those_that_have_something(api: ApiServer) -> None:
    assert (await api.http.get("/v1/organizations")).json() == {"data": []}
    made = await make_schedule(api)
    await api.http.post(path("zebra", "destinations"), json=bucket())
    assert (await api.http.get("/v1/organizations")).json() == {"data": [ACME, "zebra"]}
    await api.http.delete(path(ACME, "schedules", made))
    assert (await api.http.get("/v1/organizations")).json() == {"data": ["zebra"]}
