"""The daemon that is asked: its status, metrics, log and configuration; and what concerns all daemons of its database:
their pause, the organizations, and the audit.
"""

from typing import Annotated

from fastapi import APIRouter, Query
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from exportd.api.dependencies import (
    Administering,
    Caller,
    Destinations,
    Host,
    Jobs,
    Looking,
    Now,
    Operating,
    PageSigner,
    Status,
    StrictRoute,
    Viewing,
)
from exportd.api.pagination import IdInPath, NextToken, OnlyOrganization, Pages, PageSize, id_in_path
from exportd.api.problems import Refusal, responses
from exportd.api.schemas.fields import parse_id
from exportd.api.schemas.operations import (
    AuditEntry,
    AuditPage,
    Done,
    LogLevel,
    OrganizationList,
    PauseAnswer,
    ReloadAnswer,
    ShownLogLevel,
    shown_pause,
)
from exportd.api.schemas.status import DaemonStatus, shown_status
from exportd.model.foreign_text import MAX_WORD_LENGTH

router = APIRouter(tags=["daemon"], route_class=StrictRoute)
operators = APIRouter(prefix="/v1", tags=["operations"], route_class=StrictRoute)


@router.get("/v1/status", responses=responses(401, 403))
async def show_status(_caller: Looking, status: Status, now: Now) -> DaemonStatus:
    """Services, queue, leases, spool, how far each entity has been read, and how the destinations are."""
    return shown_status(status.local(), await status.shared.read(), status.condition, now=now)


@router.get("/metrics", responses=responses(401, 403), response_class=Response)
async def show_metrics(caller: Caller, status: Status) -> Response:
    """Metrics in the text format of Prometheus. For those who may see every organization."""
    if caller.organization is not None:
        raise Refusal(403, "The daemon's metrics are for users of its own machine.")
    return Response(await status.exposition.text(), media_type=CONTENT_TYPE_LATEST)


@operators.get("/organizations", responses=responses(401, 403))
async def list_organizations(viewer: Viewing, destinations: Destinations) -> OrganizationList:
    """The organizations that have a destination or a schedule; a program's own."""
    if viewer.organization is not None:
        return OrganizationList(data=[viewer.organization])
    return OrganizationList(data=list(await destinations.operator.organizations()))


@operators.get("/pause", responses=responses(401, 403))
async def show_pause(_caller: Looking, jobs: Jobs) -> PauseAnswer:
    """Whether the daemons of this database are paused."""
    return shown_pause(await jobs.operator.paused())


@operators.post("/pause", responses=responses(401, 403))
async def pause(caller: Operating, jobs: Jobs) -> PauseAnswer:
    """No daemon of this database takes a job any more. Jobs that run go on; schedules fire, and their jobs wait."""
    return shown_pause(await jobs.operator.pause(actor=caller.name))


@operators.post("/resume", responses=responses(401, 403))
async def resume(caller: Operating, jobs: Jobs) -> PauseAnswer:
    """Jobs are taken again."""
    await jobs.operator.resume(actor=caller.name)
    return shown_pause(None)


@operators.delete("/daemons/{id}", responses=responses(401, 403, 404, 409))
async def forget_daemon(caller: Operating, host: Host, daemon_id: IdInPath) -> Done:
    """Do not wait for a daemon to come back: what only it declares is taken out. 409 for one that runs."""
    name = await host.daemons.forget(id_in_path(daemon_id, "daemon"), actor=caller.name)
    return Done(message=f"The daemon on {name} is forgotten. What only it declared is taken out.")


@operators.get("/audit", responses=responses(400, 401, 403))
async def list_audit(
    viewer: Viewing,
    host: Host,
    signer: PageSigner,
    *,
    organization: OnlyOrganization = None,
    object_id: Annotated[
        str | None,
        Query(
            alias="object",
            max_length=MAX_WORD_LENGTH,
            description="Only about the schedule, destination, … of this id.",
        ),
    ] = None,
    action: Annotated[
        str | None,
        Query(
            min_length=1,
            max_length=MAX_WORD_LENGTH,
            description="Only deeds whose name begins so, such as `capture`, among the newest 1,000 rows.",
        ),
    ] = None,
    page_size: PageSize = 100,
    next_token: NextToken = None,
) -> AuditPage:
    """Who did what, the newest first: every deed of users of the machine and of programs."""
    owner = viewer.of(organization)
    wanted = parse_id(object_id) if object_id else None
    if object_id and wanted is None:
        return AuditPage(data=[])
    paging = Pages(signer, owner, f"audit {wanted or ''} {action or ''}")
    found = await host.auditor.page(
        organization=owner, object_id=wanted, action=action, before=paging.number(next_token), limit=page_size + 1
    )
    page, token = paging.cut(found, page_size, lambda row: row.number)
    return AuditPage(data=[AuditEntry.of(row) for row in page], next_token=token)


@operators.get("/log-level", responses=responses(401, 403))
async def show_log_level(_caller: Looking, host: Host) -> ShownLogLevel:
    """How much this daemon logs."""
    return ShownLogLevel(level=host.log_level.get())


@operators.put("/log-level", responses=responses(400, 401, 403))
async def set_log_level(caller: Administering, host: Host, body: LogLevel) -> ShownLogLevel:
    """Have this daemon log more or less, until it is started again."""
    await host.auditor.write("log level set", actor=caller.name, level=body.level)
    host.log_level.set(body.level)
    return ShownLogLevel(level=host.log_level.get())


@operators.post("/reload", responses=responses(400, 401, 403))
async def reload(
    caller: Administering,
    host: Host,
    status: Status,
    *,
    dry_run: Annotated[bool, Query(alias="dryRun", description="Only say what would change.")] = False,
) -> ReloadAnswer:
    """Check the configuration file, and put it into effect; jobs that run end as they began.

    When anything is wrong with the file, nothing is changed, and ``message`` has every problem, a line each.
    """
    if not dry_run:
        await host.auditor.write("configuration reloaded", actor=caller.name)
    difference = await host.reload(dry_run=dry_run)
    return ReloadAnswer.model_validate(
        {
            **difference.to_json(),
            "dryRun": dry_run,
            "sentences": [str(change) for change in difference.changes],
            "disagreements": [disagreement.sentence for disagreement in status.local().disagreements],
        }
    )
