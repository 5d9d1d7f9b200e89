"""``exportd schedule create`` and ``edit``."""

import sys
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from exportd.cli import completion
from exportd.cli.daemon_client import Document, OrganizationAddress
from exportd.cli.output import AsJson, instant, pause_words, print_fields, print_json
from exportd.cli.schedule_rule import GivenRule, UnitName, edited, given_rule, rule_words
from exportd.model.errors import Problem, SettingsError

_HERE = OrganizationAddress()

CodeArgument = Annotated[
    str, Parameter(name="CODE", help="The schedule's code, or its id.", completer=completion.SCHEDULES)
]
FormatName = Literal["CSV", "JSONL"]
Name = Annotated[str | None, Parameter(help="A name for people; the code if left out.")]
Entities = Annotated[
    list[str] | None,
    Parameter(
        consume_multiple=True,
        negative="",
        help="The entities, as the catalog calls them.",
        completer=completion.ENTITIES,
    ),
]
Destinations = Annotated[
    list[str] | None,
    Parameter(
        consume_multiple=True,
        negative="",
        help="Codes of the destinations; with none, files are for download only.",
        completer=completion.DESTINATIONS,
    ),
]
Format = Annotated[FormatName | None, Parameter(help="Of the files.")]
Every = Annotated[str | None, Parameter(help="Such as 15m, 1h or 2d, instead of --unit and --period.")]
UnitOption = Annotated[UnitName | None, Parameter(help="Of --period.")]
Period = Annotated[int | None, Parameter(help="Every how many units, from 15 minutes to 3 days.")]
Offset = Annotated[
    int | None, Parameter(help="Minutes into the hour (HOUR) or hours into the day (DAY), in UTC; 0 for none.")
]
CronOption = Annotated[
    str | None, Parameter(name="--cron", help="Five fields, in UTC, instead of --unit and --period.")
]


def create(
    code: Annotated[str | None, Parameter(name="CODE", help="A short name, unique in the organization.")] = None,
    /,
    *,
    name: Name = None,
    entities: Entities = None,
    destinations: Destinations = None,
    format: Format = None,  # noqa: A002 - it is the option's name
    every: Every = None,
    unit: UnitOption = None,
    period: Period = None,
    offset: Offset = None,
    cron: CronOption = None,
    json: AsJson = False,
    at: OrganizationAddress = _HERE,
) -> None:
    """Make a schedule; it runs at once. On a terminal it asks for what is missing."""
    rule = given_rule(every=every, unit=unit, period=period, offset=offset, cron=cron)
    missing = list(_missing(code, entities, rule))
    asks = bool(missing) and sys.stdin.isatty() and sys.stdout.isatty()
    if missing and not asks:
        raise SettingsError([Problem("", f"{option} is missing") for option in missing])
    client = at.organization_client()
    body: dict[str, Any] = {
        "code": code,
        "name": name,
        "operationalDataTypes": entities,
        "destinationIds": None if destinations is None else client.ids_of("destinations", destinations),
        "exportFileFormat": format,
        **rule.fields(),
    }
    body = {field: value for field, value in body.items() if value is not None}
    if asks:
        from exportd.cli.schedule_questions import ask

        body = ask(body, client, at.config)
    usual = {"sourceType": "OPERATIONAL", "name": body["code"]}
    created = client.create("schedules", {**usual, **body})
    print_schedule(client.details("schedules", created["id"]), as_json=json)


def edit(
    code: CodeArgument,
    /,
    *,
    new_code: Annotated[str | None, Parameter(help="Another code.")] = None,
    name: Name = None,
    entities: Entities = None,
    destinations: Destinations = None,
    format: Format = None,  # noqa: A002 - it is the option's name
    every: Every = None,
    unit: UnitOption = None,
    period: Period = None,
    offset: Offset = None,
    cron: CronOption = None,
    json: AsJson = False,
    at: OrganizationAddress = _HERE,
) -> None:
    """Change what is given and leave the rest; the schedule does not run because of it."""
    client = at.organization_client()
    changes = {
        "code": new_code,
        "name": name,
        "operationalDataTypes": entities,
        "destinationIds": None if destinations is None else client.ids_of("destinations", destinations),
        "exportFileFormat": format,
    }
    changes = {field: value for field, value in changes.items() if value is not None}
    rule = given_rule(every=every, unit=unit, period=period, offset=offset, cron=cron)
    if not changes and not rule.given:
        raise SettingsError.of("nothing to change was said: give an option, such as --cron")
    body = edited(client.get("schedules", code), changes, rule)
    replaced = client.replace("schedules", body)
    print_schedule(client.details("schedules", replaced["id"]), as_json=json)


def print_schedule(schedule: Document, *, as_json: bool) -> None:
    """A schedule as operators see it."""
    if as_json:
        print_json(schedule)
        return
    print_fields(
        {
            "schedule": f"{schedule['code']} of {schedule['organization']}",
            "name": schedule["name"],
            "id": schedule["id"],
            "runs": rule_words(schedule),
            "state": pause_words(schedule.get("paused")),
            "entities": ", ".join(schedule["operationalDataTypes"]),
            "format": schedule["exportFileFormat"],
            "destinations": ", ".join(schedule["destinations"]) or "(download)",
            "created": f"{instant(schedule['dtCreated'])} by {schedule['createdBy']}",
            "last edited": f"{instant(schedule['dtLastModified'])} by {schedule['lastModifiedBy']}",
            "version": schedule["version"],
        }
    )


def _missing(code: str | None, entities: list[str] | None, rule: GivenRule) -> list[str]:
    wanted = {
        "CODE": code,
        "--entities": entities,
        "--every, or --cron,": rule.cron or (rule.unit and rule.period) or None,
    }
    return [option for option, value in wanted.items() if not value]
