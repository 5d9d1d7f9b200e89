"""How the daemon is, and the files behind download links."""

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from exportd.control.collaborators import Caller, Using
from exportd.control.problems import Refusal, responses
from exportd.control.request_reader import StrictRoute

router = APIRouter(tags=["daemon"], route_class=StrictRoute)


@router.get("/v1/status", responses=responses(401, 403))
async def show_status(caller: Caller, using: Using) -> dict[str, Any]:
    """Services, queue, spool, and the entities with changes that wait. For those who may see every organization."""
    if caller.organization is not None:
        raise Refusal(403, "The daemon's status is for users of its own machine.")
    jobs = await using.jobs.counts()
    return {**using.status(), "jobs": {state.value: count for state, count in jobs.items()}}


@router.get("/downloads/{token}", responses=responses(403, 404), response_class=Response)
async def download(token: str, using: Using) -> Response:
    """The archive that a link of ``getdownloadurl`` leads to."""
    return await using.downloads.serve(token)
