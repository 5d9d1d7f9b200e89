"""What operators look at, of every organization: jobs, schedules, destinations, entities, and the files of jobs."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from exportd.api.dependencies import Destinations, Host, Jobs, Looking, NextToken, PageSigner, Schedules
from exportd.api.pagination import IdInPath, Pages, id_in_path
from exportd.api.problems import Refusal, responses
from exportd.api.schemas.destination import DestinationDetails, DestinationDetailsPage, destination_details
from exportd.api.schemas.entity import EntityList, entity_documents
from exportd.api.schemas.job import JobDetails, JobDetailsList, job_details
from exportd.api.schemas.schedule import (
    ScheduleDetails,
    ScheduleDetailsPage,
    SchedulePreview,
    schedule_details,
    shown_preview,
)
from exportd.api.transport.request_reader import StrictRoute
from exportd.destinations.record import DestinationRecord
from exportd.jobs.job_record import unknown_job
from exportd.model.bounds import MAX_CODE_LENGTH, MAX_TEXT_LENGTH
from exportd.model.declared import key_of
from exportd.model.entity import OrganizationId
from exportd.model.job import JobId
from exportd.model.schedule import ScheduleId
from exportd.schedules.schedule_record import OwnedSchedule

MAX_JOBS = 1000

router = APIRouter(prefix="/v1", tags=["operations"], route_class=StrictRoute)

_EVERY_ORGANIZATION = OrganizationId("")
"""The scope of page tokens of these lists: no organization is called so."""

PageSize = Annotated[int, Query(alias="pageSize", ge=1, le=200)]
OnlyOrganization = Annotated[
    str | None, Query(min_length=1, max_length=MAX_CODE_LENGTH, description="Only those of this organization.")
]


@router.get("/jobs", responses=responses(400, 401, 403), response_model_exclude_none=True)
async def list_all_jobs(
    *,
    _caller: Looking,
    jobs: Jobs,
    organization: OnlyOrganization = None,
    schedule: Annotated[
        str | None,
        Query(min_length=1, max_length=MAX_CODE_LENGTH, description="Only those of schedules of this code."),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_JOBS)] = 20,
) -> JobDetailsList:
    """The newest jobs, the newest first."""
    found = await jobs.table.list(
        organization=None if organization is None else OrganizationId(organization), schedule_code=schedule, limit=limit
    )
    return JobDetailsList(data=[job_details(record) for record in found])


@router.get("/jobs/{id}", responses=responses(401, 403, 404), response_model_exclude_none=True)
async def show_any_job(_caller: Looking, jobs: Jobs, job_id: IdInPath) -> JobDetails:
    """State, what it read, its files, and where they went."""
    record = await jobs.table.get(JobId(id_in_path(job_id, "job")))
    if record is None:
        raise Refusal(404, unknown_job(repr(job_id)))
    return job_details(record)


@router.get("/jobs/{id}/files/{name}", responses=responses(401, 403, 404, 409), response_class=Response)
async def read_file(
    _caller: Looking,
    jobs: Jobs,
    job_id: IdInPath,
    name: Annotated[str, Path(max_length=MAX_TEXT_LENGTH, description="As in parts.")],
) -> Response:
    """A file of a finished job: one of its ``parts``, or ``manifest.json``, while this daemon's spool keeps it."""
    return await jobs.downloads.file(id_in_path(job_id, "job"), name)


@router.get("/schedules", responses=responses(400, 401, 403), response_model_exclude_none=True)
async def list_all_schedules(
    *,
    _caller: Looking,
    schedules: Schedules,
    signer: PageSigner,
    organization: OnlyOrganization = None,
    page_size: PageSize = 100,
    next_token: NextToken = None,
) -> ScheduleDetailsPage:
    """Schedules with their due times and pauses, the newest first."""
    owner = None if organization is None else OrganizationId(organization)
    paging = Pages(signer, owner or _EVERY_ORGANIZATION, "all schedules")
    found = await schedules.table.page(owner, after=paging.place(next_token), limit=page_size + 1)
    pauses = await schedules.operator.pauses()
    page, token = paging.cut(found, page_size, _place_of_schedule)
    return ScheduleDetailsPage(
        data=[schedule_details(owned, pauses.get(owned.schedule.id)) for owned in page], next_token=token
    )


@router.get("/schedules/{id}", responses=responses(401, 403, 404), response_model_exclude_none=True)
async def show_any_schedule(_caller: Looking, schedules: Schedules, schedule_id: IdInPath) -> ScheduleDetails:
    """One schedule with its due times and its pause."""
    schedule = await schedules.operator.get(ScheduleId(id_in_path(schedule_id, "schedule")))
    pauses = await schedules.operator.pauses(schedule.id)
    owned = await schedules.table.get(schedule.declaration.organization, schedule.id)
    return schedule_details(owned, pauses.get(schedule.id))


@router.get("/schedules/{id}/preview", responses=responses(401, 403, 404, 409), response_model_exclude_none=True)
async def preview_schedule(_caller: Looking, schedules: Schedules, schedule_id: IdInPath) -> SchedulePreview:
    """What a run that begins now would hold, entity by entity. Nothing is run, installed or repaired.

    409 for what would fail the run, such as a missing table.
    """
    schedule = await schedules.operator.get(ScheduleId(id_in_path(schedule_id, "schedule")))
    return shown_preview(await schedules.previewer.preview(schedule))


@router.get("/destinations", responses=responses(400, 401, 403), response_model_exclude_none=True)
async def list_all_destinations(
    *,
    _caller: Looking,
    destinations: Destinations,
    signer: PageSigner,
    organization: OnlyOrganization = None,
    page_size: PageSize = 100,
    next_token: NextToken = None,
) -> DestinationDetailsPage:
    """Destinations with their places and pauses, the newest first."""
    owner = None if organization is None else OrganizationId(organization)
    paging = Pages(signer, owner or _EVERY_ORGANIZATION, "all destinations")
    found = await destinations.table.page(owner, after=paging.place(next_token), limit=page_size + 1)
    pauses = await destinations.operator.pauses()
    page, token = paging.cut(found, page_size, _place_of_destination)
    return DestinationDetailsPage(
        data=[destination_details(record, pauses.get(key_of(record.declaration))) for record in page],
        next_token=token,
    )


@router.get("/destinations/{id}", responses=responses(401, 403, 404), response_model_exclude_none=True)
async def show_any_destination(
    _caller: Looking, destinations: Destinations, destination_id: IdInPath
) -> DestinationDetails:
    """One destination with its place and its pause."""
    wanted = id_in_path(destination_id, "destination")
    pause = await destinations.operator.pause_of(wanted)
    found = await destinations.table.page(None, ids=[wanted], limit=1)
    if not found:  # deleted between the two queries
        raise Refusal(404, f"There is no destination {destination_id!r}. Look at the list of destinations for its id.")
    return destination_details(found[0], pause)


@router.get("/entities", responses=responses(401, 403), response_model_exclude_none=True)
async def list_entities(_caller: Looking, host: Host) -> EntityList:
    """What can be exported: the catalog, with what only the database knows."""
    return EntityList(data=entity_documents(host.entities.values()))


def _place_of_schedule(owned: OwnedSchedule) -> tuple[datetime, UUID]:
    return owned.schedule.created_at, owned.schedule.id


def _place_of_destination(record: DestinationRecord) -> tuple[datetime, UUID]:
    return record.created_at, record.id
