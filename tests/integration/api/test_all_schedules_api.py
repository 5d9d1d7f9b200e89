"""What operators see of the schedules of every organization, and of a rule before it is one."""

import json
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from exportd.api.identity.client_table import Role
from exportd.database.connector import Connection
from tests.integration.api.made_objects import failed_job, got, make
from tests.integration.api.request_bodies import bucket, schedule
from tests.integration.api.standalone_api import ACME, ApiServer
from tests.unit.model.test_foreign_text import HOSTILE

OTHER = "other"


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


async def test_a_refusal_names_its_reason(api: ApiServer) -> None:
    made = await make(api, "schedules", schedule())
    await api.http.post(f"/v1/schedules/{made['id']}/run")
    again = await api.http.post(f"/v1/schedules/{made['id']}/run")
    assert (again.status_code, again.headers["x-exportd-reason"]) == (409, "JOB_UNFINISHED")
    missing = await api.http.post(f"/v1/schedules/{uuid4()}/run")
    assert (missing.status_code, missing.headers["x-exportd-reason"]) == (404, "NOT_FOUND")
