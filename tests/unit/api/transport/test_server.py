"""Which connection is evicted when there are too many."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from exportd.api.transport.server import eviction


@dataclass(frozen=True)
class Line:
    """A connection."""

    owner: int
    idle_since: float | None


lines = st.lists(st.builds(Line, st.integers(1, 5), st.none() | st.floats(0, 1000)))


def test_the_longest_idle_of_the_owner_of_most() -> None:
    crowd = [Line(1, float(second)) for second in range(10, 20)]
    assert eviction([Line(2, 0.0), *crowd, Line(2, 5.0), Line(1, None)]) == Line(1, 10.0)


def test_another_has_to_go_where_the_owner_of_most_is_busy() -> None:
    assert eviction([Line(1, None), Line(1, None), Line(2, 7.0)]) == Line(2, 7.0)


@given(lines)
def test_none_that_is_being_answered(connections: list[Line]) -> None:
    evicted = eviction(connections)
    idle = [connection for connection in connections if connection.idle_since is not None]
    assert (evicted in idle) if idle else (evicted is None)


@given(lines, st.integers(2, 30))
def test_who_has_one_connection_is_safe_from_who_has_several(connections: list[Line], several: int) -> None:
    crowd = [Line(0, float(second)) for second in range(several)]
    evicted = eviction([*{connection.owner: connection for connection in connections}.values(), *crowd])
    assert evicted == crowd[0]
