"""Reads cron expressions and finds the instants that they mean. Pure. Everything is in UTC, so daylight saving plays no
part.

The instants come from croniter (only this module uses it), behind our own strict grammar, which accepts only what means
the same to every cron. A field is ``*``, or a list of values, ranges ``a-b``, and steps ``*/n`` and ``a-b/n``. What
croniter would accept and others read differently or not at all is refused: ranges that run backwards, steps larger than
their range, ``a/n``, ``L``, ``W``, ``#``, ``?``, ``R``, ``H``.

When both days are restricted, either may match (``0 0 13 * 5``: each 13th and each Friday), as in Vixie cron. Where one
of them holds a ``*`` with a step, crons disagree whether both must match (``0 0 */2 * 1``): that is refused.

The shortest and longest gap between firings are exact, decided over the whole calendar. It repeats after 400 years,
which are a whole number of weeks. Within them a year is one of 14 kinds: it begins on one of seven weekdays and is a
leap year or not. So the days of 14 years are looked at, and the turns of 400; and as the firings of one matching day
are those of every other, that is all.
"""

import re
from calendar import isleap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from types import MappingProxyType
from typing import NamedTuple

from croniter import croniter

from exportd.model.foreign_text import MAX_CRON_LENGTH

_VALUE = "[0-9]{1,2}|[A-Za-z]{3}"
_ITEM = re.compile(rf"(?:\*|(?P<low>{_VALUE})(?:-(?P<high>{_VALUE}))?)(?:/(?P<step>[0-9]{{1,2}}))?")

_FIVE_FIELDS = re.compile(r"[!-~]+(?: [!-~]+){4}")
_MAX_DAYS = {1: 31, 2: 29, 3: 31, 4: 30, 5: 31, 6: 30, 7: 31, 8: 31, 9: 30, 10: 31, 11: 30, 12: 31}
_MINUTE = timedelta(minutes=1)
_MINUTES_A_DAY = 24 * 60
_MAX_TIMES_SAID = 4
_WEEKDAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July", "August", "September", "October"),
    *("November", "December"),
)


class Gap(NamedTuple):
    """Two consecutive firings, aware UTC."""

    start: datetime
    end: datetime


class GapExtremes(NamedTuple):
    """The shortest and the longest gap; of several equal ones, the first from 2026 on."""

    shortest: Gap
    longest: Gap


@dataclass(frozen=True, slots=True)
class CronField:
    """One of the five fields: what it is called, the values it takes, and their names.

    ``star_high`` is the highest value that ``*`` stands for.
    """

    name: str
    low: int
    high: int
    star_high: int
    names: Mapping[str, int] = field(default_factory=dict)


def _named(words: str, first: int) -> Mapping[str, int]:
    return MappingProxyType({word: number for number, word in enumerate(words.split(), start=first)})


MINUTE_FIELD = CronField("minute", 0, 59, 59)
HOUR_FIELD = CronField("hour", 0, 23, 23)
DAY_FIELD = CronField("day of month", 1, 31, 31)
MONTH_FIELD = CronField("month", 1, 12, 12, _named("jan feb mar apr may jun jul aug sep oct nov dec", 1))
WEEKDAY_FIELD = CronField("day of week", 0, 7, 6, _named("sun mon tue wed thu fri sat", 0))
"""0 and 7 are both Sunday."""


def _field_values(cron_field: CronField, text: str) -> frozenset[int]:
    """The values that the text of a field stands for. Raises ValueError with a sentence."""
    items = text.split(",")
    if len(items) > 1 and "*" in items:
        raise ValueError(f"{_where(cron_field, text)}: * already means every value; write it alone")
    return frozenset(value for item in items for value in _values_of_item(cron_field, item))


def _values_of_item(cron_field: CronField, item: str) -> range:
    where = _where(cron_field, item)
    match = _ITEM.fullmatch(item)
    if match is None:
        raise ValueError(f"{where}: write *, values, ranges a-b and steps */n or a-b/n, separated by commas")
    low, high, step = match["low"], match["high"], match["step"]
    if low is None:
        span = range(cron_field.low, cron_field.star_high + 1)
    elif high is None:
        if step is not None:
            raise ValueError(f"{where}: say where it ends: {low}-{cron_field.star_high}/{step}")
        return range(start := _value(cron_field, low, where), start + 1)
    else:
        first, last = _value(cron_field, low, where), _value(cron_field, high, where)
        if first >= last:
            raise ValueError(f"{where}: a range runs from a lower to a higher value, not from {first} to {last}")
        span = range(first, last + 1)
    return span if step is None else span[:: _step(int(step), span, where)]


def _step(step: int, span: range, where: str) -> int:
    if step < 1:
        raise ValueError(f"{where}: a step is at least 1")
    if step > span[-1] - span[0]:
        # Not an error to croniter, which fires at the first value alone: */90 would silently mean hourly.
        raise ValueError(f"{where}: a step of {step} is too large for {span[0]} to {span[-1]}")
    return step


def _value(cron_field: CronField, word: str, where: str) -> int:
    value = int(word) if word.isdigit() else cron_field.names.get(word.lower())
    if value is None:
        known = f"a number or one of {', '.join(cron_field.names)}" if cron_field.names else "a number"
        raise ValueError(f"{where}: {word!r} is not {known}")
    if not cron_field.low <= value <= cron_field.high:
        raise ValueError(f"{where}: {value} is not in {cron_field.low} to {cron_field.high}")
    return value


def _where(cron_field: CronField, text: str) -> str:
    return f"the {cron_field.name} {text!r}"


@dataclass(frozen=True, slots=True)
class MatchingDays:
    """Whether a day matches, whatever the time of the day. ``weekdays`` has Sunday as 0.

    ``either_day``: a day matches by its number or by its weekday; else it must match by both.
    """

    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool

    def __call__(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        by_number = day.day in self.days
        by_weekday = day.isoweekday() % 7 in self.weekdays
        return by_number or by_weekday if self.either_day else by_number and by_weekday


@dataclass(frozen=True, slots=True)
class CronExpression:
    """A valid expression. ``minutes`` are those of a matching day, ascending."""

    text: str
    minutes: tuple[int, ...]
    matching_days: MatchingDays

    def next_after(self, instant: datetime) -> datetime:
        """The first firing that is later than ``instant``."""
        # Whole minutes only, so that croniter does not have to round.
        return croniter(self.text, _whole_minute(instant)).get_next(datetime)

    def last_until(self, instant: datetime) -> datetime:
        """The last firing that is not later than ``instant``."""
        return croniter(self.text, _whole_minute(instant) + _MINUTE).get_prev(datetime)

    def gap_extremes(self) -> GapExtremes:
        """The shortest and the longest gap between consecutive firings, over all time. Takes milliseconds."""
        return _gap_extremes(self.minutes, self.matching_days)

    @property
    def words(self) -> str:
        """The expression in words: ``every 15 minutes, on Monday to Friday``."""
        matching = self.matching_days
        numbers = f"on the {_joined([f'{day}.' for day in sorted(matching.days)])} of the month"
        weekdays = f"on {_weekday_words(matching.weekdays)}"
        if matching.either_day:
            days = f"{numbers}, and {weekdays}"
        elif len(matching.weekdays) < len(_WEEKDAYS):
            days = weekdays
        else:
            days = "every day" if len(matching.days) == max(_MAX_DAYS.values()) else numbers
        words = [_time_words(self.minutes), days]
        if len(matching.months) < len(_MONTHS):
            words.append(f"in {_joined([_MONTHS[month - 1] for month in sorted(matching.months)])}")
        return ", ".join(words)


def parse(text: str) -> CronExpression:
    """Read a five-field expression. Raises ValueError with a sentence that says what to change."""
    if len(text) > MAX_CRON_LENGTH:
        raise ValueError(f"an expression has at most {MAX_CRON_LENGTH} characters, not {len(text)}")
    if not _FIVE_FIELDS.fullmatch(text):
        raise ValueError(
            f"{text!r} is not five fields separated by single spaces: minute, hour, day of month, month, day of week"
        )
    minute, hour, day, month, weekday = text.split(" ")
    either_day = day != "*" and weekday != "*"
    if either_day and "*" in day + weekday:
        raise ValueError(
            f"the day of month {day!r} and the day of week {weekday!r} do not go together, for crons disagree"
            " on what a * with a step means beside another day; write its values as a list or a range"
        )
    hours = sorted(_field_values(HOUR_FIELD, hour))
    minutes = sorted(_field_values(MINUTE_FIELD, minute))
    matching = MatchingDays(
        days=_field_values(DAY_FIELD, day),
        months=_field_values(MONTH_FIELD, month),
        weekdays=frozenset(value % 7 for value in _field_values(WEEKDAY_FIELD, weekday)),
        either_day=either_day,
    )
    if not either_day and min(matching.days) > max(_MAX_DAYS[number] for number in matching.months):
        raise ValueError(f"{text!r} would never fire: no month {month!r} has a day {day!r}")
    return CronExpression(text, tuple(60 * whole_hour + past for whole_hour in hours for past in minutes), matching)


def _whole_minute(instant: datetime) -> datetime:
    return instant.astimezone(UTC).replace(second=0, microsecond=0)


def _time_words(minutes: tuple[int, ...]) -> str:
    """At which minutes of a day."""
    times = [f"{minute // 60:02}:{minute % 60:02}" for minute in minutes]
    if len(minutes) <= _MAX_TIMES_SAID:
        return f"at {_joined(times)}"
    gaps = {end - start for start, end in pairwise((*minutes, minutes[0] + _MINUTES_A_DAY))}
    if len(gaps) == 1:
        (gap,) = gaps
        unit, length = ("hour", gap // 60) if gap % 60 == 0 else ("minute", gap)
        every = f"every {unit}" if length == 1 else f"every {length} {unit}s"
        return every if minutes[0] == 0 else f"{every} from {times[0]}"
    return f"{len(times)} times a day, from {times[0]} and {times[1]} to {times[-1]}"


def _weekday_words(weekdays: frozenset[int]) -> str:
    """The week begins on Monday."""
    found = sorted(weekdays, key=lambda weekday: (weekday - 1) % 7)
    names = [_WEEKDAYS[weekday] for weekday in found]
    in_a_row = all((end - start) % 7 == 1 for start, end in pairwise(found))
    return f"{names[0]} to {names[-1]}" if in_a_row and len(names) > 2 else _joined(names)


def _joined(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


# Any year would do. With this one, the instants in error sentences are near the present.
_FIRST_YEAR = 2026
_CYCLE_YEARS = 400
_CYCLE_DAYS = 146_097

_Span = tuple[int, int]
"""Start and end, in days or minutes from the start of a year or of the cycle."""


class _Year(NamedTuple):
    """The matching days of one kind of year, counted from 1 January = 0. ``extremes``: its gaps that matter."""

    first: int
    last: int
    extremes: tuple[_Span, ...]


class _DayExtremes(NamedTuple):
    """The extremes of the gaps between matching days, and a matching day."""

    shortest: _Span
    longest: _Span
    first: int


def _gap_extremes(minutes: Sequence[int], matches_day: Callable[[date], bool]) -> GapExtremes:
    """The extremes for firings at ``minutes`` (of the day, ascending) of each day that matches.

    ``matches_day`` is remembered: equal ones must match the same days. Raises ValueError when no day ever matches.
    """
    days = _day_extremes(matches_day)
    gaps = [
        (_MINUTES_A_DAY * start + minutes[-1], _MINUTES_A_DAY * end + minutes[0])
        for start, end in (days.shortest, days.longest)
    ]
    morning = _MINUTES_A_DAY * days.first
    gaps += [(morning + start, morning + end) for start, end in pairwise(minutes)]
    return GapExtremes(_instants(min(gaps, key=_length)), _instants(max(gaps, key=_length)))


@lru_cache(maxsize=256)
def _day_extremes(matches_day: Callable[[date], bool]) -> _DayExtremes:
    """Takes milliseconds; and where there are thousands of schedules, most of them run on the same days."""
    gaps = _day_gaps(matches_day)
    return _DayExtremes(min(gaps, key=_length), max(gaps, key=_length), gaps[0][0])


def _day_gaps(matches_day: Callable[[date], bool]) -> list[_Span]:
    """Gaps between matching days over one cycle, among them the shortest and the longest."""
    kinds: dict[tuple[int, bool], _Year | None] = {}
    gaps: list[_Span] = []
    first = last = None
    start = 0
    for number in range(_FIRST_YEAR, _FIRST_YEAR + _CYCLE_YEARS):
        kind = (start % 7, isleap(number))
        if kind not in kinds:
            kinds[kind] = _year(number, matches_day)
        if (year := kinds[kind]) is not None:
            if last is None:
                first = start + year.first
            else:
                gaps.append((last, start + year.first))
            gaps += [(start + gap_start, start + gap_end) for gap_start, gap_end in year.extremes]
            last = start + year.last
        start += _days_in(number)
    if first is None or last is None:
        raise ValueError("no day of the calendar matches")
    gaps.append((last, first + _CYCLE_DAYS))
    return gaps


def _year(number: int, matches_day: Callable[[date], bool]) -> _Year | None:
    """None when no day of the year matches."""
    start = date(number, 1, 1).toordinal()
    days = [day for day in range(_days_in(number)) if matches_day(date.fromordinal(start + day))]
    if not days:
        return None
    gaps = list(pairwise(days))
    extremes = (min(gaps, key=_length), max(gaps, key=_length)) if gaps else ()
    return _Year(days[0], days[-1], extremes)


def _days_in(year: int) -> int:
    return 366 if isleap(year) else 365


def _length(span: _Span) -> int:
    return span[1] - span[0]


def _instants(minutes: _Span) -> Gap:
    cycle_start = datetime(_FIRST_YEAR, 1, 1, tzinfo=UTC)
    return Gap(*(cycle_start + timedelta(minutes=minute) for minute in minutes))
