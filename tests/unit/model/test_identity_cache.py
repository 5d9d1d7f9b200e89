"""What is made of an object is made once, and is never that of another object."""

from exportd.model import identity_cache
from exportd.model.identity_cache import IdentityCache


def test_the_same_object_gives_what_was_made_of_it() -> None:
    made = IdentityCache[list[int], list[int]](list)
    source = [1]
    assert made(source) is made(source)
    assert made([1]) is not made(source), "an equal one is another one"


def test_an_object_that_takes_the_place_of_one_that_is_gone_gets_its_own() -> None:
    made = IdentityCache[list[int], int](lambda source: source[0])
    assert [made([number]) for number in range(3 * identity_cache.MAX_REMEMBERED)] == [
        *range(3 * identity_cache.MAX_REMEMBERED)
    ]
    assert len(made._made) == identity_cache.MAX_REMEMBERED
