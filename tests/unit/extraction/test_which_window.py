import itertools
import uuid
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exportd.extraction.guards import guards_of
from exportd.extraction.window import (
    LogContents,
    full_reason,
    log_is_comparable,
    parse_snapshot,
    reason_before_reading,
    window_of,
)
from exportd.model.errors import FullReason
from exportd.model.extraction import Mode
from exportd.model.job import JobId
from exportd.model.schedule import DestinationCode
from exportd.model.start import Position
from tests.unit.extraction.shapes import CLUSTER, ROOT, SHAPE, THINGS

GUARDS = guards_of(THINGS, SHAPE, CLUSTER)
NOW = parse_snapshot("100:110:105")
LAKE, SWAMP = DestinationCode("lake"), DestinationCode("swamp")
POSITION = Position(
    THINGS.code, JobId(uuid.UUID(int=1)), "90:95:", datetime(2026, 1, 1, tzinfo=UTC), GUARDS.to_json(), (LAKE,)
)
OTHER_ROW_SHAPE = guards_of(THINGS, replace(SHAPE, root=replace(ROOT, columns=ROOT.columns[:-1])), CLUSTER)


def reason(position: Position | None, *destinations: DestinationCode, first_run: bool = False) -> FullReason | None:
    return reason_before_reading(position, GUARDS, NOW, first_run=first_run, destinations=destinations)


def test_a_position_that_fits_is_no_reason() -> None:
    assert reason(POSITION, LAKE) is None
    assert reason(POSITION) is None, "a destination that is gone needs nothing"
    assert reason(replace(POSITION, snapshot="100:110:"), LAKE) is None


def test_each_reason_before_the_log_is_read() -> None:
    assert reason(None, first_run=True) is FullReason.FIRST_RUN
    assert reason(None) is FullReason.ENTITY_ADDED
    assert reason(replace(POSITION, expired=True), LAKE) is FullReason.HORIZON_PASSED
    assert reason(replace(POSITION, guards={}), LAKE) is FullReason.CATALOG_CHANGED
    assert reason(replace(POSITION, snapshot="100:111:"), LAKE) is FullReason.SNAPSHOT_WENT_BACK
    assert reason(POSITION, LAKE, SWAMP) is FullReason.DESTINATION_ADDED


def test_nothing_in_the_log_is_an_incremental_run_that_reads_nothing() -> None:
    window = window_of(THINGS.code, POSITION, GUARDS, LogContents(0, unknown=False, deletions=False), None)
    assert (window.mode, window.changed, window.reads_table) == (Mode.INCREMENTAL, False, False)


@pytest.mark.parametrize("deletions", [True, False])
def test_a_window_says_whether_the_log_has_deletions(deletions: bool) -> None:
    window = window_of(THINGS.code, POSITION, GUARDS, LogContents(3, unknown=False, deletions=deletions), None)
    assert (window.mode, window.changed, window.deletions) == (Mode.INCREMENTAL, True, deletions)


def test_what_the_log_cannot_tell_makes_the_run_full() -> None:
    window = window_of(THINGS.code, POSITION, GUARDS, LogContents(3, unknown=True, deletions=True), None)
    assert (window.full_reason, window.previous) == (FullReason.CHANGES_UNKNOWN, None), "images may be out of date"


def test_images_of_another_shape_make_the_run_full_and_are_not_read() -> None:
    images = LogContents(3, unknown=False, deletions=True)
    window = window_of(THINGS.code, POSITION, OTHER_ROW_SHAPE, images, None)
    assert (window.full_reason, window.previous) == (FullReason.COLUMNS_CHANGED, None)
    window = window_of(THINGS.code, POSITION, OTHER_ROW_SHAPE, replace(images, deletions=False), None)
    assert (window.mode, window.full_reason) == (Mode.INCREMENTAL, None)


Contents = st.builds(LogContents, st.integers(0, 9), unknown=st.booleans(), deletions=st.booleans())


@given(
    st.sampled_from([None, POSITION, replace(POSITION, guards={})]),
    st.sampled_from([GUARDS, OTHER_ROW_SHAPE]),
    st.none() | Contents,
    st.none() | st.sampled_from(list(FullReason)),
)
def test_a_run_is_full_with_a_reason_or_incremental_with_a_previous_snapshot(
    position: Position | None, guards: object, contents: LogContents | None, why: FullReason | None
) -> None:
    if position is None or not log_is_comparable(why):
        contents = None
    if why is None and contents is None:
        return  # the opener has no such case: without a position there is a reason
    window = window_of(THINGS.code, position, guards, contents, why)  # type: ignore[arg-type]
    assert (window.mode is Mode.FULL) == (window.full_reason is not None)
    if window.mode is Mode.INCREMENTAL:
        assert window.previous is not None
        assert contents is not None
        assert not contents.unknown
    if window.previous is not None and window.mode is Mode.FULL:
        assert contents is not None
        assert contents.deletions, "only then are there deletions to name"
    if why is not None:
        assert window.full_reason is why


def test_deletions_are_named_only_while_the_log_speaks_of_the_same_transactions() -> None:
    unspeakable = {
        FullReason.FIRST_RUN,
        FullReason.ENTITY_ADDED,
        FullReason.AD_HOC,
        FullReason.CLUSTER_CHANGED,
        FullReason.TIMELINE_CHANGED,
        FullReason.SNAPSHOT_WENT_BACK,
        FullReason.DATABASE_PUT_BACK,
        FullReason.TABLE_UNLOGGED,
        FullReason.HORIZON_PASSED,
        FullReason.IMAGES_UNREADABLE,
        FullReason.REQUESTED,  # asked for before anything is compared
        FullReason.LOG_PRUNED,  # likewise
        FullReason.CHANGES_UNKNOWN,  # decided from the log, never before it
    }
    comparable = {reason for reason in itertools.chain(FullReason, [None]) if log_is_comparable(reason)}
    assert comparable == {*FullReason, None} - unspeakable


def test_the_database_was_put_back_unless_the_guards_know_how() -> None:
    put_back = FullReason.DATABASE_PUT_BACK
    assert full_reason(put_back, None) is put_back
    assert full_reason(put_back, FullReason.COLUMNS_CHANGED) is put_back
    assert full_reason(put_back, FullReason.TIMELINE_CHANGED) is FullReason.TIMELINE_CHANGED
    assert full_reason(FullReason.REQUESTED, FullReason.TIMELINE_CHANGED) is FullReason.REQUESTED
    assert full_reason(None, FullReason.COLUMNS_CHANGED) is FullReason.COLUMNS_CHANGED
