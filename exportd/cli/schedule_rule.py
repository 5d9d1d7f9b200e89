"""When a schedule fires: what the options of ``schedule create`` and ``edit`` say, as the API has it.

Nothing here is asked of a daemon.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from exportd.model.errors import SettingsError
from exportd.model.schedule import API_RULE, Rule, rule_from

UnitName = Literal["MINUTE", "HOUR", "DAY"]

_RULE_FIELDS = API_RULE[:4]


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenRule:
    """When a schedule fires, as far as options say. An ``offset`` of 0 is none."""

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
    """What the options say; ``every`` is unit and period in one, such as ``15m``, ``1h`` or ``2d``.

    Raises SettingsError for another text, and for two answers to the same question.
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


def rule_of(document: Mapping[str, Any]) -> Rule:
    """The rule of a document that has one."""
    return rule_from(document, API_RULE)
