"""An export schedule: create and edit it, look at it, run, pause and delete it."""

from datetime import datetime
from typing import TypeVar

from fastapi import APIRouter, Request
from pydantic import ValidationError
from starlette.responses import Response

from exportd.api.dependencies import Tenant
from exportd.api.identity.access import Identity, Role
from exportd.api.pagination import IdInPath
from exportd.api.problems import Refusal, answered
from exportd.api.routers.operations import pause_schedule, resume_schedule, run_schedule
from exportd.api.routers.overview import (
    list_all_destinations,
    list_all_jobs,
    list_audit,
    preview_schedule,
    show_any_schedule,
)
from exportd.api.routers.schedules import create_schedule, delete_schedule, replace_schedule
from exportd.api.schemas.schedule import RuleCheck, ScheduleCreation, ScheduleUpdate, ShownRuleProblem, rule_check
from exportd.api.sentences import sentence_of
from exportd.console.forms import Form
from exportd.console.schedule_form import OFFSET_UNITS, UNITS, ScheduleForm
from exportd.console.visitor import PageRoute, Visiting, Visitor
from exportd.model.bounds import MAX_CRON_LENGTH
from exportd.model.entity import OrganizationId
from exportd.model.errors import ExportdError
from exportd.settings.section import check_organization

_RUNS = 30
_FIRINGS = 5

router = APIRouter(prefix="/console/schedules", route_class=PageRoute, include_in_schema=False)

Body = TypeVar("Body", ScheduleCreation, ScheduleUpdate)


@router.get("/new")
async def show_empty_form(visitor: Visiting) -> Response:
    """Create export schedule, with what is usual filled in."""
    return await _form_page(visitor, ScheduleForm())


@router.post("/new")
async def create(request: Request, visitor: Visiting) -> Response:
    """Create it, or only check its rule. What is refused keeps what was filled in."""
    actor, form = visitor.require(Role.OPERATOR), Form.of(await request.body())
    filled = ScheduleForm.sent(form)
    if form.text("action") == "check":
        return await _form_page(visitor, filled)
    try:
        tenant = _tenant(filled.organization, actor)
        made = await create_schedule(tenant, visitor.using.schedules, visitor.now, _body(ScheduleCreation, filled))
    except (Refusal, ExportdError) as error:
        return await _form_page(visitor, filled, refused=await answered(request, error))
    return visitor.back(f"/console/schedules/{made.id}", "The schedule is created. Its first run begins now.")


@router.get("/{id}")
async def show_schedule(visitor: Visiting, schedule_id: IdInPath) -> Response:
    """Its settings, next firings, newest runs, and what was done with it."""
    using = visitor.using
    schedule = await show_any_schedule(visitor.viewer, visitor.using.schedules, schedule_id)
    runs = await list_all_jobs(
        viewer=visitor.viewer, jobs=using.jobs, signer=using.signer, schedule_id=schedule_id, page_size=_RUNS
    )
    deeds = await list_audit(
        viewer=visitor.viewer, host=using.host, signer=using.signer, object_id=schedule_id, page_size=20
    )
    return visitor.page(
        "schedule.html",
        schedule=schedule,
        runs=runs.data,
        deeds=deeds.data,
        rule=rule_check(ScheduleForm.of(schedule).rule, after=visitor.now, count=_FIRINGS),
    )


@router.get("/{id}/edit")
async def show_filled_form(visitor: Visiting, schedule_id: IdInPath) -> Response:
    """Edit export schedule."""
    schedule = await show_any_schedule(visitor.viewer, visitor.using.schedules, schedule_id)
    return await _form_page(visitor, ScheduleForm.of(schedule), schedule_id)


@router.post("/{id}/edit")
async def edit(request: Request, visitor: Visiting, schedule_id: IdInPath) -> Response:
    """Replace it, or only check its rule. What is refused keeps what was filled in."""
    actor, form = visitor.require(Role.OPERATOR), Form.of(await request.body())
    filled = ScheduleForm.sent(form)
    if form.text("action") == "check":
        return await _form_page(visitor, filled, schedule_id)
    try:
        tenant = _tenant(filled.organization, actor)
        await replace_schedule(tenant, visitor.using.schedules, visitor.now, schedule_id, _body(ScheduleUpdate, filled))
    except (Refusal, ExportdError) as error:
        return await _form_page(visitor, filled, schedule_id, refused=await answered(request, error))
    return visitor.back(f"/console/schedules/{schedule_id}", "The schedule is changed.")


@router.post("/{id}/run")
async def run(visitor: Visiting, schedule_id: IdInPath) -> Response:
    """One more run, now."""
    queued = await run_schedule(visitor.require(Role.OPERATOR), visitor.using.schedules, schedule_id)
    return visitor.back(f"/console/jobs/{queued.job_id}", "The run is queued.")


@router.post("/{id}/pause")
async def pause(visitor: Visiting, schedule_id: IdInPath) -> Response:
    """It does not fire."""
    done = await pause_schedule(visitor.require(Role.OPERATOR), visitor.using.schedules, schedule_id)
    return visitor.back(f"/console/schedules/{schedule_id}", done.message)


@router.post("/{id}/resume")
async def resume(visitor: Visiting, schedule_id: IdInPath) -> Response:
    """It fires again."""
    done = await resume_schedule(visitor.require(Role.OPERATOR), visitor.using.schedules, schedule_id)
    return visitor.back(f"/console/schedules/{schedule_id}", done.message)


@router.get("/{id}/preview")
async def show_preview(visitor: Visiting, schedule_id: IdInPath) -> Response:
    """What a run would hold that begins now."""
    schedule = await show_any_schedule(visitor.viewer, visitor.using.schedules, schedule_id)
    preview = await preview_schedule(visitor.identity, visitor.using.schedules, schedule_id)
    return visitor.page("preview.html", schedule=schedule, preview=preview)


@router.get("/{id}/delete")
async def confirm_deletion(visitor: Visiting, schedule_id: IdInPath) -> Response:
    """What deleting it means, before it is done."""
    schedule = await show_any_schedule(visitor.viewer, visitor.using.schedules, schedule_id)
    return visitor.page("delete_schedule.html", schedule=schedule)


@router.post("/{id}/delete")
async def delete(visitor: Visiting, schedule_id: IdInPath) -> Response:
    """Take it away."""
    actor = visitor.require(Role.OPERATOR)
    schedule = await show_any_schedule(visitor.viewer, visitor.using.schedules, schedule_id)
    tenant = _tenant(schedule.organization, actor)
    deleted = await delete_schedule(tenant, visitor.using.schedules, visitor.now, schedule_id)
    return visitor.back("/console/exports", f"The schedule {deleted.code} is deleted. Files that it delivered stay.")


async def _form_page(
    visitor: Visitor,
    form: ScheduleForm,
    schedule_id: str | None = None,
    *,
    refused: tuple[int, str] = (200, ""),
) -> Response:
    using = visitor.using
    organizations = await visitor.organizations()
    organization = form.organization or (organizations[0] if len(organizations) == 1 else "")
    places = await list_all_destinations(
        viewer=visitor.viewer,
        destinations=using.destinations,
        signer=using.signer,
        # A new organization has none yet, and the database is not asked for a text that may be no organization.
        organization=organization if organization in organizations else None,
        page_size=200,
    )
    return visitor.page(
        "schedule_form.html",
        status=refused[0],
        form=form,
        schedule_id=schedule_id,
        organizations=organizations,
        organization=organization,
        destinations=[place for place in places.data if place.id is not None],
        entities=list(using.host.entities.values()),
        units=UNITS,
        offset_units=OFFSET_UNITS,
        rule=_checked(form, visitor.now),
        refused=refused[1],
    )


def _checked(form: ScheduleForm, now: datetime) -> RuleCheck:
    """The rule as it is filled in. What the API would refuse before it looks at the rule is said here."""
    problems = [
        ShownRuleProblem(field=field, message="This should be a whole number.")
        for field in ("period", "offset")
        if isinstance(form.rule.get(field), str)
    ]
    if not form.advanced and form.schedule_type not in UNITS:
        problems.append(ShownRuleProblem(field="scheduleType", message="This should be one of the units."))
    if form.advanced and len(form.cron_expression) > MAX_CRON_LENGTH:
        problems.append(
            ShownRuleProblem(field="cronExpression", message=f"This should have at most {MAX_CRON_LENGTH} characters.")
        )
    if problems:
        return RuleCheck(good=False, problems=problems, after=now, firings=[])
    return rule_check(form.rule, after=now, count=_FIRINGS)


def _tenant(organization: str, actor: Identity) -> Tenant:
    try:
        check_organization(organization)
    except ValueError as error:
        raise Refusal(400, f"Organization: {error}.") from error
    actor.of(organization)
    return Tenant(OrganizationId(organization), actor.name)


def _body(kind: type[Body], form: ScheduleForm) -> Body:
    try:
        return kind.model_validate(form.document)
    except ValidationError as error:
        raise Refusal(400, sentence_of(map(dict, error.errors(include_url=False)))) from error
