"""Export jobs: the list, one job, its files, and what can be done with it, or with several that were ticked."""

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal
from urllib.parse import urlencode
from uuid import UUID

import anyio.to_thread
from fastapi import APIRouter, Path, Query, Request
from pydantic import Field, TypeAdapter
from starlette.responses import Response

from exportd.api.identity.access import Identity
from exportd.api.identity.client_table import Role
from exportd.api.pagination import IdInPath, NextToken
from exportd.api.problems import Refusal, answered
from exportd.api.routers.jobs import (
    cancel_job,
    follow_job,
    list_all_jobs,
    read_file,
    retry_job,
    show_any_job,
    show_loader,
    verify_job,
)
from exportd.api.schemas.fields import parse_id
from exportd.api.schemas.job import FoundJobDocument, JobDetails, JobEntity, JobStatus
from exportd.console.forms import NOT_REFUSED, Form, Refused, body_of
from exportd.console.visitor import PageRoute, Visiting, Visitor, while_visiting
from exportd.jobs.job_record import CONCERNS_THE_ORGANIZATION
from exportd.model.errors import ExportdError, Reason, TransientError
from exportd.model.foreign_text import MAX_CODE_LENGTH, MAX_IDS, MAX_TEXT_LENGTH, MAX_WORD_LENGTH
from exportd.model.schedule import DialectName

router = APIRouter(prefix="/console/jobs", route_class=PageRoute, include_in_schema=False)

MAX_TICKED = MAX_IDS
"""How many jobs may be ticked: as many as a page lists."""

JobDeed = Literal["retry", "cancel"]

_DEED: TypeAdapter[JobDeed] = TypeAdapter(JobDeed)
_ZONE = re.compile(r"(Z|[+-]\d\d:?\d\d)$")
_MAX_SHOWN_BYTES = 500_000
"""How much of a manifest its page shows. The file has all of it."""


@dataclass(frozen=True, slots=True)
class TickedJob:
    """A ticked job. ``job`` is None when the visitor sees no such job. ``sentence`` says why it is left out, what was
    done, or why that was refused. ``again`` is the job that retries it.
    """

    id: str
    sentence: str
    job: FoundJobDocument | None = None
    again: str | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """The ticked jobs to which an operation applies (``jobs``, the newest first), and those that are ``left_out``, with
    the reasons.
    """

    deed: JobDeed
    jobs: Sequence[FoundJobDocument]
    left_out: Sequence[TickedJob]

    @classmethod
    def of(cls, deed: JobDeed, ids: Iterable[str], found: Iterable[FoundJobDocument]) -> "Selection":
        """Select by ``ids``. ``found`` are those of these jobs that exist, the newest first."""
        known = {job.id: job for job in found}
        chosen: list[FoundJobDocument] = []
        left_out = [
            TickedJob(text, "There is no such job any more.") for text in dict.fromkeys(ids) if text not in known
        ]
        retried: dict[str, FoundJobDocument] = {}
        for job in known.values():
            why_not = _why_not(deed, job, retried.get(job.schedule_id or ""))
            if why_not:
                left_out.append(TickedJob(job.id, why_not, job))
                continue
            chosen.append(job)
            if job.schedule_id is not None:
                retried[job.schedule_id] = job
        return cls(deed, chosen, left_out)

    @property
    def waiting(self) -> int:
        """Jobs that have not begun."""
        return sum(job.status == "PENDING" for job in self.jobs)

    @property
    def running(self) -> Sequence[FoundJobDocument]:
        """Jobs that a daemon runs."""
        return [job for job in self.jobs if job.status == "RUNNING"]

    @property
    def scheduled(self) -> int:
        """Jobs that have a schedule."""
        return sum(job.schedule_id is not None for job in self.jobs)


_Wanted = Annotated[str, Query(max_length=MAX_CODE_LENGTH)]


@router.get("")
async def list_jobs(
    *,
    visitor: Visiting,
    organization: _Wanted = "",
    schedule: _Wanted = "",
    entity: _Wanted = "",
    destination: _Wanted = "",
    status: JobStatus | Literal[""] = "",
    reason: Annotated[str, Query(max_length=MAX_WORD_LENGTH)] = "",
    created_from: Annotated[_Wanted, Query(alias="from")] = "",
    created_until: Annotated[_Wanted, Query(alias="until")] = "",
    size: Annotated[int, Query(ge=1, le=100)] = 25,
    next_token: NextToken = None,
) -> Response:
    """The newest first. Every filter stands in the address; an empty field of the form filters nothing."""
    filters = {
        "organization": organization,
        "schedule": schedule,
        "entity": entity,
        "destination": destination,
        "reason": reason,
        "status": status,
        "from": created_from,
        "until": created_until,
    }
    found = await list_all_jobs(
        visitor.viewer,
        visitor.using.jobs,
        visitor.using.signer,
        page_size=size,
        next_token=next_token,
        organization=organization or None,
        schedule=schedule or None,
        entity=entity or None,
        destination=destination or None,
        reason=reason or None,
        status=status or None,
        created_start=_in_utc(created_from),
        created_end=_in_utc(created_until),
    )
    older = urlencode({**filters, "size": size, "nextToken": found.next_token}) if found.next_token else None
    return visitor.page("jobs.html", jobs=found.data, filters=filters, size=size, older=older, first=next_token is None)


@router.get("/ticked")
async def confirm_deed(
    visitor: Visiting,
    deed: JobDeed,
    ticked: Annotated[
        list[Annotated[str, Field(max_length=MAX_WORD_LENGTH)]],
        Query(alias="job", default_factory=list, max_length=MAX_TICKED),
    ],
) -> Response:
    """What retrying or cancelling the ticked jobs means, before it is done."""
    return visitor.page("ticked.html", selection=await _selection(visitor, deed, ticked), done=None)


@router.post("/ticked")
async def do_with_ticked(request: Request, visitor: Visiting) -> Response:
    """Do it, one job after the other; a refusal concerns its own job alone."""
    actor, form = visitor.require(Role.OPERATOR), Form.of(await request.body())
    deed = body_of(_DEED, form.text("deed"))
    selection, done = await _selection(visitor, deed, form.texts("job")), list[TickedJob]()
    for job in selection.jobs:
        try:
            done.append(await _do(visitor, actor, deed, job))
        except (Refusal, ExportdError) as error:
            sentence = (await answered(request, error))[1]
            done.append(TickedJob(job.id, f"Refused: {sentence}", job))
            if isinstance(error, TransientError) and error.reason is not Reason.JOB_UNFINISHED:
                break  # the next one would wait for the database as long
    untried = [TickedJob(job.id, "Not tried.", job) for job in selection.jobs[len(done) :]]
    return visitor.page("ticked.html", selection=selection, done=[*done, *untried])


@router.get("/{id}")
async def show_job(visitor: Visiting, job_id: IdInPath) -> Response:
    """How it comes along or went: phases, attempts, entities, files, deliveries."""
    job = await show_any_job(visitor.viewer, visitor.using.jobs, job_id)
    totals = _totals(job.entities.values())
    advises = visitor.viewer.sees_machine or job.reason in CONCERNS_THE_ORGANIZATION
    return visitor.page("job.html", job=job, totals=totals, rates=_rates(job, totals, visitor.now), advises=advises)


@router.get("/{id}/events")
async def follow(request: Request, visitor: Visiting, job_id: IdInPath) -> Response:
    """Says when there is something new about it, until it has ended."""
    return while_visiting(request, await follow_job(visitor.viewer, visitor.using.jobs, job_id))


@router.get("/{id}/files/{name}")
async def download_file(
    request: Request,
    visitor: Visiting,
    job_id: IdInPath,
    name: Annotated[str, Path(max_length=MAX_TEXT_LENGTH)],
) -> Response:
    """One of its files."""
    return await read_file(request, visitor.viewer, visitor.using.jobs, job_id, name)


@router.get("/{id}/archive")
async def download_archive(visitor: Visiting, job_id: IdInPath) -> Response:
    """All of its files, in the layout of a destination."""
    job = await show_any_job(visitor.viewer, visitor.using.jobs, job_id)
    return await visitor.using.jobs.downloads.archive(UUID(job.id))


@router.get("/{id}/manifest")
async def show_manifest(visitor: Visiting, job_id: IdInPath) -> Response:
    """The manifest, to look at; a long one as far as a page holds it."""
    job = await show_any_job(visitor.viewer, visitor.using.jobs, job_id)
    document = await visitor.using.jobs.downloads.manifest(UUID(job.id))
    text = await anyio.to_thread.run_sync(_laid_out, document)
    return visitor.page("manifest.html", job=job, text=text, is_whole=len(document) <= _MAX_SHOWN_BYTES)


@router.get("/{id}/loader")
async def show_loader_script(
    request: Request,
    visitor: Visiting,
    job_id: IdInPath,
    destination: _Wanted = "",
    dialect: DialectName = DialectName.DUCKDB,
) -> Response:
    """The statements that load the job into a database, to copy."""
    using = visitor.using
    job = await show_any_job(visitor.viewer, using.jobs, job_id)
    chosen = destination or next(iter(job.destinations), "")
    script, refused = None, NOT_REFUSED
    if chosen:
        try:
            script = await show_loader(
                visitor.viewer, using.jobs, using.destinations, job_id, destination=chosen, dialect=dialect
            )
        except (Refusal, ExportdError) as error:
            refused = Refused.of(error, *await answered(request, error))
    return visitor.page(
        "loader.html",
        status=refused.status,
        job=job,
        chosen=chosen,
        dialect=dialect.value,
        dialects=[known.value for known in DialectName],
        script=script,
        refused=refused,
    )


@router.post("/{id}/verification")
async def verify(request: Request, visitor: Visiting, job_id: IdInPath) -> Response:
    """Read what was delivered to one of its destinations, and compare it with the manifests."""
    actor, form, using = visitor.require(Role.OPERATOR), Form.of(await request.body()), visitor.using
    found = await verify_job(actor, using.jobs, using.destinations, job_id, form.text("destination"))
    return visitor.back(f"/console/destinations/{found.destination_id}/verification?job={job_id}")


@router.post("/{id}/retry")
async def retry(visitor: Visiting, job_id: IdInPath) -> Response:
    """Do again what a failed job did not."""
    queued = await retry_job(visitor.require(Role.OPERATOR), visitor.using.schedules, visitor.using.jobs, job_id)
    return visitor.back(f"/console/jobs/{queued.job_id}", "This job does again what the failed one did not.")


def _why_not(deed: JobDeed, job: FoundJobDocument, retried: FoundJobDocument | None) -> str:
    """``retried`` is a newer job of the same schedule that is retried."""
    if deed == "cancel":
        ended = job.status not in {"PENDING", "RUNNING"}
        return f"It has ended ({job.status}): there is nothing to cancel." if ended else ""
    if job.status != "FAILED":
        return f"It has not failed ({job.status}): only a failed job can be retried."
    if retried is not None:
        return f"The retry of {retried.id[:8]} does this too: one run holds everything since the last success."
    return ""


async def _selection(visitor: Visitor, deed: JobDeed, ids: list[str]) -> Selection:
    if not ids:
        raise Refusal(400, "job: no job is ticked. Go back and tick those that you mean.")
    if len(ids) > MAX_TICKED:
        raise Refusal(
            400, f"job: {len(ids)} jobs are ticked, and {MAX_TICKED} may be at once. Go back and untick some."
        )
    known = [found for text in ids if (found := parse_id(text)) is not None]
    texts = [str(parse_id(text) or text) for text in ids]
    jobs = await list_all_jobs(
        visitor.viewer, visitor.using.jobs, visitor.using.signer, ids=known, page_size=MAX_TICKED
    )
    return Selection.of(deed, texts, jobs.data)


async def _do(visitor: Visitor, actor: Identity, deed: JobDeed, job: FoundJobDocument) -> TickedJob:
    if deed == "cancel":
        ended = await cancel_job(actor, visitor.using.jobs, job.id)
        words = "It is cancelled." if ended.status == "FAILED" else "The daemon that runs it stops it."
        return TickedJob(job.id, words, job)
    queued = await retry_job(actor, visitor.using.schedules, visitor.using.jobs, job.id)
    return TickedJob(job.id, "It is done again by the job", job, queued.job_id)


def _in_utc(text: str) -> str | None:
    """A form's field for a time, in the form of the API. A time with a zone stays as it is."""
    return f"{text}Z" if text and not _ZONE.search(text) else text or None


def _laid_out(document: bytes) -> str:
    """JSON with line breaks and indentation, unless it is too long or not JSON."""
    if len(document) <= _MAX_SHOWN_BYTES:
        with suppress(ValueError):
            return json.dumps(json.loads(document), indent=2, ensure_ascii=False)
    return document[:_MAX_SHOWN_BYTES].decode("utf-8", errors="replace")


def _totals(entities: Collection[JobEntity]) -> Mapping[str, int]:
    """Of all entities of a job together, by the names of an entity's figures; ``done``: how many were read."""
    names = ("rows", "deleted_rows", "files", "size_bytes", "done")
    return {name: sum(getattr(entity, name) for entity in entities) for name in names}


def _rates(job: JobDetails, totals: Mapping[str, int], now: datetime) -> Mapping[str, int] | None:
    """What it does in a second since its start, on average; None for a job that has not run for a second."""
    seconds = ((job.sealed_at or now) - job.started_at).total_seconds() if job.started_at else 0.0
    return {name: round(totals[name] / seconds) for name in ("rows", "size_bytes")} if seconds >= 1 else None
