"""The garbage collector is told what stays."""

import gc

import pytest

from exportd.daemon.garbage import full_collections_put_off, keep_what_is_there


def test_full_collections_go_on_after_the_block_whatever_happens_in_it() -> None:
    before = gc.get_threshold()
    with pytest.raises(ZeroDivisionError), full_collections_put_off():
        assert gc.get_threshold()[:2] == before[:2]
        assert gc.get_threshold()[2] > 1_000_000
        raise ZeroDivisionError
    assert gc.get_threshold() == before


def test_what_is_kept_is_not_looked_at_again() -> None:
    kept = {"this": ["stays"]}
    try:
        keep_what_is_there()
        assert not any(each is kept for each in gc.get_objects())
    finally:
        gc.unfreeze()
    assert any(each is kept for each in gc.get_objects())
