"""An export destination: where it is, what its owner has to grant, whether it works."""

from fastapi import APIRouter
from starlette.responses import Response

from exportd.api.identity.access import Role
from exportd.api.pagination import IdInPath
from exportd.api.routers.operations import check_destination, pause_destination, resume_destination, show_grants
from exportd.api.routers.overview import show_any_destination
from exportd.api.schemas.destination import DestinationCheck
from exportd.console.visitor import PageRoute, Visiting, Visitor

router = APIRouter(prefix="/console/destinations", route_class=PageRoute, include_in_schema=False)


@router.get("/{id}")
async def show_destination(visitor: Visiting, destination_id: IdInPath) -> Response:
    """The place, its newest success and failure, and the policies to paste."""
    return await _page(visitor, destination_id)


@router.post("/{id}/check")
async def check(visitor: Visiting, destination_id: IdInPath) -> Response:
    """Try every permission now, as this daemon; one line for each."""
    result = await check_destination(visitor.require(Role.OPERATOR), visitor.using.destinations, destination_id)
    return await _page(visitor, destination_id, result)


@router.post("/{id}/pause")
async def pause(visitor: Visiting, destination_id: IdInPath) -> Response:
    """Jobs that deliver there wait."""
    done = await pause_destination(visitor.require(Role.OPERATOR), visitor.using.destinations, destination_id)
    return visitor.back(f"/console/destinations/{destination_id}", done.message)


@router.post("/{id}/resume")
async def resume(visitor: Visiting, destination_id: IdInPath) -> Response:
    """The jobs that waited go on."""
    done = await resume_destination(visitor.require(Role.OPERATOR), visitor.using.destinations, destination_id)
    return visitor.back(f"/console/destinations/{destination_id}", done.message)


async def _page(visitor: Visitor, destination_id: str, result: DestinationCheck | None = None) -> Response:
    destinations = visitor.using.destinations
    found = await show_any_destination(visitor.viewer, destinations, destination_id)
    hides_grants = found.destination_type == "DIRECTORY" and not visitor.viewer.sees_machine
    grants = [] if hides_grants else (await show_grants(visitor.viewer, destinations, destination_id)).data
    daemon = await visitor.daemon()
    known = [] if daemon is None else daemon.destinations
    return visitor.page(
        "destination.html",
        destination=found,
        grants=grants,
        health=next((health for health in known if health.id == destination_id), None),
        knows_health=daemon is not None,
        result=result,
    )
