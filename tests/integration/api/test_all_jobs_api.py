"""What operators see of the jobs of every organization: figures, files, and scripts that load them."""

import json
from typing import Any
from uuid import uuid4

import pytest

from exportd.jobs.job_table import JobTable
from exportd.model.errors import Reason
from exportd.model.schedule import DestinationCode
from tests.integration.api.made_objects import failed_job, got, loadable_job, make
from tests.integration.api.request_bodies import bucket, schedule
from tests.integration.api.standalone_api import ACME, SPOOL, ApiServer, path
from tests.unit.model.test_foreign_text import HOSTILE

OTHER = "other"


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
