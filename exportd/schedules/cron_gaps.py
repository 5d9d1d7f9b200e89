"""The exact shortest and longest gap between firings, decided over the whole calendar. Pure.

The calendar repeats after 400 years, which are a whole number of weeks. Within them a year is one of 14 kinds: it
begins on one of seven weekdays and is a leap year or not. So the days of 14 years are looked at, and the turns of
400; and as the firings of one matching day are those of every other, that is all.
"""

from calendar import isleap
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

# Any year would do; with this one, the instants in sentences to people are not far away.
_FIRST_YEAR = 2026
_CYCLE_YEARS = 400
_CYCLE_DAYS = 146_097
_MINUTES_A_DAY = 24 * 60

_Span = tuple[int, int]
"""Start and end, in days or minutes from the start of a year or of the cycle."""


class Gap(NamedTuple):
    """Two consecutive firings, aware UTC."""

    start: datetime
    end: datetime


class GapExtremes(NamedTuple):
    """The shortest and the longest gap; of several equal ones, the first from 2026 on."""

    shortest: Gap
    longest: Gap


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


def gap_extremes(minutes: Sequence[int], matches_day: Callable[[date], bool]) -> GapExtremes:
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
