from datetime import UTC, datetime, timedelta

from exportd.capture.listener import WaitingChanges
from exportd.model.entity import EntityCode

BILLS, ORDERS = EntityCode("BILLS"), EntityCode("ORDERS")


def at(seconds: int) -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)


def test_two_rounds_of_changes_are_told_apart() -> None:
    """After the first run has read them, what waits is what came since."""
    waiting = WaitingChanges([BILLS])
    waiting.record_ring("BILLS", at(1))
    waiting.record_ring("BILLS", at(2))
    assert waiting.since == {BILLS: at(1)}
    waiting.forget_read({BILLS: at(3)})
    assert waiting.since == {}
    waiting.record_ring("BILLS", at(10))
    assert waiting.since == {BILLS: at(10)}
    waiting.forget_read({BILLS: at(3)})
    assert waiting.since == {BILLS: at(10)}, "that run did not see it"
    waiting.forget_read({BILLS: at(11)})
    assert waiting.since == {}


def test_a_change_that_came_after_the_run_still_waits() -> None:
    waiting = WaitingChanges([BILLS, ORDERS])
    for second in 1, 5, 9:
        waiting.record_ring("BILLS", at(second))
    waiting.record_ring("ORDERS", at(4))
    waiting.forget_read({BILLS: at(6)})
    assert waiting.since == {BILLS: at(9), ORDERS: at(4)}


def test_only_entities_of_the_catalog_are_remembered() -> None:
    waiting = WaitingChanges([BILLS])
    assert not any(waiting.record_ring(f"FORGED_{number}", at(number)) for number in range(1000))
    assert waiting.record_ring("BILLS", at(1))
    assert waiting.since == {BILLS: at(1)}
    waiting.adjust([ORDERS])
    assert waiting.since == {}
    assert not waiting.record_ring("BILLS", at(2))
