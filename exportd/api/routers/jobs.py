"""Jobs: list, show, a link to the files; and exports without a schedule."""

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Query, Request

from exportd.api.collaborators import JobCollaborators
from exportd.api.dependencies import Ids, Jobs, NextToken, PageSigner, PageSize, Reading, Schedules, Tenant, Writing
from exportd.api.pagination import (
    DEFAULT_PAGE_SIZE,
    IdInPath,
    Pages,
    destination_ids,
    id_in_path,
    instant_in_query,
    known_entities,
    place_of,
)
from exportd.api.problems import Refusal, responses
from exportd.api.schemas.fields import DATE_TIME, parse_id
from exportd.api.schemas.job import DownloadLink, JobDocument, JobPage, JobStatus, job_document
from exportd.api.schemas.schedule import AdHocAnswer, AdHocRequest
from exportd.api.transport.request_reader import StrictRoute
from exportd.catalog.table_rules import no_modified
from exportd.jobs.job_record import unknown_job
from exportd.jobs.requests import JobFilter, JobSummary
from exportd.model.entity import Entity, EntityCode
from exportd.model.foreign_text import MAX_WORD_LENGTH
from exportd.model.job import JobState

router = APIRouter(prefix="/organizations/{orgId}/dataexports", tags=["jobs"], route_class=StrictRoute)

OfSchedule = Annotated[str | None, Query(alias="scheduleId", max_length=MAX_WORD_LENGTH)]
CreatedStart = Annotated[str | None, DATE_TIME, Query(alias="dateCreatedStart", description="Inclusive.")]
CreatedEnd = Annotated[str | None, DATE_TIME, Query(alias="dateCreatedEnd", description="Exclusive.")]


@router.get("/jobs", responses=responses(400, 401, 403))
async def list_jobs(
    *,
    tenant: Reading,
    jobs: Jobs,
    signer: PageSigner,
    ids: Ids,
    schedule_id: OfSchedule = None,
    status: JobStatus | None = None,
    created_start: CreatedStart = None,
    created_end: CreatedEnd = None,
    page_size: PageSize = DEFAULT_PAGE_SIZE,
    next_token: NextToken = None,
) -> JobPage:
    """The organization's jobs, the newest first."""
    wanted_schedule = parse_id(schedule_id) if schedule_id else None
    if schedule_id and wanted_schedule is None:
        return JobPage(data=[])
    wanted = JobFilter(
        ids=ids,
        schedule_id=wanted_schedule,
        state=None if status is None else JobState(status),
        created_from=instant_in_query(created_start, "dateCreatedStart") if created_start else None,
        created_before=instant_in_query(created_end, "dateCreatedEnd") if created_end else None,
    )
    paging = Pages(signer, tenant.organization, "jobs")
    found = await jobs.owned.page(tenant.organization, wanted, after=paging.place(next_token), limit=page_size + 1)
    page, token = paging.cut(found, page_size, place_of)
    return JobPage(data=[job_document(summary) for summary in page], next_token=token)


@router.get("/jobs/{id}", responses=responses(401, 403, 404))
async def show_job(tenant: Reading, jobs: Jobs, job_id: IdInPath) -> JobDocument:
    return job_document(await _job(jobs, tenant, job_id))


@router.get("/jobs/{id}/getdownloadurl", responses=responses(400, 401, 403, 404))
async def link_to_files(request: Request, tenant: Reading, jobs: Jobs, job_id: IdInPath) -> DownloadLink:
    """One archive of everything that a job exported, while its files are kept."""
    job = await _job(jobs, tenant, job_id)
    base_url = jobs.public_url or str(request.base_url).rstrip("/")
    url, expires_at = await jobs.downloads.link(job.id, base_url=base_url)
    return DownloadLink(url=url, expiration_time=expires_at)


@router.post("/adhoc", responses=responses(400, 401, 403))
async def export_now(tenant: Writing, jobs: Jobs, schedules: Schedules, body: AdHocRequest) -> AdHocAnswer:
    """Export once, without a schedule: completely, or what was modified since ``startDate``. A job does it."""
    entities = entities_of_export(body, schedules.entities)
    job_id = await jobs.owned.queue(
        tenant.organization,
        entities=entities,
        file_format=body.format,
        destination_ids=destination_ids(body.destination_ids),
        start_date=body.start_date,
        actor=tenant.actor,
    )
    return AdHocAnswer(job_id=str(job_id))


def entities_of_export(body: AdHocRequest, known: Mapping[EntityCode, Entity]) -> tuple[EntityCode, ...]:
    """Raises Refusal 400 for unknown entities, and for those that cannot be exported from a date on."""
    entities = known_entities(body.operational_data_types, known)
    timeless = [code for code in entities if known[code].modified is None]
    if body.start_date is not None and timeless:
        raise Refusal(400, f"startDate: {no_modified(*timeless)}")
    return entities


async def _job(jobs: JobCollaborators, tenant: Tenant, text: str) -> JobSummary:
    job_id = id_in_path(text, "job")
    found = await jobs.owned.get(tenant.organization, job_id)
    if found is None:
        raise Refusal(404, unknown_job(repr(text)))
    return found
