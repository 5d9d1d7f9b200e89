"""What stays is frozen, so that the garbage collector does not traverse it again."""

import gc
from collections.abc import Iterator

import pytest

from exportd.daemon.garbage import freeze, freezing


@pytest.fixture(autouse=True)
def unfrozen() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


def is_traversed(thing: object) -> bool:
    return any(traversed is thing for traversed in gc.get_objects())


def test_what_is_frozen_is_not_traversed_again() -> None:
    kept = {"this": ["stays"]}
    assert is_traversed(kept)
    before = gc.get_threshold()
    freeze()
    assert not is_traversed(kept)
    # Younger objects are traversed as often as before, all of them much more seldom.
    assert gc.get_threshold()[:2] == before[:2]
    assert gc.get_threshold()[2] >= 10 * before[2]


def test_what_the_block_built_is_frozen_at_its_end() -> None:
    before = gc.get_threshold()
    with freezing():
        assert gc.get_threshold()[:2] == before[:2]
        assert gc.get_threshold()[2] > 1_000_000
        built = {"this": ["stays"]}
    assert not is_traversed(built)
    assert gc.get_threshold() == before


def test_a_block_that_fails_freezes_nothing() -> None:
    before, built = gc.get_threshold(), {"this": ["goes"]}
    with pytest.raises(ZeroDivisionError), freezing():
        raise ZeroDivisionError
    assert is_traversed(built)
    assert gc.get_threshold() == before
