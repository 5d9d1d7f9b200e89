"""The capture in the application's database, and this daemon's process: its configuration file, how much it logs."""

from typing import Annotated

from fastapi import APIRouter, Query

from exportd.api.capture_operations import capture_install, capture_status, capture_uninstall
from exportd.api.dependencies import Administering, Host, Looking, Operating, Status
from exportd.api.pagination import known_entity
from exportd.api.problems import responses
from exportd.api.schemas.operations import (
    CaptureList,
    CaptureRemoval,
    CaptureRequest,
    LogLevel,
    ReloadAnswer,
    ShownLogLevel,
)
from exportd.api.transport.request_reader import StrictRoute
from exportd.model.entity import EntityCode

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


@router.get("/capture", responses=responses(401, 403))
async def show_capture(_caller: Looking, host: Host) -> CaptureList:
    """Whether the changes of each entity are captured, and the SQL that would repair what is wrong."""
    return CaptureList(data=await capture_status(host.capture, list(host.entities.values())))


@router.post("/capture/install", responses=responses(400, 401, 403, 409))
async def install_capture(caller: Operating, host: Host, body: CaptureRequest) -> CaptureList:
    """Make the capture of entities whole. May be repeated."""
    names = [known_entity(name, host.entities, field="entities") for name in body.entities] or host.entities
    entities = [host.entities[name] for name in names]
    if body.dry_run:
        return CaptureList(data=await capture_status(host.capture, entities))
    return CaptureList(data=await capture_install(host.capture, host.auditor, entities, actor=caller.name))


@router.post("/capture/uninstall", responses=responses(400, 401, 403, 409))
async def uninstall_capture(caller: Administering, host: Host, body: CaptureRequest) -> CaptureRemoval:
    """Remove triggers, functions and change logs. The next run of an entity captures it again, and is full."""
    return await capture_uninstall(
        host.capture,
        host.auditor,
        [EntityCode(name) for name in body.entities],
        known=host.entities,
        dry_run=body.dry_run,
        actor=caller.name,
    )


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
