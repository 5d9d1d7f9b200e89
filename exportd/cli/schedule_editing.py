"""``exportd schedule create`` and ``edit``: turns their options into requests of the API."""

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from exportd.cli import completion
from exportd.cli.daemon_client import DestinationsOption, FormatName, OrganizationAddress, OrganizationClient
from exportd.cli.output import AsJson, instant, pause_words, print_fields, print_json
from exportd.cli.socket_client import Document
from exportd.model.errors import Problem, SettingsError
from exportd.model.schedule import API_RULE

UnitName = Literal["MINUTE", "HOUR", "DAY"]

_RULE_FIELDS = API_RULE[:4]

_HERE = OrganizationAddress()

CodeArgument = Annotated[
    str, Parameter(name="CODE", help="The schedule's code, or its id.", completer=completion.SCHEDULES)
]


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenRule:
    """The parts of a rule that options give. An ``offset`` of 0 removes it."""

    unit: UnitName | None = None
    period: int | None = None
    offset: int | None = None
    cron: str | None = None

    @property
    def given(self) -> bool:
        return self != GivenRule()

    def fields(self) -> dict[str, Any]:
        """The fields of the API that were given."""
        values = (self.unit, self.period, self.offset or None, self.cron)
        return {name: value for name, value in zip(_RULE_FIELDS, values, strict=True) if value is not None}


_LETTERS: dict[str, UnitName] = {"m": "MINUTE", "h": "HOUR", "d": "DAY"}


def given_rule(
    *, every: str | None, unit: UnitName | None, period: int | None, offset: int | None, cron: str | None
) -> GivenRule:
    """The rule in the options. ``every`` is unit and period in one, such as ``15m``, ``1h`` or ``2d``.

    Raises SettingsError for another text, and when the period is given twice.
    """
    if every is None:
        return GivenRule(unit=unit, period=period, offset=offset, cron=cron)
    match = re.fullmatch(r"([0-9]{1,6})([mhd])", every)
    if match is None:
        raise SettingsError.of(f"{every!r} is no interval: write it as 15m, 1h or 2d", where="--every")
    if unit is not None or period is not None or cron is not None:
        raise SettingsError.of("says what --unit, --period or --cron says too: give one of them", where="--every")
    return GivenRule(unit=_LETTERS[match[2]], period=int(match[1]), offset=offset)


def edited(schedule: Mapping[str, Any], changes: Mapping[str, Any], rule: GivenRule) -> dict[str, Any]:
    """A schedule's document with changes. A cron expression replaces an interval, another unit the offset too."""
    document = {**schedule, **changes}
    if not rule.given:
        return document
    another_unit = rule.unit is not None and rule.unit != schedule.get("scheduleType")
    gone = {"cronExpression"} if rule.cron is None else set(_RULE_FIELDS)
    if another_unit or rule.offset == 0:
        gone.add("offset")
    return {**{name: value for name, value in document.items() if name not in gone}, **rule.fields()}


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleOptions:
    """The options for creating and editing a schedule."""

    name: Annotated[str | None, Parameter(help="A name for people; the code if left out.")] = None
    entities: Annotated[
        list[str] | None,
        Parameter(
            consume_multiple=True,
            negative="",
            help="The entities, as the catalog calls them.",
            completer=completion.ENTITIES,
        ),
    ] = None
    destinations: DestinationsOption = None
    format: Annotated[FormatName | None, Parameter(help="Of the files.")] = None
    every: Annotated[str | None, Parameter(help="Such as 15m, 1h or 2d, instead of --unit and --period.")] = None
    unit: Annotated[UnitName | None, Parameter(help="Of --period.")] = None
    period: Annotated[int | None, Parameter(help="Every how many units, from 15 minutes to 3 days.")] = None
    offset: Annotated[
        int | None, Parameter(help="Minutes into the hour (HOUR) or hours into the day (DAY), in UTC; 0 for none.")
    ] = None
    cron: Annotated[
        str | None, Parameter(name="--cron", help="Five fields, in UTC, instead of --unit and --period.")
    ] = None

    def rule(self) -> GivenRule:
        """The given parts of the rule. Raises SettingsError when the period is given twice."""
        return given_rule(every=self.every, unit=self.unit, period=self.period, offset=self.offset, cron=self.cron)

    def fields(self, client: OrganizationClient, code: str | None) -> dict[str, Any]:
        """The other fields of the API that were given, and the ``code``."""
        fields = {
            "code": code,
            "name": self.name,
            "operationalDataTypes": self.entities,
            "destinationIds": None if self.destinations is None else client.ids_of("destinations", self.destinations),
            "exportFileFormat": self.format,
        }
        return {field: value for field, value in fields.items() if value is not None}


_UNSAID = ScheduleOptions()


def create(
    code: Annotated[str | None, Parameter(name="CODE", help="A short name, unique in the organization.")] = None,
    /,
    *,
    options: ScheduleOptions = _UNSAID,
    json: AsJson = False,
    at: OrganizationAddress = _HERE,
) -> None:
    """Make a schedule; it runs at once. On a terminal it asks for what is missing."""
    rule = options.rule()
    missing = list(_missing(code, options.entities, rule))
    asks = bool(missing) and sys.stdin.isatty() and sys.stdout.isatty()
    if missing and not asks:
        raise SettingsError([Problem("", f"{option} is missing") for option in missing])
    client = at.organization_client()
    body = {**options.fields(client, code), **rule.fields()}
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
    options: ScheduleOptions = _UNSAID,
    json: AsJson = False,
    at: OrganizationAddress = _HERE,
) -> None:
    """Change what is given and leave the rest; the schedule does not run because of it."""
    client = at.organization_client()
    changes = options.fields(client, new_code)
    rule = options.rule()
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
            "runs": schedule["frequency"],
            "state": pause_words(schedule.get("paused")),
            "entities": ", ".join(schedule["operationalDataTypes"]),
            "format": schedule["exportFileFormat"],
            "destinations": ", ".join(schedule["destinations"]) or "(download)",
            "next due": instant(schedule["nextDueAt"]),
            "last job": _last_job(schedule.get("lastJob")),
            "read until": instant(schedule.get("readUntil")),
            "created": f"{instant(schedule['dtCreated'])} by {schedule['createdBy']}",
            "last edited": f"{instant(schedule['dtLastModified'])} by {schedule['lastModifiedBy']}",
            "version": schedule["version"],
        }
    )


def _last_job(job: Document | None) -> str | None:
    if job is None:
        return None
    words = [
        job["id"],
        job["status"].lower(),
        job.get("reason"),
        instant(job.get("finishedAt")),
        f"{job['rows']:,} rows",
    ]
    return ", ".join(word for word in words if word)


def _missing(code: str | None, entities: list[str] | None, rule: GivenRule) -> list[str]:
    wanted = {
        "CODE": code,
        "--entities": entities,
        "--every, or --cron,": rule.cron or (rule.unit and rule.period) or None,
    }
    return [option for option, value in wanted.items() if not value]
