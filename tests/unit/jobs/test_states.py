"""The table of a job's states."""

import pytest

from exportd.jobs.states import FINISHED, TRANSITIONS, UNFINISHED, Transition, after, diagram
from exportd.model.job import JobState


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
