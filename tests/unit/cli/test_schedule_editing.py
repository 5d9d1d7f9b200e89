"""What the options of schedules mean."""

from datetime import UTC, datetime, timedelta

import pytest

from exportd.cli.schedule_editing import GivenRule, edited, given_rule
from exportd.model.errors import SettingsError
from exportd.model.schedule import API_RULE, Cron, Interval, Unit, rule_from
from exportd.schedules.calendar import rule_words, upcoming

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
        (CRON, Cron("0 3 * * *"), "at 03:00, every day"),
        (HOURLY, Interval(Unit.HOUR, 2, 15), "every 2 hours, 15 minutes past"),
        ({"scheduleType": "DAY", "period": 1, "offset": 3}, Interval(Unit.DAY, 1, 3), "every day, at 03:00"),
        ({"scheduleType": "MINUTE", "period": 45}, Interval(Unit.MINUTE, 45), "every 45 minutes"),
    ],
)
def test_a_rule_is_read_and_said(document: dict[str, object], rule: Interval | Cron, words: str) -> None:
    assert rule_from(document, API_RULE) == rule
    assert rule_words(rule) == words


def test_what_comes_next_begins_with_the_first() -> None:
    first = datetime(2026, 3, 1, 10, 7, tzinfo=UTC)
    assert list(upcoming(Interval(Unit.MINUTE, 45), first, 3)) == [
        first + number * timedelta(minutes=45) for number in range(3)
    ]
    assert list(upcoming(Cron("0 3 * * *"), first, 2)) == [first, datetime(2026, 3, 2, 3, 0, tzinfo=UTC)]


@pytest.mark.parametrize(("every", "unit", "period"), [("15m", "MINUTE", 15), ("1h", "HOUR", 1), ("2d", "DAY", 2)])
def test_an_interval_is_written_as_people_write_it(every: str, unit: str, period: int) -> None:
    rule = given_rule(every=every, unit=None, period=None, offset=None, cron=None)
    assert rule.fields() == {"scheduleType": unit, "period": period}


@pytest.mark.parametrize("every", ["", "15", "h", "1.5h", "-1h", "1w", "1 h", "\u0661h", "1h\n"])
def test_what_is_no_interval_is_refused_with_how_to_write_it(every: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        given_rule(every=every, unit=None, period=None, offset=None, cron=None)
    assert "write it as 15m, 1h or 2d" in refusal.value.sentence


def test_an_interval_is_said_once() -> None:
    with pytest.raises(SettingsError):
        given_rule(every="1h", unit="HOUR", period=None, offset=None, cron=None)
    with pytest.raises(SettingsError):
        given_rule(every="1h", unit=None, period=None, offset=None, cron="0 2 * * *")
