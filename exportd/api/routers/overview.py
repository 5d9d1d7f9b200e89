"""What people look at: jobs, schedules, destinations, entities, and the files of jobs.

Users of the machine see every organization, programs their own. What they may not see looks as if it did not exist.
"""

from functools import partial
from typing import Annotated, Literal

import anyio.to_thread
from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from exportd.api.collaborators import DestinationCollaborators, JobCollaborators
from exportd.api.dependencies import (
    Destinations,
    Host,
    Ids,
    Jobs,
    LargePageSize,
    NextToken,
    Now,
    OnlyOrganization,
    PageSigner,
    PageSize,
    Schedules,
    Status,
    Viewing,
)
from exportd.api.identity.access import Viewer
from exportd.api.pagination import (
    IdInPath,
    Pages,
    id_in_path,
    instant_in_query,
    newest_or_sorted,
    organization_of,
    place_of,
)
from exportd.api.problems import Refusal, responses
from exportd.api.routers.jobs import CreatedEnd, CreatedStart, OfSchedule, entities_of_export
from exportd.api.schemas.destination import DestinationDetails, DestinationDetailsPage, destination_details, root_of
from exportd.api.schemas.entity import EntityDocument, EntityList, entity_documents
from exportd.api.schemas.fields import DATE_TIME, parse_id
from exportd.api.schemas.job import FoundJobPage, JobDetails, JobStatus, LoaderScript, found_job, job_details
from exportd.api.schemas.schedule import (
    AdHocRequest,
    RuleCheck,
    ScheduleDetails,
    ScheduleDetailsPage,
    SchedulePreview,
    rule_check,
    schedule_details,
    shown_preview,
)
from exportd.api.transport.request_reader import StrictRoute
from exportd.consumer.loaders.kit import at_destination, statements
from exportd.destinations.record import DestinationRecord
from exportd.destinations.table import DestinationOrder
from exportd.jobs.job_record import JobRecord, unknown_job
from exportd.jobs.requests import JobSearch
from exportd.manifest.document import parse
from exportd.model.bounds import (
    MAX_CODE_LENGTH,
    MAX_COUNT,
    MAX_CRON_LENGTH,
    MAX_NAME_LENGTH,
    MAX_SHOWN_LENGTH,
    MAX_TEXT_LENGTH,
    MAX_WORD_LENGTH,
)
from exportd.model.declared import key_of
from exportd.model.entity import EntityCode, OrganizationId
from exportd.model.job import JobId, JobState
from exportd.model.schedule import API_RULE, DialectName, ScheduleId
from exportd.schedules.editing import ScheduleOrder, ScheduleSearch
from exportd.schedules.operations import ScheduleStanding
from exportd.settings.sentences import did_you_mean
from exportd.stores.layout import Layout, PartitionOrder

MAX_FIRINGS = 20
MIN_YEAR, MAX_YEAR = 2000, 2200
"""Between which firings are looked for."""

_MAX_DESTINATIONS = 1000
"""Of an organization, with a code inside their names."""

router = APIRouter(prefix="/v1", tags=["operations"], route_class=StrictRoute)

EVERY_ORGANIZATION = OrganizationId("")
"""The scope of page tokens of these lists: no organization is called so."""

OnlyOfCode = Annotated[
    str | None, Query(min_length=1, max_length=MAX_CODE_LENGTH, description="Only those of this code.")
]
Descending = Annotated[bool, Query(description="With `sort`: from the largest to the smallest.")]
Search = Annotated[
    str | None,
    Query(min_length=1, max_length=MAX_NAME_LENGTH, description="A part of the name or the code, in any case."),
]


@router.get("/jobs", responses=responses(400, 401, 403))
async def list_all_jobs(
    *,
    viewer: Viewing,
    jobs: Jobs,
    signer: PageSigner,
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
    paging = Pages(signer, owner or EVERY_ORGANIZATION, "all jobs")
    found, stopped = await jobs.owned.search(owner, wanted, after=paging.place(next_token), limit=page_size + 1)
    page, token = paging.cut(found, page_size, place_of)
    if token is None and stopped is not None:
        token = paging.token(stopped)
    return FoundJobPage(data=[found_job(job, shows_hosts=viewer.sees_machine) for job in page], next_token=token)


@router.get("/jobs/{id}", responses=responses(401, 403, 404))
async def show_any_job(viewer: Viewing, jobs: Jobs, job_id: IdInPath) -> JobDetails:
    """State, what it read, its files, and where they went."""
    record = await _job(jobs, viewer, job_id)
    return job_details(record, jobs.retention, shows_hosts=viewer.sees_machine)


@router.get(
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
    record = await _job(jobs, viewer, job_id)
    return await jobs.downloads.file(record.job.id, name, wanted_range=request.headers.get("range"))


@router.get("/jobs/{id}/loader", responses=responses(400, 401, 403, 404, 409))
async def show_loader(
    *,
    viewer: Viewing,
    jobs: Jobs,
    destinations: Destinations,
    job_id: IdInPath,
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


@router.get("/schedules", responses=responses(400, 401, 403))
async def list_all_schedules(
    *,
    viewer: Viewing,
    schedules: Schedules,
    signer: PageSigner,
    organization: OnlyOrganization = None,
    search: Search = None,
    destination: OnlyOfCode = None,
    entity: OnlyOfCode = None,
    paused: Annotated[bool | None, Query(description="Only those that are paused, or only the others.")] = None,
    sort: Annotated[ScheduleOrder | None, Query(description="By what; those without it come last.")] = None,
    descending: Descending = False,
    page_size: LargePageSize = 100,
    next_token: NextToken = None,
) -> ScheduleDetailsPage:
    """Schedules with their due times, pauses, newest jobs and how far they have read, the newest first or sorted."""
    owner = viewer.of(organization)
    wanted = ScheduleSearch(search, destination, entity, paused)
    page, token = await newest_or_sorted(
        lambda order: Pages(signer, owner or EVERY_ORGANIZATION, f"all schedules{order}"),
        partial(schedules.table.page, owner, wanted=wanted),
        partial(schedules.table.sorted_page, owner, wanted=wanted),
        lambda owned: place_of(owned.schedule),
        sort=sort,
        descending=descending,
        page_size=page_size,
        next_token=next_token,
    )
    standing = await schedules.operator.standing([owned.schedule.id for owned in page])
    return ScheduleDetailsPage(
        data=[
            schedule_details(
                owned, standing.get(owned.schedule.id, ScheduleStanding()), shows_hosts=viewer.sees_machine
            )
            for owned in page
        ],
        next_token=token,
    )


@router.get("/schedules/{id}", responses=responses(401, 403, 404))
async def show_any_schedule(viewer: Viewing, schedules: Schedules, schedule_id: IdInPath) -> ScheduleDetails:
    """One schedule with its due times, its pause and its newest job, and how far it has read."""
    wanted = ScheduleId(id_in_path(schedule_id, "schedule"))
    owned = await schedules.table.get(viewer.organization, wanted)
    standing = await schedules.operator.standing([wanted])
    return schedule_details(owned, standing.get(wanted, ScheduleStanding()), shows_hosts=viewer.sees_machine)


@router.get("/schedules/{id}/preview", responses=responses(401, 403, 404, 409))
async def preview_schedule(viewer: Viewing, schedules: Schedules, schedule_id: IdInPath) -> SchedulePreview:
    """What a run that begins now would hold, entity by entity. Nothing is run, installed or repaired.

    409 for what would fail the run, such as a missing table. 429 for a second one of a program's organization.
    """
    wanted = ScheduleId(id_in_path(schedule_id, "schedule"))
    schedule = (await schedules.table.get(viewer.organization, wanted)).schedule
    return shown_preview(await schedules.previewer.preview(schedule, for_program=not viewer.sees_machine))


@router.post("/adhoc/preview", responses=responses(400, 401, 403, 409))
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


@router.get("/rule", responses=responses(400, 401, 403))
async def check_rule(
    *,
    _viewer: Viewing,
    now: Now,
    schedule_type: Annotated[Literal["HOUR", "DAY", "MINUTE"] | None, Query(alias="scheduleType")] = None,
    period: Annotated[int | None, Query(ge=0, le=MAX_COUNT)] = None,
    offset: Annotated[int | None, Query(ge=0, le=MAX_COUNT)] = None,
    cron_expression: Annotated[str | None, Query(alias="cronExpression", max_length=MAX_CRON_LENGTH)] = None,
    after: Annotated[
        str | None, DATE_TIME, Query(description="The firings are later than this, such as the last due time: now.")
    ] = None,
    count: Annotated[int, Query(ge=1, le=MAX_FIRINGS)] = 5,
) -> RuleCheck:
    """What a schedule with this rule would do, or what is wrong with the rule. Nothing is created."""
    since = now if after is None else instant_in_query(after, "after")
    if not MIN_YEAR <= since.year < MAX_YEAR:
        raise Refusal(400, f"after: should be from the year {MIN_YEAR} to {MAX_YEAR}.")
    fields = dict(zip(API_RULE[:4], (schedule_type, period, offset, cron_expression or None), strict=True))
    return rule_check(fields, after=since, count=count)


@router.get("/destinations", responses=responses(400, 401, 403))
async def list_all_destinations(
    *,
    viewer: Viewing,
    destinations: Destinations,
    signer: PageSigner,
    organization: OnlyOrganization = None,
    search: Search = None,
    sort: Annotated[DestinationOrder | None, Query(description="By what; those without it come last.")] = None,
    descending: Descending = False,
    page_size: LargePageSize = 100,
    next_token: NextToken = None,
) -> DestinationDetailsPage:
    """Destinations with their places and pauses, the newest first, or sorted. ``search`` looks at buckets too."""
    owner = viewer.of(organization)
    page, token = await newest_or_sorted(
        lambda order: Pages(signer, owner or EVERY_ORGANIZATION, f"all destinations{order}"),
        partial(destinations.table.page, owner, text=search),
        partial(destinations.table.sorted_page, owner, text=search),
        place_of,
        sort=sort,
        descending=descending,
        page_size=page_size,
        next_token=next_token,
    )
    pauses = await destinations.operator.pauses()
    return DestinationDetailsPage(
        data=[
            destination_details(record, pauses.get(key_of(record.declaration)), shows_directories=viewer.sees_machine)
            for record in page
        ],
        next_token=token,
    )


@router.get("/destinations/{id}", responses=responses(401, 403, 404))
async def show_any_destination(
    viewer: Viewing, destinations: Destinations, destination_id: IdInPath
) -> DestinationDetails:
    """One destination with its place and its pause."""
    record = await destinations.table.get(viewer.organization, id_in_path(destination_id, "destination"))
    pause = await destinations.operator.pause_of(record.id)
    return destination_details(record, pause, shows_directories=viewer.sees_machine)


@router.get("/entities", responses=responses(401, 403))
async def list_entities(viewer: Viewing, host: Host, status: Status) -> EntityList:
    """What can be exported: the catalog, with what only the database knows."""
    entities, local = host.entities.values(), status.local()
    return EntityList(
        data=entity_documents(
            entities, entities, local.out_of_order, standings=local.standings, shows_tables=viewer.sees_machine
        )
    )


@router.get("/entities/{name}", responses=responses(401, 403, 404))
async def show_entity(
    viewer: Viewing,
    host: Host,
    status: Status,
    name: Annotated[str, Path(max_length=MAX_CODE_LENGTH, description="As the catalog calls it.")],
) -> EntityDocument:
    """One entity: its fields, their types, what they refer to, and what refers to it."""
    entity = host.entities.get(EntityCode(name))
    if entity is None:
        hint = did_you_mean(name, host.entities, what="entities of the catalog")
        raise Refusal(404, f"The catalog has no entity {name!r}; {hint}")
    local, catalog = status.local(), host.entities.values()
    (document,) = entity_documents(
        [entity], catalog, local.out_of_order, standings=local.standings, shows_tables=viewer.sees_machine
    )
    return document


async def destination_of_job(
    viewer: Viewer, jobs: JobCollaborators, destinations: DestinationCollaborators, job_id: str, code: str
) -> tuple[JobRecord, DestinationRecord]:
    """A job, and one of its destinations. Raises Refusal 404 and 400."""
    record = await _job(jobs, viewer, job_id)
    if code not in record.job.destinations:
        raise Refusal(400, f"destination: the job does not deliver to {code[:MAX_SHOWN_LENGTH]!r}.")
    known = await destinations.table.page(record.job.organization, text=code, limit=_MAX_DESTINATIONS)
    place = next((place for place in known if place.declaration.code == code), None)
    if place is None:
        raise Refusal(404, f"The destination {code!r} of the job has been deleted.")
    return record, place


async def _job(jobs: JobCollaborators, viewer: Viewer, text: str) -> JobRecord:
    """Raises Refusal 404, also for a job of an organization that the viewer does not see."""
    record = await jobs.table.get(JobId(id_in_path(text, "job")))
    if record is None or not viewer.sees(record.job.organization):
        raise Refusal(404, unknown_job(repr(text)))
    return record
