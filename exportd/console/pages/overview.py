"""The first page: what a person has to do now, and what goes on."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from exportd.api.routers.overview import list_all_jobs, list_all_schedules
from exportd.api.routers.status import follow_jobs
from exportd.console.attention import needs_attention
from exportd.console.visitor import PageRoute, Visiting, while_visiting

_MAX_SCHEDULES = 200
_FIRINGS = 10
_MAX_TODAY = 100
_MAX_BEHIND = 10

router = APIRouter(prefix="/console", route_class=PageRoute, include_in_schema=False)


@router.get("/")
async def show_overview(visitor: Visiting) -> Response:
    """Failures first; then what runs, what comes next, and how the daemon is."""
    viewer, using = visitor.viewer, visitor.using
    daemon = await visitor.daemon()
    running = await list_all_jobs(viewer=viewer, jobs=using.jobs, signer=using.signer, status="RUNNING")
    newest = await list_all_jobs(viewer=viewer, jobs=using.jobs, signer=using.signer, page_size=10)
    midnight = visitor.now.replace(hour=0, minute=0, second=0, microsecond=0)
    today = await list_all_jobs(
        viewer=viewer, jobs=using.jobs, signer=using.signer, created_start=midnight.isoformat(), page_size=_MAX_TODAY
    )
    known = await list_all_schedules(
        viewer=viewer, schedules=using.schedules, signer=using.signer, page_size=_MAX_SCHEDULES
    )
    behind = [] if daemon is None else [(code, found) for code, found in daemon.entities.items() if found.read_until]
    behind.sort(key=lambda entity: entity[1].lag_seconds or 0.0, reverse=True)
    due = sorted((schedule for schedule in known.data if schedule.paused is None), key=lambda found: found.next_due_at)
    return visitor.page(
        "overview.html",
        daemon=daemon,
        tasks=needs_attention(daemon, known.data, visitor.damaged()),
        running=running.data,
        newest=newest.data,
        today=today,
        due=due[:_FIRINGS],
        behind=behind[:_MAX_BEHIND],
    )


@router.get("/events")
async def follow(request: Request, visitor: Visiting) -> Response:
    """Says when there is something new about the jobs that run."""
    return while_visiting(request, await follow_jobs(visitor.viewer, visitor.using.jobs))
