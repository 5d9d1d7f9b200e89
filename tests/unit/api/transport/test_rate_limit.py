from hypothesis import given
from hypothesis import strategies as st

from exportd.api.transport.rate_limit import RateLimit


@given(st.lists(st.floats(0, 0.5), max_size=200), st.integers(1, 20))
def test_no_window_ever_holds_more_than_the_limit(pauses: list[float], limit: int) -> None:
    rate, now, passed = RateLimit(limit, 1.0), 1000.0, []
    for pause in pauses:
        now += pause
        if rate.wait_s("acme", now) == 0:
            passed.append(now)
    for number, moment in enumerate(passed):
        assert sum(1 for at in passed[number:] if at < moment + 0.9) <= limit


@given(st.integers(1, 50), st.floats(0, 10_000))
def test_waiting_as_long_as_was_said_helps(limit: int, now: float) -> None:
    rate = RateLimit(limit, 1.0)
    while not (wait_s := rate.wait_s("acme", now)):
        pass
    assert 0 < wait_s <= 1.0
    assert rate.wait_s("acme", now + wait_s + 1e-6) == 0


def test_each_key_has_a_limit_of_its_own() -> None:
    rate = RateLimit(1, 1.0)
    assert [rate.wait_s(key, 5.0) == 0 for key in ("a", "b", "a")] == [True, True, False]
