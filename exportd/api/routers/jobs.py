"""Jobs: an organization's own, and what operators see of all and do with them; their files; and exports without a
schedule.
"""

from collections.abc import Mapping
from functools import partial
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response, StreamingResponse

from exportd.api.collaborators import DestinationCollaborators, JobCollaborators
from exportd.api.dependencies import (
    Acting,
    Destinations,
    Jobs,
    Limits,
    PageSigner,
    Reading,
    Schedules,
    StrictRoute,
    Tenant,
    Viewing,
    Writing,
    occupy_connection,
)
from exportd.api.identity.access import Viewer
from exportd.api.job_watcher import EventStream
from exportd.api.pagination import (
    DEFAULT_PAGE_SIZE,
    IdInPath,
    Ids,
    NextToken,
    OnlyOfCode,
    OnlyOrganization,
    Pages,
    PageSize,
    destination_ids,
    id_in_path,
    instant_in_query,
    known_entities,
    organization_of,
    place_of,
)
from exportd.api.problems import Refusal, responses
from exportd.api.routers.destinations import verify_destination
from exportd.api.schemas.destination import root_of
from exportd.api.schemas.fields import DATE_TIME, parse_id
from exportd.api.schemas.job import (
    DownloadLink,
    FoundJobPage,
    JobDetails,
    JobDocument,
    JobPage,
    JobStatus,
    LoaderScript,
    found_job,
    job_details,
    job_document,
)
from exportd.api.schemas.operations import CancelledJob, QueuedJob, VerificationAnswer
from exportd.api.schemas.schedule import AdHocAnswer, AdHocRequest, SchedulePreview, shown_preview
from exportd.catalog.table_rules import no_modified
from exportd.consumer.loaders.kit import at_destination, statements
from exportd.destinations.record import DestinationRecord
from exportd.jobs.job_record import JobRecord, unknown_job
from exportd.jobs.requests import JobFilter, JobSearch, JobSummary
from exportd.manifest.document import parse
from exportd.model.entity import Entity, EntityCode
from exportd.model.foreign_text import MAX_CODE_LENGTH, MAX_SHOWN_LENGTH, MAX_TEXT_LENGTH, MAX_WORD_LENGTH
from exportd.model.job import JobId, JobState
from exportd.model.schedule import DialectName
from exportd.stores.layout import Layout, PartitionOrder

router = APIRouter(prefix="/organizations/{orgId}/dataexports", tags=["jobs"], route_class=StrictRoute)
operators = APIRouter(prefix="/v1", tags=["operations"], route_class=StrictRoute)
live = APIRouter(tags=["daemon"], route_class=StrictRoute)
"""For what a connection stays open: streams of events, and archives."""

OfSchedule = Annotated[str | None, Query(alias="scheduleId", max_length=MAX_WORD_LENGTH)]
CreatedStart = Annotated[str | None, DATE_TIME, Query(alias="dateCreatedStart", description="Inclusive.")]
CreatedEnd = Annotated[str | None, DATE_TIME, Query(alias="dateCreatedEnd", description="Exclusive.")]

_MAX_DESTINATIONS = 1000
"""How many of an organization's destinations are searched for a code."""

_EVENTS = {"description": "Server-sent events: phase, progress, end", "content": {"text/event-stream": {}}}


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


@operators.get("/jobs", responses=responses(400, 401, 403))
async def list_all_jobs(
    viewer: Viewing,
    jobs: Jobs,
    signer: PageSigner,
    *,
    ids: Ids = None,
    organization: OnlyOrganization = None,
    schedule: OnlyOfCode = None,
    schedule_id: OfSchedule = None,
    entity: OnlyOfCode = None,
    destination: OnlyOfCode = None,
    status: JobStatus | None = None,
    reason: Annotated[str | None, Query(min_length=1, max_length=MAX_WORD_LENGTH)] = None,
    created_start: CreatedStart = None,
    created_end: CreatedEnd = None,
    page_size: PageSize = 20,
    next_token: NextToken = None,
) -> FoundJobPage:
    """Jobs, the newest first, with the figures of all their entities together."""
    owner = viewer.of(organization)
    wanted_schedule = parse_id(schedule_id) if schedule_id else None
    if schedule_id and wanted_schedule is None:
        return FoundJobPage(data=[])
    wanted = JobSearch(
        ids=ids,
        schedule_id=wanted_schedule,
        state=None if status is None else JobState(status),
        created_from=instant_in_query(created_start, "dateCreatedStart") if created_start else None,
        created_before=instant_in_query(created_end, "dateCreatedEnd") if created_end else None,
        reason=reason,
        schedule_code=schedule,
        entity=entity,
        destination=destination,
    )
    paging = Pages(signer, owner, "all jobs")
    found, stopped = await jobs.owned.search(owner, wanted, after=paging.place(next_token), limit=page_size + 1)
    page, token = paging.cut(found, page_size, place_of)
    if token is None and stopped is not None:
        token = paging.token(stopped)
    return FoundJobPage(data=[found_job(job, shows_hosts=viewer.sees_machine) for job in page], next_token=token)


@operators.get("/jobs/{id}", responses=responses(401, 403, 404))
async def show_any_job(viewer: Viewing, jobs: Jobs, job_id: IdInPath) -> JobDetails:
    """State, what it read, its files, and where they went."""
    record = await _record(jobs, viewer, job_id)
    return job_details(record, jobs.retention, shows_hosts=viewer.sees_machine)


@operators.get(
    "/jobs/{id}/files/{name}",
    responses={206: {"description": "The range of bytes"}, **responses(401, 403, 404, 409, 416)},
    response_class=Response,
)
async def read_file(
    request: Request,
    viewer: Viewing,
    jobs: Jobs,
    job_id: IdInPath,
    name: Annotated[str, Path(max_length=MAX_TEXT_LENGTH, description="As in parts.")],
) -> Response:
    """A file of a finished job: one of its ``parts``, or ``manifest.json``, while this daemon's spool keeps it.

    With a ``Range`` header, such as ``bytes=1024-``, a part of the file: a download that was cut off can go on.
    """
    record = await _record(jobs, viewer, job_id)
    return await jobs.downloads.file(record.job.id, name, wanted_range=request.headers.get("range"))


@operators.get("/jobs/{id}/loader", responses=responses(400, 401, 403, 404, 409))
async def show_loader(
    viewer: Viewing,
    jobs: Jobs,
    destinations: Destinations,
    job_id: IdInPath,
    *,
    destination: Annotated[
        str,
        Query(min_length=1, max_length=MAX_CODE_LENGTH, description="Of the job, by its code: the files lie there."),
    ],
    dialect: Annotated[DialectName, Query(description="The database that runs the script.")],
) -> LoaderScript:
    """The SQL that loads a finished job, as ``exportd loader`` writes it; from the daemon that ran the job.

    409 for a database that cannot read from there, or an export that cannot be merged.
    """
    record, place = await destination_of_job(viewer, jobs, destinations, job_id, destination)
    declaration = place.declaration
    if viewer.organization is not None and declaration.settings["type"] == "DIRECTORY":
        raise Refusal(403, "This destination is a directory of the machine: its operators load from there.")
    layout = Layout(
        declaration.settings.get("prefix") or "",
        PartitionOrder(declaration.settings.get("partition_order") or "TIME_FIRST"),
    )
    document = await jobs.downloads.manifest(record.job.id)

    def write() -> str:
        return statements(at_destination(parse(document), layout), dialect, root_of(declaration))

    text = await anyio.to_thread.run_sync(write)
    return LoaderScript(dialect=dialect, destination=destination, text=text)


@operators.post("/adhoc/preview", responses=responses(400, 401, 403, 409))
async def preview_export(
    viewer: Viewing,
    schedules: Schedules,
    body: AdHocRequest,
    organization: Annotated[str, Query(min_length=1, max_length=MAX_CODE_LENGTH, description="Whose export it is.")],
) -> SchedulePreview:
    """What an export without a schedule would hold that begins now; the body is that of the export. Nothing is run.

    409 for what would fail it, such as a missing table.
    """
    named = organization_of(organization)
    owner = viewer.of(organization) or named
    return shown_preview(
        await schedules.previewer.preview_export(
            owner,
            entities_of_export(body, schedules.entities),
            body.format,
            body.start_date,
            for_program=not viewer.sees_machine,
        )
    )


@operators.post("/jobs/{id}/cancel", responses=responses(401, 403, 404, 409))
async def cancel_job(actor: Acting, jobs: Jobs, job_id: IdInPath) -> CancelledJob:
    """End a job, whichever daemon runs it. 409 for one that has ended."""
    wanted = JobId(id_in_path(job_id, "job"))
    state = await jobs.operator.cancel(wanted, actor=actor.name, organization=actor.organization)
    return CancelledJob(job_id=job_id, status="FAILED" if state is JobState.FAILED else "RUNNING")


@operators.post("/jobs/{id}/retry", responses=responses(401, 403, 404, 409))
async def retry_job(actor: Acting, schedules: Schedules, jobs: Jobs, job_id: IdInPath) -> QueuedJob:
    """Do again what a failed job did not: its schedule runs once more, holding everything since its last success; an
    export without a schedule is asked for anew.
    """
    failed = await jobs.operator.failed(JobId(id_in_path(job_id, "job")), organization=actor.organization)
    if failed.schedule_id is None:
        again = await jobs.operator.queue_again(failed.id, actor=actor.name, organization=actor.organization)
    else:
        again = await schedules.operator.run(
            failed.schedule_id, actor=actor.name, organization=actor.organization, action="job retried"
        )
    return QueuedJob(job_id=str(again))


@operators.post("/jobs/{id}/verification", responses=responses(400, 401, 403, 404))
async def verify_job(
    actor: Acting,
    jobs: Jobs,
    destinations: Destinations,
    job_id: IdInPath,
    destination: Annotated[
        str,
        Query(min_length=1, max_length=MAX_CODE_LENGTH, description="Of the job, by its code: what it is read from."),
    ],
) -> VerificationAnswer:
    """Verify the destination that has the job's files: a job is good when it is, and all before it are. Each finding
    names its job.
    """
    _, place = await destination_of_job(actor, jobs, destinations, job_id, destination)
    return await verify_destination(actor, destinations, str(place.id))


@live.get("/v1/events", responses={200: _EVENTS, **responses(401, 403)}, response_class=StreamingResponse)
async def follow_jobs(viewer: Viewing, jobs: Jobs) -> EventStream:
    """How the running jobs of all daemons come along, until this daemon leaves."""
    return _stream(jobs, viewer, None)


@live.get(
    "/v1/jobs/{id}/events", responses={200: _EVENTS, **responses(401, 403, 404)}, response_class=StreamingResponse
)
async def follow_job(viewer: Viewing, jobs: Jobs, job_id: IdInPath) -> EventStream:
    """How one job comes along, until it has ended."""
    found = JobId(id_in_path(job_id, "job"))
    if not any(job.id == found and viewer.sees(job.organization) for job in await jobs.operator.watched([found])):
        raise Refusal(404, unknown_job(repr(job_id)))
    return _stream(jobs, viewer, found)


@live.get("/downloads/{token}", responses=responses(403, 404), response_class=Response)
async def download(
    request: Request, token: Annotated[str, Path(max_length=MAX_TEXT_LENGTH)], jobs: Jobs, limits: Limits
) -> Response:
    """The archive that a link of ``getdownloadurl`` leads to."""
    return await jobs.downloads.serve(token, admit=partial(occupy_connection, request, limits))


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


async def _record(jobs: JobCollaborators, viewer: Viewer, text: str) -> JobRecord:
    """Raises Refusal 404, also for a job of an organization that the viewer does not see."""
    record = await jobs.table.get(JobId(id_in_path(text, "job")))
    if record is None or not viewer.sees(record.job.organization):
        raise Refusal(404, unknown_job(repr(text)))
    return record


async def destination_of_job(
    viewer: Viewer, jobs: JobCollaborators, destinations: DestinationCollaborators, job_id: str, code: str
) -> tuple[JobRecord, DestinationRecord]:
    """A job, and one of its destinations. Raises Refusal 404 and 400."""
    record = await _record(jobs, viewer, job_id)
    if code not in record.job.destinations:
        raise Refusal(400, f"destination: the job does not deliver to {code[:MAX_SHOWN_LENGTH]!r}.")
    known = await destinations.table.page(record.job.organization, text=code, limit=_MAX_DESTINATIONS)
    place = next((place for place in known if place.declaration.code == code), None)
    if place is None:
        raise Refusal(404, f"The destination {code!r} of the job has been deleted.")
    return record, place


def _stream(jobs: JobCollaborators, viewer: Viewer, job_id: JobId | None) -> EventStream:
    """The programs of an organization share its streams. Raises Refusal when there are too many."""
    owner = viewer.name if viewer.organization is None else f"organization {viewer.organization}"
    if jobs.watcher.is_full(for_programs=viewer.organization is not None):
        raise Refusal(
            503, "As many clients as may follow jobs do so already. Try again later.", headers={"retry-after": "5"}
        )
    if jobs.watcher.count_of(owner) >= jobs.streams:
        raise Refusal(
            429,
            f"{owner} follows {jobs.streams} streams of events already, as many as one user may (quotas.streams)."
            " End one of them.",
            headers={"retry-after": "5"},
        )
    return EventStream(jobs.watcher.stream(job_id, organization=viewer.organization, owner=owner))
