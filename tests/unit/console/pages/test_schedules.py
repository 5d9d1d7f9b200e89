"""What happened to a schedule, in one list."""

from datetime import UTC, datetime, timedelta
from typing import Any

from exportd.api.schemas.job import FoundJobDocument, FoundJobPage
from exportd.api.schemas.operations import AuditEntry, AuditPage
from exportd.console.pages.schedules import timeline

NOON = datetime(2026, 3, 9, 12, tzinfo=UTC)


def _run(minutes: int) -> FoundJobDocument:
    return FoundJobDocument.model_construct(id=f"run {minutes}", date_created=NOON + timedelta(minutes=minutes))


def _deed(minutes: int, action: str, **details: Any) -> AuditEntry:
    return AuditEntry(at=NOON + timedelta(minutes=minutes), actor="unix:ann", action=action, details=details)


def _page(*deeds: AuditEntry, more: bool = False) -> AuditPage:
    return AuditPage(data=list(deeds), next_token="t" if more else None)


def _runs(*runs: FoundJobDocument, more: bool = False) -> FoundJobPage:
    return FoundJobPage.model_construct(data=list(runs), next_token="t" if more else None)


def test_runs_and_deeds_stand_in_one_list_with_what_they_were_about() -> None:
    edited = _deed(6, "schedule edited", version=2, code="nightly", cron="5 * * * *", entities=["BILLS"], name="N")
    created = _deed(0, "schedule created", version=1, code="nightly", cron="0 * * * *", entities=["BILLS"], name="N")
    deeds = _page(
        _deed(8, "backfill requested", code="nightly", since_job="1", entities={"BILLS": "x", "PLANS": "y"}, job="2"),
        _deed(7, "refresh requested", code="nightly", entity="BILLS", job=None),
        edited,
        _deed(5, "schedule paused", code="nightly"),
        created,
    )
    capture = _page(
        _deed(4, "capture installed", entities=["BILLS", "ORDERS"]),
        _deed(3, "capture installed", entities=["ORDERS"]),
        _deed(2, "capture uninstalled", logs=["log_bills"]),
    )
    found = timeline(_runs(_run(9), _run(1)), deeds, capture, ["BILLS", "PLANS"], limit=20)
    assert [(one.run.id if one.run else one.deed and one.deed.action, one.about, one.job_id) for one in found] == [
        ("run 9", "", None),
        ("backfill requested", "BILLS, PLANS", "2"),
        ("refresh requested", "BILLS", None),
        ("schedule edited", "cron", None),
        ("schedule paused", "", None),
        ("capture installed", "BILLS", None),
        ("capture uninstalled", "BILLS", None),
        ("run 1", "", None),
        ("schedule created", "", None),
    ]


def test_there_is_no_gap_in_it() -> None:
    """A page that has another behind it says nothing about what is older than its last line."""
    deeds = _page(_deed(6, "schedule paused"), _deed(2, "schedule paused"))
    found = timeline(_runs(_run(9), _run(4), more=True), deeds, _page(_deed(1, "capture installed")), [], limit=20)
    assert [one.at.minute for one in found] == [9, 6, 4]
    whole = timeline(_runs(_run(9), _run(4)), deeds, _page(), [], limit=3)
    assert [one.at.minute for one in whole] == [9, 6, 4], "bounded"
    assert len(timeline(_runs(_run(9), _run(4)), _page(*deeds.data, more=True), _page(), [], limit=20)) == 4
