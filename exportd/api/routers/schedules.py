"""Schedules: an organization's own, and what operators see of all and do with them."""

from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Query

from exportd.api.collaborators import ScheduleCollaborators
from exportd.api.dependencies import Acting, Now, PageSigner, Reading, Schedules, StrictRoute, Tenant, Viewing, Writing
from exportd.api.pagination import (
    DEFAULT_PAGE_SIZE,
    Descending,
    IdInPath,
    Ids,
    LargePageSize,
    NextToken,
    OnlyOfCode,
    OnlyOrganization,
    Pages,
    PageSize,
    Search,
    destination_ids,
    id_in_path,
    instant_in_query,
    known_entities,
    known_entity,
    newest_or_sorted,
    place_of,
)
from exportd.api.problems import Refusal, responses
from exportd.api.schemas.fields import DATE_TIME
from exportd.api.schemas.operations import (
    BackfillBody,
    Backfilled,
    Done,
    PauseAnswer,
    QueuedJob,
    Refreshed,
    RefreshRequest,
    shown_backfill,
    shown_pause,
)
from exportd.api.schemas.schedule import (
    PositionList,
    RuleCheck,
    ScheduleCreation,
    ScheduleDetails,
    ScheduleDetailsPage,
    ScheduleDocument,
    SchedulePage,
    SchedulePreview,
    ScheduleUpdate,
    ShownPosition,
    listed_schedule,
    rule_check,
    schedule_details,
    schedule_document,
    shown_preview,
)
from exportd.model.foreign_text import MAX_COUNT, MAX_CRON_LENGTH
from exportd.model.job import JobId
from exportd.model.schedule import API_RULE, Rule, ScheduleDeclaration, ScheduleId
from exportd.schedules.editing import ScheduleOrder, ScheduleSearch
from exportd.schedules.operations import ScheduleStanding

router = APIRouter(prefix="/organizations/{orgId}/dataexports/schedules", tags=["schedules"], route_class=StrictRoute)
operators = APIRouter(prefix="/v1", tags=["operations"], route_class=StrictRoute)

MAX_FIRINGS = 20
MIN_YEAR, MAX_YEAR = 2000, 2200
"""The years between which firings are searched."""


@router.get("", responses=responses(400, 401, 403))
async def list_schedules(
    *,
    tenant: Reading,
    schedules: Schedules,
    signer: PageSigner,
    ids: Ids,
    page_size: PageSize = DEFAULT_PAGE_SIZE,
    next_token: NextToken = None,
) -> SchedulePage:
    """The organization's schedules, the newest first."""
    paging = Pages(signer, tenant.organization, "schedules")
    found = await schedules.table.page(
        tenant.organization, ids=ids, after=paging.place(next_token), limit=page_size + 1
    )
    page, token = paging.cut(found, page_size, lambda owned: place_of(owned.schedule))
    return SchedulePage(data=[listed_schedule(owned) for owned in page], next_token=token)


@router.post("", responses=responses(400, 401, 403))
async def create_schedule(tenant: Writing, schedules: Schedules, now: Now, body: ScheduleCreation) -> ScheduleDocument:
    """A new schedule. Its first run is at once, and complete."""
    created = await schedules.table.create(
        _declaration(schedules, tenant, body),
        destination_ids=destination_ids(body.destination_ids),
        actor=tenant.actor,
        now=now,
    )
    return schedule_document(created)


@router.get("/{id}", responses=responses(401, 403, 404))
async def show_schedule(tenant: Reading, schedules: Schedules, schedule_id: IdInPath) -> ScheduleDocument:
    return schedule_document(await schedules.table.get(tenant.organization, id_in_path(schedule_id, "schedule")))


@router.put("/{id}", responses=responses(400, 401, 403, 404, 409))
async def replace_schedule(
    tenant: Writing, schedules: Schedules, now: Now, schedule_id: IdInPath, body: ScheduleUpdate
) -> ScheduleDocument:
    """Replace what a schedule says. Its incremental position stays, for the entities that it had and has."""
    replaced = await schedules.table.update(
        id_in_path(schedule_id, "schedule"),
        _declaration(schedules, tenant, body),
        version=body.version,
        destination_ids=destination_ids(body.destination_ids),
        actor=tenant.actor,
        now=now,
    )
    return schedule_document(replaced)


@router.delete("/{id}", responses=responses(401, 403, 404))
async def delete_schedule(tenant: Writing, schedules: Schedules, now: Now, schedule_id: IdInPath) -> ScheduleDocument:
    """Take a schedule away; the answer is what it last was. A job of it that runs goes on."""
    deleted = await schedules.table.delete(
        tenant.organization, id_in_path(schedule_id, "schedule"), actor=tenant.actor, now=now
    )
    return schedule_document(deleted)


@operators.get("/schedules", responses=responses(400, 401, 403))
async def list_all_schedules(
    viewer: Viewing,
    schedules: Schedules,
    signer: PageSigner,
    *,
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
        lambda order: Pages(signer, owner, f"all schedules{order}"),
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


@operators.get("/schedules/{id}", responses=responses(401, 403, 404))
async def show_any_schedule(viewer: Viewing, schedules: Schedules, schedule_id: IdInPath) -> ScheduleDetails:
    """One schedule with its due times, its pause and its newest job, and how far it has read."""
    wanted = ScheduleId(id_in_path(schedule_id, "schedule"))
    owned = await schedules.table.get(viewer.organization, wanted)
    standing = await schedules.operator.standing([wanted])
    return schedule_details(owned, standing.get(wanted, ScheduleStanding()), shows_hosts=viewer.sees_machine)


@operators.get("/schedules/{id}/preview", responses=responses(401, 403, 404, 409))
async def preview_schedule(viewer: Viewing, schedules: Schedules, schedule_id: IdInPath) -> SchedulePreview:
    """What a run that begins now would hold, entity by entity. Nothing is run, installed or repaired.

    409 for what would fail the run, such as a missing table. 429 for a second one of a program's organization.
    """
    wanted = ScheduleId(id_in_path(schedule_id, "schedule"))
    schedule = (await schedules.table.get(viewer.organization, wanted)).schedule
    return shown_preview(await schedules.previewer.preview(schedule, for_program=not viewer.sees_machine))


@operators.get("/rule", responses=responses(400, 401, 403))
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


@operators.get("/schedules/{id}/pause", responses=responses(401, 403, 404))
async def show_pause_of_schedule(viewer: Viewing, schedules: Schedules, schedule_id: IdInPath) -> PauseAnswer:
    """Whether it is paused."""
    wanted = ScheduleId(id_in_path(schedule_id, "schedule"))
    await schedules.table.get(viewer.organization, wanted)
    return shown_pause((await schedules.operator.standing([wanted])).get(wanted, ScheduleStanding()).pause)


@operators.post("/schedules/{id}/pause", responses=responses(401, 403, 404))
async def pause_schedule(actor: Acting, schedules: Schedules, schedule_id: IdInPath) -> Done:
    """It does not fire. A job of it that is queued goes on."""
    wanted = ScheduleId(id_in_path(schedule_id, "schedule"))
    await schedules.operator.pause(wanted, actor=actor.name, organization=actor.organization)
    return Done(message="The schedule is paused. What comes due meanwhile becomes one run when it is resumed.")


@operators.post("/schedules/{id}/resume", responses=responses(401, 403, 404))
async def resume_schedule(actor: Acting, schedules: Schedules, schedule_id: IdInPath) -> Done:
    """It fires again; however often it was due meanwhile, once at first."""
    wanted = ScheduleId(id_in_path(schedule_id, "schedule"))
    await schedules.operator.resume(wanted, actor=actor.name, organization=actor.organization)
    return Done(message="The schedule fires again, at once if it was due meanwhile.")


@operators.get("/schedules/{id}/positions", responses=responses(401, 403, 404))
async def show_positions(viewer: Viewing, schedules: Schedules, schedule_id: IdInPath) -> PositionList:
    """How far a schedule has come with each entity: which run it stands at, and when that read it."""
    wanted = ScheduleId(id_in_path(schedule_id, "schedule"))
    await schedules.table.get(viewer.organization, wanted)
    return PositionList(data=[ShownPosition.of(position) for position in await schedules.operator.positions(wanted)])


@operators.post("/schedules/{id}/run", responses=responses(401, 403, 404, 409))
async def run_schedule(actor: Acting, schedules: Schedules, schedule_id: IdInPath) -> QueuedJob:
    """One more run, now, as ``exportd schedule run`` does; also of a paused one. 409 while it has an unfinished job."""
    found = ScheduleId(id_in_path(schedule_id, "schedule"))
    return QueuedJob(job_id=str(await schedules.operator.run(found, actor=actor.name, organization=actor.organization)))


@operators.post("/schedules/{id}/refresh", responses=responses(400, 401, 403, 404, 409))
async def refresh_entity(actor: Acting, schedules: Schedules, schedule_id: IdInPath, body: RefreshRequest) -> Refreshed:
    """Have one entity exported completely (``REQUESTED``) by the next run that begins after this."""
    found = ScheduleId(id_in_path(schedule_id, "schedule"))
    entity = known_entity(body.entity, schedules.entities, field="entity")
    job_id = await schedules.operator.refresh(
        found, entity, at_once=body.now, actor=actor.name, organization=actor.organization
    )
    return Refreshed(entity=entity, job_id=None if job_id is None else str(job_id))


@operators.post("/schedules/{id}/backfill", responses=responses(400, 401, 403, 404, 409))
async def backfill_schedule(
    actor: Acting, schedules: Schedules, schedule_id: IdInPath, body: BackfillBody
) -> Backfilled:
    """Have everything that has changed since a past job, its own changes included, exported once more, now. An entity
    for which there is no way back is exported completely, and the answer says why.
    """
    found = ScheduleId(id_in_path(schedule_id, "schedule"))
    job_id = JobId(id_in_path(body.job, "job"))
    if body.dry_run:
        plan = await schedules.operator.plan_backfill(found, job_id, organization=actor.organization)
        return shown_backfill(plan)
    return shown_backfill(
        await schedules.operator.backfill(found, job_id, actor=actor.name, organization=actor.organization)
    )


def _declaration(
    schedules: ScheduleCollaborators, tenant: Tenant, body: ScheduleCreation | ScheduleUpdate
) -> ScheduleDeclaration:
    return ScheduleDeclaration(
        organization=tenant.organization,
        code=body.code,
        name=body.name,
        entities=known_entities(body.operational_data_types, schedules.entities),
        file_format=body.format,
        destinations=(),
        rule=_rule(schedules, body),
    )


def _rule(schedules: ScheduleCollaborators, body: ScheduleCreation | ScheduleUpdate) -> Rule:
    try:
        rule = body.rule
    except ValueError as error:
        raise Refusal(400, f"{error}.") from error
    problems = schedules.check_rule(rule)
    if problems:
        raise Refusal(400, f"{'; '.join(problems)}.")
    return rule
