"""What the options of schedules mean."""

from datetime import UTC, datetime, timedelta

import pytest

from exportd.cli.schedule_rule import GivenRule, edited, rule_of, rule_words, upcoming
from exportd.model.schedule import Cron, Interval, Unit

HOURLY = {"code": "often", "scheduleType": "HOUR", "period": 2, "offset": 15, "version": 3}
CRON = {"code": "often", "cronExpression": "0 3 * * *", "version": 3}


@pytest.mark.parametrize(
    ("before", "rule", "after"),
    [
        (HOURLY, GivenRule(), HOURLY),
        (HOURLY, GivenRule(period=3), {**HOURLY, "period": 3}),
        (HOURLY, GivenRule(offset=20), {**HOURLY, "offset": 20}),
        (HOURLY, GivenRule(offset=0), {"code": "often", "scheduleType": "HOUR", "period": 2, "version": 3}),
        (HOURLY, GivenRule(unit="HOUR"), HOURLY),
        (HOURLY, GivenRule(unit="DAY"), {"code": "often", "scheduleType": "DAY", "period": 2, "version": 3}),
        (HOURLY, GivenRule(cron="0 3 * * *"), CRON),
        (CRON, GivenRule(unit="HOUR", period=2, offset=15), HOURLY),
    ],
)
def test_an_edit_leaves_what_was_not_said(before: dict[str, object], rule: GivenRule, after: dict[str, object]) -> None:
    assert edited(before, {}, rule) == after
    assert edited(before, {"name": "Often"}, rule) == {**after, "name": "Often"}


@pytest.mark.parametrize(
    ("document", "rule", "words"),
    [
        (CRON, Cron("0 3 * * *"), "cron 0 3 * * *"),
        (HOURLY, Interval(Unit.HOUR, 2, 15), "every 2 hours, 15 minutes past"),
        ({"scheduleType": "DAY", "period": 1, "offset": 3}, Interval(Unit.DAY, 1, 3), "every day, at 03:00"),
        ({"scheduleType": "MINUTE", "period": 45}, Interval(Unit.MINUTE, 45), "every 45 minutes"),
    ],
)
def test_a_rule_is_read_and_said(document: dict[str, object], rule: Interval | Cron, words: str) -> None:
    assert rule_of(document) == rule
    assert rule_words(document) == words


def test_what_comes_next_begins_with_the_first() -> None:
    first = datetime(2026, 3, 1, 10, 7, tzinfo=UTC)
    assert list(upcoming(Interval(Unit.MINUTE, 45), first, 3)) == [
        first + number * timedelta(minutes=45) for number in range(3)
    ]
    assert list(upcoming(Cron("0 3 * * *"), first, 2)) == [first, datetime(2026, 3, 2, 3, 0, tzinfo=UTC)]
