"""Data exports: schedules and destinations."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from exportd.api.dependencies import NextToken
from exportd.api.routers.overview import list_all_destinations, list_all_schedules
from exportd.console.visitor import PageRoute, Visiting
from exportd.model.bounds import MAX_CODE_LENGTH

router = APIRouter(prefix="/console/exports", route_class=PageRoute, include_in_schema=False)


@router.get("")
async def show_exports(
    *,
    visitor: Visiting,
    organization: Annotated[str, Query(max_length=MAX_CODE_LENGTH)] = "",
    schedules_after: Annotated[NextToken, Query(alias="schedulesAfter")] = None,
    destinations_after: Annotated[NextToken, Query(alias="destinationsAfter")] = None,
) -> Response:
    """Both lists, the newest first, of one organization or of all."""
    viewer, only, using = visitor.viewer, organization or None, visitor.using
    listed = await list_all_schedules(
        viewer=viewer, schedules=using.schedules, signer=using.signer, organization=only, next_token=schedules_after
    )
    places = await list_all_destinations(
        viewer=viewer,
        destinations=using.destinations,
        signer=using.signer,
        organization=only,
        next_token=destinations_after,
    )
    organizations = await visitor.organizations()
    return visitor.page(
        "exports.html", schedules=listed, destinations=places, organizations=organizations, organization=organization
    )
