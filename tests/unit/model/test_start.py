"""Where a run starts, of positions and what people asked for."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from exportd.model.entity import EntityCode
from exportd.model.errors import FullReason
from exportd.model.job import JobId
from exportd.model.schedule import DestinationCode
from exportd.model.start import BackfillRequest, Beginning, Position, Start, start_of, wider

ACCOUNTS, PLANS = EntityCode("ACCOUNTS"), EntityCode("PLANS")
NOON = datetime(2026, 3, 9, 12, tzinfo=UTC)
PAST = JobId(UUID(int=1))
POSITION = Position(
    ACCOUNTS, JobId(UUID(int=9)), "90:95:", NOON, {"columns": "now"}, (DestinationCode("lake"),), expired=True
)


def asked(begins: Beginning | FullReason, entity: EntityCode = ACCOUNTS) -> BackfillRequest:
    return BackfillRequest(entity, PAST, begins)


def hours_ago(hours: int) -> Beginning:
    return Beginning(f"{90 - hours}:95:", NOON - timedelta(hours=hours), {"columns": "then"})


def test_without_wishes_it_is_where_the_positions_are() -> None:
    assert start_of({ACCOUNTS: POSITION}, (), ()) == Start({ACCOUNTS: POSITION}, {})


def test_a_backfill_moves_a_position_back_and_leaves_the_rest_of_it() -> None:
    start = start_of({ACCOUNTS: POSITION}, (), [asked(hours_ago(2))])
    (moved,) = start.positions.values()
    assert (moved.snapshot, moved.taken_at, moved.guards) == ("88:95:", NOON - timedelta(hours=2), {"columns": "then"})
    assert (moved.job_id, moved.destinations) == (POSITION.job_id, POSITION.destinations)
    assert not moved.expired, "the request holds the log"
    assert start.forced == {}


def test_what_cannot_begin_in_the_past_is_full_and_says_why() -> None:
    pruned = [asked(FullReason.LOG_PRUNED), asked(FullReason.LOG_PRUNED, PLANS)]
    assert start_of({ACCOUNTS: POSITION}, (), pruned) == Start(
        {ACCOUNTS: POSITION}, {ACCOUNTS: FullReason.LOG_PRUNED}
    ), "an entity without a position has a reason of its own"
    assert start_of({ACCOUNTS: POSITION}, [ACCOUNTS], pruned).forced == {ACCOUNTS: FullReason.REQUESTED}


def test_an_entity_that_is_also_to_be_read_anew_names_the_deletions_of_the_whole_window() -> None:
    start = start_of({ACCOUNTS: POSITION}, [ACCOUNTS, PLANS], [asked(hours_ago(2)), asked(hours_ago(2), PLANS)])
    assert start.positions[ACCOUNTS].snapshot == "88:95:"
    assert start.forced == {ACCOUNTS: FullReason.REQUESTED}
    assert PLANS not in start.positions


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [(hours_ago(3), hours_ago(2)), (FullReason.REQUESTED, hours_ago(3))],
    ids=["the earlier", "everything"],
)
def test_of_two_requests_the_one_that_holds_both_counts(
    wide: Beginning | FullReason, narrow: Beginning | FullReason
) -> None:
    assert wider(asked(wide), asked(narrow)) == asked(wide)
    assert wider(asked(narrow), asked(wide)) == asked(wide)


@pytest.mark.parametrize("begins", [hours_ago(1), FullReason.LOG_PRUNED])
def test_a_request_survives_being_written_down(begins: Beginning | FullReason) -> None:
    assert BackfillRequest.from_json(asked(begins).to_json()) == asked(begins)


def test_a_database_that_was_put_back_says_more_than_a_wish() -> None:
    undone = replace(POSITION, put_back=True)
    start = start_of({ACCOUNTS: undone, PLANS: POSITION}, [ACCOUNTS], ())
    assert start.forced == {ACCOUNTS: FullReason.DATABASE_PUT_BACK}
