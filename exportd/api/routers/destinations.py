"""Destinations: list, create, show, replace, delete."""

from fastapi import APIRouter

from exportd.api.dependencies import Destinations, Ids, LargePageSize, NextToken, Now, PageSigner, Reading, Writing
from exportd.api.pagination import DEFAULT_PAGE_SIZE, IdInPath, Pages, id_in_path, place_of
from exportd.api.problems import responses
from exportd.api.schemas.destination import (
    DestinationCreation,
    DestinationDocument,
    DestinationPage,
    DestinationUpdate,
    declaration_of,
    destination_document,
    listed_destination,
)
from exportd.api.transport.request_reader import StrictRoute

router = APIRouter(
    prefix="/organizations/{orgId}/dataexports/destinations",
    tags=["destinations"],
    route_class=StrictRoute,
)


@router.get("", responses=responses(400, 401, 403))
async def list_destinations(
    *,
    tenant: Reading,
    destinations: Destinations,
    signer: PageSigner,
    ids: Ids,
    page_size: LargePageSize = DEFAULT_PAGE_SIZE,
    next_token: NextToken = None,
) -> DestinationPage:
    """The organization's destinations, the newest first."""
    paging = Pages(signer, tenant.organization, "destinations")
    found = await destinations.table.page(
        tenant.organization, ids=ids, after=paging.place(next_token), limit=page_size + 1
    )
    page, token = paging.cut(found, page_size, place_of)
    return DestinationPage(data=[listed_destination(record) for record in page], next_token=token)


@router.post("", responses=responses(400, 401, 403))
async def create_destination(
    tenant: Writing, destinations: Destinations, now: Now, body: DestinationCreation
) -> DestinationDocument:
    """A new destination. Whether it can be written is seen at the first delivery."""
    declaration = declaration_of(body, tenant.organization)
    destinations.live.check(declaration)
    created = await destinations.table.create(declaration, actor=tenant.actor, now=now)
    await destinations.live.refresh()
    return destination_document(created)


@router.get("/{id}", responses=responses(401, 403, 404))
async def show_destination(
    tenant: Reading, destinations: Destinations, destination_id: IdInPath
) -> DestinationDocument:
    return destination_document(
        await destinations.table.get(tenant.organization, id_in_path(destination_id, "destination"))
    )


@router.put("/{id}", responses=responses(400, 401, 403, 404, 409))
async def replace_destination(
    tenant: Writing, destinations: Destinations, now: Now, destination_id: IdInPath, body: DestinationUpdate
) -> DestinationDocument:
    """Replace what a destination says; its code and type stay. Schedules start anew when it is another place."""
    found = id_in_path(destination_id, "destination")
    declaration = declaration_of(body, tenant.organization)
    destinations.live.check(declaration)
    replaced = await destinations.table.update(found, declaration, version=body.version, actor=tenant.actor, now=now)
    await destinations.live.refresh()
    return destination_document(replaced)


@router.delete("/{id}", responses=responses(400, 401, 403, 404))
async def delete_destination(
    tenant: Writing, destinations: Destinations, now: Now, destination_id: IdInPath
) -> DestinationDocument:
    """Take a destination away; the answer is what it last was. One that a schedule uses stays."""
    deleted = await destinations.table.delete(
        tenant.organization, id_in_path(destination_id, "destination"), actor=tenant.actor, now=now
    )
    await destinations.live.refresh()
    return destination_document(deleted)
