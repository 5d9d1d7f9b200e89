"""Destinations that are replaced while they are used."""

import pytest

from exportd.destinations.open_destinations import MAX_IDLE, Destination, Destinations
from exportd.model.entity import OrganizationId
from exportd.model.errors import PermanentError
from exportd.model.schedule import DestinationCode
from exportd.stores.layout import Layout
from tests.fixtures.store_doubles import MemoryStore

ACME, LAKE = OrganizationId("acme"), DestinationCode("lake")


class Watched(MemoryStore):
    """Counts how often it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = 0

    async def aclose(self) -> None:
        self.closed += 1
        await super().aclose()


def lake() -> tuple[Destination, Watched]:
    store = Watched()
    return Destination(ACME, LAKE, store, Layout()), store


async def test_one_that_is_replaced_is_closed_when_the_last_who_uses_it_is_done() -> None:
    (old, store), (new, _) = lake(), lake()
    live = Destinations([old])
    async with live.using(ACME, LAKE) as first:
        async with live.using(ACME, LAKE) as second:
            assert first is second is old
            live.put(new)
            await live.close_unused()
            assert store.closed == 0
        assert store.closed == 0
        async with live.using(ACME, LAKE) as third:
            assert third is new
    assert store.closed == 1
    await live.aclose()
    assert store.closed == 1


async def test_an_unused_one_is_closed_at_the_next_look() -> None:
    (old, store), (new, other) = lake(), lake()
    live = Destinations([old])
    live.put(new)
    live.remove(ACME, LAKE)
    await live.close_unused()
    assert (store.closed, other.closed) == (1, 1)
    with pytest.raises(PermanentError, match="There is no destination lake"):
        async with live.using(ACME, LAKE):
            pass


async def test_one_that_is_put_back_stays() -> None:
    (old, store), (new, other) = lake(), lake()
    live = Destinations([old])
    live.put(new)
    live.put(old)
    await live.close_unused()
    assert (store.closed, other.closed) == (0, 1)
    assert live.get(ACME, LAKE) is old


async def test_an_error_of_a_user_leaves_nothing_open() -> None:
    (old, store), (new, _) = lake(), lake()
    live = Destinations([old])
    with pytest.raises(ZeroDivisionError):
        async with live.using(ACME, LAKE):
            live.put(new)
            raise ZeroDivisionError
    assert store.closed == 1


async def test_a_store_that_is_not_used_between_two_looks_gives_back_its_connections_once() -> None:
    destination, store = lake()
    live = Destinations([destination])
    for _ in range(2):
        await live.close_idle()
    assert store.closed == 0, "it was never used"
    async with live.using(ACME, LAKE):
        for _ in range(3):
            await live.close_idle()
        assert store.closed == 0
    await live.close_idle()
    assert store.closed == 1
    await live.close_idle()
    assert store.closed == 1
    async with live.using(ACME, LAKE):
        pass
    await live.close_idle()
    assert store.closed == 1
    await live.close_idle()
    assert store.closed == 2


async def test_of_many_that_nothing_uses_those_that_were_used_last_keep_their_connections() -> None:
    stores = [Watched() for _ in range(MAX_IDLE + 2)]
    live = Destinations(
        Destination(ACME, DestinationCode(f"lake-{number}"), store, Layout()) for number, store in enumerate(stores)
    )
    async with live.using(ACME, DestinationCode("lake-0")):
        for number in range(1, MAX_IDLE + 2):
            async with live.using(ACME, DestinationCode(f"lake-{number}")):
                pass
        assert [number for number, store in enumerate(stores) if store.closed] == [1]
    assert [number for number, store in enumerate(stores) if store.closed] == [1, 2], "one that is used stays"
