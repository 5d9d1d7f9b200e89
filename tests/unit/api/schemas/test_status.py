"""Which changes wait, as far as a daemon was notified of them."""

from datetime import UTC, datetime, timedelta

from exportd.api.schemas.status import changes_since

NOON = datetime(2026, 3, 9, 12, tzinfo=UTC)
LATER = NOON + timedelta(seconds=1)


def test_what_was_read_since_does_not_wait() -> None:
    assert changes_since(NOON, LATER) is None
    assert changes_since(None, NOON) is None


def test_what_was_notified_since_the_last_reading_or_never_read_waits() -> None:
    assert changes_since(LATER, NOON) == LATER
    assert changes_since(NOON, None) == NOON
