"""Times, sizes and counts as pages write them."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exportd.console.rendering import WHY_FULL, count, duration, instant, relative, size, why_full
from exportd.model.errors import FullReason

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (3661, "1 h 1 min"),
        (86_400, "1 d"),
        (90_061, "1 d 1 h"),
        (86_430, "1 d"),
    ],
)
def test_a_duration_has_its_two_largest_units(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_times_are_in_utc_and_before_or_after_now() -> None:
    eastern = NOW.astimezone(timezone(timedelta(hours=-5)))
    assert (instant(eastern), instant(None)) == ("2026-01-31 12:00:00 UTC", "")
    assert relative(NOW, NOW) == "now"
    assert relative(NOW - timedelta(minutes=5), NOW) == "5 min ago"
    assert relative(NOW + timedelta(days=2), NOW) == "in 2 d"


@pytest.mark.parametrize(
    ("size_bytes", "words"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (1234, "1.23 kB"),
        (99_960, "100 kB"),
        (999_499, "999 kB"),
        (999_600, "1 MB"),
        (2**60, "1153 PB"),
    ],
)
def test_a_size_has_three_digits_and_a_unit(size_bytes: int, words: str) -> None:
    assert size(size_bytes) == words


@given(st.integers(min_value=0, max_value=10**15))
def test_a_count_keeps_its_digits(number: int) -> None:
    assert int("".join(letter for letter in count(number) if letter.isdigit())) == number


def test_every_reason_for_a_complete_run_has_a_sentence() -> None:
    assert set(WHY_FULL) == set(FullReason)
    assert why_full("FIRST_RUN") == "It is the first run."
    assert (why_full(None), why_full("FROM_A_LATER_VERSION")) == ("", "FROM_A_LATER_VERSION")
