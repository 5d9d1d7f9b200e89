"""The daemon's own verbs: pause, run, cancel, retry, refresh; status, capture and log level."""

import json
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from exportd.api.identity.client_table import Role
from exportd.jobs.job_table import JobTable
from exportd.model.entity import OrganizationId
from exportd.model.errors import Reason
from exportd.schedules.firing_table import Firing
from tests.fixtures.requests_of_people import refresh_requests
from tests.integration.api.made_objects import claim, claimed, make_schedule
from tests.integration.api.request_bodies import ADHOC, BODIES, bucket
from tests.integration.api.standalone_api import ACME, BROKEN, ApiServer, path


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
