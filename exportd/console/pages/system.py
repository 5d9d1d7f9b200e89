"""The daemon itself, for users of its machine: services, daemons, capture, configuration, log level; and the audit."""

import json
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from pydantic import TypeAdapter
from starlette.responses import Response

from exportd.api.dependencies import NextToken
from exportd.api.identity.access import Role
from exportd.api.problems import Refusal, answered
from exportd.api.routers.host import (
    install_capture,
    reload,
    set_log_level,
    show_capture,
    show_log_level,
)
from exportd.api.routers.overview import list_audit
from exportd.api.routers.status import show_status
from exportd.api.schemas.operations import AuditEntry, CaptureList, CaptureRequest, LogLevel
from exportd.console.forms import NOT_REFUSED, Form, Refused, body_of
from exportd.console.visitor import PageRoute, Visiting, Visitor
from exportd.model.bounds import MAX_CODE_LENGTH, MAX_WORD_LENGTH
from exportd.model.errors import ExportdError

router = APIRouter(prefix="/console/system", route_class=PageRoute, include_in_schema=False)

_CAPTURE, _LOG_LEVEL = TypeAdapter(CaptureRequest), TypeAdapter(LogLevel)


@dataclass(frozen=True, slots=True)
class _Administration:
    """Whether the visitor may do what only administrators do, and why not."""

    may: bool
    why_not: str


@router.get("")
async def show_system(visitor: Visiting) -> Response:
    """How the services and the other daemons are, how much is logged, which version runs."""
    _require_machine(visitor)
    return visitor.page(
        "system.html",
        daemon=await show_status(visitor.identity, visitor.using.status, visitor.now),
        level=(await show_log_level(visitor.identity, visitor.using.host)).level,
        administration=_administration(visitor),
    )


@router.post("/log-level")
async def change_log_level(request: Request, visitor: Visiting) -> Response:
    """Have this daemon log more or less, until it is started again."""
    actor, form = visitor.require(Role.ADMIN), Form.of(await request.body())
    _require_machine(visitor)
    shown = await set_log_level(actor, visitor.using.host, body_of(_LOG_LEVEL, {"level": form.text("level")}))
    return visitor.back("/console/system", f"The daemon logs from the level {shown.level} on.")


@router.get("/capture")
async def show_captured(visitor: Visiting) -> Response:
    """Whether the changes of each entity are recorded, and the SQL that puts right what is wrong."""
    _require_machine(visitor)
    return _capture_page(visitor, await show_capture(visitor.identity, visitor.using.host))


@router.post("/capture")
async def repair_capture(request: Request, visitor: Visiting) -> Response:
    """Run that SQL."""
    actor, form = visitor.require(Role.OPERATOR), Form.of(await request.body())
    _require_machine(visitor)
    names = form.texts("entity")
    if not names:
        raise Refusal(400, "entity: no entity is named. Go back and look again at what is wrong.")
    done = await install_capture(actor, visitor.using.host, body_of(_CAPTURE, {"entities": names}))
    return _capture_page(visitor, done, is_done=True)


@router.get("/reload")
async def show_differences(request: Request, visitor: Visiting) -> Response:
    """What the configuration file would change, before it does."""
    _require_machine(visitor)
    if visitor.identity.role < Role.ADMIN:
        return visitor.page("reload.html", found=None, refused=NOT_REFUSED, administration=_administration(visitor))
    return await _reload_page(request, visitor)


@router.post("/reload")
async def apply_configuration(request: Request, visitor: Visiting) -> Response:
    """Put the configuration file into effect."""
    actor = visitor.require(Role.ADMIN)
    _require_machine(visitor)
    try:
        done = await reload(caller=actor, host=visitor.using.host, status=visitor.using.status)
    except ExportdError as error:
        refused = Refused.of(error, *await answered(request, error))
        return visitor.page(
            "reload.html", status=refused.status, found=None, refused=refused, administration=_administration(visitor)
        )
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
        viewer=visitor.viewer,
        host=visitor.using.host,
        signer=visitor.using.signer,
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


async def _reload_page(request: Request, visitor: Visitor) -> Response:
    try:
        found = await reload(
            caller=visitor.identity, host=visitor.using.host, status=visitor.using.status, dry_run=True
        )
    except ExportdError as error:
        refused = Refused.of(error, *await answered(request, error))
        # What is wrong with the file is what was asked for.
        return visitor.page("reload.html", found=None, refused=refused, administration=_administration(visitor))
    return visitor.page("reload.html", found=found, refused=NOT_REFUSED, administration=_administration(visitor))


def _capture_page(visitor: Visitor, found: CaptureList, *, is_done: bool = False) -> Response:
    damaged = [entity for entity in found.data if not entity.whole]
    return visitor.page(
        "capture.html",
        entities=sorted(found.data, key=lambda entity: (entity.whole, entity.entity)),
        damaged=damaged,
        statements=sum(len(entity.statements) for entity in damaged),
        is_done=is_done,
    )


def _administration(visitor: Visitor) -> _Administration:
    if visitor.session.read_only:
        return _Administration(False, "This session only reads.")
    may = visitor.identity.role >= Role.ADMIN
    return _Administration(may, "" if may else "This takes the role admin.")


def _details_of(row: AuditEntry) -> str:
    return json.dumps(row.details, ensure_ascii=False) if row.details else ""


def _require_machine(visitor: Visitor) -> None:
    if visitor.identity.organization is not None:
        raise Refusal(403, "This concerns the whole daemon: it is for users of its own machine.")
