"""An export destination: create and edit it, where it is, what its owner has to grant, whether it works."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request
from pydantic import TypeAdapter
from starlette.responses import Response

from exportd.api.identity.client_table import Role
from exportd.api.pagination import IdInPath
from exportd.api.problems import Refusal, answered
from exportd.api.routers.destinations import (
    cancel_verification,
    check_destination,
    create_destination,
    delete_destination,
    list_all_destinations,
    pause_destination,
    replace_destination,
    resume_destination,
    show_any_destination,
    show_grants,
    show_verification,
    verify_destination,
)
from exportd.api.routers.jobs import list_all_jobs
from exportd.api.routers.schedules import list_all_schedules
from exportd.api.schemas.destination import (
    CREATIONS,
    DestinationCheck,
    DestinationCreation,
    DestinationDetails,
    DestinationUpdate,
    GrantList,
)
from exportd.api.schemas.job import FoundJobDocument
from exportd.api.schemas.operations import shown_verification
from exportd.api.schemas.schedule import ScheduleDetails
from exportd.console.forms import (
    NOT_REFUSED,
    DestinationForm,
    Form,
    Refused,
    body_of,
    details_of,
    differences,
    tenant_of,
)
from exportd.console.visitor import PageRoute, Visiting, Visitor
from exportd.model.errors import ExportdError, TransientError
from exportd.model.foreign_text import MAX_WORD_LENGTH

router = APIRouter(prefix="/console/destinations", route_class=PageRoute, include_in_schema=False)

_CREATION: TypeAdapter[DestinationCreation] = TypeAdapter(DestinationCreation)
_UPDATE: TypeAdapter[DestinationUpdate] = TypeAdapter(DestinationUpdate)


@router.get("/new")
async def show_empty_form(visitor: Visiting, kind: Annotated[str, Query(max_length=MAX_WORD_LENGTH)] = "") -> Response:
    """Create export destination: first its type, then what a destination of that type needs."""
    if not kind:
        return visitor.page("destination_type.html", kinds=list(CREATIONS))
    details_of(kind)
    return await _form_page(visitor, DestinationForm(kind))


@router.post("/new")
async def create(request: Request, visitor: Visiting) -> Response:
    """Create it. What is refused keeps what was filled in."""
    actor, form = visitor.require(Role.OPERATOR), Form.of(await request.body())
    filled = DestinationForm.sent(form)
    try:
        made = await create_destination(
            tenant_of(filled.organization, actor),
            visitor.using.destinations,
            visitor.now,
            body_of(_CREATION, filled.document),
        )
    except (Refusal, ExportdError) as error:
        return await _form_page(visitor, filled, refused=Refused.of(error, *await answered(request, error)))
    return visitor.back(
        f"/console/destinations/{made.id}",
        "The destination is saved. It has not been checked yet: its owner grants what stands below, then Check says "
        "whether it works.",
    )


@router.get("/{id}")
async def show_destination(visitor: Visiting, destination_id: IdInPath) -> Response:
    """The place, its newest success and failure, and the policies to paste."""
    return await _page(visitor, destination_id)


@router.post("/{id}/check")
async def check(visitor: Visiting, destination_id: IdInPath) -> Response:
    """Try every permission now, as this daemon; one line for each."""
    result = await check_destination(visitor.require(Role.OPERATOR), visitor.using.destinations, destination_id)
    return await _page(visitor, destination_id, result)


@router.post("/{id}/verification")
async def verify(visitor: Visiting, destination_id: IdInPath) -> Response:
    """Read everything that was delivered there, and compare it with the manifests."""
    await verify_destination(visitor.require(Role.OPERATOR), visitor.using.destinations, destination_id)
    return visitor.back(f"/console/destinations/{destination_id}/verification")


@router.get("/{id}/verification")
async def show_verified(
    visitor: Visiting, destination_id: IdInPath, job: Annotated[str, Query(max_length=MAX_WORD_LENGTH)] = ""
) -> Response:
    """How far the newest verification is, or what it found; what it found of ``job`` first."""
    found = await show_any_destination(visitor.viewer, visitor.using.destinations, destination_id)
    verification = await show_verification(visitor.viewer, visitor.using.destinations, destination_id)
    return visitor.page(
        "verification.html",
        destination=found,
        found=verification,
        findings=sorted(verification.findings, key=lambda finding: finding.job != job),
        job=job,
    )


@router.post("/{id}/verification/cancel")
async def cancel_verifying(visitor: Visiting, destination_id: IdInPath) -> Response:
    """End it."""
    await cancel_verification(visitor.require(Role.OPERATOR), visitor.using.destinations, destination_id)
    return visitor.back(f"/console/destinations/{destination_id}/verification")


@router.post("/{id}/pause")
async def pause(visitor: Visiting, destination_id: IdInPath) -> Response:
    """Jobs that deliver there wait."""
    done = await pause_destination(visitor.require(Role.OPERATOR), visitor.using.destinations, destination_id)
    return visitor.back(f"/console/destinations/{destination_id}", done.message)


@router.post("/{id}/resume")
async def resume(visitor: Visiting, destination_id: IdInPath) -> Response:
    """The jobs that waited go on."""
    done = await resume_destination(visitor.require(Role.OPERATOR), visitor.using.destinations, destination_id)
    return visitor.back(f"/console/destinations/{destination_id}", done.message)


@router.get("/{id}/edit")
async def show_filled_form(visitor: Visiting, destination_id: IdInPath) -> Response:
    """Edit export destination."""
    found = await show_any_destination(visitor.viewer, visitor.using.destinations, destination_id)
    return await _form_page(visitor, DestinationForm.of(found), destination_id)


@router.post("/{id}/edit")
async def edit(request: Request, visitor: Visiting, destination_id: IdInPath) -> Response:
    """Replace what it says. What is refused keeps what was filled in."""
    actor, form = visitor.require(Role.OPERATOR), Form.of(await request.body())
    filled = DestinationForm.sent(form)
    try:
        await replace_destination(
            tenant_of(filled.organization, actor),
            visitor.using.destinations,
            visitor.now,
            destination_id,
            body_of(_UPDATE, filled.document),
        )
    except (Refusal, ExportdError) as error:
        refused = Refused.of(error, *await answered(request, error))
        return await _form_page(visitor, filled, destination_id, refused=refused)
    return visitor.back(f"/console/destinations/{destination_id}", "The destination is changed. Check it again.")


@router.get("/{id}/delete")
async def confirm_deletion(visitor: Visiting, destination_id: IdInPath) -> Response:
    """What uses it, and what deleting it means."""
    found = await show_any_destination(visitor.viewer, visitor.using.destinations, destination_id)
    return visitor.page(
        "delete_destination.html",
        destination=found,
        schedules=await _schedules_using(visitor, found),
        jobs=await _unfinished_jobs(visitor, found),
    )


@router.post("/{id}/delete")
async def delete(visitor: Visiting, destination_id: IdInPath) -> Response:
    """Take it away, unless it is used."""
    actor, destinations = visitor.require(Role.OPERATOR), visitor.using.destinations
    found = await show_any_destination(visitor.viewer, destinations, destination_id)
    deleted = await delete_destination(tenant_of(found.organization, actor), destinations, visitor.now, destination_id)
    return visitor.back(
        "/console/exports", f"The destination {deleted.code} is deleted. What was delivered there stays."
    )


@dataclass(frozen=True, slots=True)
class DestinationChoices:
    """The choices of a form: the known ``organizations``, and the destinations of the selected one.

    ``trouble`` says why they cannot be read now. The form is shown all the same, and keeps what was filled in.
    """

    organizations: list[str]
    organization: str
    destinations: list[DestinationDetails]
    trouble: str = ""


async def destination_choices(visitor: Visitor, organization: str) -> DestinationChoices:
    """The choices for a form in which ``organization`` is filled in. If it is empty and there is only one organization,
    that one is selected.
    """
    using = visitor.using
    try:
        known = await visitor.organizations()
        meant = organization or (known[0] if len(known) == 1 else "")
        # A new organization has no destinations yet, and the database is not asked for an invalid one.
        owner = meant if meant in known else None
        places = await list_all_destinations(
            visitor.viewer, using.destinations, using.signer, organization=owner, page_size=200
        )
    except TransientError as error:
        return DestinationChoices([], organization, [], error.sentence)
    return DestinationChoices(known, meant, [place for place in places.data if place.id is not None])


async def _schedules_using(visitor: Visitor, destination: DestinationDetails) -> list[ScheduleDetails]:
    viewer, using, owner = visitor.viewer, visitor.using, destination.organization
    found = await list_all_schedules(
        viewer, using.schedules, using.signer, organization=owner, destination=destination.code, page_size=200
    )
    return found.data


async def _unfinished_jobs(visitor: Visitor, destination: DestinationDetails) -> list[FoundJobDocument]:
    owner, code = destination.organization, destination.code
    listed = partial(list_all_jobs, visitor.viewer, visitor.using.jobs, visitor.using.signer, page_size=100)
    running = await listed(organization=owner, destination=code, status="RUNNING")
    pending = await listed(organization=owner, destination=code, status="PENDING")
    return [*running.data, *pending.data]


async def _form_page(
    visitor: Visitor,
    form: DestinationForm,
    destination_id: str | None = None,
    *,
    refused: Refused = NOT_REFUSED,
) -> Response:
    destinations, stored = visitor.using.destinations, None
    if destination_id is not None and refused.is_stale:
        there = DestinationForm.of(await show_any_destination(visitor.viewer, destinations, destination_id))
        form, stored = replace(form, version=there.version), differences(form.document, there.document)
    return visitor.page(
        "destination_form.html",
        status=refused.status,
        form=form,
        names=details_of(form.kind),
        destination_id=destination_id,
        choices=await destination_choices(visitor, form.organization),
        refused=refused,
        stored=stored,
    )


async def _page(visitor: Visitor, destination_id: str, result: DestinationCheck | None = None) -> Response:
    destinations = visitor.using.destinations
    found = await show_any_destination(visitor.viewer, destinations, destination_id)
    try:
        grants, no_grants = await show_grants(visitor.viewer, destinations, destination_id), ""
    except (Refusal, ExportdError) as error:
        no_grants = error.sentence if isinstance(error, ExportdError) else str(error.detail)
        grants = GrantList(data=[])
    may_verify = visitor.viewer.sees_machine or found.destination_type != "DIRECTORY"
    verification = visitor.using.destinations.verifier.newest(UUID(destination_id)) if may_verify else None
    daemon = await visitor.daemon()
    known = [] if daemon is None else daemon.destinations
    return visitor.page(
        "destination.html",
        destination=found,
        schedules=await _schedules_using(visitor, found),
        grants=grants.data,
        no_grants=no_grants,
        health=next((health for health in known if health.id == destination_id), None),
        knows_health=daemon is not None,
        may_verify=may_verify,
        verification=None if verification is None else shown_verification(verification),
        result=result,
    )
