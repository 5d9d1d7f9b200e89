"""Which jobs may run beside those that wait for the database."""

import pytest

from exportd.jobs.stalls import LONG_S, Occupant, Room, Slots, StalledEntities
from exportd.model.entity import EntityCode

TRAP, SLOW, OTHER = EntityCode("TRAP"), EntityCode("SLOW"), EntityCode("OTHER")
BUSY = Occupant()


def stalled(entity: EntityCode, since: float = 1.0) -> Occupant:
    return Occupant(frozenset({entity}), since)


@pytest.fixture
def entities() -> StalledEntities:
    return StalledEntities(lambda: 40.0)


def test_a_job_that_stalls_takes_no_slot() -> None:
    slots = Slots(jobs=2, stalled=2)
    assert slots.room([BUSY, *[stalled(TRAP)] * 3], 9.0) is Room.ANY
    assert slots.room([BUSY, BUSY], 9.0) is Room.NONE


def test_a_short_job_has_room_once_all_that_run_are_long() -> None:
    slots, old, new = Slots(jobs=2, stalled=1, short=1), Occupant(since=1.0), Occupant(since=5.0)
    assert slots.room([old], 1.0) is Room.ANY
    assert (slots.room([old, new], 5.0), slots.short_room_in_s([old, new], 5.0)) == (Room.NONE, LONG_S)
    assert (slots.room([old, new], 5.0 + LONG_S), slots.short_room_in_s([old, new], 9.0)) == (Room.SHORT, 0.0)
    assert (slots.room([old, old, new], 9.0), slots.short_room_in_s([old, old, new], 9.0)) == (Room.NONE, None)
    assert slots.room([old, old, new, stalled(TRAP)], 9.0) is Room.NONE
    assert slots.room([old, stalled(TRAP)], 9.0) is Room.ANY


def test_a_short_job_beside_the_slots_drives_out_none_that_stalls() -> None:
    slots = Slots(jobs=1, stalled=1, short=1)
    assert slots.surplus([BUSY, BUSY, stalled(TRAP)], 0.0) is None
    assert slots.surplus([BUSY, BUSY, stalled(TRAP), stalled(SLOW)], 0.0) is not None


def test_a_job_that_has_delivered_for_a_while_gives_its_slot_up() -> None:
    slots, one = Slots(jobs=1, stalled=1, short=1, delivering=2), Occupant(since=1.0, delivers_since=2.0)
    assert (slots.room([one], 2.0), slots.slot_given_up_in_s([one], 2.0)) == (Room.SHORT, LONG_S)
    assert (slots.room([one], 2.0 + LONG_S), slots.slot_given_up_in_s([one], 2.0 + LONG_S)) == (Room.ANY, None)
    reading = Occupant(since=5.0)
    assert slots.room([one, reading], 5.0) is Room.NONE
    assert slots.short_room_in_s([one, reading], 5.0) == LONG_S, "what delivers has nothing to do with it"
    assert slots.room([one] * 2, 9.0) is Room.ANY
    assert slots.room([one] * 3, 9.0) is not Room.ANY, "the third one keeps its slot"
    assert slots.slot_given_up_in_s([reading], 9.0) is None


def test_jobs_that_were_claimed_together_deliver_when_all_of_them_do() -> None:
    early, late = Occupant(delivers_since=2.0), Occupant(delivers_since=3.0)
    assert Occupant.joined([early, BUSY]).delivers_since is None
    assert Occupant.joined([early, late]).delivers_since == 3.0


def test_what_no_job_has_stalled_on_is_never_left_out(entities: StalledEntities) -> None:
    assert list(Slots(1, 1).left_out([stalled(OTHER)], entities, 0.0)) == [frozenset()]


def test_one_entity_gets_all_places_but_one(entities: StalledEntities) -> None:
    entities.stalled([TRAP, SLOW], 0.0)
    slots = Slots(jobs=1, stalled=3)
    assert list(slots.left_out([stalled(TRAP)], entities, 0.0)) == [frozenset()]
    assert list(slots.left_out([stalled(TRAP)] * 2, entities, 0.0)) == [{TRAP}]
    assert list(slots.left_out([stalled(TRAP)] * 2 + [stalled(SLOW)], entities, 0.0)) == [{TRAP, SLOW}]


def test_where_there_is_one_place_one_entity_gets_it(entities: StalledEntities) -> None:
    entities.stalled([TRAP, SLOW], 0.0)
    assert list(Slots(1, 1).left_out([BUSY], entities, 0.0)) == [frozenset()]
    assert list(Slots(1, 1).left_out([stalled(TRAP)], entities, 0.0)) == [{TRAP, SLOW}]


def test_without_other_work_they_use_the_slots(entities: StalledEntities) -> None:
    """Where all tables are slow, as many jobs run as ever."""
    entities.stalled([SLOW], 0.0)
    assert list(Slots(3, 2).left_out([stalled(SLOW)] * 2, entities, 0.0)) == [{SLOW}, frozenset()]
    assert list(Slots(3, 2).left_out([stalled(SLOW)] * 3, entities, 0.0)) == [{SLOW}]


def test_the_surplus_is_of_the_entity_with_the_most_and_the_last_to_stall() -> None:
    slots = Slots(jobs=1, stalled=2)
    assert slots.surplus([BUSY, stalled(TRAP, 1), stalled(SLOW, 2)], 0.0) is None
    assert slots.surplus([stalled(TRAP, 1), stalled(TRAP, 2), stalled(SLOW, 3), BUSY], 0.0) == 1
    assert slots.surplus([stalled(TRAP, 5), stalled(OTHER, 1), stalled(SLOW, 3), BUSY], 0.0) == 0
    assert slots.surplus([BUSY, BUSY, BUSY, BUSY], 0.0) is None, "the limit was lowered: they end by themselves"


def test_after_a_pause_that_grows_one_job_may_try_in_a_slot(entities: StalledEntities) -> None:
    """The table may be slow for one organization, and quick for all others."""
    slots, busy = Slots(jobs=1, stalled=2), [stalled(SLOW)]
    entities.stalled([SLOW], 0.0)
    assert entities.probed([SLOW, OTHER], 29.0) == frozenset()
    assert list(slots.left_out(busy, entities, 29.0)) == [{SLOW}]
    assert list(slots.left_out(busy, entities, 30.0)) == [frozenset()]
    assert entities.probed([SLOW, OTHER], 30.0) == {SLOW}
    assert list(slots.left_out(busy, entities, 30.0)) == [{SLOW}], "one at a time"
    entities.given_up([SLOW])
    assert entities.probed([SLOW], 31.0) == {SLOW}
    entities.stalled([SLOW], 46.0)
    assert entities.probed([SLOW], 105.0) == frozenset()
    assert entities.probed([SLOW], 106.0) == {SLOW}
    entities.read([SLOW], stalled=[])
    assert SLOW not in entities


def test_what_is_read_without_a_stall_is_forgotten(entities: StalledEntities) -> None:
    entities.stalled([TRAP, SLOW], 0.0)
    entities.read([TRAP, SLOW], stalled=[SLOW])
    assert list(entities) == [SLOW]


def test_an_entity_that_ends_attempts_is_left_alone_for_longer_and_longer(entities: StalledEntities) -> None:
    entities.silent([TRAP], 100.0)
    assert entities.left_alone_s(TRAP, 101.0) == 9.0
    assert list(Slots(2, 2).left_out([], entities, 101.0)) == [{TRAP}], "also when there is no other work"
    assert list(Slots(2, 2).left_out([], entities, 110.0)) == [frozenset()]
    entities.silent([TRAP], 110.0)
    assert entities.left_alone_s(TRAP, 110.0) == 20.0
    entities.silent([TRAP], 111.0)
    assert entities.left_alone_s(TRAP, 111.0) == 19.0, "of several that ended at the same time, one counts"
    entities.read([TRAP], stalled=[TRAP])
    assert (entities.left_alone_s(TRAP, 111.0), TRAP in entities) == (0.0, True)
