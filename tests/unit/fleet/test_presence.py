"""What daemons disagree about, in words."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest

from exportd.fleet.presence import Disagreement, Subject, disagreements
from exportd.fleet.table import DaemonRecord, DeclaredDifference

NOON = datetime(2026, 3, 9, 12, tzinfo=UTC)
HERE, THERE = UUID(int=1), UUID(int=2)
SETTINGS = {"capture.horizon_hours": "168", "spool.retention_hours": "24"}
ENTITIES = {"ACCOUNTS": "1", "BILLS": "2"}


def daemon(
    spool_id: UUID,
    host: str,
    *,
    running: bool = True,
    settings: Mapping[str, str] = SETTINGS,
    entities: Mapping[str, str] = ENTITIES,
) -> DaemonRecord:
    return DaemonRecord(spool_id, host, 7, "1.0", NOON, NOON, NOON, running, settings, entities)


def differs(code: str, *, here: bool, there: bool, kind: str = "schedule") -> DeclaredDifference:
    return DeclaredDifference(THERE, kind, "acme", code, here, there)


def found(other: DaemonRecord, *differences: DeclaredDifference) -> tuple[Disagreement, ...]:
    return disagreements(HERE, [daemon(HERE, "north"), other], differences)


def test_who_has_the_same_does_not_disagree() -> None:
    assert found(daemon(THERE, "south")) == ()


def test_what_differs_is_named_with_where_it_is_how() -> None:
    (schedules,) = found(
        daemon(THERE, "south"),
        differs("nightly", here=False, there=True),
        differs("hourly", here=True, there=False),
        differs("weekly", here=True, there=True),
    )
    assert schedules.subject is Subject.SCHEDULES
    assert schedules.sentence == (
        "The daemon on south declares other schedules than this daemon: only there: nightly of acme; only here: hourly"
        " of acme; not the same: weekly of acme. Give all daemons the same configuration and catalog, and reload them."
    )


def test_settings_and_catalogs_are_compared() -> None:
    other = daemon(THERE, "south", settings={**SETTINGS, "capture.horizon_hours": "24"}, entities={"BILLS": "3"})
    settings, catalog = found(other)
    assert settings.subject is Subject.SETTINGS
    assert "capture.horizon_hours is 24 there and 168 here. Give" in settings.sentence
    assert catalog.subject is Subject.CATALOG
    assert "only here: ACCOUNTS; not the same: BILLS. Give" in catalog.sentence


def test_a_setting_that_only_one_version_knows_is_no_disagreement() -> None:
    assert found(daemon(THERE, "south", settings={"limits.novel": "1"})) == ()


@pytest.mark.parametrize("count", [5, 6])
def test_a_sentence_names_a_few_and_counts_the_rest(count: int) -> None:
    (schedules,) = found(daemon(THERE, "south"), *(differs(f"s{n}", here=False, there=True) for n in range(count)))
    assert ("and 1 more" in schedules.sentence) == (count == 6)
    assert len(schedules.differing) == count


def test_it_has_changed_when_something_else_differs_that_the_sentence_does_not_name() -> None:
    six = [differs(f"s{n}", here=False, there=True) for n in range(6)]
    (before,) = found(daemon(THERE, "south"), *six)
    (after,) = found(daemon(THERE, "south"), *six[:5], differs("s9", here=False, there=True))
    assert before.sentence == after.sentence
    assert before != after


def test_who_does_not_run_keeps_what_only_it_declares_and_has_no_other_say() -> None:
    gone = daemon(THERE, "south", running=False, settings={"capture.horizon_hours": "1"}, entities={})
    assert found(gone, differs("hourly", here=True, there=False), differs("weekly", here=True, there=True)) == ()
    (kept,) = found(gone, differs("lake", here=False, there=True, kind="destination"))
    assert kept.subject is Subject.DESTINATIONS
    assert "stay in effect for a day: lake of acme." in kept.sentence
    assert f"exportd daemon forget {THERE}" in kept.sentence


def test_two_on_one_host_are_told_apart_by_their_process() -> None:
    (schedules,) = found(daemon(THERE, "north"), differs("nightly", here=False, there=True))
    assert schedules.sentence.startswith("The daemon on north (process 7) declares")


def test_who_has_not_declared_anything_yet_is_not_compared() -> None:
    beginning = replace(daemon(THERE, "south", entities={}), declared_at=None)
    assert found(beginning, differs("nightly", here=True, there=False)) == ()


def test_a_daemon_that_does_not_find_itself_says_nothing() -> None:
    assert disagreements(HERE, [daemon(THERE, "south", entities={})], []) == ()
