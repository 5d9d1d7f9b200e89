"""One organization does not fill the database: so many of each, counted where nothing comes in between."""

import asyncio
import itertools
from typing import Any

import pytest

from exportd.database.quota_table import Quota, QuotaTable
from exportd.jobs.operations import JobOperator
from exportd.jobs.requests import OwnedJobTable
from exportd.model.entity import EntityCode, OrganizationId
from exportd.model.errors import ExportdError, PermanentError, Reason
from exportd.model.schedule import ExportFormat
from exportd.settings.schema import QuotaSettings
from tests.fixtures.daemon import until
from tests.fixtures.runs import fire_now
from tests.integration.api.request_bodies import bucket, schedule
from tests.integration.api.standalone_api import ACME, ENTITIES, ApiServer, path

EXPORTS = [
    {"sourceType": "OPERATIONAL", "operationalDataTypes": list(entities), "exportFileFormat": form}
    for size in (1, 2, 3)
    for entities in itertools.combinations(ENTITIES, size)
    for form in ("CSV", "JSONL")
]
"""All different."""


async def test_exports_that_wait_have_a_quota_and_equal_ones_are_one(api: ApiServer) -> None:
    where = path(ACME, "adhoc")
    answers = [await api.http.post(where, json=body) for body in EXPORTS[:21]]
    assert [answer.status_code for answer in answers] == [200] * 20 + [429]
    assert "quotas.adhoc_jobs" in answers[-1].json()["message"]
    assert answers[-1].headers["x-exportd-reason"] == Reason.QUOTA_BUSY
    assert answers[-1].headers["retry-after"] == "10"

    again = await api.http.post(where, json=EXPORTS[15])
    turned = {**EXPORTS[15], "operationalDataTypes": EXPORTS[15]["operationalDataTypes"][::-1]}
    assert again.json() == (await api.http.post(where, json=turned)).json() == answers[15].json()
    assert await api.pool.fetchval("SELECT count(*) FROM exportd.job") == 20
    # Other organizations have their own.
    assert (await api.http.post(path("other", "adhoc"), json=EXPORTS[20])).status_code == 200
    # One that runs reads what was before now: the next one is another job.
    await api.pool.execute("UPDATE exportd.job SET state = 'RUNNING' WHERE id = $1", answers[15].json()["jobId"])
    assert (await api.http.post(where, json=EXPORTS[15])).json() != answers[15].json()


async def test_equal_exports_that_come_at_once_are_one_job(api: ApiServer) -> None:
    answers = await asyncio.gather(*(api.http.post(path(ACME, "adhoc"), json=EXPORTS[0]) for _ in range(12)))
    assert len({answer.json()["jobId"] for answer in answers}) == 1


async def test_credentials_have_a_quota_that_withdrawn_ones_leave(api: ApiServer) -> None:
    made = [await api.http.post("/v1/clients", json={"organization": ACME, "name": "x"}) for _ in range(21)]
    assert [answer.status_code for answer in made] == [200] * 20 + [403]
    assert "quotas.clients" in made[-1].json()["message"]
    await api.http.delete(f"/v1/clients/{made[0].json()['id']}")
    assert (await api.http.post("/v1/clients", json={"organization": ACME, "name": "x"})).status_code == 200


@pytest.mark.parametrize("kind", ["schedules", "destinations"])
async def test_of_many_who_take_the_last_place_one_gets_it(api: ApiServer, kind: str) -> None:
    tables: dict[str, Any] = {"schedules": api.using.schedules.table, "destinations": api.using.destinations.table}
    tables[kind]._quotas = QuotaSettings(schedules=3, destinations=3)
    make = {"schedules": schedule, "destinations": bucket}[kind]
    answers = await asyncio.gather(*(api.http.post(path(ACME, kind), json=make(f"c{number}")) for number in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] * 3 + [403] * 5
    refused = next(answer for answer in answers if answer.status_code == 403)
    assert f"quotas.{kind}" in refused.json()["message"]
    assert refused.headers["x-exportd-reason"] == Reason.QUOTA_REACHED
    # What was deleted gives its place back; what the configuration declares takes none.
    first = next(answer for answer in answers if answer.status_code == 200).json()
    assert (await api.http.delete(path(ACME, kind, first["id"]))).status_code == 200
    await api.pool.execute(f"UPDATE exportd.{kind[:-1]} SET origin = 'CONFIGURATION'")
    assert (await api.http.post(path(ACME, kind), json=make("more"))).status_code == 200
    assert (await api.http.post(path("other", kind), json=make("other"))).status_code == 200


async def test_schedules_are_not_made_while_too_many_jobs_wait(api: ApiServer) -> None:
    """Their first runs would wait too: so making and deleting them without end stops."""
    api.using.schedules.table._quotas = QuotaSettings(waiting_jobs=3)
    statuses = []
    for number in range(5):
        made = await api.http.post(path(ACME, "schedules"), json=schedule(f"s{number}"))
        statuses.append(made.status_code)
        if made.status_code == 200:
            await fire_now(api.pool, f"s{number}", ACME)  # as the ticker does
            await api.http.delete(path(ACME, "schedules", made.json()["id"]))
    assert statuses == [200, 200, 200, 429, 429]


async def test_changes_have_a_quota_by_the_hour(api: ApiServer) -> None:
    api.using.schedules.table._quotas = QuotaSettings(changes_per_hour=4)
    made = (await api.http.post(path(ACME, "schedules"), json=schedule())).json()
    where = path(ACME, "schedules", made["id"])
    answers = [await api.http.put(where, json=schedule(version=version)) for version in range(1, 6)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert "quotas.changes_per_hour" in answers[-1].json()["message"]
    assert await api.pool.fetchval("SELECT count(*) FROM exportd.audit") == 4


async def test_a_retry_takes_a_place_too(api: ApiServer) -> None:
    job_id = (await api.http.post(path(ACME, "adhoc"), json=EXPORTS[0])).json()["jobId"]
    await api.pool.execute("UPDATE exportd.job SET state = 'FAILED', finished_at = now()")
    operator = JobOperator(api.pool, QuotaSettings(adhoc_jobs=1))
    await operator.queue_again(job_id, actor="test")
    with pytest.raises(PermanentError) as refused:
        await operator.queue_again(job_id, actor="test")
    assert refused.value.reason is Reason.QUOTA_BUSY


async def test_what_is_nearly_full_is_shown(api: ApiServer) -> None:
    quotas = QuotaSettings(adhoc_jobs=5, waiting_jobs=100)
    table, shown = OwnedJobTable(api.pool, quotas), QuotaTable(api.pool, quotas)
    counts = []
    for number in range(6):
        try:
            await table.queue(
                OrganizationId(ACME),
                entities=[EntityCode(ENTITIES[number % 4])],
                file_format=list(ExportFormat)[number // 4],
                destination_ids=[],
                actor="test",
            )
        except ExportdError as error:
            assert (number, error.reason) == (5, Reason.QUOTA_BUSY)
        counts.append([(use.organization, use.quota, use.used, use.limit) for use in await shown.near()])
    assert counts[:3] == [[], [], []]
    assert counts[3:] == [[(ACME, Quota.ADHOC_JOBS, used, 5)] for used in (4, 5, 5)]
    # As the daemon's own quotas have it, in its status:
    for body in EXPORTS[8:20]:
        await api.http.post(path(ACME, "adhoc"), json=body)
    (use,) = (await api.http.get("/v1/status")).json()["quotas"]
    assert use == {"organization": ACME, "quota": "adhoc_jobs", "used": use["used"], "limit": 20}
    assert use["used"] >= 16


async def test_an_organization_has_so_many_connections_on_which_it_is_answered(api: ApiServer) -> None:
    """Requests whose bodies do not arrive hold theirs; they are let in by their heads."""
    acme, other = await api.bearer(), await api.bearer("other")
    connections = api.using.limits.connections
    head = (
        f"POST {path(ACME, 'schedules')} HTTP/1.1\r\nhost: localhost\r\nauthorization: {acme['authorization']}\r\n"
        "content-type: application/json\r\ncontent-length: 100\r\n\r\n"
    )
    lines = [
        await asyncio.open_connection("127.0.0.1", api.tcp.base_url.port, limit=1 << 16)
        for _ in range(connections.limit)
    ]
    for _, writer in lines:
        writer.write(head.encode())

    async def busy(count: int) -> None:
        async def look() -> bool:
            return connections.busy.get(ACME, 0) == count

        await until(look, what=f"{count} connections")

    await busy(connections.limit)
    refused = await api.tcp.get(path(ACME, "jobs"), headers=acme)
    assert (refused.status_code, refused.headers["x-exportd-reason"]) == (429, Reason.QUOTA_BUSY)
    assert "32 connections" in refused.json()["message"]
    assert "quotas.connections" in refused.json()["message"]
    assert (await api.tcp.get("/v1/jobs", headers=acme)).status_code == 429
    assert (await api.tcp.get(path("other", "jobs"), headers=other)).status_code == 200
    assert (await api.http.get(path(ACME, "jobs"))).status_code == 200, "a user of the machine"
    used = {"organization": ACME, "quota": "connections", "used": 32, "limit": 32}
    assert (await api.http.get("/v1/status")).json()["quotas"] == [used]

    for _, writer in lines:
        writer.close()
    await busy(0)
    assert (await api.tcp.get(path(ACME, "jobs"), headers=acme)).status_code == 200
