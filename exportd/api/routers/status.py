"""How the daemon is, how its jobs come along, and the files behind download links."""

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response, StreamingResponse

from exportd.api.dependencies import Caller, Collaborators, Looking, Using
from exportd.api.job_watcher import EventStream
from exportd.api.pagination import IdInPath, id_in_path
from exportd.api.problems import Refusal, responses
from exportd.api.schemas.status import DaemonStatus, shown_status
from exportd.api.transport.request_reader import StrictRoute
from exportd.model.job import JobId

router = APIRouter(tags=["daemon"], route_class=StrictRoute)

_EVENTS = {"description": "Server-sent events: phase, progress, end", "content": {"text/event-stream": {}}}


@router.get("/v1/status", responses=responses(401, 403), response_model_exclude_none=True)
async def show_status(_caller: Looking, using: Using) -> DaemonStatus:
    """Services, queue, leases, spool, how far each entity has been read, and how the destinations are."""
    shared = await using.shared_status.read()
    return shown_status(using.local_status(), shared, using.destination_condition, now=using.clock.now())


@router.get("/v1/events", responses={200: _EVENTS, **responses(401, 403)}, response_class=StreamingResponse)
async def follow_jobs(_caller: Looking, using: Using) -> Response:
    """How the running jobs of all daemons come along, until this daemon leaves."""
    _require_room(using)
    return EventStream(using.watcher.stream())


@router.get(
    "/v1/jobs/{id}/events", responses={200: _EVENTS, **responses(401, 403, 404)}, response_class=StreamingResponse
)
async def follow_job(_caller: Looking, using: Using, job_id: IdInPath) -> Response:
    """How one job comes along, until it has ended."""
    found = JobId(id_in_path(job_id, "job"))
    if not any(each.id == found for each in await using.job_operator.watched([found])):
        raise Refusal(404, f"There is no job {job_id!r}. Look at the list of jobs for its id.")
    _require_room(using)
    return EventStream(using.watcher.stream(found))


@router.get("/downloads/{token}", responses=responses(403, 404), response_class=Response)
async def download(token: str, using: Using) -> Response:
    """The archive that a link of ``getdownloadurl`` leads to."""
    return await using.downloads.serve(token)


def _require_room(using: Collaborators) -> None:
    if using.watcher.is_full:
        raise Refusal(
            503, "As many clients as may follow jobs do so already. Try again later.", headers={"retry-after": "5"}
        )


# MERGED: What Prometheus reads.


@router.get("/metrics", responses=responses(401, 403), response_class=Response)
async def show_metrics(caller: Caller, using: Using) -> Response:
    """Metrics in the text format of Prometheus. For those who may see every organization."""
    if caller.organization is not None:
        raise Refusal(403, "The daemon's metrics are for users of its own machine.")
    return Response(await using.exposition.text(), media_type=CONTENT_TYPE_LATEST)
