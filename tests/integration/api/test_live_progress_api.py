"""What is told of running jobs while they run, to many who listen."""

import getpass
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from typing import Any
from uuid import uuid4

import anyio
import httpx

from exportd.api.job_watcher import MAX_LISTENERS
from exportd.jobs.job_table import JobTable
from exportd.model.entity import EntityCode
from exportd.model.errors import Reason
from exportd.model.job import JobProgress
from exportd.settings.schema import DEFAULT_QUOTAS
from tests.integration.api.made_objects import claimed, make_schedule
from tests.integration.api.standalone_api import ApiServer


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
