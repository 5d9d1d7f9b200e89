"""``exportd job``: what ran, what runs, and how it went."""

from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import anyio
from cyclopts import App, Parameter

from exportd.cli import job_operations
from exportd.cli.configuration import DEFAULT_CONFIG, ConfigPath, tables
from exportd.cli.output import AsJson, moment, print_json, print_line, print_table, size

if TYPE_CHECKING:
    from exportd.jobs.job_record import JobRecord

app = App(name="job")
for _command in (job_operations.watch, job_operations.cancel, job_operations.retry):
    app.command(_command)


@app.command(name="list")
def list_jobs(
    *,
    schedule: Annotated[str | None, Parameter(help="Only jobs of this schedule.")] = None,
    organization: Annotated[str | None, Parameter(help="Only jobs of this organization.")] = None,
    limit: Annotated[int, Parameter(help="At most this many, the newest first.")] = 20,
    json: AsJson = False,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """List jobs, the newest first."""
    anyio.run(_list, schedule, organization, limit, json, config)


@app.command
def show(job_id: str, *, json: AsJson = False, config: ConfigPath = DEFAULT_CONFIG) -> None:
    """Show one job: state, what it read, its files, where they went."""
    anyio.run(_show, job_id, json, config)


async def _list(
    schedule: str | None,
    organization: str | None,
    limit: int,
    as_json: bool,
    config: ConfigPath,
) -> None:
    from exportd.jobs.job_table import JobTable
    from exportd.model.entity import OrganizationId

    async with tables(config) as pool:
        records = await JobTable(pool).list(
            organization=OrganizationId(organization) if organization else None, schedule_code=schedule, limit=limit
        )
    if as_json:
        print_json([document(record) for record in records])
        return
    print_table(
        ["JOB", "SCHEDULE", "ORGANIZATION", "DUE", "STATE", "ROWS", "DELETED", "FILES", "SIZE", "REASON"],
        [
            (
                record.job.id,
                record.job.schedule_code or "(ad hoc)",
                record.job.organization,
                moment(record.job.due_at),
                record.state,
                sum(entity.rows for entity in record.progress.entities.values()),
                sum(entity.deleted_rows for entity in record.progress.entities.values()),
                sum(entity.files for entity in record.progress.entities.values()),
                size(sum(entity.size_bytes for entity in record.progress.entities.values())),
                record.reason,
            )
            for record in records
        ],
        numbers=["ROWS", "DELETED", "FILES", "SIZE"],
    )


async def _show(job_id: str, as_json: bool, config: ConfigPath) -> None:
    from exportd.jobs.job_table import JobTable

    async with tables(config) as pool:
        record = await find(JobTable(pool), job_id)
    if as_json:
        print_json(document(record))
        return
    print_line(f"job           {record.job.id}")
    print_line(f"schedule      {record.job.schedule_code or '(ad hoc)'} of {record.job.organization}")
    print_line(f"state         {record.state} ({record.phase.lower()}, attempt {record.attempt})")
    if record.reason:
        print_line(f"reason        {record.reason}: {record.message}")
    print_line(f"due           {moment(record.job.due_at)}")
    print_line(f"started       {moment(record.started_at)}")
    print_line(f"finished      {moment(record.finished_at)}")
    print_line(f"delivered to  {', '.join(delivery.destination for delivery in record.deliveries) or '(nowhere yet)'}")
    modes = {entity["entity"]: entity for entity in (record.extraction or {}).get("entities", ())}
    print_line()
    print_table(
        ["ENTITY", "MODE", "ROWS", "DELETED", "FILES", "SIZE"],
        [
            (
                code,
                " ".join(filter(None, (modes[code]["mode"], modes[code]["full_reason"]))) if code in modes else "",
                each.rows,
                each.deleted_rows,
                each.files,
                size(each.size_bytes),
            )
            for code, each in ((code, record.progress.of(code)) for code in record.job.entities)
        ],
        numbers=["ROWS", "DELETED", "FILES", "SIZE"],
    )


async def find(table: Any, job_id: str) -> "JobRecord":
    """The job of that id; PermanentError NOT_FOUND when there is none."""
    from exportd.model.errors import PermanentError
    from exportd.model.job import JobId
    from exportd.model.reason import Reason

    try:
        record: JobRecord | None = await table.get(JobId(UUID(job_id)))
    except ValueError:
        record = None
    if record is None:
        raise PermanentError(f"There is no job {job_id}. `exportd job list` shows the jobs.", reason=Reason.NOT_FOUND)
    return record


def document(record: "JobRecord") -> dict[str, Any]:
    """A job as JSON."""
    return {
        "id": record.job.id,
        "organization": record.job.organization,
        "schedule": record.job.schedule_code,
        "due_at": record.job.due_at.isoformat(),
        "state": record.state,
        "phase": record.phase,
        "attempt": record.attempt,
        "created_at": record.created_at.isoformat(),
        "started_at": record.started_at and record.started_at.isoformat(),
        "finished_at": record.finished_at and record.finished_at.isoformat(),
        "reason": record.reason,
        "message": record.message,
        "entities": {
            code: {
                "rows": entity.rows,
                "deleted_rows": entity.deleted_rows,
                "content_bytes": entity.content_bytes,
                "size_bytes": entity.size_bytes,
                "files": entity.files,
                "oversized_parts": entity.oversized_parts,
                "done": entity.done,
            }
            for code, entity in record.progress.entities.items()
        },
        "parts": [
            {
                "entity": part.entity,
                "file": part.file_name,
                "rows": part.rows,
                "size_bytes": part.size_bytes,
                "sha256": part.sha256,
            }
            for part in record.parts
        ],
        "delivered_to": [delivery.destination for delivery in record.deliveries],
    }
