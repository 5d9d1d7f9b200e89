"""Data exports: schedules and destinations, and exports without a schedule."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from pydantic import TypeAdapter
from starlette.responses import Response

from exportd.api.identity.client_table import Role
from exportd.api.pagination import NextToken
from exportd.api.problems import Refusal, answered
from exportd.api.routers.destinations import list_all_destinations
from exportd.api.routers.jobs import export_now, preview_export
from exportd.api.routers.schedules import list_all_schedules
from exportd.api.schemas.schedule import AdHocRequest, SchedulePreview
from exportd.console.forms import NOT_REFUSED, AdHocForm, Form, Refused, body_of, tenant_of
from exportd.console.pages.destinations import destination_choices
from exportd.console.visitor import PageRoute, Visiting, Visitor
from exportd.destinations.table import DestinationOrder
from exportd.model.errors import ExportdError
from exportd.model.foreign_text import MAX_CODE_LENGTH, MAX_NAME_LENGTH, MAX_WORD_LENGTH
from exportd.schedules.editing import ScheduleOrder

router = APIRouter(prefix="/console/exports", route_class=PageRoute, include_in_schema=False)

_EXPORT = TypeAdapter(AdHocRequest)
_SCHEDULE_ORDER: TypeAdapter[ScheduleOrder | None] = TypeAdapter(ScheduleOrder | None)
_DESTINATION_ORDER: TypeAdapter[DestinationOrder | None] = TypeAdapter(DestinationOrder | None)
_Sorting = Annotated[str, Query(max_length=MAX_WORD_LENGTH)]


@router.get("")
async def show_exports(
    *,
    visitor: Visiting,
    organization: Annotated[str, Query(max_length=MAX_CODE_LENGTH)] = "",
    search: Annotated[str, Query(max_length=MAX_NAME_LENGTH)] = "",
    destination: Annotated[str, Query(max_length=MAX_CODE_LENGTH)] = "",
    paused: Literal["", "true", "false"] = "",
    schedules_by: Annotated[_Sorting, Query(alias="schedulesBy")] = "",
    destinations_by: Annotated[_Sorting, Query(alias="destinationsBy")] = "",
    schedules_after: Annotated[NextToken, Query(alias="schedulesAfter")] = None,
    destinations_after: Annotated[NextToken, Query(alias="destinationsAfter")] = None,
) -> Response:
    """Both lists, the newest first, or sorted by a column (``-name``: from the largest on). All of that stands in the
    address; an empty field filters nothing.
    """
    viewer, using = visitor.viewer, visitor.using
    filters = {"organization": organization, "search": search, "destination": destination, "paused": paused}
    listed = await list_all_schedules(
        viewer,
        using.schedules,
        using.signer,
        organization=organization or None,
        search=search or None,
        destination=destination or None,
        paused=paused == "true" if paused else None,
        sort=body_of(_SCHEDULE_ORDER, schedules_by.removeprefix("-") or None),
        descending=schedules_by.startswith("-"),
        next_token=schedules_after,
    )
    places = await list_all_destinations(
        viewer,
        using.destinations,
        using.signer,
        organization=organization or None,
        search=search or None,
        sort=body_of(_DESTINATION_ORDER, destinations_by.removeprefix("-") or None),
        descending=destinations_by.startswith("-"),
        next_token=destinations_after,
    )
    daemon = await visitor.daemon()
    return visitor.page(
        "exports.html",
        schedules=listed,
        destinations=places,
        health={} if daemon is None else {known.id: known for known in daemon.destinations},
        organizations=await visitor.organizations(),
        filtered=any(filters.values()),
        filters={**filters, "schedulesBy": schedules_by, "destinationsBy": destinations_by},
    )


@router.get("/adhoc")
async def show_export_form(visitor: Visiting) -> Response:
    """Run ad hoc export."""
    return await _export_page(visitor, AdHocForm())


@router.post("/adhoc")
async def export(request: Request, visitor: Visiting) -> Response:
    """Export once, or only say what the export would hold. What is refused keeps what was filled in."""
    form = Form.of(await request.body())
    filled, only_previews = AdHocForm.sent(form), form.text("action") == "preview"
    using = visitor.using
    try:
        actor = visitor.identity if only_previews else visitor.require(Role.OPERATOR)
        tenant, body = tenant_of(filled.organization, actor), body_of(_EXPORT, filled.document)
        if only_previews:
            preview = await preview_export(actor, using.schedules, body, tenant.organization)
            return await _export_page(visitor, filled, preview=preview)
        queued = await export_now(tenant, using.jobs, using.schedules, body)
    except (Refusal, ExportdError) as error:
        return await _export_page(visitor, filled, refused=Refused.of(error, *await answered(request, error)))
    return visitor.back(f"/console/jobs/{queued.job_id}", "The export is queued.")


async def _export_page(
    visitor: Visitor, form: AdHocForm, *, preview: SchedulePreview | None = None, refused: Refused = NOT_REFUSED
) -> Response:
    entities = list(visitor.using.schedules.entities.values())
    return visitor.page(
        "adhoc.html",
        status=refused.status,
        form=form,
        choices=await destination_choices(visitor, form.organization),
        entities=entities,
        estimates=visitor.row_estimates(),
        timeless=[entity.code for entity in entities if entity.modified is None],
        preview=preview,
        refused=refused,
    )
