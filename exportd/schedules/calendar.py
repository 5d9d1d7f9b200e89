"""Decides when a schedule is due, and how often it may be. Pure: rules and instants (aware UTC) in, instants out.

A rule counts only from the last due time, and a due time follows the rule however late the run was. So the due time in
the database carries the whole rhythm: there is no other anchor, and an edited rule counts from the last due time too.

A schedule is not due twice within 15 minutes, and is due at least every 3 days. Nothing in the daemon relaxes these
limits. A person who wants a run now asks for one with ``ScheduleTable.fire_now``.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from exportd.model.schedule import Cron, Interval, Rule, Unit
from exportd.schedules import cron
from exportd.schedules.cron import Gap, GapExtremes

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

_RESOLUTION = timedelta(microseconds=1)


class RuleProblem(NamedTuple):
    """What is wrong with a ``part`` of a rule. ``gap`` has the two firings that are too close to each other or too far
    apart.
    """

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


def next_due(rule: Rule, *, last_due: datetime) -> datetime:
    """The due time after ``last_due``, which is later.

    ``last_due`` may be off the rule's rhythm: the immediate first run, or a due time of the rule before an
    edit. A regular due time within 15 minutes of it is skipped; but not where the following one (of a cron
    expression) would then come more than 3 days after it.
    """
    if isinstance(rule, Interval):
        return _next_of_interval(rule, last_due)
    expression = cron.parse(rule.expression)
    due = expression.next_after(last_due + MIN_GAP - _RESOLUTION)
    return due if due - last_due <= MAX_GAP else expression.next_after(last_due)


def upcoming(rule: Rule, first: datetime, count: int) -> Iterator[datetime]:
    """``count`` due times (aware UTC), from ``first`` on."""
    due = first
    for number in range(count):
        if number:
            due = next_due(rule, last_due=due)
        yield due


def rule_gaps(rule: Rule, *, after: datetime) -> GapExtremes:
    """The shortest and the longest time between two regular firings; those of an interval are later than ``after``.

    Raises ValueError for a cron expression that cannot be used.
    """
    if isinstance(rule, Cron):
        return cron.parse(rule.expression).gap_extremes()
    gap = Gap(*upcoming(rule, next_due(rule, last_due=after), 2))
    return GapExtremes(gap, gap)


def rule_words(rule: Rule) -> str:
    """A rule in words, in UTC: ``every 2 hours, 15 minutes past``, ``at 02:00, on Monday to Friday``."""
    if isinstance(rule, Cron):
        try:
            return cron.parse(rule.expression).words
        except ValueError:  # an earlier version took it
            return f"cron {rule.expression}"
    unit = rule.unit.lower()
    words = f"every {unit}" if rule.period == 1 else f"every {rule.period} {unit}s"
    if rule.offset is None:
        return words
    return f"{words}, {rule.offset} minutes past" if rule.unit is Unit.HOUR else f"{words}, at {rule.offset:02}:00"


def latest_due(rule: Rule, *, due: datetime, now: datetime) -> datetime:
    """The last due time that has passed, counted from ``due``, which has passed too.

    One run makes up for all that were missed.
    """
    following = next_due(rule, last_due=due)
    if following > now:
        return due
    if isinstance(rule, Interval):
        period = rule.period * UNIT_LENGTHS[rule.unit]
        return following + (now - following) // period * period
    return cron.parse(rule.expression).last_until(now)


def is_out_of_reach(rule: Rule, *, due: datetime, now: datetime) -> bool:
    """Whether a stored due time is later than any that the rule can give at ``now``.

    That happens when the clock was ahead when the due time was stored, and was set back since. The schedule would wait
    until then. The tolerance of 15 minutes is for hosts whose clocks differ.
    """
    if due - now <= MAX_GAP + MIN_GAP:
        return False
    return due > next_due(rule, last_due=now) + MIN_GAP


def _next_of_interval(rule: Interval, last_due: datetime) -> datetime:
    period = rule.period * UNIT_LENGTHS[rule.unit]
    due = last_due + period
    if rule.offset is None:
        return due
    due = _aligned(due, rule.unit, rule.offset)
    # Only with a period of 1 is the boundary so near: the gap exceeds the period by less than 15 minutes.
    return due if due - last_due >= MIN_GAP else due + period


def _aligned(instant: datetime, unit: Unit, offset: int) -> datetime:
    """The last start of the unit plus its offset that is not after ``instant``."""
    if unit is Unit.DAY:
        shift = timedelta(hours=offset)
        return (instant - shift).replace(hour=0, minute=0, second=0, microsecond=0) + shift
    shift = timedelta(minutes=offset)
    return (instant - shift).replace(minute=0, second=0, microsecond=0) + shift
