"""An export schedule: create and edit it, look at it, run, pause and delete it."""

from dataclasses import replace
from datetime import datetime

from fastapi import APIRouter, Request
from pydantic import TypeAdapter
from starlette.responses import Response

from exportd.api.identity.access import Role
from exportd.api.pagination import IdInPath
from exportd.api.problems import Refusal, answered
from exportd.api.routers.operations import pause_schedule, resume_schedule, run_schedule
from exportd.api.routers.overview import (
    list_all_jobs,
    list_audit,
    preview_schedule,
    show_any_schedule,
)
from exportd.api.routers.schedules import create_schedule, delete_schedule, replace_schedule
from exportd.api.schemas.schedule import RuleCheck, ScheduleCreation, ScheduleUpdate, ShownRuleProblem, rule_check
from exportd.console.forms import (
    NOT_REFUSED,
    OFFSET_UNITS,
    UNITS,
    Form,
    Refused,
    ScheduleForm,
    body_of,
    differences,
    tenant_of,
)
from exportd.console.pages.destinations import destination_choices
from exportd.console.visitor import PageRoute, Visiting, Visitor
from exportd.model.bounds import MAX_CRON_LENGTH
from exportd.model.errors import ExportdError

_RUNS = 30
_FIRINGS = 5

router = APIRouter(prefix="/console/schedules", route_class=PageRoute, include_in_schema=False)

_CREATION, _UPDATE = TypeAdapter(ScheduleCreation), TypeAdapter(ScheduleUpdate)


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
        tenant = tenant_of(filled.organization, actor)
        made = await create_schedule(tenant, visitor.using.schedules, visitor.now, body_of(_CREATION, filled.document))
    except (Refusal, ExportdError) as error:
        return await _form_page(visitor, filled, refused=Refused.of(error, *await answered(request, error)))
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
        tenant = tenant_of(filled.organization, actor)
        await replace_schedule(
            tenant, visitor.using.schedules, visitor.now, schedule_id, body_of(_UPDATE, filled.document)
        )
    except (Refusal, ExportdError) as error:
        refused = Refused.of(error, *await answered(request, error))
        return await _form_page(visitor, filled, schedule_id, refused=refused)
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
    deleted = await delete_schedule(
        tenant_of(schedule.organization, actor), visitor.using.schedules, visitor.now, schedule_id
    )
    return visitor.back("/console/exports", f"The schedule {deleted.code} is deleted. Files that it delivered stay.")


async def _form_page(
    visitor: Visitor,
    form: ScheduleForm,
    schedule_id: str | None = None,
    *,
    refused: Refused = NOT_REFUSED,
) -> Response:
    using, stored = visitor.using, None
    if schedule_id is not None and refused.is_stale:
        there = ScheduleForm.of(await show_any_schedule(visitor.viewer, using.schedules, schedule_id))
        form, stored = replace(form, version=there.version), differences(form.document, there.document)
    return visitor.page(
        "schedule_form.html",
        status=refused.status,
        form=form,
        schedule_id=schedule_id,
        choices=await destination_choices(visitor, form.organization),
        entities=list(using.host.entities.values()),
        units=UNITS,
        offset_units=OFFSET_UNITS,
        rule=_checked(form, visitor.now),
        refused=refused,
        stored=stored,
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
