"""What stays is frozen, so that the garbage collector does not traverse it again."""

import gc
from collections.abc import Iterator

import pytest

from exportd.daemon.garbage import freeze, freezing


@pytest.fixture(autouse=True)
def unfrozen() -> Iterator[None]:
    thresholds, callbacks = gc.get_threshold(), list(gc.callbacks)
    yield
    gc.callbacks[:] = callbacks
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


def test_the_less_a_full_collection_finds_the_later_the_next_one_comes() -> None:
    freeze()
    after_the_start = gc.get_threshold()
    gc.collect()
    after_nothing = gc.get_threshold()
    assert after_nothing == (*after_the_start[:2], 2 * after_the_start[2])
    gc.disable()  # so that what is made now waits for the full collection
    try:
        for _ in range(60_000):
            circle: list[object] = []
            circle.append(circle)
        gc.collect()
    finally:
        gc.enable()
    assert gc.get_threshold() == after_the_start


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
