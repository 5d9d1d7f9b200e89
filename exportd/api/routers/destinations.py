"""Destinations: list, create, show, replace, delete."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from exportd.api.dependencies import Ids, NextToken, Reading, Using, Writing, pages
from exportd.api.pagination import DEFAULT_PAGE_SIZE, IdInPath, id_in_path
from exportd.api.problems import responses
from exportd.api.schemas.destination import (
    Destination,
    DestinationCreation,
    DestinationPage,
    DestinationUpdate,
    declaration_of,
    listed_destination,
    shown_destination,
)
from exportd.api.schemas.fields import parse_ids
from exportd.api.transport.request_reader import StrictRoute
from exportd.destinations.record import DestinationRecord

router = APIRouter(
    prefix="/organizations/{orgId}/dataexports/destinations",
    tags=["destinations"],
    route_class=StrictRoute,
)


@router.get("", responses=responses(400, 401, 403), response_model_exclude_none=True)
async def list_destinations(
    tenant: Reading,
    using: Using,
    ids: Ids,
    page_size: Annotated[int, Query(alias="pageSize", ge=1, le=200)] = DEFAULT_PAGE_SIZE,
    next_token: NextToken = None,
) -> DestinationPage:
    """The organization's destinations, the newest first."""
    paging = pages(using, tenant, "destinations")
    found = await using.destinations.page(
        tenant.organization, ids=parse_ids(ids), after=paging.place(next_token), limit=page_size + 1
    )
    page, token = paging.cut(found, page_size, _place)
    return DestinationPage(data=[listed_destination(each) for each in page], next_token=token)


@router.post("", responses=responses(400, 401, 403), response_model_exclude_none=True)
async def create_destination(tenant: Writing, using: Using, body: DestinationCreation) -> Destination:
    """A new destination. Whether it can be written is seen at the first delivery."""
    declaration = declaration_of(body, tenant.organization)
    using.live_destinations.check(declaration)
    created = await using.destinations.create(declaration, actor=tenant.actor, now=using.clock.now())
    await using.live_destinations.refresh()
    return shown_destination(created)


@router.get("/{id}", responses=responses(401, 403, 404), response_model_exclude_none=True)
async def show_destination(tenant: Reading, using: Using, destination_id: IdInPath) -> Destination:
    return shown_destination(
        await using.destinations.get(tenant.organization, id_in_path(destination_id, "destination"))
    )


@router.put("/{id}", responses=responses(400, 401, 403, 404, 409), response_model_exclude_none=True)
async def replace_destination(
    tenant: Writing, using: Using, destination_id: IdInPath, body: DestinationUpdate
) -> Destination:
    """Replace what a destination says; its code and type stay. Schedules start anew when it is another place."""
    found = id_in_path(destination_id, "destination")
    declaration = declaration_of(body, tenant.organization)
    using.live_destinations.check(declaration)
    replaced = await using.destinations.update(
        found, declaration, version=body.version, actor=tenant.actor, now=using.clock.now()
    )
    await using.live_destinations.refresh()
    return shown_destination(replaced)


@router.delete("/{id}", responses=responses(400, 401, 403, 404), response_model_exclude_none=True)
async def delete_destination(tenant: Writing, using: Using, destination_id: IdInPath) -> Destination:
    """Take a destination away; the answer is what it last was. One that a schedule uses stays."""
    deleted = await using.destinations.delete(
        tenant.organization, id_in_path(destination_id, "destination"), actor=tenant.actor, now=using.clock.now()
    )
    await using.live_destinations.refresh()
    return shown_destination(deleted)


def _place(record: DestinationRecord) -> tuple[datetime, UUID]:
    return record.created_at, record.id
