from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exportd.api.transport.client_limits import ConnectionStage, CrowdLimits, RateLimit, first_to_go, superfluous


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


# Which connection is closed when there are too many.


FULL = CrowdLimits(connections=0, of_owner=1000)
"""One more than there may be, however few there are."""


@dataclass(frozen=True)
class Line:
    """A connection."""

    owner: int
    since: float
    stage: ConnectionStage = ConnectionStage.KEPT
    process: int = 0
    is_administrators: bool = False


def busy(owner: int, *, is_administrators: bool = False) -> Line:
    return Line(owner, 0.0, ConnectionStage.BUSY, is_administrators=is_administrators)


lines = st.lists(st.builds(Line, st.integers(1, 5), st.floats(0, 1000), st.sampled_from(ConnectionStage)))
newcomers = st.builds(Line, st.integers(1, 6), st.just(2000.0), st.just(ConnectionStage.ASKING))


def test_the_longest_idle_of_the_owner_of_most() -> None:
    crowd = [Line(1, float(second)) for second in range(10, 20)]
    newcomer = Line(3, 50.0)
    assert superfluous(newcomer, [newcomer, Line(2, 0.0), *crowd, Line(2, 5.0), busy(1)], FULL) == Line(1, 10.0)


def test_the_longest_idle_of_the_process_that_has_most() -> None:
    crowd = [Line(1, float(second), process=7) for second in range(10, 20)]
    newcomer = Line(1, 50.0, process=8)
    assert superfluous(newcomer, [newcomer, Line(1, 0.0, process=9), *crowd], FULL) == crowd[0]


def test_a_crowd_of_one_process_goes_before_a_command_that_has_just_connected() -> None:
    """The command's connection may still be at an earlier stage than those of the crowd."""
    crowd = [Line(1, float(second), ConnectionStage.ASKING, process=7) for second in range(10, 20)]
    command, newcomer = Line(1, 40.0, ConnectionStage.HANDSHAKE, process=8), Line(1, 50.0, process=7)
    assert superfluous(newcomer, [newcomer, command, *crowd], FULL) == crowd[0]


@pytest.mark.parametrize(
    ("worse", "better"), list(zip(list(ConnectionStage)[:-2], list(ConnectionStage)[1:-1], strict=True))
)
def test_who_has_asked_less_goes_first(worse: ConnectionStage, better: ConnectionStage) -> None:
    newcomer = Line(9, 50.0)
    assert superfluous(newcomer, [newcomer, Line(1, 0.0, better), Line(2, 40.0, worse)], FULL) == Line(2, 40.0, worse)
    assert first_to_go([Line(1, 0.0, better), Line(2, 40.0, worse)]) == Line(2, 40.0, worse)


@given(lines, newcomers)
def test_none_that_is_being_answered_goes_for_an_ordinary_one(present: list[Line], newcomer: Line) -> None:
    evicted = superfluous(newcomer, [newcomer, *present], FULL)
    assert evicted is not None
    assert evicted == newcomer or evicted.stage is not ConnectionStage.BUSY
    assert first_to_go([line for line in present if line.stage is ConnectionStage.BUSY]) is None


@given(lines, newcomers)
def test_no_owner_drives_out_another_with_fewer(present: list[Line], newcomer: Line) -> None:
    everyone = [newcomer, *present]
    evicted = superfluous(newcomer, everyone, FULL)
    assert evicted is not None
    owners = [line.owner for line in everyone]
    assert evicted.owner == newcomer.owner or owners.count(evicted.owner) >= owners.count(newcomer.owner)


def test_who_is_busy_with_all_his_connections_gets_no_place_of_another() -> None:
    newcomer = Line(1, 50.0)
    assert superfluous(newcomer, [busy(1), busy(1), Line(2, 7.0), newcomer], FULL) is newcomer


@given(lines, st.integers(2, 30))
def test_who_has_one_connection_is_safe_from_who_has_several(present: list[Line], several: int) -> None:
    crowd = [Line(0, float(second)) for second in range(several)]
    singles = {line.owner: line for line in present}.values()
    assert superfluous(crowd[-1], [*singles, *crowd], FULL) == crowd[0]


@given(lines, st.integers(1, 10))
def test_no_owner_has_more_than_so_many(present: list[Line], most: int) -> None:
    own = [Line(0, float(second)) for second in range(most)]
    limits = CrowdLimits(connections=1000, of_owner=most)
    assert superfluous(own[-1], [*(line for line in present if line.owner), *own], CrowdLimits(1000, most)) is None
    newcomer = Line(0, 50.0)
    assert superfluous(newcomer, [*present, *own, newcomer], limits) == own[0]
    busy_ones = [busy(0)] * most
    assert superfluous(newcomer, [*busy_ones, newcomer], limits) is newcomer


@given(st.lists(st.integers(1, 3), min_size=1, max_size=20))
def test_an_administrator_is_always_let_in(owners: list[int]) -> None:
    crowd = [busy(owner) for owner in owners]
    administrator = Line(0, 50.0, is_administrators=True)
    evicted = superfluous(administrator, [*crowd, administrator], FULL)
    assert evicted is not None
    assert evicted is not administrator
    newcomer = Line(owners[0], 60.0)
    assert superfluous(newcomer, [administrator, *crowd, newcomer], FULL) is newcomer


def test_only_administrators_hinder_an_administrator() -> None:
    administrator = Line(0, 50.0, is_administrators=True)
    crowd = [busy(0, is_administrators=True)] * 3
    assert superfluous(administrator, [*crowd, administrator], FULL) is administrator


def test_there_is_room() -> None:
    newcomer = Line(1, 0.0)
    assert superfluous(newcomer, [newcomer], CrowdLimits(1, 1)) is None
    assert first_to_go([]) is None
