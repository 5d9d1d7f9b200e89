"""How the daemon is, its metrics, and how jobs come along."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response, StreamingResponse

from exportd.api.collaborators import JobCollaborators
from exportd.api.dependencies import Caller, Jobs, Limits, Looking, Now, Status, Viewing, occupy_connection
from exportd.api.identity.access import Viewer
from exportd.api.job_watcher import EventStream
from exportd.api.pagination import IdInPath, id_in_path
from exportd.api.problems import Refusal, responses
from exportd.api.schemas.status import DaemonStatus, shown_status
from exportd.api.transport.request_reader import StrictRoute
from exportd.jobs.job_record import unknown_job
from exportd.model.foreign_text import MAX_TEXT_LENGTH
from exportd.model.job import JobId

router = APIRouter(tags=["daemon"], route_class=StrictRoute)

_EVENTS = {"description": "Server-sent events: phase, progress, end", "content": {"text/event-stream": {}}}


@router.get("/v1/status", responses=responses(401, 403))
async def show_status(_caller: Looking, status: Status, now: Now) -> DaemonStatus:
    """Services, queue, leases, spool, how far each entity has been read, and how the destinations are."""
    return shown_status(status.local(), await status.shared.read(), status.condition, now=now)


@router.get("/v1/events", responses={200: _EVENTS, **responses(401, 403)}, response_class=StreamingResponse)
async def follow_jobs(viewer: Viewing, jobs: Jobs) -> EventStream:
    """How the running jobs of all daemons come along, until this daemon leaves."""
    return _stream(jobs, viewer, None)


@router.get(
    "/v1/jobs/{id}/events", responses={200: _EVENTS, **responses(401, 403, 404)}, response_class=StreamingResponse
)
async def follow_job(viewer: Viewing, jobs: Jobs, job_id: IdInPath) -> EventStream:
    """How one job comes along, until it has ended."""
    found = JobId(id_in_path(job_id, "job"))
    if not any(job.id == found and viewer.sees(job.organization) for job in await jobs.operator.watched([found])):
        raise Refusal(404, unknown_job(repr(job_id)))
    return _stream(jobs, viewer, found)


@router.get("/downloads/{token}", responses=responses(403, 404), response_class=Response)
async def download(
    request: Request, token: Annotated[str, Path(max_length=MAX_TEXT_LENGTH)], jobs: Jobs, limits: Limits
) -> Response:
    """The archive that a link of ``getdownloadurl`` leads to."""
    return await jobs.downloads.serve(token, admit=partial(occupy_connection, request, limits))


@router.get("/metrics", responses=responses(401, 403), response_class=Response)
async def show_metrics(caller: Caller, status: Status) -> Response:
    """Metrics in the text format of Prometheus. For those who may see every organization."""
    if caller.organization is not None:
        raise Refusal(403, "The daemon's metrics are for users of its own machine.")
    return Response(await status.exposition.text(), media_type=CONTENT_TYPE_LATEST)


def _stream(jobs: JobCollaborators, viewer: Viewer, job_id: JobId | None) -> EventStream:
    """The programs of an organization share its streams. Raises Refusal when there are too many."""
    owner = viewer.name if viewer.organization is None else f"organization {viewer.organization}"
    if jobs.watcher.is_full(for_programs=viewer.organization is not None):
        raise Refusal(
            503, "As many clients as may follow jobs do so already. Try again later.", headers={"retry-after": "5"}
        )
    if jobs.watcher.count_of(owner) >= jobs.streams:
        raise Refusal(
            429,
            f"{owner} follows {jobs.streams} streams of events already, as many as one user may (quotas.streams)."
            " End one of them.",
            headers={"retry-after": "5"},
        )
    return EventStream(jobs.watcher.stream(job_id, organization=viewer.organization, owner=owner))
