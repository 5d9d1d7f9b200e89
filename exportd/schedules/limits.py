"""How often a schedule may fire: not within 15 minutes, and at least every 3 days. Pure.

Nothing in the daemon relaxes these limits; a demo or a person that wants a run now asks for one
with ``ScheduleTable.fire_now``.
"""

from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from exportd.model.schedule import Cron, Interval, Rule, Unit
from exportd.schedules import cron
from exportd.schedules.cron_gaps import Gap

MIN_GAP = timedelta(minutes=15)
MAX_GAP = timedelta(days=3)

UNIT_LENGTHS = {
    Unit.MINUTE: timedelta(minutes=1),
    Unit.HOUR: timedelta(hours=1),
    Unit.DAY: timedelta(days=1),
}

_PERIODS = {Unit.MINUTE: (15, 4320), Unit.HOUR: (1, 72), Unit.DAY: (1, 3)}
_OFFSETS = {
    Unit.HOUR: (1, 59, "minutes into the hour"),
    Unit.DAY: (1, 23, "hours into the day"),
}


class RuleProblem(NamedTuple):
    """What is wrong with a ``part`` of a rule; ``gap`` are the two firings that are too near or too far."""

    part: Literal["period", "offset", "cron"]
    sentence: str
    gap: Gap | None = None


def check_rule(rule: Rule) -> list[str]:
    """What is wrong with a rule, one sentence for each problem; empty when it is good. Takes milliseconds."""
    return [problem.sentence for problem in rule_problems(rule)]


def rule_problems(rule: Rule) -> list[RuleProblem]:
    """The same, with the part of the rule that is wrong."""
    if isinstance(rule, Interval):
        return [*_check_period(rule), *_check_offset(rule)]
    return _check_cron(rule)


def _check_period(rule: Interval) -> list[RuleProblem]:
    low, high = _PERIODS[rule.unit]
    if low <= rule.period <= high:
        return []
    sentence = (
        f"the period must be {low} to {high} with the unit {rule.unit}, not {rule.period}:"
        " runs are at least 15 minutes and at most 3 days apart"
    )
    return [RuleProblem("period", sentence)]


def _check_offset(rule: Interval) -> list[RuleProblem]:
    if rule.offset is None:
        return []
    if rule.unit not in _OFFSETS:
        sentence = f"an offset means nothing with the unit {rule.unit}: leave it out, or use HOUR or DAY"
        return [RuleProblem("offset", sentence)]
    low, high, meaning = _OFFSETS[rule.unit]
    if low <= rule.offset <= high:
        return []
    hint = "; leave it out for no offset" if rule.offset == 0 else ""
    sentence = f"the offset must be {low} to {high} ({meaning}) with the unit {rule.unit}, not {rule.offset}{hint}"
    return [RuleProblem("offset", sentence)]


def _check_cron(rule: Cron) -> list[RuleProblem]:
    try:
        shortest, longest = cron.parse(rule.expression).gap_extremes()
    except ValueError as error:
        return [RuleProblem("cron", f"the cron expression cannot be used: {error}")]
    problems = []
    if shortest.end - shortest.start < MIN_GAP:
        problems.append(RuleProblem("cron", _too("soon", rule, shortest, "at least 15 minutes"), shortest))
    if longest.end - longest.start > MAX_GAP:
        problems.append(RuleProblem("cron", _too("late", rule, longest, "at most 3 days"), longest))
    return problems


def _too(word: str, rule: Cron, gap: Gap, limit: str) -> str:
    return (
        f"the cron expression {rule.expression!r} fires too {word} after {_instant(gap.start)}: the next firing"
        f" is {_instant(gap.end)}, {_duration(gap.end - gap.start)} later; runs must be {limit} apart"
    )


def _instant(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M} UTC"


def _duration(duration: timedelta) -> str:
    """In days, hours and minutes: ``7 days``, ``1 day 2 hours``, ``14 minutes``."""
    hours, minutes = divmod(duration.seconds // 60, 60)
    counts = ((duration.days, "day"), (hours, "hour"), (minutes, "minute"))
    return " ".join(f"{count} {word}{'' if count == 1 else 's'}" for count, word in counts if count)
