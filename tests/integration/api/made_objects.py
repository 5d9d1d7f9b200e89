"""Objects that tests make through the API, and what it answers about them."""

from dataclasses import replace
from typing import Any
from uuid import UUID

from exportd.jobs.job_table import JobTable
from exportd.manifest.document import render
from exportd.model.entity import OrganizationId
from exportd.model.errors import Reason
from exportd.model.job import JobId, Lease
from tests.integration.api.request_bodies import bucket, schedule
from tests.integration.api.standalone_api import ACME, SPOOL, ApiServer, path
from tests.unit.manifest.manifest_examples import entity_of, manifest_of


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
    lease = await claimed(api)
    await JobTable(api.pool).fail(lease, reason=Reason.DESTINATION_REFUSED, message="No.")
    return str(lease.job.id)


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


async def make_schedule(api: ApiServer, **others: Any) -> str:
    return str((await api.http.post(path(ACME, "schedules"), json=schedule(**others))).json()["id"])


async def claim(api: ApiServer) -> Lease | None:
    return await JobTable(api.pool).claim(holder="test", lease_s=60, spool_id=SPOOL, attempt_limit=5)


async def claimed(api: ApiServer) -> Lease:
    lease = await claim(api)
    assert lease is not None
    return lease
