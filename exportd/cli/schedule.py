"""``exportd schedule``: when what is exported. These two verbs and ``next`` ask the database, and need no daemon."""

from typing import TYPE_CHECKING

import anyio
from cyclopts import App

from exportd.cli import schedule_editing, schedule_operations
from exportd.cli.configuration import DEFAULT_CONFIG, ConfigPath, tables
from exportd.cli.daemon_address import OrganizationOption
from exportd.cli.output import AsJson, moment, pause_document, pause_words, print_answer, print_json, print_table

if TYPE_CHECKING:
    from exportd.model.job import JobId

app = App(name="schedule")
for _command in (
    schedule_editing.create,
    schedule_editing.edit,
    schedule_operations.show,
    schedule_operations.delete,
    schedule_operations.pause,
    schedule_operations.resume,
    schedule_operations.refresh,
    schedule_operations.backfill,
):
    app.command(_command)
app.command(schedule_operations.show_next, name="next")


@app.command(name="list")
def list_schedules(*, json: AsJson = False, config: ConfigPath = DEFAULT_CONFIG) -> None:
    """List schedules with their last and next due times."""
    anyio.run(_list, json, config)


@app.command
def run(
    code: str,
    *,
    organization: OrganizationOption = None,
    json: AsJson = False,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Fire a schedule once more, now. Prints the job's id; the daemon does the rest."""
    job = str(anyio.run(_run, code, organization, config))
    print_answer({"jobId": job}, job, as_json=json)


async def _list(as_json: bool, config: ConfigPath) -> None:
    from exportd.schedules.firing_table import ScheduleTable
    from exportd.schedules.operations import ScheduleOperator

    async with tables(config) as pool:
        schedules = await ScheduleTable(pool).all()
        pauses = await ScheduleOperator(pool).pauses()
    rows = [
        {
            "organization": schedule.declaration.organization,
            "code": schedule.declaration.code,
            "entities": list(schedule.declaration.entities),
            "format": schedule.declaration.file_format,
            "destinations": list(schedule.declaration.destinations),
            "last_due_at": schedule.last_due_at and schedule.last_due_at.isoformat(),
            "next_due_at": schedule.next_due_at.isoformat(),
            "paused": pause_document(pauses.get(schedule.id)),
        }
        for schedule in schedules
    ]
    if as_json:
        print_json(rows)
        return
    print_table(
        ["ORGANIZATION", "CODE", "ENTITIES", "FORMAT", "DESTINATIONS", "LAST DUE", "NEXT DUE", "STATE"],
        [
            (
                schedule.declaration.organization,
                schedule.declaration.code,
                len(schedule.declaration.entities),
                schedule.declaration.file_format,
                ", ".join(schedule.declaration.destinations) or "(download)",
                moment(schedule.last_due_at),
                moment(schedule.next_due_at),
                pause_words(pauses.get(schedule.id)),
            )
            for schedule in schedules
        ],
        numbers=["ENTITIES"],
    )


async def _run(code: str, organization: str | None, config: ConfigPath) -> "JobId":
    from exportd.model.entity import OrganizationId
    from exportd.schedules.firing_table import ScheduleTable

    async with tables(config) as pool:
        return await ScheduleTable(pool).fire_now(OrganizationId(organization) if organization else None, code)
