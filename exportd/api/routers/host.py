"""The capture in the application's database, this daemon's process and configuration, and the audit of all daemons."""

from typing import Annotated

from fastapi import APIRouter, Query

from exportd.api.dependencies import (
    Administering,
    Host,
    Looking,
    NextToken,
    OnlyOrganization,
    Operating,
    PageSigner,
    PageSize,
    Status,
    Viewing,
)
from exportd.api.pagination import Pages, known_entity
from exportd.api.problems import responses
from exportd.api.routers.overview import EVERY_ORGANIZATION
from exportd.api.schemas.fields import parse_id
from exportd.api.schemas.operations import (
    AuditPage,
    CaptureList,
    CaptureRemoval,
    CaptureRequest,
    LogLevel,
    ReloadAnswer,
    ShownLogLevel,
    audit_entry,
    capture_answer,
    capture_removal,
)
from exportd.api.transport.request_reader import StrictRoute
from exportd.capture.installer import install_on_request, uninstall_on_request
from exportd.model.entity import EntityCode
from exportd.model.foreign_text import MAX_WORD_LENGTH

router = APIRouter(prefix="/v1", tags=["operations"], route_class=StrictRoute)


@router.get("/log-level", responses=responses(401, 403))
async def show_log_level(_caller: Looking, host: Host) -> ShownLogLevel:
    """How much this daemon logs."""
    return ShownLogLevel(level=host.log_level.get())


@router.put("/log-level", responses=responses(400, 401, 403))
async def set_log_level(caller: Administering, host: Host, body: LogLevel) -> ShownLogLevel:
    """Have this daemon log more or less, until it is started again."""
    await host.auditor.write("log level set", actor=caller.name, level=body.level)
    host.log_level.set(body.level)
    return ShownLogLevel(level=host.log_level.get())


@router.get("/audit", responses=responses(400, 401, 403))
async def list_audit(
    *,
    viewer: Viewing,
    host: Host,
    signer: PageSigner,
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
    paging = Pages(signer, owner or EVERY_ORGANIZATION, f"audit {wanted or ''} {action or ''}")
    found = await host.auditor.page(
        organization=owner, object_id=wanted, action=action, before=paging.number(next_token), limit=page_size + 1
    )
    page, token = paging.cut(found, page_size, lambda row: row.number)
    return AuditPage(data=[audit_entry(row) for row in page], next_token=token)


@router.get("/capture", responses=responses(401, 403))
async def show_capture(_caller: Looking, host: Host) -> CaptureList:
    """Whether the changes of each entity are captured, and the SQL that would repair what is wrong."""
    return CaptureList(
        data=[capture_answer(found) for found in await host.capture.status(list(host.entities.values()))]
    )


@router.post("/capture/install", responses=responses(400, 401, 403, 409))
async def install_capture(caller: Operating, host: Host, body: CaptureRequest) -> CaptureList:
    """Make the capture of entities whole. May be repeated."""
    names = [known_entity(name, host.entities, field="entities") for name in body.entities] or host.entities
    entities = [host.entities[name] for name in names]
    if body.dry_run:
        return CaptureList(data=[capture_answer(found) for found in await host.capture.status(entities)])
    done = await install_on_request(host.capture, host.auditor, entities, actor=caller.name)
    return CaptureList(data=[capture_answer(found, repaired=True) for found in done])


@router.post("/capture/uninstall", responses=responses(400, 401, 403, 409))
async def uninstall_capture(caller: Administering, host: Host, body: CaptureRequest) -> CaptureRemoval:
    """Remove triggers, functions and change logs. The next run of an entity captures it again, and is full."""
    removals = await uninstall_on_request(
        host.capture,
        host.auditor,
        [EntityCode(name) for name in body.entities],
        known=host.entities,
        dry_run=body.dry_run,
        actor=caller.name,
    )
    return capture_removal(removals, dry_run=body.dry_run)


@router.post("/reload", responses=responses(400, 401, 403))
async def reload(
    *,
    caller: Administering,
    host: Host,
    status: Status,
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
