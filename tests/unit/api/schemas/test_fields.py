"""What the schemas take and refuse."""

from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exportd.api.schemas.fields import parse_id, parse_ids, parse_instant


@given(st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)), st.integers(-720, 720))
def test_an_instant_is_read_in_any_time_zone(instant: datetime, minutes: int) -> None:
    text = instant.astimezone(timezone(timedelta(minutes=minutes))).isoformat()
    assert parse_instant(text) == instant


@given(st.text() | st.integers() | st.none())
def test_nothing_else_is_an_instant(value: object) -> None:
    with pytest.raises(ValueError, match="should be a date and time"):
        parse_instant(value)


@given(st.uuids())
def test_an_id_is_read_in_its_usual_form_alone(found: UUID) -> None:
    assert parse_id(str(found)) == parse_id(str(found).upper()) == found
    for other in (found.hex, f"{{{found}}}", found.urn, f" {found}", f"{found}\n"):
        assert parse_id(other) is None


@given(st.lists(st.uuids(), min_size=1, max_size=5))
def test_ids_come_repeated_or_with_commas(ids: list[UUID]) -> None:
    texts = [str(id_) for id_ in ids]
    assert parse_ids(texts) == parse_ids([",".join(texts)]) == parse_ids([", ".join([*texts, "x"])]) == ids


def test_no_ids_are_no_filter_and_nonsense_is_one() -> None:
    assert parse_ids([]) is parse_ids([""]) is parse_ids([","]) is None
    assert parse_ids(["nonsense"]) == []
