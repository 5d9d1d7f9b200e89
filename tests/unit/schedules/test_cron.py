"""What a cron expression means, compared with two other implementations and with the whole calendar."""

from datetime import UTC, date, datetime, timedelta
from itertools import islice, pairwise

import pytest
from croniter import croniter
from cronsim import CronSim
from hypothesis import example, given, settings
from hypothesis import strategies as st

from exportd.schedules import cron
from exportd.schedules.cron import DAY_FIELD, HOUR_FIELD, MINUTE_FIELD, MONTH_FIELD, WEEKDAY_FIELD, CronField

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)
fewer_examples = settings(max_examples=60)

CYCLE = [date.fromordinal(date(2026, 1, 1).toordinal() + day) for day in range(146_097)]

instants = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))


@st.composite
def items(draw: st.DrawFn, field: CronField) -> str:
    """A value, a range, or a stepped range of a field, as our grammar has it."""
    low = draw(st.integers(field.low, field.high))
    kind = draw(st.sampled_from(["value", "range", "step"]))
    if kind == "value" or low == field.high:
        by_number = {number: name for name, number in field.names.items()}
        return draw(st.sampled_from([str(low), by_number.get(low, f"{low:02}")]))
    high = draw(st.integers(low + 1, field.high))
    return f"{low}-{high}" if kind == "range" else f"{low}-{high}/{draw(st.integers(1, high - low))}"


def fields(field: CronField) -> st.SearchStrategy[str]:
    lists = st.lists(items(field), min_size=1, max_size=4).map(",".join)
    steps = st.integers(1, field.star_high - field.low).map("*/{}".format)
    return st.one_of(st.just("*"), steps, lists)


@st.composite
def expressions(draw: st.DrawFn) -> cron.CronExpression:
    """An expression that our grammar accepts."""
    day, weekday = draw(fields(DAY_FIELD)), draw(fields(WEEKDAY_FIELD))
    if "*" in day + weekday and "*" not in (day, weekday):
        weekday = "*"
    text = " ".join([draw(fields(MINUTE_FIELD)), draw(fields(HOUR_FIELD)), day, draw(fields(MONTH_FIELD)), weekday])
    try:
        return cron.parse(text)
    except ValueError as error:
        assert "never fire" in str(error)
        return cron.parse(text.replace(f" {day} ", " 28-31 "))


class TestOtherCrons:
    """What we accept means the same to croniter, to cronsim and to our own reading of it."""

    @given(expressions(), instants)
    @fewer_examples
    @example(cron.parse("0 0 13 * 5"), NEW_YEAR)
    @example(cron.parse("0 0 * * 5-7"), NEW_YEAR)
    @example(cron.parse("0 0 */2 * *"), NEW_YEAR)
    @example(cron.parse("0 0 29 2 *"), NEW_YEAR)
    def test_agree_on_the_next_firings(self, expression: cron.CronExpression, start: datetime) -> None:
        ours, instant = [], start
        for _ in range(5):
            instant = expression.next_after(instant)
            ours.append(instant)
        assert ours == list(islice(CronSim(expression.text, start), 5))
        assert ours == list(islice(croniter(expression.text, start, ret_type=datetime), 5))

    @given(expressions(), instants)
    @fewer_examples
    def test_agree_on_the_last_firing(self, expression: cron.CronExpression, instant: datetime) -> None:
        last = expression.last_until(instant)
        # cronsim's is strictly earlier.
        assert last == next(CronSim(expression.text, instant + timedelta(microseconds=1), reverse=True))
        assert last <= instant < expression.next_after(last)

    @given(expressions(), st.sampled_from(CYCLE))
    @fewer_examples
    def test_agree_on_days_and_minutes(self, expression: cron.CronExpression, day: date) -> None:
        other = CronSim(expression.text, NEW_YEAR)
        assert expression.matching_days(day) == (day.month in other.months and other.match_day(day))
        assert expression.minutes == tuple(sorted(60 * h + m for h in other.hours for m in other.minutes))


class TestGaps:
    """The extremes hold for all time, and name two consecutive firings."""

    @given(expressions())
    @settings(max_examples=20)
    @example(cron.parse("0 0 29 2 *"))
    @example(cron.parse("59 23 31 12 *"))
    @example(cron.parse("0 0 * * *"))
    @example(cron.parse("0 0 29-31 2 *"))
    @example(cron.parse("0 0 31 1,12 *"))
    def test_are_those_of_the_whole_calendar(self, expression: cron.CronExpression) -> None:
        other = CronSim(expression.text, NEW_YEAR)
        days = [number for number, day in enumerate(CYCLE) if day.month in other.months and other.match_day(day)]
        days.append(days[0] + len(CYCLE))
        minutes = sorted(60 * hour + minute for hour in other.hours for minute in other.minutes)
        gaps = {1440 * (b - a) + minutes[0] - minutes[-1] for a, b in pairwise(days)}
        gaps |= {b - a for a, b in pairwise(minutes)}

        shortest, longest = expression.gap_extremes()
        assert shortest.end - shortest.start == timedelta(minutes=min(gaps))
        assert longest.end - longest.start == timedelta(minutes=max(gaps))

    @given(expressions())
    @fewer_examples
    def test_are_between_consecutive_firings(self, expression: cron.CronExpression) -> None:
        for start, end in expression.gap_extremes():
            assert expression.last_until(start) == start
            assert expression.next_after(start) == end

    @given(expressions(), instants)
    @fewer_examples
    def test_none_is_outside_of_them(self, expression: cron.CronExpression, instant: datetime) -> None:
        shortest, longest = expression.gap_extremes()
        firings = islice(CronSim(expression.text, instant), 20)
        for a, b in pairwise(firings):
            assert shortest.end - shortest.start <= b - a <= longest.end - longest.start


def at(month: int, day: int, hour: int = 0, minute: int = 0) -> datetime:
    return datetime(2026, month, day, hour, minute, tzinfo=UTC)


class TestEdges:
    """The cases people trip over."""

    def test_the_end_of_a_month_restarts_a_step_over_days(self) -> None:
        expression = cron.parse("0 0 */3 * *")
        assert expression.next_after(at(1, 28)) == at(1, 31)
        assert expression.next_after(at(1, 31)) == at(2, 1)
        assert expression.gap_extremes() == ((at(1, 31), at(2, 1)), (at(1, 1), at(1, 4)))

    def test_the_end_of_an_hour_restarts_a_step_over_minutes(self) -> None:
        shortest, longest = cron.parse("*/14 * * * *").gap_extremes()
        assert shortest == (at(1, 1, 23, 56), at(1, 2))
        assert longest.end - longest.start == timedelta(minutes=14)

    def test_monday_to_friday_pauses_over_the_weekend(self) -> None:
        _, longest = cron.parse("0 9 * * 1-5").gap_extremes()
        assert longest == (at(1, 2, 9), at(1, 5, 9))

    def test_both_days_restricted_means_either(self) -> None:
        expression = cron.parse("0 0 13 * 5")
        assert expression.next_after(at(1, 9)) == at(1, 13)
        assert expression.next_after(at(1, 13)) == at(1, 16)

    def test_a_leap_day_comes_after_four_or_eight_years(self) -> None:
        shortest, longest = cron.parse("0 0 29 2 *").gap_extremes()
        assert shortest.end.year - shortest.start.year == 4
        assert (longest.start.year, longest.end.year) == (2096, 2104)

    @pytest.mark.parametrize("sunday", ["0", "7", "sun", "SUN", "0,7"])
    def test_sunday_has_three_names(self, sunday: str) -> None:
        assert cron.parse(f"0 0 * * {sunday}").next_after(NEW_YEAR) == at(1, 4)

    def test_a_firing_is_strictly_after_the_given_instant(self) -> None:
        expression = cron.parse("30 10 * * *")
        assert expression.next_after(at(1, 1, 10, 30)) == at(1, 2, 10, 30)
        assert expression.next_after(at(1, 1, 10, 30) - timedelta(microseconds=1)) == at(1, 1, 10, 30)

    def test_seconds_do_not_hide_the_last_firing(self) -> None:
        expression = cron.parse("30 10 * * *")
        assert expression.last_until(at(1, 1, 10, 30)) == at(1, 1, 10, 30)
        assert expression.last_until(at(1, 1, 10, 30) + timedelta(seconds=1.5)) == at(1, 1, 10, 30)
        assert expression.last_until(at(1, 1, 10, 30) - timedelta(microseconds=1)) == at(1, 1, 10, 30) - timedelta(
            days=1
        )


REFUSED = {
    "0 0 * *": "five fields",
    "0 0 1 1 * *": "five fields",
    "0 0 1 1 * 0 2027": "five fields",
    "0  0 * * *": "single spaces",
    " 0 0 * * *": "five fields",
    "0 0 * * *\n": "five fields",
    "0\t0 * * *": "five fields",
    "": "five fields",
    "@daily": "five fields",
    "R * * * *": "minute 'R'",
    "H * * * *": "minute 'H'",
    "? 0 * * *": "minute '?'",
    "0 0 L * *": "day of month 'L'",
    "0 0 15W * *": "day of month '15W'",
    "0 0 * * 5#2": "day of week '5#2'",
    "0 0 * * L5": "day of week 'L5'",
    "0 0 * * 0-0": "not from 0 to 0",
    "0 0 * * 5-1": "not from 5 to 1",
    "0 0 * * fri-sun": "not from 5 to 0",
    "50-10 * * * *": "not from 50 to 10",
    "*/90 * * * *": "a step of 90 is too large for 0 to 59",
    "*/60 * * * *": "a step of 60 is too large for 0 to 59",
    "0 0 1-31/40 * *": "a step of 40 is too large",
    "0 0 * * */7": "a step of 7 is too large for 0 to 6",
    "*/0 * * * *": "a step is at least 1",
    "5/15 * * * *": "5-59/15",
    "60 * * * *": "60 is not in 0 to 59",
    "0 24 * * *": "24 is not in 0 to 23",
    "0 0 0 * *": "0 is not in 1 to 31",
    "0 0 32 * *": "32 is not in 1 to 31",
    "0 0 * 13 *": "13 is not in 1 to 12",
    "0 0 * * 8": "8 is not in 0 to 7",
    "0 0 * foo *": "'foo' is not a number or one of jan,",
    "jan 0 * * *": "'jan' is not a number",
    "0 0 * mon *": "'mon' is not a number or one of jan,",
    "0 0 mon * *": "'mon' is not a number",
    "*,5 * * * *": "write it alone",
    "0,,5 * * * *": "minute ''",
    "-5 * * * *": "minute '-5'",
    "1-5-9 * * * *": "minute '1-5-9'",
    "٣ * * * *": "five fields",
    "0 0 31 2 *": "never fire",
    "0 0 30-31 2 *": "never fire",
    "0 0 31 2,4,6,9,11 *": "never fire",
    # croniter: either day; cronsim and Vixie: both
    "0 0 */2 * 1": "do not go together",
    "0 0 1 * */2": "do not go together",
    "0 0 */1 * 1": "do not go together",
    "0 0 5,*/9 * 1": "do not go together",
}


@pytest.mark.parametrize(("text", "words"), REFUSED.items(), ids=str)
def test_what_crons_read_differently_is_refused_with_a_sentence(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=r".+") as raised:
        cron.parse(text)
    assert words in str(raised.value)


@given(st.text(max_size=20) | st.text(alphabet="0123456789*,/- LW#?RHjanmo", max_size=20))
@fewer_examples
def test_any_text_is_an_expression_or_an_error_with_a_sentence(text: str) -> None:
    try:
        expression = cron.parse(text)
    except ValueError as error:
        assert str(error)
    else:
        assert expression.next_after(NEW_YEAR) > NEW_YEAR


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("0 2 * * *", "at 02:00, every day"),
        ("0 0,12 * * *", "at 00:00 and 12:00, every day"),
        ("*/15 * * * *", "every 15 minutes, every day"),
        ("5 */2 * * *", "every 2 hours from 00:05, every day"),
        ("0 * * * 1-5", "every hour, on Monday to Friday"),
        ("0 6 * * 0,6", "at 06:00, on Saturday and Sunday"),
        ("0 6 * * 5-7", "at 06:00, on Friday to Sunday"),
        ("0 6 1,15 * *", "at 06:00, on the 1. and 15. of the month"),
        ("0 6 13 * 5", "at 06:00, on the 13. of the month, and on Friday"),
        ("0 6 * 1,7 *", "at 06:00, every day, in January and July"),
        ("0,30 9-17 * * *", "18 times a day, from 09:00 and 09:30 to 17:30, every day"),
    ],
)
def test_an_expression_in_words(expression: str, words: str) -> None:
    assert cron.parse(expression).words == words
