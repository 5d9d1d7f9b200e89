"""Schedules: list, create, show, replace, delete."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from exportd.api.dependencies import (
    Collaborators,
    Ids,
    Looking,
    NextToken,
    Reading,
    Tenant,
    Using,
    Writing,
    known_entities,
    pages,
)
from exportd.api.pagination import DEFAULT_PAGE_SIZE, IdInPath, destination_ids, id_in_path
from exportd.api.problems import Refusal, responses
from exportd.api.schemas.fields import parse_ids
from exportd.api.schemas.schedule import (
    Schedule,
    ScheduleCreation,
    SchedulePage,
    SchedulePreview,
    ScheduleUpdate,
    listed_schedule,
    shown_preview,
    shown_schedule,
)
from exportd.api.transport.request_reader import StrictRoute
from exportd.model.schedule import Rule, ScheduleDeclaration, ScheduleId
from exportd.schedules.schedule_record import OwnedSchedule

router = APIRouter(
    prefix="/organizations/{orgId}/dataexports/schedules",
    tags=["schedules"],
    route_class=StrictRoute,
)


@router.get("", responses=responses(400, 401, 403), response_model_exclude_none=True)
async def list_schedules(
    tenant: Reading,
    using: Using,
    ids: Ids,
    page_size: Annotated[int, Query(alias="pageSize", ge=1, le=100)] = DEFAULT_PAGE_SIZE,
    next_token: NextToken = None,
) -> SchedulePage:
    """The organization's schedules, the newest first."""
    paging = pages(using, tenant, "schedules")
    found = await using.schedules.page(
        tenant.organization, ids=parse_ids(ids), after=paging.place(next_token), limit=page_size + 1
    )
    page, token = paging.cut(found, page_size, _place)
    return SchedulePage(data=[listed_schedule(each) for each in page], next_token=token)


@router.post("", responses=responses(400, 401, 403), response_model_exclude_none=True)
async def create_schedule(tenant: Writing, using: Using, body: ScheduleCreation) -> Schedule:
    """A new schedule. Its first run is at once, and complete."""
    created = await using.schedules.create(
        _declaration(using, tenant, body),
        destination_ids=destination_ids(body.destination_ids),
        actor=tenant.actor,
        now=using.clock.now(),
    )
    return shown_schedule(created)


@router.get("/{id}", responses=responses(401, 403, 404), response_model_exclude_none=True)
async def show_schedule(tenant: Reading, using: Using, schedule_id: IdInPath) -> Schedule:
    return shown_schedule(await using.schedules.get(tenant.organization, id_in_path(schedule_id, "schedule")))


@router.put("/{id}", responses=responses(400, 401, 403, 404, 409), response_model_exclude_none=True)
async def replace_schedule(tenant: Writing, using: Using, schedule_id: IdInPath, body: ScheduleUpdate) -> Schedule:
    """Replace what a schedule says. Its incremental position stays, for the entities that it had and has."""
    replaced = await using.schedules.update(
        id_in_path(schedule_id, "schedule"),
        _declaration(using, tenant, body),
        version=body.version,
        destination_ids=destination_ids(body.destination_ids),
        actor=tenant.actor,
        now=using.clock.now(),
    )
    return shown_schedule(replaced)


@router.delete("/{id}", responses=responses(401, 403, 404), response_model_exclude_none=True)
async def delete_schedule(tenant: Writing, using: Using, schedule_id: IdInPath) -> Schedule:
    """Take a schedule away; the answer is what it last was. A job of it that runs goes on."""
    deleted = await using.schedules.delete(
        tenant.organization, id_in_path(schedule_id, "schedule"), actor=tenant.actor, now=using.clock.now()
    )
    return shown_schedule(deleted)


def _declaration(using: Collaborators, tenant: Tenant, body: ScheduleCreation | ScheduleUpdate) -> ScheduleDeclaration:
    return ScheduleDeclaration(
        organization=tenant.organization,
        code=body.code,
        name=body.name,
        entities=known_entities(using, body.operational_data_types),
        file_format=body.format,
        destinations=(),
        rule=_rule(using, body),
    )


def _rule(using: Collaborators, body: ScheduleCreation | ScheduleUpdate) -> Rule:
    try:
        rule = body.rule
    except ValueError as error:
        raise Refusal(400, f"{error}.") from error
    problems = using.check_rule(rule)
    if problems:
        raise Refusal(400, f"{'; '.join(problems)}.")
    return rule


def _place(owned: OwnedSchedule) -> tuple[datetime, UUID]:
    return owned.schedule.created_at, owned.schedule.id


# MERGED: What a schedule's next run would hold.


operations_router = APIRouter(prefix="/v1", tags=["operations"], route_class=StrictRoute)


@operations_router.get(
    "/schedules/{id}/preview", responses=responses(401, 403, 404, 409), response_model_exclude_none=True
)
async def preview_schedule(_caller: Looking, using: Using, schedule_id: IdInPath) -> SchedulePreview:
    """What a run that begins now would hold, entity by entity. Nothing is run, installed or repaired.

    409 for what would fail the run, such as a missing table.
    """
    schedule = await using.schedule_operator.get(ScheduleId(id_in_path(schedule_id, "schedule")))
    return shown_preview(await using.previewer.preview(schedule))
