"""An export schedule: create and edit it, look at it and at what happened to it, run, refresh, back-fill, pause and
delete it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import TypeAdapter
from starlette.responses import Response

from exportd.api.identity.client_table import Role
from exportd.api.pagination import IdInPath
from exportd.api.problems import Refusal, answered
from exportd.api.routers.daemon import list_audit
from exportd.api.routers.jobs import list_all_jobs, preview_export, show_any_job
from exportd.api.routers.schedules import (
    backfill_schedule,
    create_schedule,
    delete_schedule,
    pause_schedule,
    preview_schedule,
    refresh_entity,
    replace_schedule,
    resume_schedule,
    run_schedule,
    show_any_schedule,
    show_positions,
)
from exportd.api.schemas.job import FoundJobDocument, FoundJobPage
from exportd.api.schemas.operations import AuditEntry, AuditPage, BackfillBody, RefreshRequest
from exportd.api.schemas.schedule import (
    AdHocRequest,
    RuleCheck,
    ScheduleCreation,
    SchedulePreview,
    ScheduleUpdate,
    ShownRuleProblem,
    rule_check,
)
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
from exportd.model.change_log import log_name
from exportd.model.entity import EntityCode
from exportd.model.errors import ExportdError
from exportd.model.foreign_text import MAX_CODE_LENGTH, MAX_CRON_LENGTH, MAX_WORD_LENGTH

_RUNS = 30
_DEEDS = 50
_HAPPENINGS = 60
_FIRINGS = 5
_QUESTIONS = {"check", "preview"}
"""The buttons of the form that change nothing."""

_NOT_SETTINGS = {"version"}
"""Details of an edit that change with every edit."""

router = APIRouter(prefix="/console/schedules", route_class=PageRoute, include_in_schema=False)

_CREATION, _UPDATE, _EXPORT = TypeAdapter(ScheduleCreation), TypeAdapter(ScheduleUpdate), TypeAdapter(AdHocRequest)
_REFRESH, _BACKFILL = TypeAdapter(RefreshRequest), TypeAdapter(BackfillBody)


@dataclass(frozen=True, slots=True)
class Happening:
    """One event of a schedule's history: a ``run``, or an operation (``deed``) with its subject in words and the job
    that it requested. ``at`` is aware UTC.
    """

    at: datetime
    run: FoundJobDocument | None = None
    deed: AuditEntry | None = None
    about: str = ""
    job_id: str | None = None


@router.get("/new")
async def show_empty_form(visitor: Visiting) -> Response:
    """Create export schedule, with what is usual filled in."""
    return await _form_page(visitor, ScheduleForm())


@router.post("/new")
async def create(request: Request, visitor: Visiting) -> Response:
    """Create it, or only say what it would do. What is refused keeps what was filled in."""
    form = Form.of(await request.body())
    filled = ScheduleForm.sent(form)
    if (asked := form.text("action")) in _QUESTIONS:
        return await _form_page(visitor, filled, previews=asked == "preview")
    actor = visitor.require(Role.OPERATOR)
    try:
        tenant = tenant_of(filled.organization, actor)
        made = await create_schedule(tenant, visitor.using.schedules, visitor.now, body_of(_CREATION, filled.document))
    except (Refusal, ExportdError) as error:
        return await _form_page(visitor, filled, refused=Refused.of(error, *await answered(request, error)))
    return visitor.back(f"/console/schedules/{made.id}", "The schedule is created. Its first run begins now.")


@router.get("/{id}")
async def show_schedule(visitor: Visiting, schedule_id: IdInPath) -> Response:
    """Its settings, next firings, positions, newest runs; and what happened to it, in one list."""
    using = visitor.using
    schedule = await show_any_schedule(visitor.viewer, visitor.using.schedules, schedule_id)
    reached = await show_positions(visitor.viewer, visitor.using.schedules, schedule_id)
    runs = await list_all_jobs(visitor.viewer, using.jobs, using.signer, schedule_id=schedule_id, page_size=_RUNS)
    deeds = await list_audit(visitor.viewer, using.host, using.signer, object_id=schedule_id, page_size=_DEEDS)
    capture = await list_audit(visitor.viewer, using.host, using.signer, action="capture ", page_size=_DEEDS)
    return visitor.page(
        "schedule.html",
        schedule=schedule,
        positions={position.entity: position for position in reached.data},
        runs=runs.data,
        happenings=timeline(runs, deeds, capture, schedule.operational_data_types, limit=_HAPPENINGS),
        rule=rule_check(ScheduleForm.of(schedule).rule, after=visitor.now, count=_FIRINGS),
    )


@router.get("/{id}/edit")
async def show_filled_form(visitor: Visiting, schedule_id: IdInPath) -> Response:
    """Edit export schedule."""
    schedule = await show_any_schedule(visitor.viewer, visitor.using.schedules, schedule_id)
    return await _form_page(visitor, ScheduleForm.of(schedule), schedule_id)


@router.post("/{id}/edit")
async def edit(request: Request, visitor: Visiting, schedule_id: IdInPath) -> Response:
    """Replace it, or only say what it would do. What is refused keeps what was filled in."""
    form = Form.of(await request.body())
    filled = ScheduleForm.sent(form)
    if (asked := form.text("action")) in _QUESTIONS:
        return await _form_page(visitor, filled, schedule_id, previews=asked == "preview")
    actor = visitor.require(Role.OPERATOR)
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


@router.get("/{id}/refresh")
async def choose_entity(
    visitor: Visiting, schedule_id: IdInPath, entity: Annotated[str, Query(max_length=MAX_CODE_LENGTH)] = ""
) -> Response:
    """Which entity is to be exported completely once more; then what that means, before it is asked for."""
    schedule = await show_any_schedule(visitor.viewer, visitor.using.schedules, schedule_id)
    one = replace(ScheduleForm.of(schedule), entities=(entity,))
    whole = await _complete_export(visitor, one) if entity else None
    return visitor.page("refresh.html", schedule=schedule, entity=entity, whole=whole)


@router.post("/{id}/refresh")
async def refresh(request: Request, visitor: Visiting, schedule_id: IdInPath) -> Response:
    """Have it exported completely, at once or by the next run."""
    actor, form = visitor.require(Role.OPERATOR), Form.of(await request.body())
    body = body_of(_REFRESH, {"entity": form.text("entity"), "now": form.text("when") == "now"})
    done = await refresh_entity(actor, visitor.using.schedules, schedule_id, body)
    if done.job_id is not None:
        return visitor.back(f"/console/jobs/{done.job_id}", f"This run exports {done.entity} completely.")
    return visitor.back(
        f"/console/schedules/{schedule_id}", f"The next run that begins exports {done.entity} completely."
    )


@router.get("/{id}/backfill")
async def choose_run(
    visitor: Visiting, schedule_id: IdInPath, job: Annotated[str, Query(max_length=MAX_WORD_LENGTH)] = ""
) -> Response:
    """From which run on everything is to come again; then what that means, before it is asked for."""
    using = visitor.using
    schedule = await show_any_schedule(visitor.viewer, using.schedules, schedule_id)
    first = await show_any_job(visitor.viewer, using.jobs, job) if job else None
    runs = await list_all_jobs(
        visitor.viewer,
        using.jobs,
        using.signer,
        schedule_id=schedule_id,
        status="SUCCEEDED",
        created_start=None if first is None else first.date_created.isoformat(),
        page_size=100,
    )
    if first is None:
        return visitor.page("backfill.html", schedule=schedule, runs=runs.data, first=None)
    body = body_of(_BACKFILL, {"job": first.id, "dryRun": True})
    plan = await backfill_schedule(visitor.identity, using.schedules, schedule_id, body)
    complete = [found.entity for found in plan.entities if found.since is None]
    return visitor.page(
        "backfill.html",
        schedule=schedule,
        runs=runs.data,
        more=runs.next_token is not None,
        first=first,
        plan=plan,
        complete=complete,
        whole=await _complete_export(visitor, replace(ScheduleForm.of(schedule), entities=tuple(complete)))
        if complete
        else None,
    )


@router.post("/{id}/backfill")
async def backfill(request: Request, visitor: Visiting, schedule_id: IdInPath) -> Response:
    """Have everything that has changed since a run exported once more."""
    actor, form = visitor.require(Role.OPERATOR), Form.of(await request.body())
    body = body_of(_BACKFILL, {"job": form.text("job")})
    done = await backfill_schedule(actor, visitor.using.schedules, schedule_id, body)
    if done.job_id is not None:
        return visitor.back(f"/console/jobs/{done.job_id}", "This run exports once more what has changed since then.")
    return visitor.back(
        f"/console/schedules/{schedule_id}", f"The next run does it: the job {done.running} runs already."
    )


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
    previews: bool = False,
) -> Response:
    using, stored = visitor.using, None
    if schedule_id is not None and refused.is_stale:
        there = ScheduleForm.of(await show_any_schedule(visitor.viewer, using.schedules, schedule_id))
        form, stored = replace(form, version=there.version), differences(form.document, there.document)
    choices = await destination_choices(visitor, form.organization)
    return visitor.page(
        "schedule_form.html",
        status=refused.status,
        form=form,
        schedule_id=schedule_id,
        choices=choices,
        first_run=await _complete_export(visitor, form) if previews else None,
        codes=[place.code for place in choices.destinations if place.id in form.destination_ids],
        entities=list(using.schedules.entities.values()),
        estimates=visitor.row_estimates(),
        units=UNITS,
        offset_units=OFFSET_UNITS,
        rule=_checked(form, visitor.now),
        refused=refused,
        stored=stored,
    )


async def _complete_export(visitor: Visitor, form: ScheduleForm) -> SchedulePreview | str:
    """The size of a complete export of a schedule's entities, or a sentence when it cannot be said now."""
    wanted = {name: form.document[name] for name in ("sourceType", "operationalDataTypes", "exportFileFormat")}
    try:
        tenant, body = tenant_of(form.organization, visitor.identity), body_of(_EXPORT, wanted)
        return await preview_export(visitor.identity, visitor.using.schedules, body, tenant.organization)
    except (Refusal, ExportdError) as error:
        return str(error.detail if isinstance(error, Refusal) else error.sentence)


def _checked(form: ScheduleForm, now: datetime) -> RuleCheck:
    """Check the rule as it is filled in. This also reports what the API would refuse before it checks the rule."""
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


def timeline(
    runs: FoundJobPage, deeds: AuditPage, capture: AuditPage, entities: Iterable[str], *, limit: int
) -> Sequence[Happening]:
    """The history of a schedule, the newest first, at most ``limit``. It ends where one of its pages ends that has
    another page behind it.

    ``capture`` has operations on the capture of all entities, of which only those on ``entities`` are shown.
    """
    wanted = set(entities)
    happenings = [
        *(Happening(run.date_created, run=run) for run in runs.data),
        *_deeds(deeds.data),
        *(
            Happening(deed.at, deed=deed, about=", ".join(concerned))
            for deed in capture.data
            if (concerned := _captured(deed, wanted))
        ),
    ]
    oldest = max(_floors(runs, deeds), default=None)
    shown = [found for found in happenings if oldest is None or found.at >= oldest]
    return sorted(shown, key=lambda found: found.at, reverse=True)[:limit]


def _floors(runs: FoundJobPage, deeds: AuditPage) -> Iterator[datetime]:
    """For each page that has another behind it, the time from which on it is complete."""
    if runs.next_token and runs.data:
        yield runs.data[-1].date_created
    if deeds.next_token and deeds.data:
        yield deeds.data[-1].at


def _deeds(deeds: Sequence[AuditEntry]) -> Iterator[Happening]:
    """``deeds`` are the newest first."""
    edited = [deed for deed in deeds if "version" in deed.details]
    changes = {id(newer): _changed(older, newer) for newer, older in pairwise(edited)}
    for deed in deeds:
        job_id = deed.details.get("job")
        yield Happening(
            deed.at,
            deed=deed,
            about=changes.get(id(deed)) or _about(deed),
            job_id=job_id if isinstance(job_id, str) else None,
        )


def _changed(older: AuditEntry, newer: AuditEntry) -> str:
    """The names of the settings that an edit has changed."""
    names = {*older.details, *newer.details} - _NOT_SETTINGS
    return ", ".join(sorted(name for name in names if older.details.get(name) != newer.details.get(name)))


def _about(deed: AuditEntry) -> str:
    """The entities of a request."""
    if "version" in deed.details:
        return ""
    named = deed.details.get("entity") or deed.details.get("entities") or ""
    return named if isinstance(named, str) else ", ".join(map(str, named))


def _captured(deed: AuditEntry, wanted: set[str]) -> list[str]:
    """The ``wanted`` entities whose capture was installed or removed."""
    named = deed.details.get("entities", ())
    logs = deed.details.get("logs", ())
    return sorted(entity for entity in wanted if entity in named or log_name(EntityCode(entity)) in logs)
