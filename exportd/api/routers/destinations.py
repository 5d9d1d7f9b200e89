"""Destinations: an organization's own, and what operators see of all and do with them."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query

from exportd.api.dependencies import Acting, Destinations, Now, PageSigner, Reading, StrictRoute, Viewing, Writing
from exportd.api.identity.access import Viewer
from exportd.api.pagination import (
    DEFAULT_PAGE_SIZE,
    Descending,
    IdInPath,
    Ids,
    LargePageSize,
    NextToken,
    OnlyOrganization,
    Pages,
    Search,
    id_in_path,
    newest_or_sorted,
    place_of,
)
from exportd.api.problems import Refusal, responses
from exportd.api.schemas.destination import (
    DestinationCheck,
    DestinationCreation,
    DestinationDetails,
    DestinationDetailsPage,
    DestinationDocument,
    DestinationPage,
    DestinationUpdate,
    GrantList,
    declaration_of,
    destination_check,
    destination_details,
    destination_document,
    grant_list,
    listed_destination,
)
from exportd.api.schemas.operations import Done, PauseAnswer, VerificationAnswer, shown_pause, shown_verification
from exportd.consumer.verifier import DestinationVerification, VerificationState
from exportd.destinations.record import DestinationRecord
from exportd.destinations.table import DestinationOrder
from exportd.model.declared import key_of

router = APIRouter(
    prefix="/organizations/{orgId}/dataexports/destinations", tags=["destinations"], route_class=StrictRoute
)
operators = APIRouter(prefix="/v1", tags=["operations"], route_class=StrictRoute)


@router.get("", responses=responses(400, 401, 403))
async def list_destinations(
    *,
    tenant: Reading,
    destinations: Destinations,
    signer: PageSigner,
    ids: Ids,
    page_size: LargePageSize = DEFAULT_PAGE_SIZE,
    next_token: NextToken = None,
) -> DestinationPage:
    """The organization's destinations, the newest first."""
    paging = Pages(signer, tenant.organization, "destinations")
    found = await destinations.table.page(
        tenant.organization, ids=ids, after=paging.place(next_token), limit=page_size + 1
    )
    page, token = paging.cut(found, page_size, place_of)
    return DestinationPage(data=[listed_destination(record) for record in page], next_token=token)


@router.post("", responses=responses(400, 401, 403))
async def create_destination(
    tenant: Writing, destinations: Destinations, now: Now, body: DestinationCreation
) -> DestinationDocument:
    """A new destination. Whether it can be written is seen at the first delivery."""
    declaration = declaration_of(body, tenant.organization)
    destinations.live.check(declaration)
    created = await destinations.table.create(declaration, actor=tenant.actor, now=now)
    await destinations.live.refresh()
    return destination_document(created)


@router.get("/{id}", responses=responses(401, 403, 404))
async def show_destination(
    tenant: Reading, destinations: Destinations, destination_id: IdInPath
) -> DestinationDocument:
    return destination_document(
        await destinations.table.get(tenant.organization, id_in_path(destination_id, "destination"))
    )


@router.put("/{id}", responses=responses(400, 401, 403, 404, 409))
async def replace_destination(
    tenant: Writing, destinations: Destinations, now: Now, destination_id: IdInPath, body: DestinationUpdate
) -> DestinationDocument:
    """Replace what a destination says; its code and type stay. Schedules start anew when it is another place."""
    found = id_in_path(destination_id, "destination")
    declaration = declaration_of(body, tenant.organization)
    destinations.live.check(declaration)
    replaced = await destinations.table.update(found, declaration, version=body.version, actor=tenant.actor, now=now)
    await destinations.live.refresh()
    return destination_document(replaced)


@router.delete("/{id}", responses=responses(400, 401, 403, 404))
async def delete_destination(
    tenant: Writing, destinations: Destinations, now: Now, destination_id: IdInPath
) -> DestinationDocument:
    """Take a destination away; the answer is what it last was. One that a schedule uses stays."""
    deleted = await destinations.table.delete(
        tenant.organization, id_in_path(destination_id, "destination"), actor=tenant.actor, now=now
    )
    await destinations.live.refresh()
    return destination_document(deleted)


@operators.get("/destinations", responses=responses(400, 401, 403))
async def list_all_destinations(
    viewer: Viewing,
    destinations: Destinations,
    signer: PageSigner,
    *,
    organization: OnlyOrganization = None,
    search: Search = None,
    sort: Annotated[DestinationOrder | None, Query(description="By what; those without it come last.")] = None,
    descending: Descending = False,
    page_size: LargePageSize = 100,
    next_token: NextToken = None,
) -> DestinationDetailsPage:
    """Destinations with their places and pauses, the newest first, or sorted. ``search`` looks at buckets too."""
    owner = viewer.of(organization)
    page, token = await newest_or_sorted(
        lambda order: Pages(signer, owner, f"all destinations{order}"),
        partial(destinations.table.page, owner, text=search),
        partial(destinations.table.sorted_page, owner, text=search),
        place_of,
        sort=sort,
        descending=descending,
        page_size=page_size,
        next_token=next_token,
    )
    pauses = await destinations.operator.pauses()
    return DestinationDetailsPage(
        data=[
            destination_details(record, pauses.get(key_of(record.declaration)), shows_directories=viewer.sees_machine)
            for record in page
        ],
        next_token=token,
    )


@operators.get("/destinations/{id}", responses=responses(401, 403, 404))
async def show_any_destination(
    viewer: Viewing, destinations: Destinations, destination_id: IdInPath
) -> DestinationDetails:
    """One destination with its place and its pause."""
    record = await destinations.table.get(viewer.organization, id_in_path(destination_id, "destination"))
    pause = await destinations.operator.pause_of(record.id)
    return destination_details(record, pause, shows_directories=viewer.sees_machine)


@operators.get("/destinations/{id}/pause", responses=responses(401, 403, 404))
async def show_pause_of_destination(
    viewer: Viewing, destinations: Destinations, destination_id: IdInPath
) -> PauseAnswer:
    """Whether jobs that deliver there wait."""
    wanted = id_in_path(destination_id, "destination")
    return shown_pause(await destinations.operator.pause_of(wanted, organization=viewer.organization))


@operators.post("/destinations/{id}/pause", responses=responses(401, 403, 404))
async def pause_destination(actor: Acting, destinations: Destinations, destination_id: IdInPath) -> Done:
    """Jobs that deliver there wait, also for their other destinations. One that runs goes on."""
    wanted = id_in_path(destination_id, "destination")
    await destinations.operator.pause(wanted, actor=actor.name, organization=actor.organization)
    return Done(message="The destination is paused. Jobs that deliver there wait; the others go on.")


@operators.post("/destinations/{id}/resume", responses=responses(401, 403, 404))
async def resume_destination(actor: Acting, destinations: Destinations, destination_id: IdInPath) -> Done:
    """The jobs that waited go on."""
    wanted = id_in_path(destination_id, "destination")
    await destinations.operator.resume(wanted, actor=actor.name, organization=actor.organization)
    return Done(message="Jobs deliver to the destination again.")


@operators.get("/destinations/{id}/grants", responses=responses(400, 401, 403, 404))
async def show_grants(viewer: Viewing, destinations: Destinations, destination_id: IdInPath) -> GrantList:
    """What its owner has to grant: policies or commands for exactly this destination, ready to paste."""
    record = await _looked_after(viewer, destinations, destination_id)
    return grant_list(await destinations.checker.grants(record))


@operators.post("/destinations/{id}/check", responses=responses(400, 401, 403, 404))
async def check_destination(actor: Acting, destinations: Destinations, destination_id: IdInPath) -> DestinationCheck:
    """Write, look at, read and remove a probe, as this daemon: what is there, what is missing, what to grant."""
    wanted = (await _looked_after(actor, destinations, destination_id)).id
    record = await destinations.table.note_check(actor.organization, wanted, actor=actor.name)
    result, grants = await destinations.checker.check(record)
    return destination_check(record.declaration, result, grants)


@operators.post("/destinations/{id}/verification", responses=responses(400, 401, 403, 404))
async def verify_destination(actor: Acting, destinations: Destinations, destination_id: IdInPath) -> VerificationAnswer:
    """Read everything that was delivered there, and compare it with the manifests, beside the exports. The answer comes
    at once; ``GET`` says how it goes. One that runs already is the answer. 503 while this daemon verifies another.
    """
    wanted = (await _looked_after(actor, destinations, destination_id)).id
    if (already := destinations.verifier.running(wanted)) is not None:
        return shown_verification(already)
    record = await destinations.table.note_check(
        actor.organization, wanted, actor=actor.name, action="destination verified"
    )
    return shown_verification(
        destinations.verifier.start(
            wanted, record.declaration.organization, lambda: destinations.checker.open(record), actor=actor.name
        )
    )


@operators.get("/destinations/{id}/verification", responses=responses(401, 403, 404))
async def show_verification(
    viewer: Viewing, destinations: Destinations, destination_id: IdInPath
) -> VerificationAnswer:
    """The newest verification of the destination by this daemon, as far as it is. 404 when it knows of none."""
    wanted = (await _looked_after(viewer, destinations, destination_id)).id
    return _verification(destinations.verifier.newest(wanted))


@operators.delete("/destinations/{id}/verification", responses=responses(401, 403, 404))
async def cancel_verification(
    actor: Acting, destinations: Destinations, destination_id: IdInPath
) -> VerificationAnswer:
    """End it, if it runs."""
    wanted = (await _looked_after(actor, destinations, destination_id)).id
    newest = destinations.verifier.newest(wanted)
    if newest is not None and newest.state is VerificationState.RUNNING:
        await destinations.table.note_check(
            actor.organization, wanted, actor=actor.name, action="verification cancelled"
        )
    return _verification(destinations.verifier.cancel(wanted))


def _verification(found: DestinationVerification | None) -> VerificationAnswer:
    if found is None:
        raise Refusal(
            404, "This daemon has not verified the destination since it began, or has forgotten what it found."
        )
    return shown_verification(found)


async def _looked_after(viewer: Viewer, destinations: Destinations, text: str) -> DestinationRecord:
    """The destination of an id, for those who look after it. Raises Refusal 403 for a directory of the machine."""
    record = await destinations.table.get(viewer.organization, id_in_path(text, "destination"))
    if not viewer.sees_machine and record.declaration.settings["type"] == "DIRECTORY":
        raise Refusal(403, "This destination is a directory of the machine: its operators look after it.")
    return record
