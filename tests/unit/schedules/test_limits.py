"""Which rules are allowed, and what is said of the others."""

import pytest

from exportd.model.schedule import Cron, Interval, Rule, Unit
from exportd.schedules.limits import check_rule

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
