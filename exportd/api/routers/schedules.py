"""Schedules: list, create, show, replace, delete."""

from fastapi import APIRouter

from exportd.api.collaborators import ScheduleCollaborators
from exportd.api.dependencies import Ids, NextToken, Now, PageSigner, PageSize, Reading, Schedules, Tenant, Writing
from exportd.api.pagination import (
    DEFAULT_PAGE_SIZE,
    IdInPath,
    Pages,
    destination_ids,
    id_in_path,
    known_entities,
    place_of,
)
from exportd.api.problems import Refusal, responses
from exportd.api.schemas.schedule import (
    ScheduleCreation,
    ScheduleDocument,
    SchedulePage,
    ScheduleUpdate,
    listed_schedule,
    schedule_document,
)
from exportd.api.transport.request_reader import StrictRoute
from exportd.model.schedule import Rule, ScheduleDeclaration

router = APIRouter(
    prefix="/organizations/{orgId}/dataexports/schedules",
    tags=["schedules"],
    route_class=StrictRoute,
)


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
