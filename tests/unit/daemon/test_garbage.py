"""The garbage collector is told what stays."""

import gc
from collections.abc import Iterator

import pytest

from exportd.daemon.garbage import building_what_stays, keep_what_is_there


@pytest.fixture(autouse=True)
def looking_at_all_again() -> Iterator[None]:
    yield
    gc.unfreeze()


def is_looked_at(thing: object) -> bool:
    return any(get_object is thing for get_object in gc.get_objects())


def test_what_is_kept_is_not_looked_at_again() -> None:
    kept = {"this": ["stays"]}
    assert is_looked_at(kept)
    keep_what_is_there()
    assert not is_looked_at(kept)


def test_nor_what_was_built() -> None:
    before = gc.get_threshold()
    with building_what_stays():
        assert gc.get_threshold()[:2] == before[:2]
        assert gc.get_threshold()[2] > 1_000_000
        built = {"this": ["stays"]}
    assert not is_looked_at(built)
    assert gc.get_threshold() == before


def test_what_ends_by_an_error_leaves_everything_as_it_was() -> None:
    before, built = gc.get_threshold(), {"this": ["goes"]}
    with pytest.raises(ZeroDivisionError), building_what_stays():
        raise ZeroDivisionError
    assert is_looked_at(built)
    assert gc.get_threshold() == before
