"""When schedules are due: the examples of the design, the edges, and what always holds."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exportd.model.schedule import Cron, Interval, Rule, Unit
from exportd.schedules.calendar import MAX_GAP, MIN_GAP, check_rule, is_out_of_reach, latest_due, next_due

MICROSECOND = timedelta(microseconds=1)

fewer_examples = settings(max_examples=50)


def at(day: int, hour: int = 0, minute: int = 0) -> datetime:
    """In January 2026, which begins on a Thursday."""
    return datetime(2026, 1, day, hour, minute, tzinfo=UTC)


def due_times(rule: Rule, created_at: datetime, count: int) -> list[datetime]:
    dues = [created_at]
    while len(dues) < count:
        dues.append(next_due(rule, last_due=dues[-1]))
    return dues


EXAMPLES: dict[str, tuple[Rule, list[datetime]]] = {
    "every 2 days": (Interval(Unit.DAY, 2), [at(1, 10, 20), at(3, 10, 20), at(5, 10, 20)]),
    "every day at 02": (Interval(Unit.DAY, 1, 2), [at(1, 10, 20), at(2, 2), at(3, 2), at(4, 2)]),
    "every 2 days at 02": (Interval(Unit.DAY, 2, 2), [at(1, 10, 20), at(3, 2), at(5, 2)]),
    "every 3 days at 23": (Interval(Unit.DAY, 3, 23), [at(1, 10, 20), at(3, 23), at(6, 23)]),
    "every 6 hours at :15": (Interval(Unit.HOUR, 6, 15), [at(1, 10, 20), at(1, 16, 15), at(1, 22, 15)]),
    "every hour": (Interval(Unit.HOUR, 1), [at(1, 10, 20), at(1, 11, 20), at(1, 12, 20)]),
    "every 15 minutes": (Interval(Unit.MINUTE, 15), [at(1, 10, 20), at(1, 10, 35), at(1, 10, 50)]),
    "each hour at :35": (Interval(Unit.HOUR, 1, 35), [at(1, 10, 20), at(1, 10, 35), at(1, 11, 35)]),
    "each hour at :34, skipping the first": (
        Interval(Unit.HOUR, 1, 34),
        [at(1, 10, 20), at(1, 11, 34), at(1, 12, 34)],
    ),
    "each hour at :20, on the dot": (Interval(Unit.HOUR, 1, 20), [at(1, 10, 20), at(1, 11, 20)]),
    "cron on the hour": (Cron("0 * * * *"), [at(1, 10, 20), at(1, 11), at(1, 12)]),
    "cron at :35": (Cron("35 * * * *"), [at(1, 10, 20), at(1, 10, 35), at(1, 11, 35)]),
    "cron at :34, skipping the first": (Cron("34 * * * *"), [at(1, 10, 20), at(1, 11, 34), at(1, 12, 34)]),
    "cron every 15 minutes": (Cron("*/15 * * * *"), [at(1, 10, 20), at(1, 10, 45), at(1, 11)]),
    "cron on working days": (Cron("0 9 * * 1-5"), [at(1, 10, 20), at(2, 9), at(5, 9), at(6, 9)]),
}


@pytest.mark.parametrize(("rule", "expected"), EXAMPLES.values(), ids=EXAMPLES)
def test_a_schedule_runs_at_once_and_then_by_its_rule(rule: Rule, expected: list[datetime]) -> None:
    assert due_times(rule, at(1, 10, 20), len(expected)) == expected


class TestTheFirstRun:
    """A regular firing close to the immediate first run."""

    @pytest.mark.parametrize("rule", [Interval(Unit.DAY, 1, 10), Cron("0 10 * * *")], ids=str)
    def test_skips_a_regular_one_within_15_minutes(self, rule: Rule) -> None:
        assert next_due(rule, last_due=at(1, 9, 45)) == at(1, 10)
        assert next_due(rule, last_due=at(1, 9, 45) + MICROSECOND) == at(2, 10)
        assert next_due(rule, last_due=at(1, 10) - MICROSECOND) == at(2, 10)
        assert next_due(rule, last_due=at(1, 10)) == at(2, 10)

    def test_does_not_skip_where_that_would_leave_a_gap_of_more_than_3_days(self) -> None:
        friday, monday = at(2, 9), at(5, 9)
        rule = Cron("0 9 * * 1-5")
        assert next_due(rule, last_due=friday - timedelta(minutes=10)) == friday
        assert next_due(rule, last_due=friday) == monday


class TestAnEdit:
    """The new rule counts from the last due time."""

    def test_of_an_interval_keeps_the_rhythm_from_there_on(self) -> None:
        assert due_times(Interval(Unit.HOUR, 6), at(1, 14, 20), 3) == [at(1, 14, 20), at(1, 20, 20), at(2, 2, 20)]

    def test_skips_what_would_come_within_15_minutes_of_the_last_run(self) -> None:
        assert next_due(Cron("5 * * * *"), last_due=at(1, 10)) == at(1, 11, 5)


class TestMissedFirings:
    """They become one, due when the last of them was."""

    @pytest.mark.parametrize(
        ("rule", "due", "now", "expected"),
        [
            (Interval(Unit.HOUR, 1), at(1, 10, 20), at(1, 10, 20), at(1, 10, 20)),
            (Interval(Unit.HOUR, 1), at(1, 10, 20), at(1, 11, 19), at(1, 10, 20)),
            (Interval(Unit.HOUR, 1), at(1, 10, 20), at(1, 11, 20), at(1, 11, 20)),
            (Interval(Unit.HOUR, 1), at(1, 10, 20), at(4, 9, 30), at(4, 9, 20)),
            (Interval(Unit.DAY, 2, 2), at(1, 10, 20), at(8), at(7, 2)),
            (Interval(Unit.DAY, 2, 2), at(1, 10, 20), at(3, 1), at(1, 10, 20)),
            (Cron("0 9 * * 1-5"), at(1, 9), at(4, 12), at(2, 9)),
            (Cron("0 9 * * 1-5"), at(2, 8, 50), at(2, 8, 55), at(2, 8, 50)),
            # the skipped one is not a missed one
            (Cron("0 9 * * *"), at(2, 8, 50), at(2, 9, 30), at(2, 8, 50)),
        ],
        ids=str,
    )
    def test_are_due_at_the_last_due_time_that_has_passed(
        self, rule: Rule, due: datetime, now: datetime, expected: datetime
    ) -> None:
        assert latest_due(rule, due=due, now=now) == expected


class TestAPlanFromAClockThatWasAhead:
    """Such a plan must not silence the schedule."""

    def test_is_out_of_reach(self) -> None:
        rule = Interval(Unit.DAY, 1)
        assert is_out_of_reach(rule, due=at(20), now=at(1))
        assert not is_out_of_reach(rule, due=at(2), now=at(1))

    def test_is_not_just_a_long_gap(self) -> None:
        assert not is_out_of_reach(Cron("0 9 * * 1-5"), due=at(5, 9), now=at(2, 9))
        assert not is_out_of_reach(Interval(Unit.DAY, 3), due=at(4), now=at(1) - timedelta(minutes=5))


CRONS = [
    Cron(text)
    for text in (
        "*/15 * * * *", "7-59/15 * * * *", "0 9 * * 1-5", "0 0 */3 * *", "30 0,12 * * *", "59 23 * * *",
        "0 0 * * 1,3,5", "0 9-17 * * 1-5", "0 0 29,30,31,1-28/3 * *",
    )
]  # fmt: skip
offsets = {Unit.MINUTE: st.none(), Unit.HOUR: st.integers(1, 59), Unit.DAY: st.integers(1, 23)}
periods = {Unit.MINUTE: (15, 4320), Unit.HOUR: (1, 72), Unit.DAY: (1, 3)}
intervals = st.sampled_from(Unit).flatmap(
    lambda unit: st.builds(Interval, st.just(unit), st.integers(*periods[unit]), st.none() | offsets[unit])
)
rules = intervals | st.sampled_from(CRONS)
instants = st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))


@given(rules, instants)
@fewer_examples
def test_gaps_are_within_the_limits_for_ever_after(rule: Rule, created_at: datetime) -> None:
    assert check_rule(rule) == []
    dues = due_times(rule, created_at, 8)
    gaps = [b - a for a, b in pairwise(dues)]
    assert all(timedelta(0) < gap <= MAX_GAP for gap in gaps)
    assert all(gap >= MIN_GAP for gap in gaps[1:])
    if isinstance(rule, Interval):
        assert gaps[0] >= MIN_GAP
        length = {Unit.MINUTE: timedelta(minutes=1), Unit.HOUR: timedelta(hours=1), Unit.DAY: timedelta(days=1)}
        assert set(gaps[1:]) == {rule.period * length[rule.unit]}


@given(intervals.filter(lambda rule: rule.offset is not None), instants)
@fewer_examples
def test_regular_firings_stand_at_the_offset(rule: Interval, created_at: datetime) -> None:
    for due in due_times(rule, created_at, 4)[1:]:
        assert (due.minute if rule.unit is Unit.HOUR else due.hour) == rule.offset
        assert (due.second, due.microsecond) == (0, 0)
        assert rule.unit is Unit.HOUR or due.minute == 0


@given(rules, instants, st.timedeltas(timedelta(0), timedelta(days=5)))
@fewer_examples
def test_catching_up_lands_where_not_missing_would_have(rule: Rule, created_at: datetime, away: timedelta) -> None:
    now = created_at + away
    due = created_at
    while (following := next_due(rule, last_due=due)) <= now:
        due = following
    assert latest_due(rule, due=created_at, now=now) == due


@given(rules, instants, st.timedeltas(timedelta(0), timedelta(days=4)))
@fewer_examples
def test_a_plan_is_never_out_of_reach_while_the_clock_goes_forward(
    rule: Rule, last_due: datetime, late: timedelta
) -> None:
    due = next_due(rule, last_due=last_due)
    assert not is_out_of_reach(rule, due=due, now=last_due + late)


# Which rules are allowed, and what is said of the others.


ALLOWED: list[Rule] = [
    Interval(Unit.MINUTE, 15),
    Interval(Unit.MINUTE, 4320),
    Interval(Unit.HOUR, 1),
    Interval(Unit.HOUR, 72, 59),
    Interval(Unit.HOUR, 1, 1),
    Interval(Unit.DAY, 1, 23),
    Interval(Unit.DAY, 3, 1),
    Interval(Unit.DAY, 3),
    Cron("*/15 * * * *"),
    Cron("0 9 * * 1-5"),
    Cron("0 0 */3 * *"),
    Cron("0 0 * * 1,3,5"),
    Cron("0 0 2-29/3,28,30,31 * *"),
    Cron("0 0 1-31/3 * *"),
    Cron("0,15,30,45 * * * *"),
    Cron("7-59/15 * * * *"),
    Cron("0 0 */2 * *"),
    Cron("30 23 1,4,7,10,13,16,19,22,25,28,31 * *"),
]


@pytest.mark.parametrize("rule", ALLOWED, ids=str)
def test_a_rule_within_the_limits_is_allowed(rule: Rule) -> None:
    assert check_rule(rule) == []


REFUSED_CRONS = {
    "*/14 * * * *": "too soon after 2026-01-01 23:56 UTC: the next firing is 2026-01-02 00:00 UTC, 4 minutes later;"
    " runs must be at least 15 minutes apart",
    "* * * * *": "1 minute later; runs must be at least 15 minutes",
    "0,14 * * * *": "too soon after 2026-01-01 00:00 UTC: the next firing is 2026-01-01 00:14 UTC, 14 minutes later",
    "0,50 */23 * * *": "too soon after 2026-01-01 23:50 UTC: the next firing is 2026-01-02 00:00 UTC, 10 minutes",
    "0 0 1 * *": "too late after 2026-01-01 00:00 UTC: the next firing is 2026-02-01 00:00 UTC, 31 days later; runs"
    " must be at most 3 days apart",
    "0 0 * * 1": "7 days later",
    "0 0 */4 * *": "too late after 2026-01-01 00:00 UTC: the next firing is 2026-01-05 00:00 UTC, 4 days later",
    # leap years alone would be fine
    "0 0 2-29/3,30,31 * *": "too late after 2026-02-26 00:00 UTC: the next firing is 2026-03-02 00:00 UTC, 4 days",
    "0 9,10 * * 1-4": "3 days 23 hours later",
    "0 0 * 1-11 *": "too late after 2026-11-30 00:00 UTC: the next firing is 2027-01-01 00:00 UTC, 32 days later",
    "0 0 13 * 5": "7 days later",
    "0 0 31 2 *": "cannot be used: '0 0 31 2 *' would never fire",
    "@hourly": "is not five fields",
}


@pytest.mark.parametrize(("expression", "words"), REFUSED_CRONS.items(), ids=str)
def test_a_cron_expression_beyond_the_limits_is_refused_with_the_pair_of_instants(expression: str, words: str) -> None:
    (sentence,) = check_rule(Cron(expression))
    assert words in sentence


def test_both_limits_can_be_missed_at_once() -> None:
    soon, late = check_rule(Cron("0,5 0 1 * *"))
    assert "5 minutes later" in soon
    assert "30 days 23 hours 55 minutes later" in late


REFUSED_INTERVALS = {
    Interval(Unit.MINUTE, 14): ["15 to 4320 with the unit MINUTE, not 14"],
    Interval(Unit.MINUTE, 4321): ["15 to 4320"],
    Interval(Unit.MINUTE, 60, 5): ["an offset means nothing with the unit MINUTE"],
    Interval(Unit.HOUR, 0): ["1 to 72 with the unit HOUR, not 0"],
    Interval(Unit.HOUR, 73): ["1 to 72"],
    Interval(Unit.HOUR, 1, 60): ["1 to 59 (minutes into the hour) with the unit HOUR, not 60"],
    Interval(Unit.HOUR, 1, 0): ["1 to 59", "leave it out for no offset"],
    Interval(Unit.DAY, 4): ["1 to 3 with the unit DAY, not 4"],
    Interval(Unit.DAY, 1, 24): ["1 to 23 (hours into the day)"],
    Interval(Unit.DAY, -1, 2): ["1 to 3"],
}


@pytest.mark.parametrize(("rule", "words"), REFUSED_INTERVALS.items(), ids=str)
def test_an_interval_beyond_the_limits_is_refused(rule: Interval, words: list[str]) -> None:
    (sentence,) = check_rule(rule)
    for word in words:
        assert word in sentence


def test_all_that_is_wrong_with_an_interval_is_said_at_once() -> None:
    assert len(check_rule(Interval(Unit.HOUR, 100, 99))) == 2
