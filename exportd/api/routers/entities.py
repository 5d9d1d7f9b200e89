"""Entities: what can be exported, and the capture of their changes in the application's database."""

from typing import Annotated

from fastapi import APIRouter, Path

from exportd.api.dependencies import Administering, Host, Looking, Operating, Status, StrictRoute, Viewing
from exportd.api.pagination import known_entity
from exportd.api.problems import Refusal, responses
from exportd.api.schemas.entity import EntityDocument, EntityList, entity_documents
from exportd.api.schemas.operations import CaptureList, CaptureRemoval, CaptureRequest, capture_answer, capture_removal
from exportd.capture.installer import install_on_request, uninstall_on_request
from exportd.model.entity import EntityCode
from exportd.model.foreign_text import MAX_CODE_LENGTH
from exportd.settings.sentences import did_you_mean

operators = APIRouter(prefix="/v1", tags=["operations"], route_class=StrictRoute)


@operators.get("/entities", responses=responses(401, 403))
async def list_entities(viewer: Viewing, host: Host, status: Status) -> EntityList:
    """What can be exported: the catalog, with what only the database knows."""
    entities, local = host.entities.values(), status.local()
    return EntityList(
        data=entity_documents(
            entities, entities, local.out_of_order, standings=local.standings, shows_tables=viewer.sees_machine
        )
    )


@operators.get("/entities/{name}", responses=responses(401, 403, 404))
async def show_entity(
    viewer: Viewing,
    host: Host,
    status: Status,
    name: Annotated[str, Path(max_length=MAX_CODE_LENGTH, description="As the catalog calls it.")],
) -> EntityDocument:
    """One entity: its fields, their types, what they refer to, and what refers to it."""
    entity = host.entities.get(EntityCode(name))
    if entity is None:
        hint = did_you_mean(name, host.entities, what="entities of the catalog")
        raise Refusal(404, f"The catalog has no entity {name!r}; {hint}")
    local, catalog = status.local(), host.entities.values()
    (document,) = entity_documents(
        [entity], catalog, local.out_of_order, standings=local.standings, shows_tables=viewer.sees_machine
    )
    return document


@operators.get("/capture", responses=responses(401, 403))
async def show_capture(_caller: Looking, host: Host) -> CaptureList:
    """Whether the changes of each entity are captured, and the SQL that would repair what is wrong."""
    return CaptureList(
        data=[capture_answer(found) for found in await host.capture.status(list(host.entities.values()))]
    )


@operators.post("/capture/install", responses=responses(400, 401, 403, 409))
async def install_capture(caller: Operating, host: Host, body: CaptureRequest) -> CaptureList:
    """Make the capture of entities whole. May be repeated."""
    names = [known_entity(name, host.entities, field="entities") for name in body.entities] or host.entities
    entities = [host.entities[name] for name in names]
    if body.dry_run:
        return CaptureList(data=[capture_answer(found) for found in await host.capture.status(entities)])
    done = await install_on_request(host.capture, host.auditor, entities, actor=caller.name)
    return CaptureList(data=[capture_answer(found, repaired=True) for found in done])


@operators.post("/capture/uninstall", responses=responses(400, 401, 403, 409))
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
