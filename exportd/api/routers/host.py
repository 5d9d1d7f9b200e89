"""What concerns the application's database and this daemon's process: capture, and how much is logged."""

from typing import Annotated

from fastapi import APIRouter, Query

from exportd.api.dependencies import Administering, Collaborators, Looking, Operating, Using
from exportd.api.problems import Refusal, responses
from exportd.api.schemas.fields import Answer
from exportd.api.schemas.operations import (
    CaptureList,
    CaptureRemoval,
    CaptureRequest,
    LogLevel,
    ShownLogLevel,
    shown_capture,
)
from exportd.api.transport.request_reader import StrictRoute
from exportd.model.change_log import log_name
from exportd.model.entity import Entity
from exportd.settings.closest import did_you_mean

router = APIRouter(prefix="/v1", tags=["operations"], route_class=StrictRoute)


@router.get("/log-level", responses=responses(401, 403))
async def show_log_level(_caller: Looking, using: Using) -> ShownLogLevel:
    """How much this daemon says."""
    return ShownLogLevel(level=using.log_level.get())


@router.put("/log-level", responses=responses(400, 401, 403))
async def set_log_level(caller: Administering, using: Using, body: LogLevel) -> ShownLogLevel:
    """Have this daemon say more or less, until it is started again."""
    await using.auditor.write("log level set", actor=caller.name, level=body.level)
    using.log_level.set(body.level)
    return ShownLogLevel(level=using.log_level.get())


@router.get("/capture", responses=responses(401, 403))
async def show_capture(_caller: Looking, using: Using) -> CaptureList:
    """Whether the changes of each entity are captured, and the SQL that would put right what is amiss."""
    found = await using.capture.status(list(using.captured.values()))
    return CaptureList(data=[shown_capture(each) for each in found])


@router.post("/capture/install", responses=responses(400, 401, 403, 409))
async def install_capture(caller: Operating, using: Using, body: CaptureRequest) -> CaptureList:
    """Make the capture of entities whole. May be repeated."""
    entities = _chosen(using, body.entities)
    if body.dry_run:
        return CaptureList(data=[shown_capture(each) for each in await using.capture.status(entities)])
    await using.auditor.write("capture installed", actor=caller.name, entities=[entity.code for entity in entities])
    return CaptureList(data=[shown_capture(each, repaired=True) for each in await using.capture.install(entities)])


@router.post("/capture/uninstall", responses=responses(400, 401, 403, 409))
async def uninstall_capture(caller: Administering, using: Using, body: CaptureRequest) -> CaptureRemoval:
    """Remove triggers, functions and change logs. The next run of an entity captures it again, and is full."""
    logs = [log_name(each.code) for each in _chosen(using, body.entities)]
    removals = await using.capture.removals(logs)
    if not body.dry_run and removals:
        await using.auditor.write("capture uninstalled", actor=caller.name, logs=list(removals))
        await using.capture.uninstall(list(removals))
    return CaptureRemoval(
        removed=[] if body.dry_run else list(removals),
        statements=[statement for statements in removals.values() for statement in statements],
    )


def _chosen(using: Collaborators, names: list[str]) -> list[Entity]:
    """Raises Refusal 400 for what is no entity."""
    known = using.captured
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known, what="entities of the catalog")
            raise Refusal(400, f"entities: there is no entity {name[:80]!r}; {hint}")
    return [each for each in known.values() if not names or each.code in names]


# MERGED: Put the configuration file into effect.


class ShownChange(Answer):
    """One thing that is different: a key, or what it is (``schedule hourly of org-acme``), and what about it."""

    subject: str
    details: str


class ReloadAnswer(Answer):
    """What a reload has changed, or would change; all of it once more in words. ``disagreements`` are with other
    daemons of the database, a sentence each, as they are now.
    """

    dry_run: bool
    added: list[ShownChange]
    removed: list[ShownChange]
    changed: list[ShownChange]
    needs_restart: list[ShownChange]
    sentences: list[str]
    disagreements: list[str]


@router.post("/reload", responses=responses(400, 401, 403))
async def reload(
    _: Administering,
    using: Using,
    dry_run: Annotated[bool, Query(alias="dryRun", description="Only say what would change.")] = False,
) -> ReloadAnswer:
    """Check the configuration file, and put it into effect; jobs that run end as they began.

    When anything is wrong with the file, nothing is changed, and ``message`` has every problem, a line each.
    """
    difference = await using.reload(dry_run=dry_run)
    return ReloadAnswer.model_validate(
        {
            **difference.to_json(),
            "dryRun": dry_run,
            "sentences": [str(change) for change in difference.changes],
            "disagreements": [disagreement.sentence for disagreement in using.local_status().disagreements],
        }
    )
