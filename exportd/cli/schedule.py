"""``exportd schedule``: when what is exported.

``list``, ``run`` and ``next`` work without a daemon too.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path
from typing import Annotated
from uuid import UUID

from cyclopts import App, Parameter, validators

from exportd.cli import completion, schedule_editing
from exportd.cli.daemon_client import DaemonAddress, OrganizationAddress, OrganizationOption, one_of, pages
from exportd.cli.output import (
    AsJson,
    instant,
    moment,
    pause_words,
    print_answer,
    print_error,
    print_json,
    print_line,
    print_list,
    print_table,
)
from exportd.cli.schedule_editing import CodeArgument, print_schedule
from exportd.cli.socket_client import Document, SocketClient
from exportd.model.schedule import API_RULE, rule_from

app = App(name="schedule")
app.command(schedule_editing.create)
app.command(schedule_editing.edit)

_DAEMON = DaemonAddress()
_HERE = OrganizationAddress()
_PLACE = itemgetter("organization", "code")
"""Of a schedule in lists."""


@app.command(name="list")
def list_schedules(*, json: AsJson = False, at: DaemonAddress = _DAEMON) -> None:
    """List schedules with their last and next due times."""
    print_list(
        at.ask_or_read(_all, _read_all),
        {
            "ORGANIZATION": itemgetter("organization"),
            "CODE": itemgetter("code"),
            "ENTITIES": lambda schedule: len(schedule["operationalDataTypes"]),
            "FORMAT": itemgetter("exportFileFormat"),
            "DESTINATIONS": lambda schedule: ", ".join(schedule["destinations"]) or "(download)",
            "LAST DUE": lambda schedule: instant(schedule.get("lastDueAt")),
            "NEXT DUE": lambda schedule: instant(schedule["nextDueAt"]),
            "STATE": lambda schedule: pause_words(schedule.get("paused")),
        },
        numbers=["ENTITIES"],
        as_json=json,
    )


@app.command
def show(code: CodeArgument, /, *, json: AsJson = False, at: OrganizationAddress = _HERE) -> None:
    """Show one schedule: what it exports, when, where to, and who edited it last."""
    client = at.organization_client()
    print_schedule(client.details("schedules", client.id_of("schedules", code)), as_json=json)


@app.command
def delete(code: CodeArgument, /, *, json: AsJson = False, at: OrganizationAddress = _HERE) -> None:
    """Delete a schedule; a job of it that runs goes on. One of the configuration is deleted there."""
    client = at.organization_client()
    print_answer(client.delete("schedules", code), f"deleted {code} of {client.organization}", as_json=json)


@app.command
def pause(code: CodeArgument, /, *, json: AsJson = False, at: OrganizationAddress = _HERE) -> None:
    """Let a schedule not fire until it is resumed. No change is lost."""
    answer = at.organization_client().operate("schedules", code, "pause")
    print_answer(answer, answer["message"], as_json=json)


@app.command
def resume(code: CodeArgument, /, *, json: AsJson = False, at: OrganizationAddress = _HERE) -> None:
    """Let a paused schedule fire again; what came due meanwhile is one run."""
    answer = at.organization_client().operate("schedules", code, "resume")
    print_answer(answer, answer["message"], as_json=json)


@app.command
def run(
    code: Annotated[str, Parameter(completer=completion.SCHEDULES)],
    *,
    organization: OrganizationOption = None,
    json: AsJson = False,
    at: DaemonAddress = _DAEMON,
) -> None:
    """Fire a schedule once more, now. Prints the job's id; the daemon does the rest."""

    def ask(client: SocketClient) -> Document:
        schedule = _named(_all(client, organization), code, organization)
        return client.request("POST", f"/v1/schedules/{schedule['id']}/run")

    async def read(config: Path) -> Document:
        from exportd.cli.without_daemon import run_schedule

        schedule = _named(await _read_all(config), code, organization)
        return await run_schedule(config, schedule["id"])

    answer = at.ask_or_read(ask, read)
    print_answer(answer, answer["jobId"], as_json=json)


@app.command
def refresh(
    code: CodeArgument,
    entity: Annotated[
        str, Parameter(name="ENTITY", help="The entity, as the catalog calls it.", completer=completion.ENTITIES)
    ],
    /,
    *,
    now: Annotated[bool, Parameter(negative="", help="Run at once, not when the schedule is due next.")] = False,
    json: AsJson = False,
    at: OrganizationAddress = _HERE,
) -> None:
    """Export an entity completely, once more."""
    body = {"entity": entity, "now": now}
    answer = at.organization_client().operate("schedules", code, "refresh", body)
    sentence = answer.get("jobId") or f"the next run of {code} exports {entity} completely"
    print_answer(answer, sentence, as_json=json)


@app.command
def backfill(
    code: CodeArgument,
    /,
    *,
    since: Annotated[
        UUID,
        Parameter(
            name="--from",
            help="The job whose changes, and all later ones, come again.",
            completer=completion.JOBS,
        ),
    ],
    dry_run: Annotated[
        bool, Parameter(negative="", help="Only say since when each entity would be exported; ask for nothing.")
    ] = False,
    json: AsJson = False,
    at: OrganizationAddress = _HERE,
) -> None:
    """Export everything that has changed since a past job once more, for a consumer that lost it."""
    body = {"job": str(since), "dryRun": dry_run}
    answer = at.organization_client().operate("schedules", code, "backfill", body)
    if json:
        print_json(answer)
        return
    if dry_run:
        print_line(f"a back-fill of {code} would export:")
    else:
        print_line(answer.get("jobId") or f"the next run of {code} does it: the job {answer['running']} runs")
    rows = [
        (entity["entity"], instant(entity.get("since")) or "everything", entity.get("reason"))
        for entity in answer["entities"]
    ]
    print_table(("ENTITY", "SINCE", "REASON"), rows)


@app.command(name="next")
def show_next(
    code: Annotated[str, Parameter(name="CODE", help="The schedule's code.", completer=completion.SCHEDULES)],
    /,
    *,
    count: Annotated[
        int, Parameter(name=["--count", "-n"], validator=validators.Number(gte=0), help="How many due times.")
    ] = 5,
    organization: OrganizationOption = None,
    json: AsJson = False,
    at: DaemonAddress = _DAEMON,
) -> None:
    """Print when a schedule is due next, in UTC. While it is paused it does not fire then, which is said."""
    from exportd.schedules.calendar import upcoming

    schedules = at.ask_or_read(lambda client: _all(client, organization), _read_all)
    schedule = _named(schedules, code, organization)
    first = datetime.fromisoformat(schedule["nextDueAt"]).astimezone(UTC)
    due_times = list(upcoming(rule_from(schedule, API_RULE), first, count))
    if json:
        print_json([due.isoformat(timespec="milliseconds").replace("+00:00", "Z") for due in due_times])
        return
    if schedule.get("paused"):
        print_error(f"{pause_words(schedule['paused'])}: it does not fire")
    for due in due_times:
        print_line(moment(due))


def _all(client: SocketClient, organization: str | None = None) -> list[Document]:
    return sorted(pages(client, "/v1/schedules", organization=organization), key=_PLACE)


async def _read_all(config: Path) -> list[Document]:
    from exportd.cli.without_daemon import read_schedules

    return sorted(await read_schedules(config), key=_PLACE)


def _named(schedules: Iterable[Document], code: str, organization: str | None) -> Document:
    called_so = (schedule for schedule in schedules if schedule["code"] == code)
    return one_of("schedules", code, called_so, itemgetter("organization"), organization)
