"""The daemon itself, for users of its machine: services, daemons, capture, configuration, log level, credentials of
programs; and the audit. Programs never get here, because ``FOR_ORGANIZATIONS`` has none of these pages.
"""

import json
from collections.abc import Mapping
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from pydantic import TypeAdapter
from starlette.responses import Response

from exportd.api.identity.client_table import Role
from exportd.api.pagination import IdInPath, NextToken
from exportd.api.problems import Refusal, answered
from exportd.api.routers.daemon import (
    forget_daemon,
    list_audit,
    list_organizations,
    pause,
    reload,
    resume,
    set_log_level,
    show_log_level,
    show_pause,
    show_status,
)
from exportd.api.routers.entities import install_capture, show_capture, uninstall_capture
from exportd.api.routers.schedules import list_all_schedules
from exportd.api.routers.tokens import create_client, list_clients, withdraw_client
from exportd.api.schemas.operations import (
    AuditEntry,
    CaptureList,
    CaptureRequest,
    ClientCreation,
    CreatedClient,
    LogLevel,
    ShownClient,
)
from exportd.capture.script import script_of
from exportd.console.forms import NOT_REFUSED, Form, Refused, body_of
from exportd.console.visitor import PageRoute, Visiting, Visitor
from exportd.model.errors import ExportdError
from exportd.model.foreign_text import MAX_CODE_LENGTH, MAX_WORD_LENGTH

router = APIRouter(prefix="/console/system", route_class=PageRoute, include_in_schema=False)

_CAPTURE, _LOG_LEVEL, _CLIENT = TypeAdapter(CaptureRequest), TypeAdapter(LogLevel), TypeAdapter(ClientCreation)


@router.get("")
async def show_system(visitor: Visiting) -> Response:
    """How the services and the other daemons are, how much is logged, which version runs."""
    paused = await show_pause(visitor.identity, visitor.using.jobs)  # newer than what the daemon has in memory
    return _page(
        visitor,
        "system.html",
        daemon=await show_status(visitor.identity, visitor.using.status, visitor.now),
        level=(await show_log_level(visitor.identity, visitor.using.host)).level,
        pause=paused if paused.paused else None,
    )


@router.get("/runbook")
async def show_runbook(visitor: Visiting) -> Response:
    """What to do when something is wrong."""
    return visitor.page("runbook.html")


@router.post("/pause")
async def pause_all(visitor: Visiting) -> Response:
    """No daemon of the database takes a job."""
    await pause(visitor.require(Role.OPERATOR), visitor.using.jobs)
    return visitor.back("/console/system", "All daemons are paused. Jobs that run go on.")


@router.post("/resume")
async def resume_all(visitor: Visiting) -> Response:
    """They take jobs again."""
    await resume(visitor.require(Role.OPERATOR), visitor.using.jobs)
    return visitor.back("/console/system", "The daemons take jobs again.")


@router.get("/daemons/{id}/forget")
async def confirm_forgetting(visitor: Visiting, daemon_id: IdInPath) -> Response:
    """What it means not to wait for a daemon, before it is done."""
    daemon = await show_status(visitor.identity, visitor.using.status, visitor.now)
    gone = next((known for known in daemon.daemons if known.id == daemon_id), None)
    if gone is None:
        raise Refusal(404, "There is no such daemon any more. The page System lists them.")
    return visitor.page("forget_daemon.html", gone=gone)


@router.post("/daemons/{id}/forget")
async def forget(visitor: Visiting, daemon_id: IdInPath) -> Response:
    """What only that daemon declares is taken out."""
    done = await forget_daemon(visitor.require(Role.OPERATOR), visitor.using.host, daemon_id)
    return visitor.back("/console/system", done.message)


@router.post("/log-level")
async def change_log_level(request: Request, visitor: Visiting) -> Response:
    """Have this daemon log more or less, until it is started again."""
    actor, form = visitor.require(Role.ADMIN), Form.of(await request.body())
    shown = await set_log_level(actor, visitor.using.host, body_of(_LOG_LEVEL, {"level": form.text("level")}))
    return visitor.back("/console/system", f"The daemon logs from the level {shown.level} on.")


@router.get("/capture")
async def show_captured(visitor: Visiting) -> Response:
    """Whether the changes of each entity are recorded, and the SQL that puts right what is wrong."""
    return _capture_page(visitor, await show_capture(visitor.identity, visitor.using.host))


@router.post("/capture")
async def repair_capture(request: Request, visitor: Visiting) -> Response:
    """Run that SQL."""
    actor, form = visitor.require(Role.OPERATOR), Form.of(await request.body())
    names = form.texts("entity")
    if not names:
        raise Refusal(400, "entity: no entity is named. Go back and look again at what is wrong.")
    done = await install_capture(actor, visitor.using.host, body_of(_CAPTURE, {"entities": names}))
    return _capture_page(visitor, done, is_done=True)


@router.get("/capture/remove")
async def confirm_removal(
    visitor: Visiting, entity: Annotated[str, Query(min_length=1, max_length=MAX_CODE_LENGTH)]
) -> Response:
    """What removing an entity's capture means, and the SQL that does it, before it is done."""
    if visitor.identity.role < Role.ADMIN:
        return _page(visitor, "remove_capture.html", entity=entity, script="")
    body = body_of(_CAPTURE, {"entities": [entity], "dryRun": True})
    found = await uninstall_capture(visitor.identity, visitor.using.host, body)
    schedules = await list_all_schedules(
        visitor.viewer, visitor.using.schedules, visitor.using.signer, entity=entity, page_size=200
    )
    return _page(
        visitor,
        "remove_capture.html",
        entity=entity,
        script=script_of("removal", [f"what captures {entity}"], found.statements) if found.statements else "",
        schedules=schedules.data,
        more=schedules.next_token is not None,
    )


@router.post("/capture/remove")
async def remove_capture(request: Request, visitor: Visiting) -> Response:
    """Take triggers, functions and the change log away."""
    actor, form = visitor.require(Role.ADMIN), Form.of(await request.body())
    if not (entity := form.text("entity")):  # none would be every entity
        raise Refusal(400, "entity: no entity is named. Go back to the page Capture.")
    body = body_of(_CAPTURE, {"entities": [entity]})
    done = await uninstall_capture(actor, visitor.using.host, body)
    words = f"removed with {', '.join(f'exportd.{log}' for log in done.removed)}" if done.removed else "not there"
    return visitor.back("/console/system/capture", f"The capture of {entity} is {words}.")


@router.get("/clients")
async def show_clients(visitor: Visiting) -> Response:
    """The programs that have credentials, and the form for another."""
    return await _clients_page(visitor)


@router.post("/clients")
async def hand_out(request: Request, visitor: Visiting) -> Response:
    """Make credentials. The secret stands on the page that answers, and nowhere else."""
    actor, form = visitor.require(Role.ADMIN), Form.of(await request.body())
    filled = {name: form.text(name) for name in ("organization", "name", "role")}
    try:
        made = await create_client(actor, visitor.using.access, body_of(_CLIENT, filled))
    except (Refusal, ExportdError) as error:
        refused = Refused.of(error, *await answered(request, error))
        return await _clients_page(visitor, filled=filled, refused=refused)
    return await _clients_page(visitor, made=made)


@router.get("/clients/{id}/withdraw")
async def confirm_withdrawal(visitor: Visiting, client_id: IdInPath) -> Response:
    """What withdrawing a program's credentials means, before it is done."""
    visitor.require(Role.ADMIN)
    clients = (await list_clients(visitor.identity, visitor.using.access)).data
    client = next((known for known in clients if known.id == client_id), None)
    if client is None:
        raise Refusal(404, "There are no such credentials. The page Credentials lists them.")
    others = sum(known.active and known.organization == client.organization for known in clients) - client.active
    return visitor.page("withdraw_client.html", client=client, others=others)


@router.post("/clients/{id}/withdraw")
async def withdraw(visitor: Visiting, client_id: IdInPath) -> Response:
    """The secret and its tokens are worth nothing from here on."""
    client = await withdraw_client(visitor.require(Role.ADMIN), visitor.using.access, client_id)
    return visitor.back("/console/system/clients", f"The credentials of {client.name} are withdrawn.")


@router.get("/reload")
async def show_differences(request: Request, visitor: Visiting) -> Response:
    """What the configuration file would change, before it does."""
    if visitor.identity.role < Role.ADMIN:
        return _page(visitor, "reload.html", found=None, refused=NOT_REFUSED)
    try:
        found = await reload(visitor.identity, visitor.using.host, visitor.using.status, dry_run=True)
    except ExportdError as error:
        refused = Refused.of(error, *await answered(request, error))
        # The problems of the file are the expected answer.
        return _page(visitor, "reload.html", found=None, refused=refused)
    return _page(visitor, "reload.html", found=found, refused=NOT_REFUSED)


@router.post("/reload")
async def apply_configuration(request: Request, visitor: Visiting) -> Response:
    """Put the configuration file into effect."""
    actor = visitor.require(Role.ADMIN)
    try:
        done = await reload(actor, visitor.using.host, visitor.using.status)
    except ExportdError as error:
        refused = Refused.of(error, *await answered(request, error))
        return _page(visitor, "reload.html", status=refused.status, found=None, refused=refused)
    return visitor.back("/console/system", f"The configuration is in effect. Differences: {len(done.sentences)}.")


@router.get("/audit")
async def show_audit(
    *,
    visitor: Visiting,
    organization: Annotated[str, Query(max_length=MAX_CODE_LENGTH)] = "",
    object_id: Annotated[str, Query(alias="object", max_length=MAX_WORD_LENGTH)] = "",
    next_token: NextToken = None,
) -> Response:
    """Who did what, the newest first; the filters stand in the address."""
    found = await list_audit(
        visitor.viewer,
        visitor.using.host,
        visitor.using.signer,
        organization=organization or None,
        object_id=object_id or None,
        page_size=50,
        next_token=next_token,
    )
    filters = {"organization": organization, "object": object_id}
    return visitor.page(
        "audit.html",
        rows=[(row, _details_of(row)) for row in found.data],
        filters=filters,
        older=urlencode({**filters, "nextToken": found.next_token}) if found.next_token else None,
        first=next_token is None,
    )


def _capture_page(visitor: Visitor, found: CaptureList, *, is_done: bool = False) -> Response:
    damaged = [entity for entity in found.data if not entity.whole]
    return visitor.page(
        "capture.html",
        entities=sorted(found.data, key=lambda entity: (entity.whole, entity.entity)),
        damaged=damaged,
        statements=sum(len(entity.statements) for entity in damaged),
        is_done=is_done,
    )


async def _clients_page(
    visitor: Visitor,
    *,
    filled: Mapping[str, str] | None = None,
    made: CreatedClient | None = None,
    refused: Refused = NOT_REFUSED,
) -> Response:
    clients, organizations = list[ShownClient](), list[str]()
    if visitor.identity.role >= Role.ADMIN:
        clients = (await list_clients(visitor.identity, visitor.using.access)).data
        organizations = (await list_organizations(visitor.viewer, visitor.using.destinations)).data
    return _page(
        visitor,
        "clients.html",
        status=refused.status,
        clients=sorted(clients, key=lambda client: not client.active),
        organizations=organizations,
        filled=filled or {"organization": "", "name": "", "role": "operator"},
        made=made,
        refused=refused,
        is_admin=visitor.identity.role >= Role.ADMIN,
    )


def _page(visitor: Visitor, template: str, *, status: int = 200, **values: object) -> Response:
    """Render a page that says whether the visitor may use operations of administrators, and why not."""
    may = visitor.identity.role >= Role.ADMIN
    why_not = "" if may else "This takes the role admin."
    if visitor.session.read_only:
        may, why_not = False, "This session only reads."
    return visitor.page(template, status=status, administration={"may": may, "why_not": why_not}, **values)


def _details_of(row: AuditEntry) -> str:
    return json.dumps(row.details, ensure_ascii=False) if row.details else ""
