"""``exportd schedule show``, ``delete``, ``pause``, ``resume``, ``refresh``, ``backfill`` and ``next``."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import UUID

from cyclopts import Parameter

from exportd.cli.configuration import DEFAULT_CONFIG, ConfigPath
from exportd.cli.daemon_address import OrganizationAddress, OrganizationOption
from exportd.cli.output import (
    AsJson,
    asked_pause,
    instant,
    moment,
    pause_document,
    pause_words,
    print_answer,
    print_fields,
    print_json,
    print_line,
    print_table,
)
from exportd.model.schedule import API_RULE, Cron, Rule, Unit, rule_from

if TYPE_CHECKING:
    from exportd.cli.organization_client import OrganizationClient
    from exportd.model.schedule import Pause, Schedule


# MERGED: What the options of ``schedule create`` and ``edit`` mean, as documents of the API and as a rule.


UnitName = Literal["MINUTE", "HOUR", "DAY"]

_RULE_FIELDS = API_RULE[:4]


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenRule:
    """When a schedule fires, as far as it was said. An ``offset`` of 0 is none."""

    unit: UnitName | None = None
    period: int | None = None
    offset: int | None = None
    cron: str | None = None

    @property
    def given(self) -> bool:
        return self != GivenRule()

    def fields(self) -> dict[str, Any]:
        """Those of the API that were said."""
        values = (self.unit, self.period, self.offset or None, self.cron)
        return {name: value for name, value in zip(_RULE_FIELDS, values, strict=True) if value is not None}


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


def rule_of(document: Mapping[str, Any]) -> Rule:
    """The rule of a document that has one."""
    return rule_from(document, API_RULE)


def rule_words(document: Mapping[str, Any]) -> str:
    """The rule as a person says it: ``every 2 hours, 15 minutes past``."""
    rule = rule_of(document)
    if isinstance(rule, Cron):
        return f"cron {rule.expression}"
    unit = rule.unit.lower()
    words = f"every {unit}" if rule.period == 1 else f"every {rule.period} {unit}s"
    if rule.offset is None:
        return words
    return f"{words}, {rule.offset} minutes past" if rule.unit is Unit.HOUR else f"{words}, at {rule.offset:02}:00"


def upcoming(rule: Rule, first: datetime, count: int) -> Iterator[datetime]:
    """``count`` due times (aware UTC), from ``first`` on."""
    from exportd.schedules.calendar import next_due

    due = first
    for number in range(count):
        if number:
            due = next_due(rule, last_due=due)
        yield due


_HERE = OrganizationAddress()

CodeArgument = Annotated[str, Parameter(name="CODE", help="The schedule's code, or its id.")]


def show(code: CodeArgument, /, *, json: AsJson = False, at: OrganizationAddress = _HERE) -> None:
    """Show one schedule: what it exports, when, where to, and who edited it last."""
    client = at.organization_client()
    schedule = client.get("schedules", code)
    pause = asked_pause(client, "schedules", schedule)
    if json:
        print_json({**schedule, "paused": pause_document(pause)})
    else:
        print_schedule(client, schedule, state=pause_words(pause))


def delete(code: CodeArgument, /, *, json: AsJson = False, at: OrganizationAddress = _HERE) -> None:
    """Delete a schedule; a job of it that runs goes on. One of the configuration is deleted there."""
    client = at.organization_client()
    print_answer(client.delete("schedules", code), f"deleted {code} of {client.organization}", as_json=json)


def pause(code: CodeArgument, /, *, json: AsJson = False, at: OrganizationAddress = _HERE) -> None:
    """Let a schedule not fire until it is resumed. No change is lost."""
    answer = at.organization_client().operate("schedules", code, "pause")
    print_answer(answer, answer["message"], as_json=json)


def resume(code: CodeArgument, /, *, json: AsJson = False, at: OrganizationAddress = _HERE) -> None:
    """Let a paused schedule fire again; what came due meanwhile is one run."""
    answer = at.organization_client().operate("schedules", code, "resume")
    print_answer(answer, answer["message"], as_json=json)


def refresh(
    code: CodeArgument,
    entity: Annotated[str, Parameter(name="ENTITY", help="The entity, as the catalog calls it.")],
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


def backfill(
    code: CodeArgument,
    /,
    *,
    since: Annotated[UUID, Parameter(name="--from", help="The job whose changes, and all later ones, come again.")],
    json: AsJson = False,
    at: OrganizationAddress = _HERE,
) -> None:
    """Export everything that has changed since a past job once more, for a consumer that lost it."""
    answer = at.organization_client().operate("schedules", code, "backfill", {"job": str(since)})
    if json:
        print_json(answer)
        return
    print_line(answer.get("jobId") or f"the next run of {code} does it: the job {answer['running']} runs")
    rows = [
        (entity["entity"], instant(entity.get("since")) or "everything", entity.get("reason"))
        for entity in answer["entities"]
    ]
    print_table(("ENTITY", "SINCE", "REASON"), rows)


def show_next(
    code: Annotated[str, Parameter(name="CODE", help="The schedule's code.")],
    /,
    *,
    count: Annotated[int, Parameter(name=["--count", "-n"], help="So many.")] = 5,
    organization: OrganizationOption = None,
    json: AsJson = False,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Print when a schedule is due next, in UTC. While it is paused it does not fire then, which is said."""
    import anyio

    schedule, pause = anyio.run(_found, code, organization, config)
    due = list(upcoming(schedule.declaration.rule, schedule.next_due_at, count))
    if json:
        print_json([each.isoformat() for each in due])
        return
    if pause is not None:
        sys.stderr.write(f"exportd: {pause_words(pause)}: it does not fire\n")
    for each in due:
        print_line(moment(each))


def print_schedule(client: "OrganizationClient", schedule: dict[str, Any], *, state: str = "") -> None:
    """A schedule's document for a person, with the codes of its destinations."""
    codes = {each["id"]: each["code"] for each in client.listed("destinations")}
    print_fields(
        {
            "schedule": f"{schedule['code']} of {client.organization}",
            "name": schedule["name"],
            "id": schedule["id"],
            "runs": rule_words(schedule),
            "state": state,
            "entities": ", ".join(schedule["operationalDataTypes"]),
            "format": schedule["exportFileFormat"],
            "destinations": ", ".join(
                codes.get(destinationid, destinationid) for destinationid in schedule["destinationIds"]
            )
            or "(download)",
            "created": f"{instant(schedule['dtCreated'])} by {schedule['createdBy']}",
            "last edited": f"{instant(schedule['dtLastModified'])} by {schedule['lastModifiedBy']}",
            "version": schedule["version"],
        }
    )


async def _found(code: str, organization: str | None, config: ConfigPath) -> "tuple[Schedule, Pause | None]":
    from exportd.cli.configuration import tables
    from exportd.model.errors import PermanentError, SettingsError
    from exportd.model.reason import Reason
    from exportd.schedules.firing_table import ScheduleTable
    from exportd.schedules.operations import ScheduleOperator

    async with tables(config) as pool:
        found = [each for each in await ScheduleTable(pool).all() if each.declaration.code == code]
        pauses = await ScheduleOperator(pool).pauses()
    found = [each for each in found if organization in {None, each.declaration.organization}]
    if len(found) > 1:
        owners = ", ".join(sorted(each.declaration.organization for each in found))
        raise SettingsError.of(f"several organizations have a schedule {code} ({owners}): say --organization")
    if not found:
        raise PermanentError(
            f"There is no schedule {code}. `exportd schedule list` shows them.", reason=Reason.NOT_FOUND
        )
    return found[0], pauses.get(found[0].id)
