"""What operators look at, of every organization: jobs, schedules, destinations, entities, and the files of jobs."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from exportd.api.identity.client_table import Role
from exportd.api.schemas.entity import EntityStanding
from exportd.database.connector import Connection
from exportd.destinations.record import DestinationDeclaration
from exportd.jobs.job_table import JobTable
from exportd.manifest.document import render
from exportd.model.entity import EntityCode, OrganizationId
from exportd.model.errors import Reason
from exportd.model.foreign_text import url_segment
from exportd.model.job import JobId, JobProgress, Stall
from exportd.model.schedule import DestinationCode
from tests.integration.api.request_bodies import bucket, schedule
from tests.integration.api.standalone_api import ACME, SPOOL, ApiServer, local_status, path
from tests.unit.manifest.manifest_examples import entity_of, manifest_of
from tests.unit.model.test_foreign_text import HOSTILE

OTHER = "other"
NOON = datetime(2026, 3, 9, 12, tzinfo=UTC)


async def make(api: ApiServer, kind: str, body: dict[str, Any], organization: str = ACME) -> dict[str, Any]:
    answer = await api.http.post(path(organization, kind), json=body)
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def got(api: ApiServer, url: str, **query: str) -> Any:
    answer = await api.http.get(url, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def failed_job(api: ApiServer) -> str:
    lease = await JobTable(api.pool).claim(holder="test", lease_s=60, spool_id=SPOOL, attempt_limit=5)
    assert lease is not None
    await JobTable(api.pool).fail(lease, reason=Reason.DESTINATION_REFUSED, message="No.")
    return str(lease.job.id)


class TestSchedules:
    async def test_are_those_of_the_organization_with_more_about_them(self, api: ApiServer) -> None:
        lake = await make(api, "destinations", bucket())
        made = await make(api, "schedules", schedule(destinationIds=[lake["id"]]))
        await api.http.post(f"/v1/schedules/{made['id']}/pause")
        (listed,) = (await got(api, "/v1/schedules"))["data"]
        assert listed == await got(api, f"/v1/schedules/{made['id']}")
        more = {"organization", "origin", "destinations", "frequency", "nextDueAt", "paused"}
        unknown = dict.fromkeys(["lastDueAt", "lastJob", "readUntil"])
        assert {name: value for name, value in listed.items() if name not in more} == {**made, **unknown}
        assert (listed["organization"], listed["origin"], listed["destinations"]) == (ACME, "API", ["lake"])
        assert listed["paused"]["by"].startswith("unix:")
        assert listed["nextDueAt"].endswith("Z")

    async def test_come_in_pages_of_one_organization_or_of_all(self, api: ApiServer) -> None:
        codes = ["one", "two", "three"]
        for code in codes:
            await make(api, "schedules", schedule(code))
        await make(api, "schedules", schedule("theirs"), OTHER)
        page = await got(api, "/v1/schedules", pageSize="3")
        rest = await got(api, "/v1/schedules", pageSize="3", nextToken=page["nextToken"])
        assert [found["code"] for found in page["data"] + rest["data"]] == ["theirs", *reversed(codes)]
        assert rest["nextToken"] is None
        assert [found["code"] for found in (await got(api, "/v1/schedules", organization=OTHER))["data"]] == ["theirs"]
        crossed = await api.http.get("/v1/schedules", params={"organization": OTHER, "nextToken": page["nextToken"]})
        assert crossed.status_code == 400

    async def test_can_be_searched(self, api: ApiServer) -> None:
        lake = await make(api, "destinations", bucket())
        one = await make(api, "schedules", schedule("one", name="Bills 100%", destinationIds=[lake["id"]]))
        await make(api, "schedules", schedule("two", operationalDataTypes=["PLANS"]))
        await api.http.post(f"/v1/schedules/{one['id']}/pause")
        cases = {"search": ["bILLS 1", "100%"], "destination": ["lake"], "entity": ["BILLS"], "paused": ["true"]}
        for name, values in cases.items():
            for value in values:
                assert [found["code"] for found in (await got(api, "/v1/schedules", **{name: value}))["data"]] == [
                    "one"
                ]
        assert (await got(api, "/v1/schedules", search="100_"))["data"] == []
        assert [found["code"] for found in (await got(api, "/v1/schedules", paused="false"))["data"]] == ["two"]

    async def test_say_how_their_newest_job_went_and_how_far_they_have_read(self, api: ApiServer) -> None:
        made = await make(api, "schedules", schedule())
        shown = await got(api, f"/v1/schedules/{made['id']}")
        assert (shown["lastJob"], shown["readUntil"]) == (None, None), "given, not left out"
        ids = []
        for _ in range(2):
            await api.http.post(f"/v1/schedules/{made['id']}/run")
            ids.append(await failed_job(api))
        job_id = ids[-1]
        figures = {"rows": 3, "deleted_rows": 1, "files": 2, "size_bytes": 10, "done": True}
        await api.pool.execute(
            "UPDATE exportd.job SET progress = $2::text::jsonb WHERE id = $1::text::uuid",
            job_id,
            json.dumps({"entities": {"ACCOUNTS": figures, "BILLS": figures}}),
        )
        insert = """INSERT INTO exportd.position (schedule_id, entity, job_id, snapshot, taken_at, guards, destinations)
                    VALUES ($1::text::uuid, $2, $3::text::uuid, '9:9:', $4::text::timestamptz, '{}', '{}')"""
        await api.pool.execute(insert, made["id"], "ACCOUNTS", job_id, "2026-03-09T04:00:00Z")
        (listed,) = (await got(api, "/v1/schedules"))["data"]
        newest = listed["lastJob"]
        assert [newest[name] for name in ("id", "status", "reason", "rows", "sizeBytes")] == [
            *(job_id, "FAILED", "DESTINATION_REFUSED", 6, 20),
        ]
        assert listed["readUntil"] is None, "BILLS were not read yet"
        await api.pool.execute(insert, made["id"], "BILLS", job_id, "2026-03-08T04:00:00Z")
        assert (await got(api, f"/v1/schedules/{made['id']}"))["readUntil"] == "2026-03-08T04:00:00.000Z"

    async def test_are_sorted_over_all_pages(self, api: ApiServer) -> None:
        never, small, large = [
            (await make(api, "schedules", schedule(code, operationalDataTypes=["ACCOUNTS"])))["id"]
            for code in ("never", "small", "large")
        ]
        insert = """INSERT INTO exportd.position (schedule_id, entity, job_id, snapshot, taken_at, guards, destinations)
                    VALUES ($1::text::uuid, 'ACCOUNTS', $2::text::uuid, '9:9:', $3::text::timestamptz, '{}', '{}')"""
        for schedule_id, rows, day in ((small, 9, "09"), (large, 10, "08")):
            await api.http.post(f"/v1/schedules/{schedule_id}/run")
            job_id = await failed_job(api)
            figures = json.dumps({"entities": {"ACCOUNTS": {"rows": rows}}})
            update = "UPDATE exportd.job SET progress = $2::text::jsonb WHERE id = $1::text::uuid"
            await api.pool.execute(update, job_id, figures)
            await api.pool.execute(insert, schedule_id, job_id, f"2026-03-{day}T04:00:00Z")

        async def order(**query: str) -> list[str]:
            found, token = list[str](), ""
            while token is not None:
                page = await got(api, "/v1/schedules", pageSize="1", nextToken=token, **query)
                found, token = found + [shown["id"] for shown in page["data"]], page["nextToken"]
            return found

        assert await order(sort="rows") == [small, large, never]
        assert await order(sort="rows", descending="true") == [large, small, never]
        assert await order(sort="lag") == [small, large, never]
        assert await order(sort="lastRun") == [small, large, never]
        for unsorted in ("format", "origin", "destinations", "organization"):
            assert await order(sort=unsorted) == [large, small, never], "the newest first"
        assert await order(sort="name") == await order(sort="code") == [large, never, small]
        rules = ({"unit": "HOUR", "period": 11}, {"cron": "0 2 * * *"}, {"unit": "MINUTE", "period": 600})
        for schedule_id, rule in zip((never, small, large), rules, strict=True):
            update = "UPDATE exportd.schedule SET rule = $2::text::jsonb WHERE id = $1::text::uuid"
            await api.pool.execute(update, schedule_id, json.dumps(rule))
        assert await order(sort="frequency") == [large, never, small], "a cron expression has no even spacing"
        crossed = (await got(api, "/v1/schedules", pageSize="1", sort="name"))["nextToken"]
        for query in ({}, {"sort": "code"}, {"sort": "name", "descending": "true"}):
            answer = await api.http.get("/v1/schedules", params={**query, "nextToken": crossed})
            assert answer.status_code == 400, query
        assert (await api.http.get("/v1/schedules", params={"sort": "rule"})).status_code == 400

    async def test_cost_as_many_statements_however_many_there_are(
        self, api: ApiServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[str] = []
        execute: Any = vars(asyncpg.Connection)["_execute"]  # below what the pool hands out

        async def counted(connection: Connection, query: str, *arguments: Any, **options: Any) -> Any:
            asked.append(query)
            return await execute(connection, query, *arguments, **options)

        monkeypatch.setattr(asyncpg.Connection, "_execute", counted)
        counts = []
        for number in range(3):
            for code in range(5 * number):
                await make(api, "schedules", schedule(f"s{number}-{code}"))
            asked.clear()
            listed = (await got(api, "/v1/schedules"))["data"]
            counts.append((len(listed), len(asked)))
        assert counts == [(0, 2), (5, 2), (15, 2)]

    async def test_that_do_not_exist_are_404(self, api: ApiServer) -> None:
        for wrong in (uuid4(), "nightly"):
            answer = await api.http.get(f"/v1/schedules/{wrong}")
            assert (answer.status_code, "There is no schedule" in answer.json()["message"]) == (404, True)


class TestSortedDestinations:
    async def test_by_what_they_received_last_and_by_what_failed_last(self, api: ApiServer) -> None:
        first, second, third = ("a", "b", "c")
        ids = [(await make(api, "destinations", bucket(code)))["id"] for code in (first, second, third)]
        names = dict(zip(ids, (first, second, third), strict=True))
        elsewhere = await api.http.post("/organizations/other/dataexports/destinations", json=bucket(first))
        assert elsewhere.is_success
        insert = """
            WITH ended AS (
                INSERT INTO exportd.job
                    (organization, due_at, entities, format, destinations, state, reason, finished_at)
                VALUES
                    ($1, now(), '{ACCOUNTS}', 'CSV', ARRAY[$2::text], $3::text::exportd.job_state, $4,
                     now() - make_interval(mins => $5))
                RETURNING id, finished_at)
            INSERT INTO exportd.delivery (job_id, destination, manifest_sha256, published_at)
            SELECT id, $2, '', finished_at FROM ended WHERE $3 = 'SUCCEEDED'"""
        for organization, code, reason, minutes_ago in (
            *((ACME, first, None, 30), (ACME, second, None, 40), ("other", first, None, 10)),
            *((ACME, first, "DESTINATION_REFUSED", 20), (ACME, third, "DESTINATION_UNAVAILABLE", 50)),
            (ACME, second, "SPOOL_FULL", 5),
        ):
            state = "FAILED" if reason else "SUCCEEDED"
            await api.pool.execute(insert, organization, code, state, reason, minutes_ago)

        async def order(**query: str) -> str:
            page = await got(api, "/v1/destinations", organization=ACME, **query)
            return "".join(names[shown["id"]] for shown in page["data"])

        assert await order(sort="lastSuccess") == "bac"
        assert await order(sort="lastSuccess", descending="true") == "abc"
        assert await order(sort="lastFailure") == "cab"
        assert await order(sort="lastFailure", descending="true") == "acb"


class TestRules:
    async def test_are_told_in_words_with_their_next_firings_and_gaps(self, api: ApiServer) -> None:
        found = await got(
            api, "/v1/rule", cronExpression="0 2 * * 1-5", after="2026-03-06T02:00:00Z", count="2"
        )  # a Friday
        assert found == {
            "good": True,
            "words": "at 02:00, on Monday to Friday",
            "problems": [],
            "after": "2026-03-06T02:00:00.000Z",
            "firings": ["2026-03-09T02:00:00.000Z", "2026-03-10T02:00:00.000Z"],
            "shortestGap": {
                "start": "2026-01-01T02:00:00.000Z",
                "end": "2026-01-02T02:00:00.000Z",
                "seconds": 86_400,
            },
            "longestGap": {
                "start": "2026-01-02T02:00:00.000Z",
                "end": "2026-01-05T02:00:00.000Z",
                "seconds": 259_200,
            },
        }
        every = await got(api, "/v1/rule", scheduleType="HOUR", period="2", offset="15", after="2026-03-06T02:00:00Z")
        assert (every["words"], len(every["firings"]), every["firings"][0], every["longestGap"]["seconds"]) == (
            *("every 2 hours, 15 minutes past", 5),
            *("2026-03-06T03:15:00.000Z", 7200),
        )

    async def test_that_a_schedule_may_not_have_say_which_firings_are_too_near_or_too_far(self, api: ApiServer) -> None:
        found = await got(api, "/v1/rule", cronExpression="0,10 2 * * 1")
        assert (found["good"], found["firings"], found["words"]) == (False, [], None)
        assert [(problem["field"], problem["gap"]["seconds"]) for problem in found["problems"]] == [
            *(("cronExpression", 600), ("cronExpression", 604_200)),
        ]
        for query, field in (
            ({"scheduleType": "MINUTE", "period": "5"}, "period"),
            ({"scheduleType": "DAY", "period": "1", "offset": "24"}, "offset"),
            ({"cronExpression": "0 2 * *"}, "cronExpression"),
            ({"cronExpression": "0 2 * * 1", "period": "1"}, "scheduleType"),
            ({}, "scheduleType"),
        ):
            (problem,) = (await got(api, "/v1/rule", **query))["problems"]
            assert (problem["field"], problem["message"].endswith(".")) == (field, True), query
        assert await api.audit() == []

    async def test_are_for_programs_too_and_bad_questions_are_refused(self, api: ApiServer) -> None:
        reader = await api.bearer(role=Role.READER)
        for name in HOSTILE.values():
            asked = {"cronExpression": name.replace("\udcff", "\ufffd")}
            answer = await api.tcp.get("/v1/rule", params=asked, headers=reader)
            if "\x00" in name:
                assert (answer.status_code, "NUL character" in answer.json()["message"]) == (400, True)
            else:
                assert (answer.status_code, answer.json()["good"]) == (200, False), name
        for query in ({"after": "yesterday"}, {"after": "9999-12-31T23:59:59Z"}, {"count": "21"}, {"period": "-1"}):
            asked = {"cronExpression": "0 2 * * *", **query}
            assert (await api.http.get("/v1/rule", params=asked)).status_code == 400, query

    async def test_stand_in_the_documents_of_schedules(self, api: ApiServer) -> None:
        made = await make(api, "schedules", schedule())
        assert (await got(api, f"/v1/schedules/{made['id']}"))["frequency"] == "every day, at 02:00"


class TestDestinations:
    async def test_can_be_searched_by_name_code_and_bucket(self, api: ApiServer) -> None:
        await make(api, "destinations", bucket())
        await make(api, "destinations", bucket("other", name="Elsewhere", bucketName="theirs"))
        for text in ("LAKE", "acme-EX"):
            assert [found["code"] for found in (await got(api, "/v1/destinations", search=text))["data"]] == ["lake"]

    async def test_are_those_of_the_organization_with_more_about_them(self, api: ApiServer) -> None:
        made = await make(api, "destinations", bucket(prefix="daily"))
        await api.http.post(f"/v1/destinations/{made['id']}/pause")
        (listed,) = (await got(api, "/v1/destinations"))["data"]
        assert listed == await got(api, f"/v1/destinations/{made['id']}")
        more = {"organization", "origin", "place", "paused"}
        assert {name: value for name, value in listed.items() if name not in more} == made
        assert (listed["organization"], listed["origin"]) == (ACME, "API")
        assert listed["place"] == "s3://acme-exports/daily"
        assert listed["paused"]["by"].startswith("unix:")

    async def test_that_are_directories_have_their_type_here(self, api: ApiServer) -> None:
        declared = DestinationDeclaration(
            OrganizationId(ACME), DestinationCode("shelf"), "Shelf", {"type": "DIRECTORY", "directory": "/srv/shelf"}
        )
        await api.using.destinations.table.reconcile([declared], now=api.using.clock.now())
        (listed,) = (await got(api, "/v1/destinations", organization=ACME))["data"]
        assert [listed[name] for name in ("destinationType", "place", "origin")] == [
            *("DIRECTORY", "/srv/shelf", "CONFIGURATION"),
        ]
        assert (await got(api, "/v1/destinations", organization=OTHER))["data"] == []

    async def test_that_do_not_exist_are_404(self, api: ApiServer) -> None:
        for wrong in (uuid4(), "lake"):
            answer = await api.http.get(f"/v1/destinations/{wrong}")
            assert (answer.status_code, "There is no destination" in answer.json()["message"]) == (404, True)


class TestJobs:
    async def test_are_those_of_the_organization_with_more_about_them(self, api: ApiServer) -> None:
        made = await make(api, "schedules", schedule())
        await api.http.post(f"/v1/schedules/{made['id']}/run")
        job_id = await failed_job(api)
        shown = await got(api, f"/v1/jobs/{job_id}")
        (attempt,) = shown["attempts"]
        assert [attempt[name] for name in ("number", "holder", "reason", "message")] == [
            *(1, "test", "DESTINATION_REFUSED", "No."),
        ]
        assert shown["startedAt"] <= attempt["startedAt"] <= attempt["endedAt"]
        (listed,) = (await got(api, "/v1/jobs"))["data"]
        totals: dict[str, Any] = {
            "entities": 2,
            "done": 0,
            "full": None,
            "rows": 0,
            "deletedRows": 0,
            "files": 0,
            "sizeBytes": 0,
        }
        totals |= {"fullReasons": []}
        assert listed == {name: value for name, value in shown.items() if name in listed} | {"totals": totals}
        assert (await got(api, path(ACME, "jobs", job_id))).items() <= listed.items()
        wanted = {
            "organization": ACME,
            "schedule": "nightly",
            "status": "FAILED",
            "phase": "EXTRACTING",
            "attempt": 1,
            "reason": "DESTINATION_REFUSED",
            "message": "No.",
            "parts": [],
            "deliveredTo": [],
            "deliveries": [],
            "destinations": [],
            "exportFileFormat": "CSV",
        }
        assert {name: shown[name] for name in wanted} == wanted
        assert {"dueAt", "startedAt", "finishedAt", "dateCreated"} <= listed.keys()
        nothing: dict[str, Any] = {"rows": 0, "deletedRows": 0, "contentBytes": 0, "sizeBytes": 0, "files": 0}
        nothing |= {"oversizedParts": 0, "done": False, "mode": None, "reason": None, "window": None}
        assert shown["entities"] == {"ACCOUNTS": nothing, "BILLS": nothing}

    async def test_say_what_was_read_and_who_has_received_it(self, api: ApiServer) -> None:
        lake = await make(api, "destinations", bucket())
        made = await make(api, "schedules", schedule(destinationIds=[lake["id"]]))
        await api.http.post(f"/v1/schedules/{made['id']}/run")
        table = JobTable(api.pool)
        lease = await table.claim(holder="web1:7", lease_s=60, spool_id=SPOOL, attempt_limit=5)
        assert lease is not None
        running = await got(api, f"/v1/jobs/{lease.job.id}")
        assert (running["holder"], running["destinations"]) == ("web1:7", ["lake"])
        assert running["attempts"][0]["endedAt"] is None
        assert running["leaseUntil"] > running["startedAt"]
        entity = {"entity": "BILLS", "mode": "full", "full_reason": "FIRST_RUN", "previous": None}
        taken = {"snapshot": "9:9:", "wal_position": "0/9", "taken_at": "2026-03-09T04:00:00+00:00"}
        await table.seal(lease, parts=(), extraction=json.dumps({**taken, "entities": [entity]}), spool_id=SPOOL)
        await table.record_delivery(lease, DestinationCode("lake"), "ab" * 32)
        await table.put_back(
            lease, after_s=60, counts_attempt=True, reason=Reason.DESTINATION_UNAVAILABLE, message="Away."
        )
        shown = await got(api, f"/v1/jobs/{lease.job.id}")
        assert (shown["takenAt"], shown["sealedAt"] is None, shown["holder"]) == (
            "2026-03-09T04:00:00.000Z",
            False,
            None,
        )
        assert shown["notBefore"] > shown["attempts"][0]["endedAt"]
        assert shown["entities"]["BILLS"]["window"] == {"previous": None, "snapshot": "9:9:", "lsn": "0/9"}
        (delivery,) = shown["deliveries"]
        assert (delivery["destination"], delivery["manifestSha256"]) == ("lake", "ab" * 32)
        assert delivery["publishedAt"].endswith("Z")

    async def test_are_filtered(self, api: ApiServer) -> None:
        for organization, code in ((ACME, "one"), (ACME, "two"), (OTHER, "one")):
            made = await make(api, "schedules", schedule(code), organization)
            await api.http.post(f"/v1/schedules/{made['id']}/run")

        async def found(**query: str) -> list[tuple[str, str]]:
            jobs = (await got(api, "/v1/jobs", **query))["data"]
            return [(job["organization"], job["schedule"]) for job in jobs]

        assert await found() == [(OTHER, "one"), (ACME, "two"), (ACME, "one")]
        assert await found(schedule="one") == [(OTHER, "one"), (ACME, "one")]
        assert await found(organization=ACME) == [(ACME, "two"), (ACME, "one")]
        assert await found(pageSize="1") == [(OTHER, "one")]
        assert (await api.http.get("/v1/jobs", params={"pageSize": "101"})).status_code == 400
        await failed_job(api)
        failed = await found(status="FAILED")
        assert len(failed) == 1
        assert await found(reason="DESTINATION_REFUSED") == await found(reason="DESTINATION_REFUSED", status="FAILED")
        assert await found(reason="DESTINATION_REFUSED") == failed
        assert await found(reason="CANCELLED") == await found(scheduleId="one") == await found(destination="lake") == []
        assert len(await found(entity="BILLS")) == 3
        ids = [job["id"] for job in (await got(api, "/v1/jobs"))["data"]]
        assert await found(ids=",".join([ids[0], ids[2], str(uuid4())])) == [(OTHER, "one"), (ACME, "one")]
        assert await found(ids=ids[1], schedule="one") == []
        assert await found(entity="PLANS") == await found(dateCreatedEnd="2020-01-01T00:00:00Z") == []
        for name in HOSTILE.values():
            for key in ("schedule", "entity", "destination", "reason"):
                asked = {key: name.replace("\udcff", "\ufffd")}
                answer = await api.http.get("/v1/jobs", params=asked)
                assert answer.status_code == (400 if "\x00" in name or (key != "reason" and len(name) > 80) else 200), (
                    asked
                )

    async def test_come_in_pages_with_the_sums_of_their_entities(self, api: ApiServer) -> None:
        figures = {"rows": 3, "deleted_rows": 1, "files": 2, "size_bytes": 10, "done": True}
        await api.pool.execute(
            """INSERT INTO exportd.job (organization, due_at, entities, format, destinations, progress, extraction)
               SELECT $1, now(), '{ACCOUNTS,BILLS}', 'CSV', '{}', $2::text::jsonb, $3::text::jsonb
               FROM generate_series(1, 230)""",
            ACME,
            json.dumps({"entities": {"ACCOUNTS": figures, "BILLS": {**figures, "done": False}}}),
            json.dumps({"entities": [{"mode": "full", "full_reason": "FIRST_RUN"}, {"mode": "incremental"}]}),
        )
        seen, token = [], None
        while True:
            asked = {"pageSize": "100"} | ({"nextToken": token} if token else {})
            page = await got(api, "/v1/jobs", **asked)
            assert len(page["data"]) <= 100
            seen += [job["id"] for job in page["data"]]
            token = page["nextToken"]
            if token is None:
                break
        assert len(seen) == len(set(seen)) == 230
        totals: dict[str, Any] = {
            "entities": 2,
            "done": 1,
            "full": 1,
            "rows": 6,
            "deletedRows": 2,
            "files": 4,
            "sizeBytes": 20,
        }
        totals |= {"fullReasons": ["FIRST_RUN"]}
        assert page["data"][-1]["totals"] == totals


class TestFiles:
    async def job(self, api: ApiServer, change: str) -> str:
        job_id: str = await api.pool.fetchval(
            """INSERT INTO exportd.job (organization, due_at, entities, format, destinations)
               VALUES ($1, now(), '{PLANS}', 'CSV', '{}') RETURNING id::text""",
            ACME,
        )
        await api.pool.execute(f"UPDATE exportd.job SET spool_id = $1, {change}", SPOOL)
        (api.folder / job_id).mkdir()
        (api.folder / job_id / "manifest.json").write_bytes(b"{}")
        (api.folder / job_id / "secret").write_bytes(b"not of the job")
        return job_id

    async def test_of_a_job_are_read_and_others_are_not(self, api: ApiServer) -> None:
        job_id = await self.job(api, "state = 'SUCCEEDED'")
        assert (await api.http.get(f"/v1/jobs/{job_id}/files/manifest.json")).content == b"{}"
        for name in ("secret", "..%2F..%2Fsecret", ".", "%2Fetc%2Fpasswd"):
            assert (await api.http.get(f"/v1/jobs/{job_id}/files/{name}")).status_code == 404
        for wanted, status, content in (
            ("bytes=1-", 206, b"}"),
            ("bytes=0-0", 206, b"{"),
            ("bytes=-1", 206, b"}"),
            ("bytes=0-99", 206, b"{}"),
            ("bytes=2-", 416, None),
            ("bytes=1-0", 400, None),
            ("bytes=-", 400, None),
            ("bytes=0-0,1-1", 400, None),
            ("rows=1-2", 400, None),
        ):
            part = await api.http.get(f"/v1/jobs/{job_id}/files/manifest.json", headers={"range": wanted})
            assert part.status_code == status, wanted
            assert part.content == content if content else "Range: " in part.json()["message"], wanted
        (api.folder / job_id / "manifest.json").unlink()
        gone = await api.http.get(f"/v1/jobs/{job_id}/files/manifest.json")
        assert (gone.status_code, "has been removed" in gone.json()["message"]) == (404, True)

    @pytest.mark.parametrize(
        ("change", "status", "words"),
        [
            ("state = 'RUNNING'", 409, "not finished"),
            ("state = 'FAILED'", 409, "failed"),
            ("state = 'SUCCEEDED', expired_at = now()", 404, "have been removed"),
        ],
    )
    async def test_that_cannot_be_had_are_refused(self, api: ApiServer, change: str, status: int, words: str) -> None:
        job_id = await self.job(api, change)
        answer = await api.http.get(f"/v1/jobs/{job_id}/files/manifest.json")
        assert (answer.status_code, words in answer.json()["message"]) == (status, True)


async def loadable_job(api: ApiServer, **others: Any) -> str:
    """A finished job of the destination ``lake`` whose spool has a manifest of one file."""
    lake = await make(api, "destinations", bucket(**others))
    made = await make(api, "schedules", schedule(destinationIds=[lake["id"]]))
    job_id = (await api.http.post(f"/v1/schedules/{made['id']}/run")).json()["jobId"]
    await api.pool.execute("UPDATE exportd.job SET state = 'SUCCEEDED', spool_id = $1", SPOOL)
    entity = entity_of(1, None)
    key = f"orgId={ACME}/date=2026-03-09/hour=04/type=accounts/{job_id}_accounts.csv.gz"
    entity = replace(entity, parts=(replace(entity.parts[0], key=key, rows=entity.rows),))
    document = render(replace(manifest_of(1, entity), job_id=JobId(UUID(job_id)), organization=OrganizationId(ACME)))
    (api.folder / job_id).mkdir()
    (api.folder / job_id / "manifest.json").write_bytes(document)
    return str(job_id)


class TestLoader:
    async def test_names_the_files_as_they_lie_at_the_destination(self, api: ApiServer) -> None:
        job_id = await loadable_job(api, prefix="daily", partitionOrder="TYPE_FIRST")
        script = await got(api, f"/v1/jobs/{job_id}/loader", destination="lake", dialect="duckdb")
        assert (script["dialect"], script["destination"]) == ("duckdb", "lake")
        place = f"s3://acme-exports/daily/orgId={ACME}/type=accounts/date=2026-03-09/hour=05/{job_id}_accounts.csv.gz"
        assert place in script["text"]
        for destination, status in (("other", 400), ("", 400)):
            answer = await api.http.get(
                f"/v1/jobs/{job_id}/loader", params={"destination": destination, "dialect": "duckdb"}
            )
            assert answer.status_code == status
        unknown = await api.http.get(f"/v1/jobs/{uuid4()}/loader", params={"destination": "lake", "dialect": "duckdb"})
        assert unknown.status_code == 404
        (api.folder / job_id / "manifest.json").unlink()
        gone = await api.http.get(f"/v1/jobs/{job_id}/loader", params={"destination": "lake", "dialect": "duckdb"})
        assert (gone.status_code, "has been removed" in gone.json()["message"]) == (404, True)


class TestPrograms:
    """A program sees of its organization what a user of the machine sees, but for hosts, directories and tables."""

    async def test_see_their_organization_alone(self, api: ApiServer) -> None:
        ids = {}
        for organization in (ACME, OTHER):
            lake = await make(api, "destinations", bucket(), organization)
            made = await make(api, "schedules", schedule(destinationIds=[lake["id"]]), organization)
            job = (await api.http.post(f"/v1/schedules/{made['id']}/run")).json()["jobId"]
            ids[organization] = {"destinations": lake["id"], "schedules": made["id"], "jobs": job}
        reader = await api.bearer(role=Role.READER)

        async def seen(url: str, **query: str) -> tuple[int, Any]:
            answer = await api.tcp.get(url, params=query, headers=reader)
            return answer.status_code, answer.json()

        for kind, own in ids[ACME].items():
            foreign = ids[OTHER][kind]
            status, listed = await seen(f"/v1/{kind}")
            assert (status, [found["id"] for found in listed["data"]]) == (200, [own])
            assert await seen(f"/v1/{kind}", organization=ACME) == (200, listed)
            status, refused = await seen(f"/v1/{kind}", organization=OTHER)
            assert (status, "not one that you may see" in refused["message"]) == (403, True)
            _, shown = await seen(f"/v1/{kind}/{own}")
            assert [name for name, value in listed["data"][0].items() if shown.get(name) != value] == (
                ["totals"] if kind == "jobs" else []
            )
            for url in (f"/v1/{kind}/ID", *(("/v1/jobs/ID/events", "/v1/jobs/ID/files/x") if kind == "jobs" else ())):
                missing = str(uuid4())
                status, hidden = await seen(url.replace("ID", foreign))
                assert (status, str(hidden).replace(foreign, "ID")) == (
                    404,
                    str((await seen(url.replace("ID", missing)))[1]).replace(missing, "ID"),
                )
        assert await seen("/v1/organizations") == (200, {"data": [ACME]})

    async def test_see_no_hosts_directories_and_tables(self, api: ApiServer) -> None:
        declared = DestinationDeclaration(
            OrganizationId(ACME), DestinationCode("shelf"), "Shelf", {"type": "DIRECTORY", "directory": "/srv/shelf"}
        )
        await api.using.destinations.table.reconcile([declared], now=api.using.clock.now())
        made = await make(api, "schedules", schedule())
        await api.http.post(f"/v1/schedules/{made['id']}/run")
        lease = await JobTable(api.pool).claim(holder="web1:7", lease_s=60, spool_id=SPOOL, attempt_limit=5)
        assert lease is not None
        reader = await api.bearer(role=Role.READER)
        about_job = f"/v1/jobs/{lease.job.id}"
        before = (await api.tcp.get(about_job, headers=reader)).text
        await JobTable(api.pool).fail(lease, reason=Reason.SPOOL_UNWRITABLE, message="/srv/spool at web1 is full.")
        about = [before] + [
            (await api.tcp.get(url, headers=reader)).text
            for url in (
                *("/v1/jobs", about_job, "/v1/destinations", "/v1/entities"),
                *("/v1/schedules", f"/v1/schedules/{made['id']}"),
            )
        ]
        assert not [text for text in about for hidden in ("web1", "/srv", "public.") if hidden in text]
        assert (await api.tcp.get(about_job, headers=reader)).json()["reason"] == "SPOOL_UNWRITABLE"
        assert "/srv/spool at web1" in (await got(api, about_job))["message"]
        assert "/srv/spool at web1" in (await got(api, f"/v1/schedules/{made['id']}"))["lastJob"]["message"]

    async def test_do_not_see_which_sessions_a_job_waits_for(self, api: ApiServer) -> None:
        made = await make(api, "schedules", schedule())
        await api.http.post(f"/v1/schedules/{made['id']}/run")
        table = JobTable(api.pool)
        lease = await table.claim(holder="web1:7", lease_s=60, spool_id=SPOOL, attempt_limit=5)
        assert lease is not None
        stall = Stall((EntityCode("THINGS"),), Reason.LOCK_NOT_AVAILABLE, "Session 4711 holds a lock.", NOON)
        await table.heartbeat(lease, JobProgress(stalls=[stall]), lease_s=60)
        about_job, reader = f"/v1/jobs/{lease.job.id}", await api.bearer(role=Role.READER)
        shown = {"entities": ["THINGS"], "reason": "LOCK_NOT_AVAILABLE", "since": "2026-03-09T12:00:00.000Z"}
        assert (await got(api, about_job))["stalls"] == [{**shown, "message": stall.sentence}]
        (lease_shown,) = (await got(api, "/v1/status"))["leases"]
        assert lease_shown["stalls"] == [{**shown, "message": stall.sentence}]
        (hidden,) = (await api.tcp.get(about_job, headers=reader)).json()["stalls"]
        assert "4711" not in str(hidden)
        async with api.tcp.stream("GET", f"{about_job}/events", headers=reader) as answer:
            lines = answer.aiter_lines()
            while await anext(lines) != "event: progress":
                pass
            event = json.loads((await anext(lines)).removeprefix("data: "))
        assert event["stalls"] == [hidden]
        await table.fail(lease, reason=Reason.LOCK_NOT_AVAILABLE, message="In vain.")
        assert (await got(api, about_job))["stalls"] == [], "one that has ended waits for nothing"

    async def test_follow_the_jobs_of_their_organization(self, api: ApiServer) -> None:
        leases = {}
        for organization in (OTHER, ACME):
            made = await make(api, "schedules", schedule(), organization)
            await api.http.post(f"/v1/schedules/{made['id']}/run")
            lease = await JobTable(api.pool).claim(holder="web1:7", lease_s=60, spool_id=SPOOL, attempt_limit=5)
            assert lease is not None
            leases[organization] = lease
        reader = await api.bearer(role=Role.READER)
        for url in ("/v1/events", f"/v1/jobs/{leases[ACME].job.id}/events"):
            async with api.tcp.stream("GET", url, headers=reader) as answer:
                assert answer.status_code == 200
                async for line in answer.aiter_lines():
                    if line.startswith("data: "):
                        break
            event = json.loads(line.removeprefix("data: "))
            assert (event["jobId"], event["holder"]) == (str(leases[ACME].job.id), None)

    async def test_share_the_streams_of_their_organization(self, api: ApiServer) -> None:
        object.__setattr__(api.using.jobs, "streams", 0)
        refused = await api.tcp.get("/v1/events", headers=await api.bearer())
        assert (refused.status_code, "organization acme follows 0 streams" in refused.json()["message"]) == (429, True)


async def test_an_entity_that_cannot_be_exported_says_why(api: ApiServer) -> None:
    trouble = {EntityCode("THINGS"): "public.things has no column id."}
    status = replace(local_status(), out_of_order=trouble)
    object.__setattr__(api.using.status, "local", lambda: status)
    (listed,) = (await got(api, "/v1/entities"))["data"]
    assert (listed, listed["outOfOrder"]) == (await got(api, "/v1/entities/THINGS"), trouble[EntityCode("THINGS")])
    shown = await api.tcp.get("/v1/entities/THINGS", headers=await api.bearer(role=Role.READER))
    assert shown.json()["outOfOrder"].startswith("It does not fit its table")
    assert "public." not in shown.text


async def test_entities_of_other_names_are_not_found(api: ApiServer) -> None:
    for name in (*HOSTILE.values(), "THINGZ", "things"):
        sent = url_segment(name.replace("\udcff", "\ufffd"))  # what cannot be sent
        answer = await api.http.get(f"/v1/entities/{sent}")
        assert answer.status_code == (400 if len(name) > 80 else 404), name
    assert "did you mean THINGS" in (await api.http.get("/v1/entities/THINGZ")).json()["message"]


async def test_entities_are_those_of_the_catalog(api: ApiServer) -> None:
    assert (await got(api, "/v1/entities"))["data"] == [
        {
            "entity": "THINGS",
            "label": "Things",
            "typeToken": "thing",
            "table": "public.things",
            "key": ["id"],
            "modified": None,
            "fields": [{"name": "id", "type": "string", "format": None, "column": "id", "reference": None}],
            "referencedBy": [],
            "outOfOrder": None,
            "estimatedRows": None,
            "capture": None,
            "lookedAt": None,
        }
    ]


async def test_rows_and_capture_of_an_entity_are_for_users_of_the_machine(api: ApiServer) -> None:
    """The rows are those of every organization together."""
    things = EntityCode("THINGS")
    status = replace(local_status(), standings={things: EntityStanding(70_001, "DAMAGED", NOON)})
    object.__setattr__(api.using.status, "local", lambda: status)
    (listed,) = (await got(api, "/v1/entities"))["data"]
    names = ("estimatedRows", "capture", "lookedAt")
    assert [listed[name] for name in names] == [70_001, "DAMAGED", "2026-03-09T12:00:00.000Z"]
    assert listed == await got(api, "/v1/entities/THINGS")
    for role in (Role.READER, Role.OPERATOR):
        program = await api.bearer(role=role)
        (hidden,) = (await api.tcp.get("/v1/entities", headers=program)).json()["data"]
        assert hidden == (await api.tcp.get("/v1/entities/THINGS", headers=program)).json()
        assert [hidden[name] for name in names] == [None, None, None], role


async def test_a_refusal_names_its_reason(api: ApiServer) -> None:
    made = await make(api, "schedules", schedule())
    await api.http.post(f"/v1/schedules/{made['id']}/run")
    again = await api.http.post(f"/v1/schedules/{made['id']}/run")
    assert (again.status_code, again.headers["x-exportd-reason"]) == (409, "JOB_UNFINISHED")
    missing = await api.http.post(f"/v1/schedules/{uuid4()}/run")
    assert (missing.status_code, missing.headers["x-exportd-reason"]) == (404, "NOT_FOUND")
