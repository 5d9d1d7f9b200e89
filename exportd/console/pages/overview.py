"""The first page: what a person has to do now, the most urgent first, and what is running."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from exportd.api.routers.jobs import follow_jobs, list_all_jobs
from exportd.api.routers.schedules import list_all_schedules
from exportd.api.schemas.schedule import ScheduleDetails
from exportd.api.schemas.status import DaemonStatus
from exportd.console.visitor import PageRoute, Visiting, while_visiting
from exportd.model.foreign_text import MAX_CODE_LENGTH

_MAX_SCHEDULES = 200
_FIRINGS = 10
_MAX_TODAY = 100
_MAX_BEHIND = 10
_MAX_NAMED = 5

router = APIRouter(prefix="/console", route_class=PageRoute, include_in_schema=False)

SPOOL_SHARE = 0.8
"""The share of the spool's budget from which on it is reported."""


@router.get("/")
async def show_overview(
    visitor: Visiting, organization: Annotated[str, Query(max_length=MAX_CODE_LENGTH)] = ""
) -> Response:
    """Failures first; then what runs, what comes next, and how the daemon is. Of one ``organization``, or of all."""
    viewer, using, only = visitor.viewer, visitor.using, organization or None
    daemon = await visitor.daemon()
    listed = partial(list_all_jobs, viewer, using.jobs, using.signer, organization=only)
    running = await listed(status="RUNNING")
    newest = await listed(page_size=10)
    midnight = visitor.now.replace(hour=0, minute=0, second=0, microsecond=0)
    today = await listed(created_start=midnight.isoformat(), page_size=_MAX_TODAY)
    known = await list_all_schedules(viewer, using.schedules, using.signer, organization=only, page_size=_MAX_SCHEDULES)
    behind = [] if daemon is None else [(code, found) for code, found in daemon.entities.items() if found.read_until]
    behind.sort(key=lambda entity: entity[1].lag_seconds or 0.0, reverse=True)
    due = sorted((schedule for schedule in known.data if schedule.paused is None), key=lambda found: found.next_due_at)
    return visitor.page(
        "overview.html",
        daemon=daemon,
        tasks=needs_attention(daemon and _of_organization(daemon, only), known.data, visitor.damaged()),
        filters={"organization": organization},
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


def _of_organization(daemon: DaemonStatus, organization: str | None) -> DaemonStatus:
    """The daemon's status without the destinations and jobs of other organizations."""
    if organization is None:
        return daemon
    return daemon.model_copy(
        update={
            "destinations": [found for found in daemon.destinations if found.organization == organization],
            "leases": [lease for lease in daemon.leases if lease.organization == organization],
        }
    )


@dataclass(frozen=True, slots=True)
class Task:
    """A task. ``sentence`` says what is wrong. ``link`` is the page that helps, if there is one."""

    what: str
    sentence: str
    link: str | None = None


def needs_attention(
    daemon: DaemonStatus | None, schedules: Iterable[ScheduleDetails], damaged: Collection[str] = ()
) -> Sequence[Task]:
    """The tasks: failing schedules, unreachable destinations, entities out of order, waiting jobs, and daemons with
    problems.

    ``damaged`` are the entities whose capture is incomplete.

    Visitors who do not see the ``daemon`` (None) get only their failing schedules.
    """
    failing = [
        Task(
            f"Schedule {schedule.code} of {schedule.organization} failed",
            schedule.last_job.message or schedule.last_job.reason or "",
            f"/console/jobs/{schedule.last_job.id}",
        )
        for schedule in schedules
        if schedule.last_job is not None and schedule.last_job.status == "FAILED"
    ]
    return failing if daemon is None else [*failing, *_of_daemon(daemon, damaged)]


def _of_daemon(daemon: DaemonStatus, damaged: Collection[str]) -> Sequence[Task]:
    return [
        *(
            Task(
                f"Destination {destination.code} of {destination.organization}: {destination.condition}",
                destination.last_failure.message if destination.last_failure else "",
                f"/console/destinations/{destination.id}",
            )
            for destination in daemon.destinations
            if destination.condition is not None
        ),
        *_of_capture(damaged),
        *(
            Task(f"Entity {name} cannot be exported", entity.out_of_order, f"/console/entities/{name}")
            for name, entity in daemon.entities.items()
            if entity.out_of_order is not None
        ),
        *(
            Task(
                f"A job of {lease.organization} waits for the database", stall.message, f"/console/jobs/{lease.job_id}"
            )
            for lease in daemon.leases
            for stall in lease.stalls
        ),
        *(Task(f"The daemon on {found.host} disagrees", found.message) for found in daemon.disagreements),
        *(
            Task(f"{name.capitalize()} does not run", "It is started again by itself; the log says why it ended.")
            for name, service in daemon.services.items()
            if not service.running
        ),
        *_of_listener(daemon),
        *_of_spool(daemon),
    ]


def _of_capture(damaged: Collection[str]) -> Iterable[Task]:
    if damaged:
        codes = sorted(damaged)
        named = ", ".join(codes[:_MAX_NAMED]) + (" and more" if len(codes) > _MAX_NAMED else "")
        count = f"{len(codes)} entities" if len(codes) > 1 else "an entity"
        sentence = f"{named}: some changes may not be recorded, so the next run is complete. The page has the repair."
        yield Task(f"The capture of {count} is not whole", sentence, "/console/system/capture")


def _of_listener(daemon: DaemonStatus) -> Iterable[Task]:
    if not daemon.listener.listening:
        yield Task("The database does not notify this daemon", daemon.listener.trouble or "It polls instead.")


def _of_spool(daemon: DaemonStatus) -> Iterable[Task]:
    share = daemon.spool.used_bytes / daemon.spool.budget_bytes if daemon.spool.budget_bytes else 0.0
    if share > SPOOL_SHARE:
        yield Task(
            f"The spool is {share:.0%} full", "Jobs wait when it is full. Raise spool.budget, or keep files shorter."
        )
