"""Export jobs: the list, one job, its files, and what can be done with it."""

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal
from urllib.parse import urlencode
from uuid import UUID

import anyio.to_thread
from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from exportd.api.dependencies import NextToken
from exportd.api.identity.access import Role
from exportd.api.pagination import IdInPath
from exportd.api.problems import Refusal, answered
from exportd.api.routers.operations import cancel_job, retry_job
from exportd.api.routers.overview import list_all_jobs, read_file, show_any_job, show_loader
from exportd.api.routers.status import follow_job
from exportd.api.schemas.job import JobDetails, JobEntity, JobStatus
from exportd.console.forms import NOT_REFUSED, Refused
from exportd.console.visitor import PageRoute, Visiting, while_visiting
from exportd.model.bounds import MAX_CODE_LENGTH, MAX_TEXT_LENGTH, MAX_WORD_LENGTH
from exportd.model.dialect_name import DialectName
from exportd.model.errors import ExportdError

router = APIRouter(prefix="/console/jobs", route_class=PageRoute, include_in_schema=False)

_MAX_SHOWN_BYTES = 500_000
"""So much of a manifest stands on its page; the file has all."""


@dataclass(frozen=True, slots=True)
class _Totals:
    """All entities of a job together."""

    rows: int
    deleted_rows: int
    files: int
    size_bytes: int
    done: int


@dataclass(frozen=True, slots=True)
class _Rates:
    """What a job does in a second, since its start."""

    rows: int
    size_bytes: int


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
    }
    found = await list_all_jobs(
        viewer=visitor.viewer,
        jobs=visitor.using.jobs,
        signer=visitor.using.signer,
        page_size=size,
        next_token=next_token,
        organization=organization or None,
        schedule=schedule or None,
        entity=entity or None,
        destination=destination or None,
        reason=reason or None,
        status=status or None,
    )
    older = urlencode({**filters, "size": size, "nextToken": found.next_token}) if found.next_token else None
    return visitor.page("jobs.html", jobs=found.data, filters=filters, size=size, older=older, first=next_token is None)


@router.get("/{id}")
async def show_job(visitor: Visiting, job_id: IdInPath) -> Response:
    """How it comes along or went: phases, attempts, entities, files, deliveries."""
    job = await show_any_job(visitor.viewer, visitor.using.jobs, job_id)
    totals = _totals(job.entities.values())
    return visitor.page("job.html", job=job, totals=totals, rates=_rates(job, totals, visitor.now))


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
    job = await show_any_job(visitor.viewer, visitor.using.jobs, job_id)
    chosen = destination or next(iter(job.destinations), "")
    script, refused = None, NOT_REFUSED
    if chosen:
        try:
            script = await show_loader(
                viewer=visitor.viewer,
                jobs=visitor.using.jobs,
                destinations=visitor.using.destinations,
                job_id=job_id,
                destination=chosen,
                dialect=dialect,
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


@router.post("/{id}/cancel")
async def cancel(visitor: Visiting, job_id: IdInPath) -> Response:
    """End it, whichever daemon runs it."""
    ended = await cancel_job(visitor.require(Role.OPERATOR), visitor.using.jobs, job_id)
    words = "The job is cancelled." if ended.status == "FAILED" else "The daemon that runs the job stops it."
    return visitor.back(f"/console/jobs/{job_id}", words)


@router.post("/{id}/retry")
async def retry(visitor: Visiting, job_id: IdInPath) -> Response:
    """Do again what a failed job did not."""
    queued = await retry_job(visitor.require(Role.OPERATOR), visitor.using.schedules, visitor.using.jobs, job_id)
    return visitor.back(f"/console/jobs/{queued.job_id}", "This job does again what the failed one did not.")


def _laid_out(document: bytes) -> str:
    """With line breaks and spaces, unless it is too long or no JSON."""
    if len(document) <= _MAX_SHOWN_BYTES:
        with suppress(ValueError):
            return json.dumps(json.loads(document), indent=2, ensure_ascii=False)
    return document[:_MAX_SHOWN_BYTES].decode("utf-8", errors="replace")


def _totals(entities: Iterable[JobEntity]) -> _Totals:
    found = list(entities)
    return _Totals(
        rows=sum(entity.rows for entity in found),
        deleted_rows=sum(entity.deleted_rows for entity in found),
        files=sum(entity.files for entity in found),
        size_bytes=sum(entity.size_bytes for entity in found),
        done=sum(entity.done for entity in found),
    )


def _rates(job: JobDetails, totals: _Totals, now: datetime) -> _Rates | None:
    """On average; None for a job that has not run for a second."""
    seconds = ((job.sealed_at or now) - job.started_at).total_seconds() if job.started_at else 0.0
    if seconds < 1:
        return None
    return _Rates(round(totals.rows / seconds), round(totals.size_bytes / seconds))
