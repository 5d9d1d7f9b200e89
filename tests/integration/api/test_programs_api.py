"""What a program sees, beside a user of the machine."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from exportd.api.identity.client_table import Role
from exportd.destinations.record import DestinationDeclaration
from exportd.jobs.job_table import JobTable
from exportd.model.entity import EntityCode, OrganizationId
from exportd.model.errors import Reason
from exportd.model.job import JobProgress, Stall
from exportd.model.schedule import DestinationCode
from tests.integration.api.made_objects import got, make
from tests.integration.api.request_bodies import bucket, schedule
from tests.integration.api.standalone_api import ACME, SPOOL, ApiServer

OTHER = "other"
NOON = datetime(2026, 3, 9, 12, tzinfo=UTC)


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
