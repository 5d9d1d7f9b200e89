"""The table of a job's states, and what becomes of a job whose attempt raised an error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exportd.jobs.states import (
    FINISHED,
    FIRST_DELAY_S,
    MAX_DELAY_S,
    TRANSITIONS,
    Fail,
    Retry,
    Transition,
    after,
    decide,
    delay_s,
    diagram,
    holds_bug,
    leading_error,
)
from exportd.model.errors import ExportdError, PermanentError, Reason, SettingsError, TransientError
from exportd.model.job import JobState

LOST = TransientError("The database db1 went away", reason=Reason.DATABASE_CONNECTION_LOST)
REFUSED = PermanentError("Grant SELECT on public.accounts.", reason=Reason.PRIVILEGE_MISSING)
BUG = KeyError("secret=hunter2")
UNFINISHED = frozenset(JobState) - FINISHED

attempts = st.integers(min_value=1, max_value=10_000)
randoms = st.floats(min_value=0, max_value=1, exclude_max=True)


def test_every_state_but_the_first_is_reached_and_every_state_but_the_finished_is_left() -> None:
    assert set(TRANSITIONS.values()) | {JobState.PENDING} == set(JobState)
    assert {state for state, _ in TRANSITIONS} == UNFINISHED
    assert {state for state, _ in TRANSITIONS} & FINISHED == set()


def test_every_event_happens_somewhere() -> None:
    assert {event for _, event in TRANSITIONS} == set(Transition)


def test_every_unfinished_state_can_still_end() -> None:
    for start in UNFINISHED:
        reachable = {start}
        while True:
            further = {target for (state, _), target in TRANSITIONS.items() if state in reachable} | reachable
            if further == reachable:
                break
            reachable = further
        assert reachable >= FINISHED


@pytest.mark.parametrize("state", sorted(FINISHED))
@pytest.mark.parametrize("event", list(Transition))
def test_nothing_happens_to_a_finished_job(state: JobState, event: Transition) -> None:
    assert after(state, event) is None


def test_the_diagram_shows_every_transition_once() -> None:
    lines = diagram().splitlines()
    assert lines == [
        "stateDiagram-v2",
        "    [*] --> PENDING: fire",
        "    PENDING --> RUNNING: claim",
        "    RUNNING --> RUNNING: take over",
        "    RUNNING --> RUNNING: seal",
        "    RUNNING --> RUNNING: publish",
        "    RUNNING --> PENDING: put back",
        "    RUNNING --> SUCCEEDED: succeed",
        "    RUNNING --> FAILED: fail",
        "    PENDING --> FAILED: cancel",
        "    RUNNING --> FAILED: cancel",
        "    SUCCEEDED --> [*]",
        "    FAILED --> [*]",
    ]


@given(attempts, randoms)
def test_the_delay_stays_between_half_the_first_and_the_longest(attempt: int, random: float) -> None:
    assert FIRST_DELAY_S / 2 <= delay_s(attempt, random) <= MAX_DELAY_S


@given(attempts, randoms)
def test_the_next_delay_is_never_shorter_for_the_same_luck(attempt: int, random: float) -> None:
    assert delay_s(attempt + 1, random) >= delay_s(attempt, random)


def test_jitter_spreads_the_delay_over_half_of_it() -> None:
    assert delay_s(1, 0.0) == FIRST_DELAY_S
    assert delay_s(1, 0.5) == FIRST_DELAY_S * 0.75


@given(st.integers(1, 20), st.integers(1, 20), randoms)
def test_a_transient_error_is_retried_until_the_limit(attempt: int, limit: int, random: float) -> None:
    decision = decide(LOST, attempt=attempt, limit=limit, random=random)
    assert decision.reason is Reason.DATABASE_CONNECTION_LOST
    assert isinstance(decision, Retry) == (attempt < limit)
    assert decision.message.startswith("The database db1 went away")


def test_the_last_failure_says_how_often_it_was_tried() -> None:
    assert decide(LOST, attempt=5, limit=5, random=0) == Fail(
        Reason.DATABASE_CONNECTION_LOST, "The database db1 went away. Gave up after 5 attempts."
    )
    assert decide(LOST, attempt=1, limit=1, random=0).message.endswith("Gave up after the only attempt.")


@pytest.mark.parametrize("error", [REFUSED, SettingsError.of("no such entity"), BUG, OSError(28, "full")])
def test_anything_else_fails_at_once(error: Exception) -> None:
    reason = error.reason if isinstance(error, ExportdError) else Reason.BUG
    decision = decide(error, attempt=1, limit=5, random=0)
    assert isinstance(decision, Fail)
    assert decision.reason is reason


def test_a_permanent_error_keeps_its_sentence() -> None:
    assert decide(REFUSED, attempt=1, limit=5, random=0).message == "Grant SELECT on public.accounts."


def test_the_message_of_a_bug_names_its_class_and_does_not_quote_it() -> None:
    message = decide(BUG, attempt=1, limit=5, random=0).message
    assert "KeyError" in message
    assert "hunter2" not in message


@pytest.mark.parametrize(
    ("errors", "leading"),
    [
        ([LOST, REFUSED, BUG], REFUSED),
        ([BUG, LOST], LOST),
        ([BUG, REFUSED], REFUSED),
        ([BUG], BUG),
        ([LOST, TransientError("another", reason=Reason.SPOOL_FULL)], LOST),
    ],
)
def test_of_several_errors_the_one_that_decides_leads(errors: list[Exception], leading: Exception) -> None:
    nested = ExceptionGroup("outer", [ExceptionGroup("inner", errors[:1]), *errors[1:]])
    assert leading_error(nested) is leading
    assert decide(nested, attempt=1, limit=5, random=0) == decide(leading, attempt=1, limit=5, random=0)


def test_a_bug_is_found_behind_an_error_that_leads() -> None:
    assert holds_bug(ExceptionGroup("both", [LOST, BUG]))
    assert not holds_bug(ExceptionGroup("both", [LOST, REFUSED]))
